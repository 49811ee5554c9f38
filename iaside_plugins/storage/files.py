"""Files written whole or not at all, JSON values, and .npz files read without executing them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import stat
import struct
import time
import uuid
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError

MOST_BYTES = 2**30  # of a text or JSON file that is read whole
MOST_BYTES_OF_ARRAYS = 2**36

# What numpy, zipfile and zlib raise on a file that is cut, changed or something else.
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    AttributeError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    SyntaxError,
)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then renamed.

    A link stays, and what it leads to is written; a device or a pipe is written to.

    Raises:
        InputError: If the folder cannot be made or written.
    """
    if not path.name:
        raise InputError(f"cannot write {path}: expected the name of a file")
    path, is_plain = _destination(path)
    if not is_plain:
        try:
            # Without truncating: of /dev/stdout the shell may have written something already.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as file:
                file.write(data)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
        return
    part = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            with part.open("rb") as file:
                os.fsync(file.fileno())  # else a power cut may leave the name without the bytes
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _destination(path: Path) -> tuple[Path, bool]:
    """Return the file that a path leads to, and whether it is a plain one, there or to be made.

    Raises:
        InputError: For links that lead to one another.
    """
    for _ in range(40):
        if not path.is_symlink():
            return path, not path.exists() or path.is_file()
        if os.path.realpath(path.parent).startswith("/proc/"):  # /dev/stdout: an open file
            return path, False
        path = path.parent / path.readlink()
    raise InputError(f"cannot write {path}: too many links")


# A temporary file: the name it will have, and who writes it (machine, process); see `_temporary`.
_TEMPORARY = re.compile(r"\..+\.(?:([0-9a-f]{8})-(\d+)-)?[0-9a-f]{16,32}")
_DAY = 86400.0  # seconds; no file is written for so long


def _temporary(path: Path) -> Path:
    """Return the name of a new temporary file beside a file."""
    return path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:16]}")


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def sweep(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*"):
            found = _TEMPORARY.fullmatch(path.name)
            if found is None:
                continue
            machine, process = found.groups()
            with contextlib.suppress(OSError):  # whoever wrote it has just renamed it
                old = time.time() - path.stat().st_mtime > _DAY
                if old or (machine == _machine() and not _is_alive(int(process))):
                    path.unlink()


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # there a signal 0 would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def write_new_json(path: Path, data: Any) -> bool:
    """Write JSON values to a file that does not exist yet; return False if it does.

    Of several processes that try it at the same moment, one writes and the others get False.

    Raises:
        InputError: If the file cannot be written.
    """
    part = _temporary(path)
    write_json(part, data)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with path.open("xb") as file:
                file.write(part.read_bytes())
        except FileExistsError:
            return False
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return True


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
    if not folder and path.name:
        path, is_plain = _destination(path)
        if not is_plain:  # not opened: a pipe would wait for its reader
            if path.is_socket() or not os.access(path, os.W_OK):
                raise InputError(f"cannot write {path}: expected a file, device or pipe to write")
            return
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
    """Convert arrays and tuples to lists, NaN and infinities to None, numpy scalars to Python's."""
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


def rounded(value: Any, digits: int, exact: Collection[str] = ()) -> Any:
    """Return JSON values with floats of so many significant digits, but under the `exact` keys."""
    if isinstance(value, dict):
        return {
            key: item if key in exact else rounded(item, digits, exact)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [rounded(item, digits, exact) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def write_json(path: Path, data: Any, indent: int | None = 1) -> None:
    """Write JSON values in their own order, whole or not at all; NaN is refused.

    Raises:
        InputError: If the file cannot be written.
    """
    write_atomic(path, (json.dumps(data, indent=indent, allow_nan=False) + "\n").encode())


def read_plain(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a plain file; a pipe or a device is refused, not waited for.

    Raises:
        OSError: No plain file, larger than `most` bytes or than the memory, or not readable.
    """
    # Some systems wait in `open` for whoever writes into a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "expected a file, got a pipe or a device")
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"expected at most {most:,} bytes, got {found.st_size:,}")
        try:
            return file.read()
        except MemoryError:
            raise OSError(errno.ENOMEM, "the file is larger than the memory") from None


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a plain file, see `read_plain`.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return read_plain(path, most)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        why = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {why}") from error


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the JSON value of a plain file in UTF-8.

    Raises:
        InputError: The file cannot be read, see `read_file`, or is not JSON, see `parse_json`.
    """
    data = read_file(path, most)
    try:
        return parse_json(data.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def parse_json(text: str) -> Any:
    """Return the JSON value of a text.

    Raises:
        ValueError: It is not JSON, nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except MemoryError:
        raise ValueError("larger than the memory") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise ValueError("a number has thousands of digits") from None


def read_npz(path: Path, only: str | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file, or only one of them; nothing in it is executed.

    Raises:
        InputError: If the file cannot be read, is damaged, or holds anything but plain arrays.
    """
    try:
        return _arrays(read_file(path, MOST_BYTES_OF_ARRAYS), only)
    except (MemoryError, *DAMAGE) as error:
        raise InputError(f"{path} is not a sound .npz file: {error}") from error


def _arrays(held: bytes, only: str | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in the bytes of an .npz file; raises `DAMAGE` for others."""
    with zipfile.ZipFile(io.BytesIO(held)) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                _check_length(file, member)
    with np.load(io.BytesIO(held), allow_pickle=False) as data:
        return {name: data[name] for name in data.files if only in (None, name)}


def _check_length(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Raise ValueError if an array claims another length than its member: memory is taken by it."""
    header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        np.lib.format.read_magic(file), np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = header(file)
    if not dtype.hasobject and file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} is not as long as its shape {shape} says")
