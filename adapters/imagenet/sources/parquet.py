"""Images in Parquet files, as Hugging Face's data sets are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, file_version
from iaside_plugins.adapters.imagenet.labels import (
    KNOWN_MAPS,
    Classes,
    ClassMap,
    LabelSpace,
    known_map,
)
from iaside_plugins.adapters.imagenet.listing import image_names, subfolders
from iaside_plugins.adapters.imagenet.remote import remote_of
from iaside_plugins.adapters.imagenet.sources.found import (
    Found,
    integer_classes,
    labelled,
    numbered_apart,
)
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.adapters.imagenet.sources.splits import one_split
from iaside_plugins.errors import InputError, MissingExtraError, error_text, shown
from iaside_plugins.storage.files import parse_json

_IMAGES = ("image", "img", "jpg", "png", "webp")
_LABELS = ("label", "labels", "fine_label", "cls", "target")
_CORRUPTED = ("corruption", "corruption_type", "corruption_name", "severity")
_MOST_GROUP = 2**31  # bytes of a row group, which is read whole
_MOST_OTHERS = 10  # of ImageNet's 1000 names that may be written in another way
_DAMAGE = (OSError, ValueError, IndexError, KeyError)  # pyarrow's errors are among them
_WNID = re.compile(r"_(n\d{8})(?=\.\w+$)")  # in ILSVRC2012_val_00003014_n01440764.JPEG


@dataclass(frozen=True)
class ParquetCell:
    """One image in a column of a Parquet file.

    Attributes:
        column: Name of the column: binary, or a struct with the field "bytes".
        row_group: Which row group.
        row: Row in that group.
    """

    column: str
    row_group: int
    row: int

    def read(self, path: Path) -> bytes:
        """Return the bytes of the image file; the last row group stays in memory."""
        try:
            held = _column(path, file_version(path), self.column, self.row_group)
            value = held[self.row].as_py()
        except (InputError, MemoryError, *_DAMAGE) as error:
            reason = error_text(error)
            raise UnreadableImageError(f"cannot be read: {reason}") from error
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes):
            raise UnreadableImageError("cannot be read: its row holds no bytes")
        return value


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what, and what the labels mean.

    Attributes:
        image: Column of the images.
        label: Column of the labels; None without one.
        names: Class names in the order of the labels; empty if the file does not say.
        has_paths: Whether the images have file names.
    """

    image: str
    label: str | None
    names: tuple[str, ...]
    has_paths: bool


def is_parquet(root: Path) -> bool:
    """Return whether a path is a Parquet file or a folder of some."""
    return bool(_files(root))


def read_parquet(root: Path, labels: str, classes: Classes) -> Listing:
    """Return the images of a Parquet file, or of one split of a folder of files.

    Of several splits the validation or test split is taken, which is said. Class names are those
    that Hugging Face writes into the schema. Ids are those of class folders with the same images
    where the file names are known, `n01440764/ILSVRC2012_val_00003014.JPEG`, else the number of
    the row.

    Raises:
        InputError: No columns of images and labels, no labels, row groups too large.
        MissingExtraError: pyarrow is not installed.
    """
    files = one_split(root, _files(root))
    columns = _columns(files[0], need_labels=labels != UNLABELLED)
    for file in files[1:]:
        if _columns(file, need_labels=labels != UNLABELLED) != columns:
            raise InputError(
                f"{file} has other columns, or other classes, than {files[0].name}: give files of "
                "one data set"
            )
    folders = _folders(columns.names)
    found = numbered_apart([image for file in files for image in _rows(file, columns, folders)])
    if not found:
        raise InputError(f"no images in {root}: its Parquet files have no rows")
    return labelled(found, labels, classes, _own_classes(columns.names, folders, found))


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".parquet" else []
    for folder in (root, root / "data"):
        files = sorted(folder.glob("*.parquet"))
        # A table of notes may lie beside class folders.
        if files and not any(map(image_names, subfolders(folder))):
            return files
    return []


