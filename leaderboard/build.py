"""Entries to the board's files: validate, add one, build all. No clock, no network, no order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.settings import BoardSettings
from iaside_plugins.leaderboard.settings import rename as rename_in_settings
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
        "evidence.html",
        "downloads.html",
        "add.html",
        "scatter.vl.json",
        "stats.json",
        "stats.schema.json",
        "entry.schema.json",
        "results.csv",
        "models.csv",
        "results-imagenet-c.csv",
        "data-dictionary.md",
    )
)  # what `board_files` gives, beside the files of its folders
BUILT_FOLDERS = ("latex", "models")  # a file a table, and a page a model
HOW_TO_ADD = "CONTRIBUTING.md"  # which `build` writes once, and then leaves alone


def is_built(name: str) -> bool:
    """Return whether a file of a board, by its path in the board's folder, is one of its build."""
    folder, slash, rest = name.partition("/")
    return name in BUILT or bool(slash and folder in BUILT_FOLDERS and "/" not in rest)


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
    return add_all([file], folder, supersedes=supersedes, reason=reason)[0]


def add_all(
    files: Iterable[Path | str],
    folder: Path | str = BOARD,
    *,
    supersedes: str | None = None,
    reason: str | None = None,
) -> list[Path]:
    """Put entries onto the board, all or none: see `add`, whose arguments and errors these are.

    A reason holds for each of them whose id is on the board. Problems of an entry that is replaced
    are no obstacle, since checks become stricter.

    Returns:
        Where each of them lies, in their order.

    Raises:
        InputError: As for `add`; also `supersedes` with several files.
    """
    from iaside_plugins.entry.read import clashes

    paths, folder = [Path(file) for file in files], Path(folder)
    if supersedes is not None and len(paths) != 1:
        raise InputError(f"give supersedes=ID with one entry, not with {len(paths)}")
    if supersedes is not None and reason is None:
        raise InputError(f"give a reason why {supersedes} is replaced")
    there, problems = _read(folder)
    on_board = {other.entry_id: other for other in there}
    absent = supersedes is not None and supersedes not in on_board
    new = [] if absent else [_addition(f, folder, on_board, supersedes, reason) for f in paths]
    if reason is not None and not any(one.old for one in new):
        raise InputError("there is no such entry on the board to replace")
    gone = {one.old for one in new} | {one.place for one in new}
    replaced = {one.old.name for one in new if one.old is not None}
    if problems := [text for text in problems if text.partition(":")[0] not in replaced]:
        raise InputError("\n".join(problems))
    held = [other for other in on_board.values() if folder / other.board_file not in gone]
    if found := clashes([*held, *(one.entry for one in new)]):
        names = [*(other.entry_id for other in held), *(file.name for file in paths)]
        raise InputError("\n".join(f"{names[k]}: {problem}" for k, problem in found))
    with _all_or_none() as changed:
        for one in new:
            changed(one.place)
            write_atomic(one.place, one.data)
            if one.old is not None and one.old != one.place:
                changed(one.old)
                one.old.unlink()
    return [one.place for one in new]


@dataclass(frozen=True)
class _Addition:
    """An entry that may be added: its bytes, where it goes, and the file that it replaces."""

    entry: Entry
    data: bytes
    place: Path
    old: Path | None


def _addition(
    file: Path,
    folder: Path,
    on_board: dict[str, Entry],
    supersedes: str | None,
    reason: str | None,
) -> _Addition:
    """Read and check an entry that is to be added by itself: see `add`."""
    from iaside_plugins.entry.checks import check_entry
    from iaside_plugins.entry.parse import parse_entry
    from iaside_plugins.entry.read import read_bytes

    data = read_bytes(file)
    entry = parse_entry(data, file.name)
    named = on_board.get(supersedes or entry.entry_id)
    if reason is not None and named is not None:
        data = _with_reason(data, folder, named, reason)
        entry = parse_entry(data, file.name)
    if problems := check_entry(entry, entry.entry_id):
        raise InputError("\n".join(f"{file.name}: {problem}" for problem in problems))
    place, old = folder / entry.board_file, _replaced(entry, folder, on_board)
    latest = datetime.now(timezone.utc) + timedelta(days=1)  # other clocks may be ahead
    if entry.provenance.date > latest.strftime("%Y-%m-%dT%H:%M:%SZ"):
        raise InputError(
            f"{file.name}: /provenance/date: expected a date that has been, got "
            f"{entry.provenance.date}"
        )
    if place.exists() and old != place:
        if on_board.get(entry.entry_id) != entry:
            raise InputError(
                f"{place.name} is on the board with other content; give a reason (reason=...) if "
                "the new numbers are to replace the old"
            )
        data = place.read_bytes()  # the same values, perhaps written otherwise
    return _Addition(entry, data, place, old)


