"""Images as RobustBench lays them out, and any others: one object for clean and corrupted ones.

ImageNet: `data_dir/val/<wnid>/<file>`; corrupted `<dir>/ImageNet-C/<corruption>/<severity>/...`
and `ImageNet-3DCC/...`, flat or in the groups of the archives. CIFAR: the pickled archives of the
data set and `CIFAR-10-C/<corruption>.npy`. Also any folder of class folders and any CSV manifest.
RobustBench's order and first n where its 5000 listed files are there, else a seeded selection.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.adapters.array_images import ArrayImages, read_cifar, read_cifar_c
from iaside_plugins.adapters.classifier import Preprocessing
from iaside_plugins.adapters.corrupted_images import CorruptedData
from iaside_plugins.adapters.image_stream import ImageStream
from iaside_plugins.adapters.imagenet import ImageNetC, matched_records, tree_cells
from iaside_plugins.adapters.records import ImageRecord, find_records, select
from iaside_plugins.adapters.robustbench_names import N_CLASSES, Threat
from iaside_plugins.adapters.robustbench_preprocessing import STANDARD, Geometry, GeometryReader
from iaside_plugins.conditions import Images
from iaside_plugins.corruption_error import SEVERITIES
from iaside_plugins.errors import InputError
from iaside_plugins.frost import find_frost_textures, load_frost_textures

ID_LIST = "RobustBench's list"
GENERATE = "generate"  # in place of a folder: corrupted here, as `iaside evaluate` does
WHOLE_LIST = 5000
Part = Sequence[int] | None
"""Positions among the selected images, ascending; None for all."""


@dataclass(frozen=True)
class BenchmarkImages:
    """The images of one run.

    Attributes:
        threat: Data set and threat model.
        ids: Name of every selected image, in order.
        n_available: Images there are.
        selection: How they were chosen, for people and entries.
        clean: Part -> clean images.
        cell: (corruption, severity, part) -> corrupted images; (None, 0, part) -> uncorrupted
            ones through the geometry of the corrupted, or None where those are the clean ones.
        settings: How the corrupted ones were made, for the entry; empty for attacks.
    """

    threat: Threat
    ids: tuple[str, ...]
    n_available: int
    selection: str
    clean: Callable[[Part], Images]
    cell: Callable[[str | None, int, Part], Images | None]
    settings: dict[str, Any]

    @property
    def is_whole_list(self) -> bool:
        """Whether these are the images of RobustBench's published ImageNet figures."""
        return self.selection == ID_LIST and len(self.ids) == WHOLE_LIST


@cache
def robustbench_ids() -> tuple[str, ...]:
    """`<wnid>/<file>` of RobustBench's ImageNet images in its order; empty if not installed.

    Read from the installed package, which is not imported for it.
    """
    spec = importlib.util.find_spec("robustbench")
    if spec is None or spec.origin is None:
        return ()
    file = Path(spec.origin).parent / "helper_files" / "imagenet_test_image_ids.txt"
    return tuple(file.read_text(encoding="utf-8").split()) if file.is_file() else ()


def open_images(
    threat: Threat,
    n: int,
    data_dir: Path | str,
    corruptions_data_dir: Path | str | None,
    geometry: Geometry,
    corrupted: Geometry,
    *,
    batch_size: int,
    n_workers: int = 0,
    seed: int = 0,
    cache: Path | str | None = None,
) -> BenchmarkImages:
    """Find and check every file of a run before any of it is decoded.

    Args:
        threat: Data set and threat model.
        n: Images to take.
        data_dir: RobustBench's data folder, a folder of class folders, or a CSV manifest.
        corruptions_data_dir: Where the corrupted ones are; None for `data_dir`; "generate" to make
            the 15 of ImageNet-C here, from image files.
        geometry: Of the clean images.
        corrupted: Of the corrupted ones.
        batch_size: Images per batch.
        n_workers: Worker processes that decode.
        seed: Of the selection, where RobustBench's list is not there, and of corruptions made here.
        cache: Folder that keeps corrupted images made here, for the next model.

    Raises:
        InputError: Nothing there, fewer than `n` images, a corruption, severity, class folder or
            file that is missing, or labels that are not those of the data set.
    """
    if type(n) is not int or n < 1:
        raise InputError(f"n_examples must be an integer of at least 1, got {n!r}")
    root = Path(data_dir)
    archive = None if threat.dataset == "imagenet" else read_cifar(root, threat.dataset)
    if archive is not None:
        return _arrays(threat, n, archive, Path(corruptions_data_dir or root), batch_size)
    return _Files(threat, n, root, Path(corruptions_data_dir or root), geometry, corrupted,
                  batch_size, n_workers, seed, cache).found()  # fmt: skip


