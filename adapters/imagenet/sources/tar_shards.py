"""Images in tar archives, read where they lie: webdataset shards, class folders, ImageNet's own."""

from __future__ import annotations

import logging
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError
from iaside_plugins.adapters.imagenet.labels import Classes
from iaside_plugins.adapters.imagenet.listing import (
    OTHER_SUFFIXES,
    SUFFIXES,
    readable,
    subfolders,
)
from iaside_plugins.adapters.imagenet.remote import read_range
from iaside_plugins.adapters.imagenet.sources.flat_validation import (
    image_number,
    validation_labels,
)
from iaside_plugins.adapters.imagenet.sources.found import (
    Found,
    integer_classes,
    labelled,
    numbered_apart,
)
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.adapters.imagenet.sources.splits import one_split
from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import DAMAGE, parse_json

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_NOTES = (".cls", ".json", ".txt")  # what may hold the label of a webdataset sample
_WNID = re.compile(r"n\d{8}", re.ASCII)
_MOST_NOTE = 2**20  # bytes of such a file
_MOST_BYTES = 2**30  # of an image file
_MOST_PADDING = 2**20  # bytes behind the end of an archive that are looked at
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TarMember:
    """One file in an uncompressed tar archive.

    Attributes:
        offset: Where its bytes begin.
        size: How many they are.
    """

    offset: int
    size: int

    def read(self, path: Path) -> bytes:
        """Return the bytes of the file."""
        if self.size > _MOST_BYTES:
            raise UnreadableImageError(f"cannot be read: {self.size:,} bytes are too many")
        try:
            data = read_range(path, self.offset, self.size)
        except OSError as error:
            raise UnreadableImageError(f"cannot be read: {error.strerror or error}") from error
        if len(data) < self.size:
            raise UnreadableImageError("cannot be read: the archive ends before it")
        return data

    def bytes_in(self, opened: IO[bytes]) -> bytes:
        """Return what an open archive holds of the file."""
        opened.seek(self.offset)
        return opened.read(self.size)


def is_tar(root: Path) -> bool:
    """Return whether a path is a tar archive or a folder of some."""
    return bool(_files(root))


def read_tar(root: Path, labels: str, classes: Classes) -> Listing:
    """Return the images of a tar archive or of all in a folder; nothing is unpacked.

    Samples of webdataset have their label beside the image (key.cls, key.json with "label", or
    key.txt), and a file name in key.json counts. Without labels the class is the folder in the
    archive, or the archive's name if it has no folders, as ImageNet's training archives have it;
    of ImageNet's validation archive see `validation_labels`.

    Raises:
        InputError: A compressed or damaged archive, no images, or images without a label.
    """
    found: list[Found] = []
    left_out: list[str] = []
    for file in one_split(root, _files(root)):
        found += _images(file, labels, left_out)
    if left_out:
        _log.warning(
            "left out %s links and images of other formats in the tar archives of %s, %s first",
            f"{len(left_out):,}",
            root,
            readable(left_out[0]),
        )
    if not found:
        raise InputError(f"no images in the tar archives of {root}")
    return labelled(numbered_apart(found), labels, classes, integer_classes(found))


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.name.lower().endswith(_ENDINGS) else []
    if not root.is_dir() or subfolders(root):  # an archive may lie beside the folders it held
        return []
    return sorted(path for path in root.glob("*.tar") if path.is_file())


def _images(file: Path, labels: str, left_out: list[str]) -> list[Found]:
    """Return the images of one archive with the names of their classes; adds to `left_out`."""
    members = _members(file, left_out)
    left_out += [name for name in members if name.lower().endswith(OTHER_SUFFIXES)]
    images = {name: one for name, one in members.items() if name.lower().endswith(SUFFIXES)}
    notes = {name: one for name, one in members.items() if name.lower().endswith(_NOTES)}
    if not images:
        return []
    keys = {_key(name) for name in images}
    if any(_key(name) in keys for name in notes):
        return list(_samples(file, images, notes, labels))
    numbers = {name: image_number(PurePosixPath(name).name) for name in images}
    has_classes = _WNID.fullmatch(file.stem) or any(map(_wnid_at, images))
    if all(numbers.values()) and not has_classes:
        known = validation_labels(file, numbers.values(), needed=labels != UNLABELLED)
        return [
            Found(file, one, known[numbers[name]], PurePosixPath(name).name)
            for name, one in images.items()
        ]
    return list(_in_folders(file, images))


