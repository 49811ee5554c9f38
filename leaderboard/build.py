"""Entries to the board's files: validate, add one, build all. No clock, no network, no order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import write_atomic

if TYPE_CHECKING:
    from iaside_plugins.entry.schema import Entry

BOARD = Path(__file__).resolve().parent
BUILT = frozenset(
    (
        "README.md",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.tex",
        "index.html",
        "scatter.vl.json",
        "stats.json",
        "entry.schema.json",
    )
)  # what `board_files` gives


def default_folder() -> Path:
    """Return the board of the checkout that this package runs from.

    Raises:
        InputError: The package is installed: its folder is no place for entries.
    """
    if not (BOARD.parent / "pyproject.toml").is_file():
        raise InputError("give folder=DIR: the board's folder, which holds entries/<dataset>/")
    return BOARD


def validate(files: Iterable[Path | str]) -> list[str]:
    """Return the problems of entry files, one line each; empty if all are valid.

    A file's name must be its entry's id only inside an ``entries/<dataset>`` folder.

    Raises:
        MissingExtraError: Without pydantic.
    """
    from iaside_plugins.entry.read import read_entries

    return read_entries([Path(file) for file in files])[1]


def add(
    file: Path | str,
    folder: Path | str = BOARD,
    *,
    supersedes: str | None = None,
    reason: str | None = None,
) -> Path:
    """Put a valid entry onto the board; nothing is written if there is any problem.

    Args:
        file: The entry, under any name.
        folder: The board.
        supersedes: With a reason, id of the entry that this one replaces, which is removed; by
            default the one of the same id.
        reason: Why an entry of the board is replaced: written into ``submission/supersedes`` with
            the digest of the replaced file. Without one no entry is replaced, unless the file
            says so already.

    Returns:
        ``entries/<dataset>/<entry_id>.json`` of the board.

    Raises:
        InputError: The entry has problems, or clashes with one on the board: the same id with
            other content and no reason, or the same weights, protocol and images.
        MissingExtraError: Without pydantic.
    """
    from iaside_plugins.entry.checks import check_entry
    from iaside_plugins.entry.parse import parse_entry
    from iaside_plugins.entry.read import clashes, read_bytes

    file, folder = Path(file), Path(folder)
    data = read_bytes(file)
    entry = parse_entry(data, file.name)
    on_board = {other.entry_id: other for other in _on_board(folder)}
    if reason is not None:
        data = _with_reason(data, folder, on_board.get(supersedes or entry.entry_id), reason)
        entry = parse_entry(data, file.name)
    elif supersedes is not None:
        raise InputError(f"give a reason why {supersedes} is replaced")
    if problems := check_entry(entry, entry.entry_id):
        raise InputError("\n".join(f"{file.name}: {problem}" for problem in problems))
    target = _place(folder, entry)
    if target.exists() and target.read_bytes() == data:
        return target
    old = _replaced(entry, folder, on_board)
    if target.exists() and old != target:
        raise InputError(
            f"{target.name} is on the board with other content; give a reason (reason=...) if "
            "the new numbers are to replace the old"
        )
    others = [other for other in on_board.values() if _place(folder, other) != old]
    if found := clashes([*others, entry]):
        raise InputError("\n".join(f"{file.name}: {problem}" for _, problem in found))
    write_atomic(target, data)
    if old is not None and old != target:
        old.unlink()
    return target


def _place(folder: Path, entry: Entry) -> Path:
    return folder / "entries" / entry.data.name / f"{entry.entry_id}.json"


def _with_reason(data: bytes, folder: Path, old: Entry | None, reason: str) -> bytes:
    """Return the entry's JSON with the file that it replaces and the reason added."""
    if old is None:
        raise InputError("there is no such entry on the board to replace")
    raw = json.loads(data)
    digest = hashlib.sha256(_place(folder, old).read_bytes()).hexdigest()
    raw["submission"]["supersedes"] = {
        "entry_id": old.entry_id,
        "sha256": digest,
        "reason": reason,
    }
    return (json.dumps(raw, indent=1, allow_nan=False) + "\n").encode()


def _replaced(entry: Entry, folder: Path, on_board: dict[str, Entry]) -> Path | None:
    """Return the board's file that an entry replaces, if its content is the one claimed."""
    claim = entry.submission.supersedes
    if claim is None or claim.entry_id not in on_board:
        return None
    place = _place(folder, on_board[claim.entry_id])
    same = hashlib.sha256(place.read_bytes()).hexdigest() == claim.sha256
    return place if same else None


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
    """Return the text of every file that the entries determine, by name."""
    from iaside_plugins.entry.parse import entry_schema
    from iaside_plugins.leaderboard.board import Board
    from iaside_plugins.leaderboard.render import latex, page, scatter, text
    from iaside_plugins.leaderboard.statistics.report import to_json

    board = Board.of(entries)
    return {
        "README.md": text.to_markdown(board),
        "leaderboard.csv": text.to_csv(board),
        "leaderboard.json": text.to_json(board),
        "leaderboard.tex": latex.to_latex(board),
        "index.html": page.to_html(board),
        "scatter.vl.json": scatter.to_vega(board),
        "stats.json": to_json(board.statistics),
        "entry.schema.json": entry_schema(),
    }


def _on_board(folder: Path, *, required: bool = False) -> list[Entry]:
    """Return the checked entries of a board, each in the folder of its data set."""
    from iaside_plugins.entry.read import load_entries

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
