"""ImageNet's validation images as distributed: one flat folder, and a list of labels beside it."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.imagenet.labels import Classes, known_map
from iaside_plugins.adapters.imagenet.listing import image_names, subfolders
from iaside_plugins.adapters.imagenet.remote import read_plain, scan
from iaside_plugins.adapters.imagenet.sources.found import Found, labelled
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.errors import InputError, MissingExtraError, shown

_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})(\.\w+)?", re.ASCII | re.IGNORECASE)
_N_IMAGES = 50_000  # of ImageNet's validation set
_N_ABOVE = 4  # folders above the images in which the labels are looked for
_MOST_BYTES = 2**26  # of a list of labels
_DEVKIT = ("data", "ILSVRC2012_devkit_t12/data", "devkit/data")
_log = logging.getLogger(__name__)

Labels = dict[int, str]
"""Number of an image, from 1 -> its class as a WordNet id."""


def is_flat_validation(root: Path) -> bool:
    """Return whether images named ILSVRC2012_val_... lie in a folder, and no class folders."""
    if not root.is_dir():
        return False
    with scan(root) as entries:
        is_flat = any(_IMAGE.fullmatch(entry.name) for entry in entries)
    return is_flat and not any(map(image_names, subfolders(root)))


def read_flat_validation(root: Path, labels: str, classes: Classes) -> Listing:
    """Return the images of ImageNet's flat validation folder, with the ids of its class folders.

    Labels come from the first of these files, in the folder itself or up to four above it:
    `val.txt` (name and 0-based index, as Caffe's), Kaggle's `LOC_val_solution.csv`, and the
    development kit's `ILSVRC2012_validation_ground_truth.txt` with its `meta.mat`.

    Raises:
        InputError: No labels, a list that does not hold, or images that it does not cover.
        MissingExtraError: The development kit needs SciPy, which is not installed.
    """
    every = image_names(root)
    names = [name for name in every if _IMAGE.fullmatch(name)]
    if len(names) < len(every):
        _log.warning(
            "took the %s images of %s that are named ILSVRC2012_val_... and left out %s others",
            f"{len(names):,}",
            root,
            f"{len(every) - len(names):,}",
        )
    numbers = [image_number(name) for name in names]
    known = validation_labels(root, numbers, needed=labels != UNLABELLED)
    found = [Found(root / name, None, known[image_number(name)], name) for name in names]
    return labelled(found, labels, classes)


def image_number(name: str) -> int:
    """Return the number in the name of a validation image, from 1; 0 for other names."""
    matched = _IMAGE.match(name)
    return int(matched[1]) if matched else 0


def validation_labels(root: Path, numbers: Collection[int], *, needed: bool = True) -> Labels:
    """Return the labels of validation images from the lists that come with them; says from where.

    Args:
        root: Folder of the images, or file that holds them.
        numbers: Of the images.
        needed: Whether lists that are missing, damaged or not whole are an error; else the
            classes are empty then.

    Raises:
        InputError: See `read_flat_validation`.
        MissingExtraError: The same.
    """
    try:
        return _listed(root, numbers)
    except InputError:
        if needed:
            raise
        return dict.fromkeys(numbers, "")


def _listed(root: Path, numbers: Collection[int]) -> Labels:
    """Return the labels of validation images from the first list that is found."""
    here = root if root.is_dir() else root.parent
    for place in (here, *here.absolute().parents[:_N_ABOVE]):
        for name, read in _LISTS:
            for inner in ("", *_DEVKIT):
                if (file := place / inner / name).is_file():
                    known = read(file)
                    if missing := [number for number in numbers if number not in known]:
                        raise InputError(
                            f"{file} has no label of {len(missing)} images of {root}, "
                            f"ILSVRC2012_val_{missing[0]:08d} among them; give the whole list"
                        )
                    _log.warning("labels of %s from %s", root, file)
                    return known
    expected = ", ".join(name for name, _ in _LISTS)
    raise InputError(
        f"{root} holds ImageNet's validation images without their labels: put one of {expected} "
        f"in it or up to {_N_ABOVE} folders above it, or sort the images into class folders"
    )


def _from_pairs(file: Path) -> Labels:
    """Return the labels of `val.txt`: name of the image, and its index from 0 or WordNet id."""
    index = known_map("imagenet").index
    wnids = tuple(index)
    known: Labels = {}
    for k, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        name, *rest = line.strip().rsplit(maxsplit=1)
        label = rest[0] if rest else ""
        label = label if label in index else _wnid(wnids, label, 0, f"{file}, line {k}")
        if not (number := image_number(Path(name).name)):
            raise InputError(
                f"{file}, line {k}: expected ILSVRC2012_val_00000001.JPEG and a class, "
                f"got {shown(line)}"
            )
        if known.setdefault(number, label) != label:
            raise InputError(f"{file}, line {k}: another class of {name} than before")
    return known


def _from_kaggle(file: Path) -> Labels:
    """Return the labels of `LOC_val_solution.csv`: ImageId, and PredictionString of WordNet ids."""
    wnids = known_map("imagenet").index
    known: Labels = {}
    try:
        rows = list(csv.reader(io.StringIO(_text(file), newline="")))
    except csv.Error as error:
        raise InputError(f"cannot read the labels of {file}: {error}") from error
    for k, row in enumerate(rows, 1):
        if not row or (k == 1 and row[0] == "ImageId"):
            continue
        label = row[1].split(" ")[0] if len(row) > 1 else ""
        if label not in wnids or not (number := image_number(row[0])):
            raise InputError(
                f"{file}, line {k}: expected ILSVRC2012_val_00000001,n01751748 ..., "
                f"got {shown(','.join(row))}"
            )
        known[number] = label
    return known


def _from_devkit(file: Path) -> Labels:
    """Return the labels of the ground truth: a line an image, a number from 1 in `meta.mat`."""
    lines = _text(file).split()
    if len(lines) != _N_IMAGES:
        raise InputError(f"{file}: expected {_N_IMAGES:,} labels, got {len(lines):,}")
    meta = file.with_name("meta.mat")
    if not meta.is_file():
        raise InputError(
            f"the labels of {file} are numbers of the development kit's {meta}, which is not "
            "there; put it beside them (they are not in the order of the WordNet ids)"
        )
    wnids = _devkit_classes(meta)
    return {k: _wnid(wnids, label, 1, f"{file}, line {k}") for k, label in enumerate(lines, 1)}


def _devkit_classes(meta: Path) -> tuple[str, ...]:
    """Return the WordNet ids of the development kit's 1000 classes in the order of its numbers."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError.of(f"reading {meta} needs SciPy", "imagenet") from error
    try:
        held: Any = io.BytesIO(read_plain(meta, _MOST_BYTES))
        synsets = loadmat(held, squeeze_me=True)["synsets"]
        numbers = dict(
            zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True)
        )
        wnids = tuple(str(numbers[k]) for k in range(1, 1001))
    except Exception as error:  # SciPy has kinds of its own for damaged files
        raise InputError(f"{meta} is not the meta.mat of ILSVRC 2012: {error}") from error
    if set(wnids) != set(known_map("imagenet").index):
        raise InputError(f"{meta} does not have the 1000 classes of ILSVRC 2012")
    return wnids


def _wnid(wnids: tuple[str, ...], label: str, first: int, where: str) -> str:
    """Return the WordNet id of a class number."""
    last = len(wnids) + first - 1
    if not re.fullmatch("[0-9]{1,4}", label) or not first <= int(label) <= last:
        raise InputError(f"{where}: expected a class in {first} .. {last}, got {shown(label)}")
    return wnids[int(label) - first]


def _text(file: Path) -> str:
    try:
        return read_plain(file, _MOST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the labels of {file}: {error}") from error


_LISTS: tuple[tuple[str, Callable[[Path], Labels]], ...] = (
    ("val.txt", _from_pairs),
    ("LOC_val_solution.csv", _from_kaggle),
    ("ILSVRC2012_validation_ground_truth.txt", _from_devkit),
)