def _opened(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.of(f"reading {file} needs pyarrow", "parquet") from error
    try:
        return pyarrow.parquet.ParquetFile(file if remote_of(file) is None else file.open("rb"))
    except (OSError, ValueError) as error:
        raise _unsound(file, error) from error


def _unsound(file: Path, error: BaseException) -> InputError:
    """Return the error for a damaged file, with pyarrow's message in one line."""
    return InputError(f"{file} is not a sound Parquet file: {error_text(error)}")


@lru_cache(maxsize=1)
def _column(file: Path, version: Any, column: str, row_group: int) -> Any:
    """Return a column of a row group of one version of a file."""
    return _opened(file).read_row_group(row_group, columns=[column]).column(0)


def _columns(file: Path, *, need_labels: bool) -> _Columns:
    """Return which columns of a file hold images and labels."""
    schema = _opened(file).schema_arrow
    features = _features(schema)
    image = _chosen(schema.names, features, "Image", _IMAGES)
    label = _chosen(schema.names, features, "ClassLabel", _LABELS)
    if image is None or (label is None and need_labels):
        raise InputError(
            f"{file}: expected a column of images (image) and one of labels (label), got "
            f"{shown(', '.join(schema.names))}; give a file that has them"
        )
    if corrupted := [name for name in _CORRUPTED if name in schema.names]:
        raise InputError(
            f"{file} holds corrupted images by its columns {', '.join(corrupted)}: save them as "
            "DIR/<corruption>/<severity>/<class>/<file>, and give that as corruptions=DIR and the "
            "clean images here"
        )
    kind = schema.field(image).type
    text = str(kind)
    is_struct = text.startswith("struct<") and "bytes: " in text
    if not is_struct and text not in ("binary", "large_binary"):
        raise InputError(
            f"{file}: expected the column {image} to hold the bytes of image files, got {text}; "
            "write it as Hugging Face's Image feature"
        )
    names = features.get(label or "", {}).get("names")
    names = names if isinstance(names, list) else ()
    return _Columns(image, label, tuple(map(str, names)), is_struct and "path: " in text)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the features that Hugging Face writes into a schema; empty without them."""
    try:
        stored = parse_json((schema.metadata or {}).get(b"huggingface", b"{}").decode())
        features = stored.get("info", {}).get("features", {})
        return {str(name): one for name, one in features.items() if isinstance(one, dict)}
    except (ValueError, AttributeError):
        return {}


def _chosen(
    there: Sequence[str], features: dict[str, dict[str, Any]], kind: str, names: Sequence[str]
) -> str | None:
    """Return the column of a kind: the one of a usual name, or the only one of its kind."""
    if found := next((name for name in names if name in there), None):
        return found
    ofkind = [name for name in there if features.get(name, {}).get("_type") == kind]
    return ofkind[0] if len(ofkind) == 1 else None


def _rows(file: Path, columns: _Columns, folders: Sequence[str]) -> Iterator[Found]:
    """Yield the images of a file; only labels and file names are read."""
    opened = _opened(file)
    wanted = [columns.label] if columns.label else []
    wanted += [f"{columns.image}.path"] if columns.has_paths else []
    number = 0
    for group in range(opened.num_row_groups):
        meta = opened.metadata.row_group(group)
        if meta.total_byte_size > _MOST_GROUP:
            raise InputError(
                f"{file} has a row group of {meta.total_byte_size:,} bytes, which is read whole; "
                "write it again with row_group_size=1000"
            )
        try:
            table = opened.read_row_group(group, columns=wanted).to_pydict() if wanted else {}
        except (MemoryError, *_DAMAGE) as error:
            raise _unsound(file, error) from error
        if any(len(column) != meta.num_rows for column in table.values()):
            raise _unsound(file, ValueError("its columns have different numbers of rows"))
        classes = table.get(columns.label, [""] * meta.num_rows)
        paths = table.get(columns.image, [None] * meta.num_rows)
        for row, (label, path) in enumerate(zip(classes, paths, strict=True)):
            name = _file_name(path.get("path") if isinstance(path, dict) else None)
            yield Found(
                file,
                ParquetCell(columns.image, group, row),
                _class_name(file, number, label, folders) if columns.label else "",
                name or f"{file.stem}_{number:08d}",
            )
            number += 1


def _class_name(file: Path, row: int, label: Any, folders: Sequence[str]) -> str:
    """Return the class of a row: its folder if that is known, or what stands there."""
    if isinstance(label, str) and label:
        return label
    if type(label) is not int or label < 0 or (folders and label >= len(folders)):
        raise InputError(
            f"{file}, row {row}: label {shown(label)} is no class; a test split may have no "
            "labels: give the validation split"
        )
    return folders[label] if folders else str(label)


def _file_name(path: Any) -> str:
    return _WNID.sub("", PurePosixPath(path).name) if isinstance(path, str) else ""


def _folders(names: Sequence[str]) -> tuple[str, ...]:
    """Return the class folder of every label: that of a known data set, or the name as it is.

    Nothing where two classes have one name, or one has none: the labels themselves are used then.
    """
    for dataset in KNOWN_MAPS:
        known = known_map(dataset)
        first = [re.sub(r"\s+", "_", name.split(",")[0].strip()).lower() for name in names]
        if len(first) != known.space.n_classes:
            continue
        others = sum(a != b.lower() for a, b in zip(first, known.space.names, strict=True))
        if list(names) == list(known.index) or others <= (
            _MOST_OTHERS if dataset == "imagenet" else 0
        ):
            return tuple(known.index)
    return tuple(names) if all(names) and len(set(names)) == len(names) else ()


def _own_classes(
    names: Sequence[str], folders: Sequence[str], found: Sequence[Found]
) -> ClassMap | None:
    """Return the classes in the file's own order; None if it does not say."""
    for dataset in KNOWN_MAPS:
        if tuple(folders) == tuple(known_map(dataset).index):
            return known_map(dataset)
    if folders:
        index = {name: k for k, name in enumerate(folders)}
        return ClassMap(LabelSpace("names", len(names), tuple(names)), index)
    return integer_classes(found)
