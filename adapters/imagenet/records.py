"""Which images there are and what their labels are: class folders, CSV manifests, selections."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iaside_plugins.adapters.imagenet.labels import (
    MOST_CLASSES,
    ClassMap,
    LabelSpace,
    UnknownClassesError,
    by_rank,
    class_map,
)
from iaside_plugins.adapters.imagenet.layouts import misread, what_to_do
from iaside_plugins.adapters.imagenet.listing import read_listing, readable
from iaside_plugins.errors import InputError, shown
from iaside_plugins.storage.files import read_plain

_MOST_BYTES = 2**28  # of a manifest
_log = logging.getLogger(__name__)

_PATH, _LABEL = "path", "label"


UNLABELLED = "unlabelled"
"""Instead of the way to get labels: there is no model, so any folders will do."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        path: The file.
        label: Class index.
        image_id: Its name in the data set, a POSIX path such as "n01440764/x.JPEG"; unique, and
            never absolute, so that results name no place on this machine.
    """

    path: Path
    label: int
    image_id: str


@dataclass(frozen=True)
class Source:
    """One way in which a data set of image files is stored.

    Attributes:
        name: What it is, for error messages.
        matches: Root -> whether it is stored so.
        read: (root, labels, classes) -> records and their label space, see `find_records`.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, str, Path | str | None], tuple[list[ImageRecord], LabelSpace]]


def find_records(
    root: Path | str, *, labels: str = "auto", classes: Path | str | None = None
) -> tuple[list[ImageRecord], LabelSpace]:
    """Return the images of a folder `root/<class>/<file>` or of a CSV manifest.

    A manifest has the header `path,label` (more columns are ignored). Relative paths start at the
    manifest's folder; a label is a class name that `labels` or `classes` resolves, or an index.

    Args:
        root: Folder or manifest file.
        labels: How class names become indices, see `labels.class_map`; `UNLABELLED` for class
            folders whose labels nobody reads.
        classes: File of classes, see `labels.read_classes`.

    Returns:
        Records, sorted by folder and file name (a manifest's keep its order), and what their
        labels mean.

    Raises:
        InputError: Nothing at `root`, no images, unknown classes; with the line for manifests.
    """
    root = Path(root)
    for source in SOURCES:
        if source.matches(root):
            return source.read(root, labels, classes)
    raise InputError(f"there is no {' or '.join(source.name for source in SOURCES)} {root}")


def _folder_records(
    root: Path, labels: str, classes: Path | str | None
) -> tuple[list[ImageRecord], LabelSpace]:
    """Return the images of class folders; what is left out is said."""
    listing = read_listing(root)
    folders = {name: images for name, images in listing.images.items() if images}
    why = listing.why()
    if not folders:
        known_as = what_to_do(root) or (f"; left out: {why}" if why else "")
        raise InputError(f"no images in {root}/<class>/<file>{known_as}")
    guessed = classes is None and labels in ("auto", "rank")
    if guessed and (advice := misread(root, folders)):
        raise InputError(f"{root}: {advice}")
    empty = [name for name, images in listing.images.items() if not images]
    if labels == "rank" and empty:
        # Either way of counting such a folder may shift all labels after it.
        raise InputError(f"labels='rank' needs images in every folder; none in {empty[:5]}")
    known = by_rank(folders) if labels == UNLABELLED else class_map(folders, labels, classes)
    if why:
        n_taken = sum(map(len, folders.values()))
        _log.warning("took %s images of %s and left out %s", f"{n_taken:,}", root, why)
    records = [
        ImageRecord(root / folder / name, known.index[folder], readable(f"{folder}/{name}"))
        for folder, images in folders.items()
        for name in images
    ]
    names = Counter(record.image_id for record in records)
    if twice := [name for name, times in names.items() if times > 1]:
        raise InputError(f"{root} holds two images whose name reads {twice[0]}; rename one")
    return records, known.space


