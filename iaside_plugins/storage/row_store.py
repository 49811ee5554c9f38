"""Finished rows of a value table on disk, so that a stopped run goes on where it was."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError, shown
from iaside_plugins.storage.files import (
    DAMAGE,
    MOST_BYTES_OF_ARRAYS,
    _arrays,
    read_json,
    read_npz,
    read_plain,
    sweep,
    write_atomic,
    write_json,
    write_new_json,
)

Rows = dict[str, npt.NDArray[np.float64]]
FLUSH_SECONDS = 10.0  # of work that a kill may cost, beside the image under way
MERGE_AT = 64  # chunks
HEADER = "run.json"  # whose rows a folder holds
CHOICES = "settled"  # the key in it
ORDER = "order.json"
PROTOCOL, FORWARDS = "protocol ", "forwards"  # keys of the protocol's choices begin, or are, so
EARLIER = {"method_version": 1, "rows": 1}  # of folders from before it was recorded
INTEGERS = "integers"  # that the model holds: settings, or counts of its passes
UNKNOWN = "code"  # folders from before it was recorded are taken: nothing says what theirs was
_log = logging.getLogger(__name__)


class RowStore:
    """Rows by key, appended in numbered chunks; each is written atomically, with its checksums.

    A row reaches the disk with its chunk: once `flush_every` rows are pending, or the first that
    comes `FLUSH_SECONDS` after the last chunk. Chunks are .npz files, whose CRC-32 of every array
    is checked when they are read; a damaged one is set aside (renamed, said in the log) and its
    rows are computed again. Many small chunks are merged into large ones as they come.

    Args:
        folder: Where chunks are stored, or None to store nothing.
        identity: What the rows depend on beside their key (model, protocol, precision): a store
            of another identity is refused.
        flush_every: Rows in one chunk.
        read_only: Touch nothing in the folder, which a run may be writing to.
        width: Numbers in one row; by default that of the first chunk. Chunks whose rows are others
            are set aside as damaged ones are.
        finite: Whether rows with NaN or infinite numbers are set aside too.

    Raises:
        InputError: If the folder belongs to another run (what changed is named) or cannot be
            read or written.
    """

    def __init__(
        self,
        folder: Path | str | None,
        identity: dict[str, Any],
        flush_every: int = 16,
        *,
        read_only: bool = False,
        width: int | None = None,
        finite: bool = False,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.rows: Rows = {}
        self.notes: dict[str, str] = {}  # one a row: what is stored beside its numbers
        self.choices: dict[str, Any] = {}  # how rows were computed, which a resumed run repeats
        self._identity = identity
        self._pending: list[str] = []
        self._flushed = time.monotonic()
        self._parts: list[Path] = []  # chunks that `compact` will merge
        self._merged: list[str] = []  # the keys in them
        self._flush_every = flush_every
        self._read_only = read_only
        self._width, self._finite = width, finite
        if self.folder is not None:
            self._open(self.folder)

    def _open(self, folder: Path) -> None:
        header = folder / HEADER
        chunks = sorted(folder.glob("rows-*.npz"))
        # Of two runs that begin at the same moment one writes it, and the other one reads that.
        if not header.exists() and not chunks and write_new_json(header, self._identity):
            return
        found, self.choices = read_header(folder)
        check_identity(folder, found, self._identity)
        _say_integers(folder, found.get(INTEGERS, {}), self._identity.get(INTEGERS, {}))
        if not self._read_only:
            sweep(folder)
        chunks = sorted(folder.glob("rows-*.npz"))
        try:
            self._read(chunks)
        except FileNotFoundError:  # another process merged chunks meanwhile
            self._read(sorted(folder.glob("rows-*.npz")))

    def _read(self, chunks: list[Path]) -> None:
        for chunk in chunks:
            try:
                held = read_plain(chunk, MOST_BYTES_OF_ARRAYS)
            except FileNotFoundError:
                raise
            except OSError as error:  # of the system: the chunk itself may be sound
                raise InputError(f"cannot read {chunk}: {error.strerror or error}") from error
            try:
                self._take(_arrays(held))
            except (MemoryError, *DAMAGE) as error:
                _log.warning("%s is damaged (%s): its images are computed again", chunk, error)
                if not self._read_only:
                    chunk.replace(chunk.with_suffix(".damaged"))

    def _take(self, data: dict[str, npt.NDArray[Any]]) -> None:
        """Take in the rows of a chunk; one without notes is of an earlier version.

        Raises:
            ValueError: They are no rows of this run.
        """
        keys, rows = data["keys"], data["rows"]
        notes = data.get("notes", np.full(keys.shape, ""))
        if (
            rows.dtype != np.float64
            or rows.ndim != 2
            or {keys.dtype.kind, notes.dtype.kind} != {"U"}
        ):
            raise ValueError(
                f"expected rows of float64 with their keys, got {rows.dtype} of shape {rows.shape}"
            )
        if keys.shape != (len(rows),) or notes.shape != (len(rows),):
            raise ValueError(f"{len(rows)} rows with {keys.size} keys and {notes.size} notes")
        if self._width is not None and rows.shape[1] != self._width:
            raise ValueError(f"rows of {rows.shape[1]} numbers, this run has {self._width}")
        if self._finite and not np.isfinite(rows).all():
            raise ValueError("rows with NaN or infinite numbers")
        self._width = rows.shape[1]
        self.rows.update(zip(keys.tolist(), rows, strict=True))
        self.notes.update(zip(keys.tolist(), notes.tolist(), strict=True))

    def record_choice(self, name: str, value: Any) -> None:
        """Store a choice (JSON value) that a resumed run must repeat, in `choices`."""
        self.choices[name] = value
        if self.folder is not None:
            found, choices = read_header(self.folder)
            check_identity(self.folder, found, self._identity)
            self.choices = {**choices, name: value}  # of other processes too
            write_json(self.folder / HEADER, {**self._identity, CHOICES: self.choices})

    def write_order(self, order: list[tuple[str, str]]) -> None:
        """Store the keys and notes of a run's rows in its order, with duplicates; [] removes it."""
        if self.folder is None:
            return
        if order:
            write_json(self.folder / ORDER, order, indent=None)
        else:
            (self.folder / ORDER).unlink(missing_ok=True)

    def read_order(self) -> list[tuple[str, str]]:
        """Return what `write_order` stored; empty if a run was killed or is still running.

        Raises:
            InputError: If it is damaged.
        """
        if self.folder is None or not (self.folder / ORDER).exists():
            return []
        try:
            return [(str(k), str(note)) for k, note in read_json(self.folder / ORDER)]
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.folder / ORDER} is damaged ({error}); delete it") from error

    def add(self, key: str, row: npt.NDArray[np.float64], note: str = "") -> None:
        """Add a finished row; it reaches the disk with its chunk or at `flush`."""
        self.rows[key], self.notes[key] = row, note
        if self.folder is not None:
            self._pending.append(key)
            waited = time.monotonic() - self._flushed
            if len(self._pending) >= self._flush_every or waited >= FLUSH_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Write the rows that are not on disk yet."""
        if self.folder is None or not self._pending:
            return
        keys = list(dict.fromkeys(self._pending))
        self._parts.append(self._write(self.folder, keys))
        self._merged += keys
        self._pending, self._flushed = [], time.monotonic()
        if len(self._parts) >= MERGE_AT:
            self.compact()

    def compact(self) -> None:
        """Write what is pending, and merge all chunks since the last call into one."""
        self.flush()
        if self.folder is not None and len(self._parts) > 1:
            self._write(self.folder, list(dict.fromkeys(self._merged)))  # first: a kill in
            for path in self._parts:  # between loses nothing
                path.unlink(missing_ok=True)
        self._parts, self._merged = [], []

    def _write(self, folder: Path, keys: list[str]) -> Path:
        notes = [self.notes[key] for key in keys]
        with io.BytesIO() as file:
            np.savez(file, keys=keys, rows=np.stack([self.rows[key] for key in keys]), notes=notes)
            last = max((path.name for path in folder.glob("rows-*.npz")), default="rows-")
            digits = last.removeprefix("rows-")[:6]
            number = int(digits) + 1 if digits.isdecimal() else 0
            # the rest of the name keeps another process on this folder from the same one
            path = folder / f"rows-{number:06d}-{uuid.uuid4().hex[:8]}.npz"
            write_atomic(path, file.getvalue())
        return path


def count_rows(folder: Path) -> int:
    """Return how many rows the stores in a folder and below it hold; damaged chunks have none."""
    keys: dict[Path, set[str]] = {}
    for chunk in folder.rglob("rows-*.npz"):
        with contextlib.suppress(InputError, KeyError, TypeError):
            keys.setdefault(chunk.parent, set()).update(read_npz(chunk, "keys")["keys"].tolist())
    return sum(map(len, keys.values()))


def read_header(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity and the recorded choices of the run that a store's folder holds.

    Raises:
        InputError: If its run.json is missing or damaged.
    """
    header = folder / HEADER
    try:
        found = dict(read_json(header))
        return found, dict(found.pop(CHOICES, {}))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{header} does not say what run {folder} holds ({error}); give another folder"
        ) from error


