"""What a file is by its first bytes: pages and pointers that are cached or given as weights."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from iaside_plugins.errors import InputError

_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<body|<\?xml|<!--)", re.IGNORECASE)
_POINTER = b"version https://git-lfs"


def check_is_weights(path: Path) -> None:
    """Raise InputError for a file that cannot be weights: empty, a web page, a Git LFS pointer.

    Args:
        path: An existing file.
    """
    with path.open("rb") as file:
        start = file.read(256).removeprefix(b"\xef\xbb\xbf")  # a page may start with this mark
    again = f"delete {path} and download it again"
    if not start:
        raise InputError(f"{path.name} is empty, not weights; {again}")
    if _PAGE.match(start):
        raise InputError(
            f"{path.name} is a web page, not weights: the server sent an error or a sign-in page "
            f"instead of the file; {again}, in a browser where it needs one"
        )
    if start.startswith(_POINTER):
        raise InputError(
            f"{path.name} is a pointer of Git LFS, not the weights themselves; run 'git lfs pull' "
            f"in its repository, or {again}"
        )
    if start.lstrip().startswith((b'{"error', b'{"message')):
        raise InputError(f"{path.name} is an error message of a server, not weights; {again}")


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, which holds a program."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError):  # no zip, or a version that is unknown
        return False
