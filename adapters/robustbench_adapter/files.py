"""Image files in class folders or a manifest, as a run of the benchmark takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, decode, read_bytes
from iaside_plugins.adapters.imagenet.folders import ImageNetC, matched_records, tree_cells
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import ImageRecord, find_records, select
from iaside_plugins.adapters.imagenet.stream import ImageStream
from iaside_plugins.adapters.models.robustbench_names import N_CLASSES, Threat
from iaside_plugins.adapters.models.robustbench_preprocessing import (
    STANDARD,
    Geometry,
    GeometryReader,
)
from iaside_plugins.adapters.robustbench_adapter.images import (
    BenchmarkImages,
    Part,
    corruption_settings,
    part_of,
)
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.corruptions.frost import find_frost_textures, load_frost_textures
from iaside_plugins.entry.build import LISTED, SELECTED_ALL, SELECTED_RANDOM
from iaside_plugins.entry.robustbench_json import robustbench_ids
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images

N_DECODED = 8  # images of every corruption and severity, before any work
GENERATE = "generate"  # in place of a folder: corrupted here, as `iaside evaluate` does


@dataclass(frozen=True)
class ImageFiles:
    """Image files in class folders, or in a manifest; see `robustbench_data.open_images`."""

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
        """The selected images, every file of them looked up; as `open_images` says."""
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

        settings = corruption_settings(self.threat, self.seed)
        if generated is not None:
            settings["source"] = "generated"
        ids = tuple(record.image_id for record in records)
        return BenchmarkImages(self.threat, ids, len(available), selection, clean, cell, settings)

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
            return [by_id[name] for name in listed], LISTED
        chosen = select(available, self.n, self.seed)
        if self.n == len(available):
            return chosen, SELECTED_ALL
        return chosen, SELECTED_RANDOM.format(seed=self.seed)

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
                self._check_readable(name, severity, matched_records(folder, records))
                cells[name, severity] = folder
        return cells

    def _check_readable(self, name: str, severity: int, records: list[ImageRecord]) -> None:
        """Decode a few images of a cell, spread evenly: refused as its stream would refuse them."""
        bad = []
        for record in records[:: max(1, len(records) // N_DECODED)]:
            try:
                decode(read_bytes(record.path))
            except UnreadableImageError as error:
                bad.append(f"{record.image_id} {error}")
        if 100 * len(bad) > len(records):
            raise InputError(
                f"{self.corrupted_root}: {len(bad)} of a few images of {name} at severity "
                f"{severity} are unreadable ({bad[0]}); restore the files"
            )


def _lacking(root: Path, name: str, severity: int) -> str:
    there = ImageNetC.available(root)
    if name not in there:
        return f"{root} has no {name}; it holds {', '.join(there) or 'no corruption'}"
    return f"{root} has no severity {severity} of {name}; it holds {there[name]}"
