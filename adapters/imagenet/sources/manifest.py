"""Images that a CSV manifest lists: path,label."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from iaside_plugins.adapters.imagenet.labels import (
    MOST_CLASSES,
    Classes,
    ClassMap,
    LabelSpace,
    UnknownClassesError,
    class_map,
)
from iaside_plugins.adapters.imagenet.listing import readable
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.remote import read_plain
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.errors import InputError, shown

_MOST_BYTES = 2**28  # of a manifest
_PATH, _LABEL = "path", "label"


@dataclass(frozen=True)
class _Row:
    """One line of a manifest."""

    line: int
    path: Path
    label: str
    image_id: str


def read_manifest(manifest: Path, labels: str, classes: Classes) -> Listing:
    """Return the images of a CSV manifest."""
    if labels == "rank":
        raise InputError("labels='rank' is for class folders; write the index into the manifest")
    if labels == UNLABELLED:
        rows = _manifest_rows(manifest, labelled=False)
        unlabelled = [ImageRecord(row.path, 0, row.image_id) for row in rows]
        return unlabelled, LabelSpace.of_integers("records", [0])
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


def _manifest_rows(manifest: Path, *, labelled: bool = True) -> list[_Row]:
    """Return the rows, checked: each has an existing file and a unique id, and if need be a label.

    Without `labelled` nobody reads the labels.
    """
    needed = (_PATH, _LABEL) if labelled else (_PATH,)
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    try:
        text = read_plain(manifest, _MOST_BYTES).decode("utf-8-sig")
        with io.StringIO(text, newline="") as file:
            reader = csv.DictReader(file)
            if not set(needed) <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{manifest}, line 1: expected the header {','.join(needed)}, "
                    f"got {','.join(reader.fieldnames or ())[:80]!r}"
                )
            for entry in reader:
                label = (entry[_LABEL] or "") if labelled else "0"
                row = _row(manifest, reader.line_num, entry[_PATH] or "", label)
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