@contextmanager
def _all_or_none() -> Iterator[Callable[[Path], None]]:
    """Put files back if the block fails: it names each to the given function before changing it."""
    before: dict[Path, bytes | None] = {}

    def changed(path: Path) -> None:
        before.setdefault(path, path.read_bytes() if path.exists() else None)

    try:
        yield changed
    except BaseException:
        for path, data in before.items():
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_atomic(path, data)
        raise


def _with_reason(data: bytes, folder: Path, old: Entry, reason: str) -> bytes:
    """Return the entry's JSON with the file that it replaces and the reason added."""
    raw = json.loads(data)
    digest = hashlib.sha256((folder / old.board_file).read_bytes()).hexdigest()
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
    place = folder / on_board[claim.entry_id].board_file
    same = hashlib.sha256(place.read_bytes()).hexdigest() == claim.sha256
    return place if same else None


def build(folder: Path | str = BOARD, *, check: bool = False) -> list[str]:
    """Write the board's files, or compare them with the entries: see `board_files`.

    Args:
        folder: The board, with ``entries/<dataset>/<entry_id>.json`` and maybe ``board.toml``.
        check: Write nothing, only compare.

    Returns:
        Names of the files that were stale (or absent, or left of a former table), in order.

    Raises:
        InputError: There is no folder of entries, or an entry or ``board.toml`` has problems.
        MissingExtraError: Without pydantic.
    """
    folder = Path(folder)
    files = board_files(entries_on(folder, required=True), BoardSettings.read(folder))
    stale = []
    for name, text in files.items():
        data = text.encode()
        path = folder / name
        if path.is_file() and path.read_bytes() == data:
            continue
        stale.append(name)
        if not check:
            write_atomic(path, data)
    left = [name for name in _in_folders(folder) if name not in files]
    if not check:
        for name in left:
            (folder / name).unlink()
        if not (folder / HOW_TO_ADD).exists():
            write_atomic(folder / HOW_TO_ADD, how_to_add())
    return stale + left


def _in_folders(folder: Path) -> list[str]:
    """Return the files in the folders that the build fills."""
    return [
        f"{name}/{path.name}"
        for name in BUILT_FOLDERS
        for path in sorted((folder / name).glob("*"))
        if path.is_file()
    ]


def how_to_add() -> bytes:
    """Return the page on how to add an entry that a new board begins with."""
    return (Path(__file__).parent / "render" / "templates" / "contributing.md").read_bytes()


def board_files(entries: Sequence[Entry], settings: BoardSettings | None = None) -> dict[str, str]:
    """Return the text of every file that the entries and `board.toml` determine, by name.

    Raises:
        InputError: The settings name a model or a column that the board has not.
    """
    from iaside_plugins.entry.parse import entry_schema
    from iaside_plugins.leaderboard.board import Board
    from iaside_plugins.leaderboard.render import latex, scatter, site, text, tidy
    from iaside_plugins.leaderboard.render.stats_schema import stats_schema
    from iaside_plugins.leaderboard.statistics.report import to_json

    board = Board.of(entries, settings=settings)
    latex_tables = latex.fragments(board)
    return {
        "README.md": text.to_markdown(board),
        "leaderboard.csv": text.to_csv(board),
        "leaderboard.json": text.to_json(board),
        "leaderboard.tex": latex.to_latex(board, latex_tables),
        **site.pages(board),
        "scatter.vl.json": scatter.to_vega(board),
        "stats.json": to_json(board.statistics),
        "stats.schema.json": stats_schema(),
        "results.csv": tidy.results(board),
        "models.csv": tidy.models(board),
        "results-imagenet-c.csv": tidy.imagenet_c(board),
        "data-dictionary.md": tidy.data_dictionary(),
        "entry.schema.json": entry_schema(),
        **latex_tables,
    }


def rename(folder: Path | str, old: str, new: str) -> list[str]:
    """Show a model under another name, as `settings.rename` says, where all of the board allows it.

    Returns:
        Ids of the entries whose model has that name now; their files are not changed.

    Raises:
        InputError: See `settings.rename`.
    """
    entries = entries_on(Path(folder))
    found = rename_in_settings(folder, old, new, entries)
    return [
        entry.entry_id
        for entry in entries
        if found.names.get(entry.model.name, entry.model.name) == new
    ]


def entries_on(folder: Path, *, required: bool = False) -> list[Entry]:
    """Return the checked entries of a board, each in the folder of its data set."""
    entries, problems = _read(folder, required=required)
    if problems:
        raise InputError("\n".join(problems))
    return entries


def _read(folder: Path, *, required: bool = False) -> tuple[list[Entry], list[str]]:
    """Return the entries of a board that can be parsed, and all problems by the file's name."""
    from iaside_plugins.entry.read import read_entries

    home = folder / "entries"
    if not home.is_dir() and not required:
        return [], []
    entries, problems = read_entries(home)
    misplaced = [
        f"{entry.entry_id}.json: expected it in entries/{entry.data.name}/"
        for entry in entries
        if not (folder / entry.board_file).is_file()
    ]
    return entries, problems or misplaced
