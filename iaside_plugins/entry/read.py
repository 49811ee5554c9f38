"""Entries from files: one by one, or all of a folder, checked by themselves and together."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from iaside_plugins.entry.checks import check_entry
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
    if file.is_symlink():
        raise InputError(f"{file.name}: expected a file, got a symbolic link")
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # a folder, a pipe, a device without end
            raise InputError(f"{file.name}: expected a file")
        if found.st_size > MAX_BYTES:
            raise InputError(f"{file.name}: expected an entry of at most {MAX_BYTES:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error


def clashes(entries: Iterable[Entry]) -> list[tuple[int, str]]:
    """Return entries of one id, or of the same weights, protocol and images.

    Returns:
        (position of the later of the two entries, problem).
    """
    problems: list[tuple[int, str]] = []
    seen: dict[tuple[str, ...], str] = {}
    for k, entry in enumerate(entries):
        run = (
            entry.model.weights_sha256,
            entry.protocol.protocol_id,
            entry.data.image_ids_sha256,
            entry.benchmark_id or "",
        )
        if (entry.entry_id,) in seen:
            problems.append((k, f"/entry_id: expected unique ids, got {entry.entry_id!r} twice"))
        elif run in seen:
            problem = (
                f"/model/weights_sha256: expected one entry for weights, protocol and images; "
                f"{entry.entry_id!r} has those of {seen[run]!r}"
            )
            problems.append((k, problem))
        seen[entry.entry_id,] = seen[run] = entry.entry_id
    return problems
