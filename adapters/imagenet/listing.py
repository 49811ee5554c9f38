"""What lies in a folder of class folders: the images that are taken, and what is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from iaside_plugins.adapters.imagenet.remote import RemoteEntry, scan
from iaside_plugins.errors import InputError, first_names

_COLOUR = (".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
SUFFIXES = (*_COLOUR, ".ppm", ".pgm", ".pnm")
"""Endings of image files in class folders, in any case."""

_COMPRESSED = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl")
OTHER_SUFFIXES = (*_COMPRESSED, ".pbm", ".tga", ".ico", ".eps")
"""Endings of image files that are not read."""

_Entry = os.DirEntry[str] | RemoteEntry
_ODD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_HIDDEN = (".", "__MACOSX")  # how the names of folders begin that are the system's
_N_NAMED = 3  # files that are named of each reason


@dataclass(frozen=True)
class FolderListing:
    """What lies in a folder of class folders.

    Attributes:
        images: Names of the image files of every class folder, both sorted; those in folders
            below it with their folders, "more/x.png".
        left_out: Reason -> files that are not taken, relative to the folder, sorted.
    """

    images: dict[str, list[str]]
    left_out: dict[str, list[str]]

    def why(self) -> str:
        """Return how many files are left out, why, and some of their names; empty for none."""
        return "; ".join(
            f"{len(files):,} {reason} ({_named(files)})" for reason, files in self.left_out.items()
        )


def read_listing(root: Path) -> FolderListing:
    """Return what lies in `root/<class>/` at any depth and around it.

    Folders below a class folder that are links are left out: they may lead anywhere. Hidden files
    are those of the system (`.DS_Store`) and left out without a word, images among them with one.

    Raises:
        InputError: A folder cannot be read.
    """
    left_out: dict[str, list[str]] = {}
    try:
        images = {
            folder.name: _images(folder, f"{folder.name}/", left_out) for folder in subfolders(root)
        }
        _images(root, "", left_out, beside=set(images))
    except RecursionError as error:
        raise InputError(f"the class folders of {root} lie too deep in one another") from error
    except OSError as error:
        raise InputError(f"cannot read the class folders of {root}: {error}") from error
    sorted_out = {reason: sorted(files) for reason, files in sorted(left_out.items()) if files}
    return FolderListing(images, sorted_out)


def _images(
    folder: Path, name: str, left_out: dict[str, list[str]], beside: set[str] | None = None
) -> list[str]:
    """Return the names of the images in a folder, sorted, and note the other files.

    Those of a class folder are taken at any depth, as torchvision's ImageFolder does.

    Args:
        folder: A class folder, a folder below one, or the folder above them.
        name: Its own, before the names of its files.
        left_out: Reason -> files; changed.
        beside: In the folder above the class folders, their names: no image there is taken.
    """
    taken = []
    with scan(folder) as entries:
        for entry in entries:
            if _is(entry.is_dir):
                inner = f"{name}{entry.name}/"
                if _is_visible(entry) and not entry.is_symlink() and beside is None:
                    deeper = _images(folder / entry.name, inner, left_out)
                    taken += [f"{entry.name}/{file}" for file in deeper]
                elif beside is None or entry.name not in beside:
                    is_link = entry.is_symlink()
                    reason = "folders that are links" if is_link else "in hidden folders"
                    hidden = [inner] if is_link else list(_hidden(folder / entry.name, inner))
                    left_out.setdefault(reason, []).extend(hidden)
            elif reason := _why_not(entry, is_root=beside is not None):
                left_out.setdefault(reason, []).append(name + entry.name)
            elif beside is None and not entry.name.startswith("."):
                taken.append(entry.name)
    return sorted(taken)


def _why_not(entry: _Entry, *, is_root: bool) -> str:
    """Return why a file is not taken; empty if it is, or if it is no concern of the reader's."""
    name = entry.name.lower()
    is_image = name.endswith(SUFFIXES)
    if entry.name.startswith("."):
        return "hidden" if is_image and not entry.name.startswith("._") else ""
    if not is_image:  # beside the class folders there may be lists and notes
        return "" if is_root and not name.endswith(OTHER_SUFFIXES) else "with other endings"
    if not _is(entry.is_file):
        return "links to nowhere" if entry.is_symlink() else "no plain files"
    return "beside the class folders" if is_root else ""


def _is(kind: Callable[[], bool]) -> bool:
    """Return whether an entry is of a kind; False if the system cannot say, as of a link loop."""
    try:
        return kind()
    except OSError:
        return False


def _is_visible(entry: _Entry) -> bool:
    """Return whether a folder is neither hidden nor one of macOS archives."""
    return not entry.name.startswith(_HIDDEN)


def _hidden(folder: Path, name: str) -> Iterator[str]:
    """Yield the images at any depth in a hidden folder, after its own name."""
    if folder.name == "__MACOSX":
        return
    with scan(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not _is(entry.is_dir):
                if entry.name.lower().endswith(SUFFIXES):
                    yield name + entry.name
            elif not entry.is_symlink():
                yield from _hidden(folder / entry.name, f"{name}{entry.name}/")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder by name, without hidden ones and those of macOS archives."""
    with scan(folder) as entries:
        names = [one.name for one in entries if _is_visible(one) and _is(one.is_dir)]
    return [folder / name for name in sorted(names)]


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files directly in a folder, sorted, without hidden files."""
    with scan(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and not _is(entry.is_dir)
            and not _why_not(entry, is_root=False)
        )


def readable(name: str) -> str:
    r"""Return the name of a file as one line of text in any encoding: a byte 0xE9 becomes \xe9."""
    if _ODD.search(name) is None:
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return _ODD.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _named(files: Iterable[str]) -> str:
    names = [readable(name) for name in files]
    shown = [name if len(name) <= 80 else f"{name[:60]}...{name[-15:]}" for name in names]
    return first_names(shown, _N_NAMED)
