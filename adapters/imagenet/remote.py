"""Files in object storage and wherever else fsspec reads: `s3://`, `gs://`, `memory://`, ..."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from iaside_plugins.errors import InputError, error_text
from iaside_plugins.storage import files

_URL = re.compile(r"[a-z][a-z0-9+.\-]+:/")  # a Path has one slash where a URL has two
_ALONE = (".parquet", ".tar", ".csv")  # endings of what is no folder
_LOCAL = ("file:", "local:")


class RemotePath(PurePosixPath):
    """A URL with those methods of `Path` that the readers of images use.

    It holds no connection, so it can be pickled: a worker opens its own.
    """

    def __str__(self) -> str:
        scheme, *parts = self.parts
        return f"{scheme}//{'/' if scheme in _LOCAL else ''}{'/'.join(parts)}"

    @property
    def parents(self) -> Sequence[RemotePath]:
        """The folders above it, up to the bucket."""
        return [RemotePath(*self.parts[:k]) for k in range(len(self.parts) - 1, 1, -1)]

    def is_absolute(self) -> bool:
        """Return True: it is the same in every folder."""
        return True

    def exists(self) -> bool:
        """Return whether there is a file or a folder."""
        return bool(self.ask("exists"))

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return bool(self.ask("isfile"))

    def is_dir(self) -> bool:
        """Return whether files lie below it."""
        return bool(self.ask("isdir"))

    def absolute(self) -> RemotePath:
        """Return itself."""
        return self

    resolve = absolute

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what lies directly in it."""
        return (self / entry.name for entry in self.entries())

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield what lies directly in it under names of a pattern."""
        names = [entry.name for entry in self.entries()] if self.is_dir() else []
        return (self / name for name in fnmatch.filter(names, pattern))

    def open(self, mode: str = "rb") -> Any:
        """Open it for reading."""
        return self.ask("open", mode=mode)

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """Return its bytes, or those from one to before another."""
        return bytes(self.ask("cat_file", start=start, end=end))

    def size(self) -> int:
        """Return its length in bytes."""
        return int(self.ask("size"))

    def entries(self) -> Iterator[RemoteEntry]:
        """Yield what lies directly in it, as `os.scandir` does."""
        for info in self.ask("ls", detail=True):
            *_, name = parts = [part for part in PurePosixPath(info["name"]).parts if part != "/"]
            if parts != [*self.parts[1:]]:  # else a marker of the folder itself
                yield RemoteEntry(self, name, "link" if info.get("islink") else info["type"])

    def ask(self, method: str, **options: Any) -> Any:
        """Return what a method of fsspec's file system says of this path.

        Raises:
            OSError: Whatever goes wrong, in one line.
            InputError: fsspec does not know the protocol, or needs a package for it.
        """
        fsspec = _fsspec(str(self))
        try:
            system, path = fsspec.core.url_to_fs(str(self))
            return getattr(system, method)(path, **options)
        except ImportError as error:  # fsspec says which package: "Install s3fs to access S3"
            raise InputError(f"{self} cannot be read: {error_text(error)}") from error
        except OSError:
            raise
        except Exception as error:  # whatever a protocol raises
            if "rotocol not known" in str(error):
                raise InputError(f"{self} cannot be read: {error_text(error)}") from error
            raise OSError(errno.EIO, f"{type(error).__name__}: {error_text(error)}") from error


@dataclass(frozen=True)
class RemoteEntry:
    """What lies in a folder, with the methods of `os.DirEntry`.

    Attributes:
        folder: The folder.
        name: Its name there.
        kind: "file", "directory", "link", or another.
    """

    folder: RemotePath
    name: str
    kind: str

    def is_dir(self) -> bool:
        """Return whether it is a folder, also by a link."""
        return (self.folder / self.name).is_dir() if self.kind == "link" else self.kind[0] == "d"

    def is_file(self) -> bool:
        """Return whether it is a file, also by a link."""
        return (self.folder / self.name).is_file() if self.kind == "link" else self.kind == "file"

    def is_symlink(self) -> bool:
        """Return whether it is a link."""
        return self.kind == "link"


def remote_of(path: Any) -> RemotePath | None:
    """Return a path that stands for a `Path`, if it is remote."""
    return path if isinstance(path, RemotePath) else None


def local_or_remote(root: Path | str) -> Path:
    """Return a local path, or a `RemotePath` for a URL at which nothing lies here.

    A folder is listed once with all that lies below it, where the file system keeps listings.

    Raises:
        InputError: It cannot be reached.
    """
    if not isinstance(root, str) and remote_of(root) is not None:
        return root
    local = Path(root)
    if not _URL.match(str(local)) or local.exists():
        return local
    remote: Any = RemotePath(str(root))  # stands for a Path wherever images are read
    try:
        if remote.suffix.lower() not in _ALONE and remote.is_dir():
            remote.ask("find")
        elif not remote.exists():
            raise InputError(f"there is no folder or file {remote}")
    except OSError as error:
        raise InputError(f"{remote} cannot be read: {error.strerror or error}") from error
    found: Path = remote
    return found


def scan(folder: Path) -> AbstractContextManager[Iterator[Any]]:
    """Return a context with what lies directly in a folder, as `os.scandir`."""
    remote = remote_of(folder)
    return os.scandir(folder) if remote is None else nullcontext(remote.entries())


def read_plain(path: Path, most: int) -> bytes:
    """Return the bytes of a plain file, see `files.read_plain`.

    Raises:
        OSError: As `files.read_plain`.
    """
    if (remote := remote_of(path)) is None:
        return files.read_plain(path, most)
    if (size := remote.size()) > most:
        raise OSError(errno.EFBIG, f"expected at most {most:,} bytes, got {size:,}")
    return remote.read()


def read_range(path: Path, offset: int, size: int) -> bytes:
    """Return some bytes of a file, as far as it has them.

    Raises:
        OSError: It cannot be read.
    """
    if (remote := remote_of(path)) is not None:
        return remote.read(offset, offset + size)
    with path.open("rb") as opened:
        opened.seek(offset)
        return opened.read(size)


def _fsspec(url: str) -> Any:
    try:
        import fsspec.core
    except ImportError as error:
        raise InputError(f"reading {url} needs fsspec: pip install fsspec") from error
    return fsspec
