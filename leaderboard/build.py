"""Entries to the board's files: validate, add one, build all. No clock, no network, no order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaside_plugins.errors import InputError
from iaside_plugins.store import write_atomic

if TYPE_CHECKING:
    from iaside_plugins.leaderboard.entry import Entry

BOARD = Path(__file__).resolve().parent


def default_folder() -> Path:
    """The board of the checkout that this package runs from.

    Raises:
        InputError: The package is installed: its folder is no place for entries.
    """
    if not (BOARD.parent / "pyproject.toml").is_file():
        raise InputError("give --folder: the board's folder, which holds entries/<dataset>/")
    return BOARD


def validate(files: Iterable[Path | str]) -> list[str]:
    """Problems of entry files, one line each, empty if all are valid.

    A file's name must be its entry's id only inside an ``entries/<dataset>`` folder.

    Raises:
        MissingExtraError: Without pydantic.
    """
    from iaside_plugins.leaderboard.checks import read_entries

    return read_entries([Path(file) for file in files])[1]


def add(file: Path | str, folder: Path | str = BOARD) -> Path:
    """Copy a valid entry onto the board; nothing is written if there is any problem.

    Args:
        file: The entry, under any name.
        folder: The board.

    Returns:
        ``entries/<dataset>/<entry_id>.json`` of the board.

    Raises:
        InputError: The entry has problems, or clashes with one on the board: the same id with
            other content, or the same weights, protocol and images.
        MissingExtraError: Without pydantic.
    """
    from iaside_plugins.leaderboard import checks
    from iaside_plugins.leaderboard.schema import parse_entry

    file, folder = Path(file), Path(folder)
    data = checks.read_bytes(file)
    entry = parse_entry(data, file.name)
    if problems := checks.check_entry(entry, entry.entry_id):
        raise InputError("\n".join(f"{file.name}: {problem}" for problem in problems))
    target = folder / "entries" / entry.data.name / f"{entry.entry_id}.json"
    if target.exists():
        if target.read_bytes() == data:
            return target
        raise InputError(
            f"{target.name} is on the board with other content; remove it first, and say why in "
            "the commit, if the new numbers are to replace the old"
        )
    if problems := checks.check_entries([*_on_board(folder), entry]):
        raise InputError("\n".join(f"{file.name}: {problem}" for problem in problems))
    write_atomic(target, data)
    return target


def build(folder: Path | str = BOARD, *, check: bool = False) -> list[str]:
    """Write the board's files, or compare them with the entries: see `board_files`.

    Args:
        folder: The board, with ``entries/<dataset>/<entry_id>.json``.
        check: Write nothing, only compare.

    Returns:
        Names of the files that were stale (or absent), in order.

    Raises:
        InputError: There is no folder of entries, or an entry has problems; all are listed.
        MissingExtraError: Without pydantic.
    """
    folder = Path(folder)
    stale = []
    for name, text in board_files(_on_board(folder, required=True)).items():
        data = text.encode()
        path = folder / name
        if path.is_file() and path.read_bytes() == data:
            continue
        stale.append(name)
        if not check:
            write_atomic(path, data)
    return stale


def board_files(entries: Sequence[Entry]) -> dict[str, str]:
    """Every file that the entries determine, as text by name."""
    from iaside_plugins.leaderboard import statistics
    from iaside_plugins.leaderboard.json_schema import entry_schema
    from iaside_plugins.leaderboard.tables import to_csv, to_markdown

    return {
        "README.md": to_markdown(entries),
        "leaderboard.csv": to_csv(entries),
        "stats.json": statistics.to_json(statistics.statistics(entries)),
        "entry.schema.json": entry_schema(),
    }


def _on_board(folder: Path, *, required: bool = False) -> list[Entry]:
    """Checked entries of a board, each in the folder of its data set."""
    from iaside_plugins.leaderboard.checks import load_entries

    home = folder / "entries"
    if not home.is_dir() and not required:
        return []
    entries = load_entries(home)
    misplaced = [
        f"{entry.entry_id}.json: expected it in entries/{entry.data.name}/"
        for entry in entries
        if not (home / entry.data.name / f"{entry.entry_id}.json").is_file()
    ]
    if misplaced:
        raise InputError("\n".join(misplaced))
    return entries