def _members(file: Path, left_out: list[str]) -> dict[str, TarMember]:
    """Return the plain files of an archive by name; only their headers are read.

    Hard links are the files that they name; other links are added to `left_out`.
    """
    members: dict[str, TarMember] = {}
    last = -1
    try:
        with file.open("rb") as opened:
            head = opened.read(6)
            if kinds := [kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)]:
                raise InputError(
                    f"{file} is compressed ({kinds[0]}), and its images cannot be read one by one: "
                    "unpack it, or write it again without compression"
                )
            opened.seek(0)
            with tarfile.open(fileobj=opened, mode="r:") as archive:
                for member in archive:
                    if member.offset <= last or member.size < 0:
                        raise tarfile.ReadError("its headers lead backwards")
                    last = member.offset
                    name, target = (n.removeprefix("./") for n in (member.name, member.linkname))
                    if member.isdir() or _is_hidden(name):
                        continue
                    if member.islnk() and target in members:
                        members[name] = members[target]
                    elif member.isreg() and not member.issparse():
                        members[name] = TarMember(member.offset_data, member.size)
                    else:
                        left_out.append(name)
                _check_end(opened, archive.offset)
    except InputError:
        raise
    except (OSError, tarfile.TarError, MemoryError, *DAMAGE) as error:
        raise InputError(f"{file} is not a sound tar archive: {error}") from error
    return members


def _check_end(opened: IO[bytes], offset: int) -> None:
    """Raise tarfile.ReadError unless an archive ends where its last header was found.

    `tarfile` ends without a word at a damaged header, and where a second archive follows.
    """
    opened.seek(offset)
    rest = opened.read(_MOST_PADDING)
    if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise tarfile.ReadError(
            f"it is cut or damaged at byte {offset:,}, or several archives in one file; get it "
            "again, or write one archive"
        )


def _is_hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".") or "__MACOSX" in name


def _key(name: str) -> str:
    """Return the key of a sample as webdataset has it: up to the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.split('.')[0]}"


def _samples(
    file: Path, images: dict[str, TarMember], notes: dict[str, TarMember], labels: str
) -> Iterator[Found]:
    """Yield the images of a webdataset shard."""
    by_key: dict[str, dict[str, TarMember]] = {}
    for name, one in notes.items():
        by_key.setdefault(_key(name), {})[PurePosixPath(name).suffix.lower()] = one
    image_of: dict[str, str] = {}
    with file.open("rb") as opened:
        for name, one in images.items():
            if (first := image_of.setdefault(_key(name), name)) != name:
                raise InputError(
                    f"{file}: one sample has the images {first} and {name}; expected one image in "
                    "a sample (webdataset reads names up to the first dot)"
                )
            own = by_key.get(_key(name), {})
            label, stored = _label(opened, own)
            if label is None and labels != UNLABELLED:
                raise InputError(
                    f"{file}: the image {name} has no label; expected {_key(name)}.cls, .txt, or "
                    '.json with "label"'
                )
            yield Found(file, one, label or "", PurePosixPath(stored or name).name)


def _label(opened: IO[bytes], notes: dict[str, TarMember]) -> tuple[str | None, str | None]:
    """Return the label and the file name that the notes of a sample say, None where they do not."""
    texts = {
        ending: one.bytes_in(opened).decode("utf-8", "replace").strip()
        for ending, one in notes.items()
        if one.size <= _MOST_NOTE
    }
    stored = {}
    if ".json" in texts:
        try:
            stored = parse_json(texts[".json"])
        except ValueError:
            stored = {}
        stored = stored if isinstance(stored, dict) else {"label": stored}
    found = [texts.get(".cls"), stored.get("label"), texts.get(".txt")]
    label = next((str(one) for one in found if isinstance(one, str | int) and one != ""), None)
    name = stored.get("filename")
    return label, name if isinstance(name, str) else None


def _in_folders(file: Path, images: dict[str, TarMember]) -> Iterator[Found]:
    """Yield the images of class folders; the archive is the class where it has no folders."""
    paths = {name: PurePosixPath(name).parts for name in images}
    n_shared = _n_shared([parts[:-1] for parts in paths.values()])
    depths = {_wnid_at(name) for name in images}
    depth = depths.pop() - 1 if depths != {0} and len(depths) == 1 else n_shared
    for name, one in images.items():
        parts = paths[name]
        if len(parts) - 1 <= depth:
            yield Found(file, one, parts[-2] if len(parts) > 1 else file.stem, parts[-1])
        else:
            yield Found(file, one, parts[depth], "/".join(parts[depth + 1 :]))


def _wnid_at(name: str) -> int:
    """Return the depth, from 1, of the folder in a path that is a WordNet id; 0 without one."""
    parts = name.split("/")[:-1]
    return next((k for k, part in enumerate(parts, 1) if _WNID.fullmatch(part)), 0)


def _n_shared(folders: Sequence[Sequence[str]]) -> int:
    """Return how many folders all paths begin with."""
    n = 0
    while all(len(parts) > n for parts in folders) and len({parts[n] for parts in folders}) == 1:
        n += 1
    return n
