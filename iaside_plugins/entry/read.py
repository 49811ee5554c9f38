"""Entries from files: one by one, or all of a folder, checked by themselves and together."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.clashes import clashes as clashes
from iaside_plugins.entry.parse import MAX_BYTES, parse_entry
from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import InputError


def load_entries(source: Path | str | Iterable[Path | str]) -> list[Entry]:
    """Read and check entries; return them sorted by entry_id.

    Args:
        source: A folder (all .json files in it, at any depth; each must be named after its
            entry), or files, whose names are only checked inside an ``entries/<dataset>`` folder.

    Raises:
        InputError: The folder or a file cannot be read, or an entry has problems; all are listed.
    """
    entries, problems = read_entries(source)
    if problems:
        raise InputError("\n".join(problems))
    return entries


def read_entries(source: Path | str | Iterable[Path | str]) -> tuple[list[Entry], list[str]]:
    """Return the entries that can be parsed, sorted by entry_id, and all problems.

    The argument is that of `load_entries`.

    Raises:
        InputError: The folder does not exist.
    """
    in_folder = isinstance(source, (str, Path))
    if isinstance(source, (str, Path)):
        if not Path(source).is_dir():
            raise InputError(f"{source} is not a folder of entries")
        source = sorted(Path(source).rglob("*.json"))
    entries: list[Entry] = []
    names: list[str] = []
    problems: list[str] = []
    for file in map(Path, source):
        try:
            entry = parse_entry(read_bytes(file), file.name)
        except InputError as error:
            problems.append(str(error))
            continue
        entries.append(entry)
        names.append(file.name)
        on_board = in_folder or file.absolute().parent.parent.name == "entries"
        found = check_entry(entry, file.stem if on_board else entry.entry_id)
        problems += [f"{file.name}: {problem}" for problem in found]
    problems += [f"{names[k]}: {problem}" for k, problem in clashes(entries)]
    return sorted(entries, key=lambda entry: entry.entry_id), problems


def read_bytes(file: Path) -> bytes:
    """Return the bytes of an entry's file.

    Raises:
        InputError: A link, no plain file, larger than 5 MB, or not readable.
    """
    try:
        found = file.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise InputError(f"{file.name}: expected a file, got a symbolic link")
        if not stat.S_ISREG(found.st_mode):  # a folder, a pipe, a device without end
            raise InputError(f"{file.name}: expected a file")
        if found.st_size <= MAX_BYTES:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)  # some files of the system say 0 bytes
            if len(data) <= MAX_BYTES:
                return data
        raise InputError(f"{file.name}: expected an entry of at most {MAX_BYTES:,} bytes")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
