"""Finished rows of a value table on disk, so that a stopped run goes on where it was."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError

Rows = dict[str, npt.NDArray[np.float64]]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then renamed.

    Raises:
        InputError: If the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON values in their own order, whole or not at all; NaN is refused.

    Raises:
        InputError: If the file cannot be written.
    """
    write_atomic(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


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
        self._flush_every = flush_every
        if self.folder is not None:
            self._open(self.folder, identity)

    def _open(self, folder: Path, identity: dict[str, Any]) -> None:
        header = folder / "run.json"
        if not header.exists():
            write_atomic(header, json.dumps(identity, indent=1, sort_keys=True).encode())
            return
        found = json.loads(header.read_text())
        changed = [
            key for key in sorted({*found, *identity}) if found.get(key) != identity.get(key)
        ]
        if changed:
            key = changed[0]
            raise InputError(
                f"{folder} holds another run: {key} was {found.get(key)!r} and is now "
                f"{identity.get(key)!r}; resume with the same choices or give another folder"
            )
        for chunk in sorted(folder.glob("rows-*.npz")):
            try:
                with np.load(chunk, allow_pickle=False) as data:
                    self.rows.update(zip(data["keys"].tolist(), data["rows"], strict=True))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
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
        with tempfile.SpooledTemporaryFile() as file:
            np.savez(file, keys=list(self._pending), rows=np.stack(list(self._pending.values())))
            file.seek(0)
            number = len(list(self.folder.glob("rows-*.npz")))
            while (path := self.folder / f"rows-{number:06d}.npz").exists():
                number += 1
            write_atomic(path, file.read())
        self._pending = {}
