"""Finished rows of a value table on disk, so that a stopped run goes on where it was."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError

Rows = dict[str, npt.NDArray[np.float64]]
# What numpy, zipfile and zlib raise on a file that is cut, changed or something else.
DAMAGE = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, AttributeError, MemoryError,
    zipfile.BadZipFile, zlib.error, struct.error, SyntaxError,
)  # fmt: skip


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then renamed.

    Raises:
        InputError: If the folder cannot be made or written.
    """
    if not path.name:
        raise InputError(f"cannot write {path}: expected the name of a file")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Raise InputError unless a file could be written there; leaves no file or folder behind.

    Args:
        path: The file, or with `folder` a folder that files will be written in.
        folder: Which of the two.
    """
    if path.is_dir() and not folder:
        raise InputError(f"cannot write {path}: it is a folder")
    if folder and path.exists() and not path.is_dir():
        raise InputError(f"cannot write into {path}: it is a file, expected a folder")
    probe = (
        path / ".probe" if folder else path.with_name(f".{path.name}.probe" if path.name else "")
    )
    made = [parent for parent in probe.parents if not parent.exists()]
    try:
        write_atomic(probe, b"")
    except InputError as error:
        reason = str(error).removeprefix(f"cannot write {probe}: ")
        raise InputError(f"cannot write {path}: {reason}") from error
    probe.unlink()
    for parent in made:  # the innermost first; another process may have put something in it
        with contextlib.suppress(OSError):
            parent.rmdir()


def jsonable(value: Any) -> Any:
    """Arrays and tuples to lists, NaN and infinities to None, numpy scalars to Python's."""
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_json(path: Path, data: Any, indent: int | None = 1) -> None:
    """Write JSON values in their own order, whole or not at all; NaN is refused.

    Raises:
        InputError: If the file cannot be written.
    """
    write_atomic(path, (json.dumps(data, indent=indent, allow_nan=False) + "\n").encode())


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file; nothing in it is executed.

    Raises:
        InputError: If the file cannot be read, is damaged, or holds anything but plain arrays.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except DAMAGE as error:
        raise InputError(f"{path} is not a sound .npz file: {error}") from error


class RowStore:
    """Rows by key, appended in numbered chunks; each chunk is written atomically.

    Args:
        folder: Where chunks are kept, or None to keep nothing.
        identity: What the rows depend on beside their key (model, protocol, precision): a store
            of another identity is refused.
        flush_every: Rows in one chunk.

    Raises:
        InputError: If the folder belongs to another run (what changed is named) or cannot be
            written.
    """

    def __init__(self, folder: Path | str | None, identity: dict[str, Any], flush_every: int = 16):
        self.folder = None if folder is None else Path(folder)
        self.rows: Rows = {}
        self._pending: Rows = {}
        self._parts: list[Path] = []  # chunks that `compact` will merge
        self._merged: Rows = {}  # the rows in them
        self._flush_every = flush_every
        if self.folder is not None:
            self._open(self.folder, identity)

    def _open(self, folder: Path, identity: dict[str, Any]) -> None:
        header = folder / "run.json"
        chunks = sorted(folder.glob("rows-*.npz"))
        if not header.exists() and not chunks:
            write_json(header, identity)
            return
        try:
            found = dict(json.loads(header.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{header} does not say what run {folder} holds ({error}); give another folder"
            ) from error
        for key in sorted({*found, *identity}):
            if found.get(key) != identity.get(key):
                raise InputError(
                    f"{folder} holds another run: {key} was {found.get(key)!r} and is now "
                    f"{identity.get(key)!r}; resume with the same choices or give another folder"
                )
        for chunk in chunks:
            try:
                data = read_npz(chunk)
                self.rows.update(zip(data["keys"].tolist(), data["rows"], strict=True))
            except (InputError, KeyError, ValueError):
                chunk.unlink()  # damaged: its rows are computed again

    def add(self, key: str, row: npt.NDArray[np.float64]) -> None:
        """Keep a finished row; it reaches the disk with its chunk or at `flush`."""
        self.rows[key] = row
        if self.folder is not None:
            self._pending[key] = row
            if len(self._pending) >= self._flush_every:
                self.flush()

    def flush(self) -> None:
        """Write the rows that are not on disk yet."""
        if self.folder is None or not self._pending:
            return
        self._parts.append(self._write(self.folder, self._pending))
        self._merged |= self._pending
        self._pending = {}

    def compact(self) -> None:
        """Write what is pending, and merge all chunks since the last call into one."""
        self.flush()
        if self.folder is not None and len(self._parts) > 1:
            self._write(self.folder, self._merged)  # first: a kill in between loses nothing
            for path in self._parts:
                path.unlink()
        self._parts, self._merged = [], {}

    def _write(self, folder: Path, rows: Rows) -> Path:
        with io.BytesIO() as file:
            np.savez(file, keys=list(rows), rows=np.stack(list(rows.values())))
            number = len(list(folder.glob("rows-*.npz")))
            while (path := folder / f"rows-{number:06d}.npz").exists():
                number += 1
            write_atomic(path, file.getvalue())
        return path