def check_identity(folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise InputError, naming what changed, unless a folder's run is the one expected."""
    # The code comes last: another model has other code too.
    for key in sorted({*found, *expected} - {INTEGERS}, key=lambda key: (key == UNKNOWN, key)):
        if key == UNKNOWN and key not in found:
            continue
        before, now = (run.get(key, EARLIER.get(key)) for run in (found, expected))
        if before != now:
            what = "the model's code" if key == UNKNOWN else key
            why = " (other weights or code)" if key == "model" else ""
            raise InputError(
                f"{folder} holds another run: {what} was {shown(before, 300)} and is now "
                f"{shown(now, 300)}{why}; resume with the same choices{_choices(found, expected)} "
                "or give another folder"
            )


def _say_integers(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Log a warning if the model holds other integers than when the rows were stored."""
    other = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if before and other:
        said = ", ".join(
            f"{key} was {shown(before.get(key), 60)} and is now {shown(now.get(key), 60)}"
            for key in other[:3]
        )
        _log.warning(
            "%s holds rows of this model with other integers (%s): give another folder if they are "
            "settings, not counts; finished rows are taken as they are",
            folder,
            said,
        )


def _choices(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return the choices of a folder's run that are others now, as they are given; or nothing.

    Versions before this one had other defaults: the exact estimator and plain forwards.
    """
    plain = {FORWARDS: "plain"}  # which is recorded where it is another
    before, now = (
        plain | {key.removeprefix(PROTOCOL): value for key, value in run.items() if _is_choice(key)}
        for run in (found, expected)
    )
    other = [f"{key}={value!r}" for key, value in before.items() if now.get(key) != value]
    return f" ({', '.join(other)})" if other else ""


def _is_choice(key: str) -> bool:
    return key == FORWARDS or key.startswith(PROTOCOL)