def select(records: Sequence[ImageRecord], n: int | None, seed: int) -> list[ImageRecord]:
    """Return a random selection without replacement, in the order of `records`.

    The first n of one seeded permutation: a larger n with the same seed contains the smaller one.

    Args:
        records: All records.
        n: Size of the selection; all records for None or for any n of at least their number.
        seed: Seed of numpy's default generator.

    Raises:
        InputError: n is below 1.
    """
    if n is not None and n < 1:
        raise InputError(f"the number of images must be at least 1, got {n}")
    if n is None or n >= len(records):
        return list(records)
    chosen = np.random.default_rng(seed).permutation(len(records))[:n]
    return [records[k] for k in np.sort(chosen)]


@dataclass(frozen=True)
class _Row:
    """One line of a manifest."""

    line: int
    path: Path
    label: str
    image_id: str


def _manifest_records(
    manifest: Path, labels: str, classes: Path | str | None
) -> tuple[list[ImageRecord], LabelSpace]:
    """Return the images of a CSV manifest."""
    if labels in ("rank", UNLABELLED):
        raise InputError("labels='rank' is for class folders; write the index into the manifest")
    rows = _manifest_rows(manifest)
    named = {row.label for row in rows if _as_index(row.label) is None}
    known: ClassMap | None = None
    if named or classes is not None or labels != "auto":
        try:
            known = class_map(named, labels, classes)
        except UnknownClassesError as error:
            first = next(row.line for row in rows if row.label in error.names)
            raise InputError(f"{manifest}, line {first}: {error}") from error
    records = [ImageRecord(row.path, _resolved(row, known, manifest), row.image_id) for row in rows]
    if known is not None:
        return records, known.space
    return records, LabelSpace.of_integers("manifest", (record.label for record in records))


def _manifest_rows(manifest: Path) -> list[_Row]:
    """Return the rows, checked: each has an existing file and a unique id."""
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    try:
        text = read_plain(manifest, _MOST_BYTES).decode("utf-8-sig")
        with io.StringIO(text, newline="") as file:
            reader = csv.DictReader(file)
            if not {_PATH, _LABEL} <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{manifest}, line 1: expected the header path,label, "
                    f"got {','.join(reader.fieldnames or ())[:80]!r}"
                )
            for entry in reader:
                row = _row(manifest, reader.line_num, entry[_PATH] or "", entry[_LABEL] or "")
                if (first := lines.setdefault(row.image_id, row.line)) != row.line:
                    raise InputError(
                        f"{manifest}, line {row.line}: the image {row.image_id} is that of "
                        f"line {first}; every image once, under a name of its own"
                    )
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {manifest} as a CSV manifest: {error}") from error
    if not rows:
        raise InputError(f"{manifest} lists no images")
    return rows


def _row(manifest: Path, line: int, written: str, label: str) -> _Row:
    written, label = written.strip(), label.strip()
    if not written or not label:
        raise InputError(f"{manifest}, line {line}: expected path,label, got {written},{label}")
    path = manifest.parent / written
    if not path.is_file():
        raise InputError(f"{manifest}, line {line}: there is no file {path}")
    parts = Path(os.path.relpath(path, manifest.parent)).parts
    if parts[0] == "..":
        # Outside the manifest's folder the id is folder and file: results must hold no local paths.
        parts = Path(os.path.abspath(path)).parts[1:][-2:]  # noqa: PTH100  links are kept
    return _Row(line, path, label, readable("/".join(parts)))


def _as_index(label: str) -> int | None:
    if not re.fullmatch(r"-?[0-9]+", label):
        return None
    return int(label) if len(label) <= 400 else MOST_CLASSES  # no class has that number


def _resolved(row: _Row, known: ClassMap | None, manifest: Path) -> int:
    """Return the class index of a row; names first, since class folders may be numbers."""
    if known is not None and row.label in known.index:
        return known.index[row.label]
    index = _as_index(row.label)
    n_classes = MOST_CLASSES if known is None else known.space.n_classes
    if index is None or not 0 <= index < n_classes:
        raise InputError(
            f"{manifest}, line {row.line}: label {shown(row.label)} is no class index "
            f"in 0 .. {n_classes - 1}"
        )
    return index


SOURCES = (
    Source("folder", Path.is_dir, _folder_records),
    Source("CSV manifest", Path.is_file, _manifest_records),
)
"""Every way in which a data set of image files may be stored, in the order they are tried."""