def part_of(items: Sequence[Any], part: Part) -> list[Any]:
    """The items at the positions of a part."""
    return list(items) if part is None else [items[k] for k in part]


@dataclass(frozen=True)
class _Files:
    """Image files in class folders, or in a manifest."""

    threat: Threat
    n: int
    root: Path
    corrupted_root: Path
    geometry: Geometry
    corrupted: Geometry
    batch_size: int
    n_workers: int
    seed: int
    cache: Path | str | None

    def found(self) -> BenchmarkImages:
        available = self._available()
        records, selection = self._selected(available)
        generated = self._generated(records) if self._generates() else None
        cells = {} if generated is not None else self._cells(records)

        def clean(part: Part) -> Images:
            return self._stream(part_of(records, part), self.geometry)

        def cell(name: str | None, severity: int, part: Part) -> Images | None:
            chosen = part_of(records, part)
            if generated is not None:
                return generated(name, severity, chosen)
            if name is not None:
                folder = cells[name, severity]
                return self._stream(matched_records(folder, chosen), self.corrupted)
            if self.threat.dataset != "imagenet" or self.geometry.same_pixels(STANDARD):
                return None
            return self._stream(chosen, STANDARD)

        settings = _settings(self.threat, self.seed)
        if generated is not None:
            settings["source"] = "generated"
        ids = tuple(record.image_id for record in records)
        return BenchmarkImages(
            self.threat, ids, len(available), selection, clean, cell, settings
        )  # fmt: skip

    def _stream(self, records: Sequence[ImageRecord], geometry: Geometry) -> ImageStream:
        return ImageStream(records, GeometryReader(geometry), self.batch_size, self.n_workers)

    def _available(self) -> list[ImageRecord]:
        root = self.root
        if self.threat.dataset == "imagenet" and (root / "val").is_dir():
            root = root / "val"
        if not root.exists():
            raise InputError(f"there is no folder or CSV manifest {root}; give data_dir=...")
        records, space = find_records(root)
        if space.name not in (self.threat.dataset, "manifest"):
            raise InputError(
                f"{root} holds classes of {space.name}, and dataset={self.threat.dataset!r}"
            )
        n_classes = N_CLASSES[self.threat.dataset]
        if (greatest := max(record.label for record in records)) >= n_classes:
            raise InputError(
                f"{root} has label {greatest}; {self.threat.dataset} has {n_classes} classes"
            )
        return records

    def _selected(self, available: list[ImageRecord]) -> tuple[list[ImageRecord], str]:
        if self.n > len(available):
            raise InputError(
                f"n_examples={self.n}, and there are {len(available)} images in {self.root}; "
                "give as many or fewer"
            )
        by_id = {record.image_id: record for record in available}
        listed = robustbench_ids()[: self.n] if self.threat.dataset == "imagenet" else ()
        if len(listed) == self.n and all(name in by_id for name in listed):
            return [by_id[name] for name in listed], ID_LIST
        chosen = select(available, self.n, self.seed)
        if self.n == len(available):
            return chosen, "all images there are"
        return chosen, f"a random selection of those there are, seed {self.seed}"

    def _generates(self) -> bool:
        return str(self.corrupted_root) == GENERATE and not self.threat.is_attack

    def _generated(
        self, records: Sequence[ImageRecord]
    ) -> Callable[[str | None, int, list[ImageRecord]], Images | None]:
        """Corrupted images made as they are read: at 224 pixels for ImageNet, else at 32."""
        if self.threat.model != "corruptions":
            raise InputError("3D corruptions need depth and cannot be generated: give their folder")
        textures = find_frost_textures(None)
        if textures is None:
            raise InputError(
                "the corruption frost needs textures: pip install --no-deps imagecorruptions==1.1.2"
            )
        frost = load_frost_textures(textures)
        own = self.corrupted.preprocessing.interpolation
        large = self.threat.dataset == "imagenet"
        made = STANDARD if large else Geometry("", Preprocessing(32, 32))
        size = self.corrupted.square if large and self.corrupted.square != 224 else None

        def images(name: str | None, severity: int, chosen: list[ImageRecord]) -> Images | None:
            if name is None and size is None and self.geometry.same_pixels(made):
                return None
            return CorruptedData(
                chosen, name, severity, resize=made.preprocessing.resize,
                crop=made.preprocessing.crop, output_size=size, output_interpolation=own,
                jpeg=large, seed=self.seed, frost_textures=frost, batch_size=self.batch_size,
                n_workers=self.n_workers, cache=self.cache,
            )  # fmt: skip

        return images

    def _cells(self, records: Sequence[ImageRecord]) -> dict[tuple[str, int], Path]:
        """Folder of every corruption and severity, all of which must hold all images."""
        if self.threat.is_attack:
            return {}
        if self.threat.dataset != "imagenet":
            raise InputError(
                f"corruptions of {self.threat.dataset} come as .npy files in the order of the test "
                f"set, and {self.root} is not that archive; give data_dir=DIR with "
                "cifar-10-batches-py or cifar-100-python, or use `iaside evaluate`"
            )
        if not self.corrupted_root.is_dir():
            raise InputError(f"there is no folder {self.corrupted_root} of corrupted images")
        tree = tree_cells(self.corrupted_root)
        cells = {}
        for name in self.threat.corruptions:
            for severity in SEVERITIES:
                folder = tree.get(name, {}).get(severity)
                if folder is None:
                    raise InputError(_lacking(self.corrupted_root, name, severity))
                matched_records(folder, records)
                cells[name, severity] = folder
        return cells


