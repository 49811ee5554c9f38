"""Image folders, manifests and ImageNet-C trees as streams of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from iaside_plugins.adapters.imagenet.decoding import pillow
from iaside_plugins.adapters.imagenet.labels import LabelSpace, known_map
from iaside_plugins.adapters.imagenet.listing import readable
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.records import find_records, select
from iaside_plugins.adapters.imagenet.stream import FileReader, ImageStream
from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.errors import InputError, first_names
from iaside_plugins.evaluation.corruption import PUBLISHED_SIZE

_INNER_FOLDERS = ("ImageNet-C", "ImageNet-3DCC")
_GROUP_FOLDERS = ("noise", "blur", "weather", "digital", "extra")  # as the archives are named


class ImageFolderData(ImageStream):
    """The images of a folder `root/<class>/<file>` or of another source, see `find_records`.

    Iterating gives batches as `ImageStream` says: images (N, C, H, W) float32 in [0, 1].

    Args:
        root: Folder or file, see `records.SOURCES`; may be None where `records` are given.
        resize: The short side is resized to this, in pixels; None for as it is.
        crop: Side of the centre crop, pixels; None for none: the images must have one size then.
        interpolation: Interpolation of the resize, as Pillow does it: "bilinear", "bicubic", ...
        labels: How folders become class indices: "auto", "imagenet", "cifar10", "cifar100",
            "rank", see `labels.class_map`.
        classes: File with the class folders in the order of the model's outputs.
        n_images: Size of a seeded random selection, see `select`; None for all images.
        seed: Seed of the selection.
        batch_size: Images per batch.
        n_workers: Worker processes that decode; 0 decodes in this one.
        grey: One channel instead of three.
        records: Images to use instead of those of `root`.
        label_space: What the labels of `records` mean; by default read from `root`.

    Attributes:
        records: The images, selected, in order.
        label_space: What the labels mean.
        grey: As given.
        unreadable: Ids of the unreadable images found so far.

    Raises:
        InputError: See `find_records` and `ImageStream`.
        MissingExtraError: Pillow is not installed.
    """

    def __init__(  # noqa: PLR0913  the public signature
        self,
        root: Path | str | None,
        *,
        resize: int | None = 256,
        crop: int | None = 224,
        interpolation: str = "bilinear",
        labels: str = "auto",
        classes: Path | str | None = None,
        n_images: int | None = None,
        seed: int = 0,
        batch_size: int = 64,
        n_workers: int = 0,
        grey: bool = False,
        records: Sequence[ImageRecord] | None = None,
        label_space: LabelSpace | None = None,
    ) -> None:
        pillow()
        reader = FileReader(Preprocessing(resize, crop, interpolation), grey)
        if root is not None and (records is None or label_space is None):
            found, space = find_records(root, labels=labels, classes=classes)
            records = found if records is None else records
            label_space = label_space or space
        elif not records:
            raise InputError("expected a folder, a CSV manifest or records, got none of them")
        labels_given = (record.label for record in records)
        self.label_space = label_space or LabelSpace.of_integers("records", labels_given)
        self.grey = grey
        super().__init__(select(records, n_images, seed), reader, batch_size, n_workers)


class ImageNetC(ImageStream):
    """One corruption and severity of a distributed ImageNet-C (or ImageNet-3DCC) tree.

    Reads `root/<corruption>/<severity>/<wnid>/<file>`, also with the folders noise, blur, weather
    or digital of the archives above the corruption, and with `ImageNet-C` or `ImageNet-3DCC`
    below the root. The images are `size` x `size` as distributed: nothing is resized, larger ones
    are cropped at their centre, smaller ones are an error. Iterates as `ImageStream` says.

    Args:
        root: Folder of the tree.
        corruption: Name of its folder, for example "gaussian_noise".
        severity: 1 to 5.
        records: The clean images of which to read the corrupted ones. They are matched by class
            folder (or, if the tree has no such folder, by the WordNet id of the label) and file
            name, whatever its ending; ids and labels stay theirs.
        output_size: Side in pixels of the model's input, to which the images are resized; None
            for `size`.
        interpolation: Interpolation of that resize.
        batch_size: Images per batch.
        n_workers: Worker processes that decode; 0 decodes in this one.
        grey: One channel instead of three.
        size: Side in pixels of the distributed images; 64 for Tiny-ImageNet-C.

    Raises:
        InputError: No such corruption or severity in the tree, or images of `records` missing.
        MissingExtraError: Pillow is not installed.
    """

    def __init__(  # noqa: PLR0913  the public signature
        self,
        root: Path | str,
        corruption: str,
        severity: int,
        *,
        records: Sequence[ImageRecord],
        output_size: int | None = None,
        interpolation: str = "bilinear",
        batch_size: int = 64,
        n_workers: int = 0,
        grey: bool = False,
        size: int = PUBLISHED_SIZE,
    ) -> None:
        pillow()
        folder = tree_cells(Path(root)).get(corruption, {}).get(severity)
        if folder is None:
            raise InputError(
                f"{root} has no {corruption!r} of severity {severity!r}; expected "
                f"<corruption>/<severity>/<wnid>/<file>, found {self.held(root)}"
            )
        # Checks the output size too, which is a length in pixels like a resize.
        Preprocessing(output_size, None, interpolation)
        geometry = Preprocessing(None, size, interpolation)
        reader = FileReader(geometry, grey, output_size, interpolation)
        super().__init__(matched_records(folder, records), reader, batch_size, n_workers)

    @classmethod
    def available(cls, root: Path | str) -> dict[str, list[int]]:
        """Return the severities by corruption of a tree; the official order first, then others."""
        cells = tree_cells(Path(root))
        official = [name for name in CORRUPTION_GROUPS if name in cells]
        others = sorted(cells.keys() - set(official))
        return {name: sorted(cells[name]) for name in official + others}

    @classmethod
    def held(cls, root: Path | str) -> str:
        """Return the corruptions of a tree with their severities, for messages."""
        there = "; ".join(f"{name} {grades}" for name, grades in cls.available(root).items())
        return there or "no corruption at all"


def tree_cells(root: Path) -> dict[str, dict[int, Path]]:
    """Return corruption -> severity -> folder, in any layout; the first one found counts."""
    cells: dict[str, dict[int, Path]] = {}
    for folder in _corruption_folders(root):
        for severity in SEVERITIES:
            if (folder / str(severity)).is_dir():
                cells.setdefault(folder.name, {}).setdefault(severity, folder / str(severity))
    return cells


def _corruption_folders(root: Path) -> Iterator[Path]:
    """Yield every folder that may be that of a corruption, sorted."""
    for base in (root, *(root / name for name in _INNER_FOLDERS)):
        for parent in (base, *(base / group for group in _GROUP_FOLDERS)):
            if parent.is_dir():
                yield from sorted(path for path in parent.iterdir() if path.is_dir())


def grouped_corruptions(root: Path) -> list[str]:
    """Return the corruptions in the group folders of the archives, not directly in `root`."""
    return [
        name
        for name, severities in tree_cells(root).items()
        if any(folder.parent.parent.name in _GROUP_FOLDERS for folder in severities.values())
    ]


def matched_records(folder: Path, records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return the records with the paths of the files in `folder`, one corruption and severity.

    Raises:
        InputError: Some are missing, or match several files.
    """
    wnids = tuple(known_map("imagenet").index)
    files: dict[Path, dict[str, list[Path]]] = {}
    matched, missing = [], []
    for record in records:
        name = PurePosixPath(record.image_id)
        label = record.label if record.stored_label is None else record.stored_label
        inner = _matching_folder(folder, name, wnids[label : label + 1] if label >= 0 else ())
        if inner not in files:
            files[inner] = _files_by_stem(inner)
        same = files[inner].get(name.stem, [])
        exact = [path for path in same if readable(path.name) == name.name]
        if len(exact or same) > 1:
            raise InputError(f"{record.image_id} may be any of {', '.join(map(str, same))}")
        if not same:
            missing.append(f"{inner.name}/{name.name}")
        else:
            matched.append(replace(record, path=(exact or same)[0], part=None))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(records)} images are not in {folder}: "
            f"{first_names(missing, 5)}; the tree must hold the same files as the clean images"
        )
    return matched


def _matching_folder(folder: Path, name: PurePosixPath, wnids: Sequence[str]) -> Path:
    """Return the folder in one of a tree that holds an image; one that is not there if none does.

    Args:
        folder: Of one corruption and severity.
        name: Id of the image.
        wnids: WordNet id of its label, or nothing.
    """
    if name.parent.name == "":
        places = [*(folder / wnid for wnid in wnids), folder]
    else:
        own = str(name.parent), name.parent.name, name.parts[0]
        places = [folder / inner for inner in (*own, *wnids)]
    return next((place for place in places if place.is_dir()), places[-1])


def _files_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a folder by name without its ending."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        files.setdefault(readable(path.stem), []).append(path)
    return files