def _lacking(root: Path, name: str, severity: int) -> str:
    there = ImageNetC.available(root)
    if name not in there:
        return f"{root} has no {name}; it holds {', '.join(there) or 'no corruption'}"
    return f"{root} has no severity {severity} of {name}; it holds {there[name]}"


def _settings(threat: Threat, seed: int) -> dict[str, Any]:
    """How the corrupted images were made, as the entry says it."""
    if threat.is_attack:
        return {}
    settings = {"source": "distributed", "size": 224, "constants": "224", "jpeg": True}
    if threat.dataset != "imagenet":
        settings |= {"size": 32, "constants": "32", "jpeg": False}
    if threat.model == "corruptions_3d":
        settings["constants"] = None
    return {**settings, "seed": seed}


def _arrays(
    threat: Threat, n: int, archive: tuple[Any, Any], corrupted_root: Path, batch_size: int
) -> BenchmarkImages:
    """The first n images of a CIFAR archive, in its order, and of its corrupted arrays."""
    pixels, labels = archive
    if n > len(labels):
        raise InputError(
            f"n_examples={n}, and there are {len(labels)} images in the test set; give as many or "
            "fewer"
        )
    ids = tuple(f"test/{k:05d}" for k in range(n))
    arrays = {}
    for name in threat.corruptions:
        arrays[name] = read_cifar_c(corrupted_root, threat.dataset, name, labels[:n])

    def clean(part: Part) -> Images:
        chosen = np.arange(n) if part is None else np.asarray(part)
        return ArrayImages(pixels, labels, chosen, part_of(ids, part), batch_size)

    def cell(name: str | None, severity: int, part: Part) -> Images | None:
        if name is None:
            return None
        chosen = np.arange(n) if part is None else np.asarray(part)
        array = arrays[name]
        rows = array[(severity - 1) * (len(array) // 5) :]
        return ArrayImages(rows, labels, chosen, part_of(ids, part), batch_size)

    selection = "the first of the test set"
    settings = _settings(threat, 0)
    return BenchmarkImages(threat, ids, len(labels), selection, clean, cell, settings)
