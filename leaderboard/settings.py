"""`board.toml` in a board's folder: what the board says of itself, and the names it shows.

Entries are evidence and stay as they are; what a board calls a model stands here.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaside_plugins.errors import InputError, MissingExtraError, error_text, first_names, shown
from iaside_plugins.storage.files import read_file, write_atomic

if TYPE_CHECKING:
    from iaside_plugins.entry.schema import Entry

FILE = "board.toml"
MOST_BYTES = 1_000_000
NAMES = "[names]"
LONGEST = 2000  # characters of a text
_LINK = re.compile(r"https://[A-Za-z0-9.-]+(:\d+)?(/[^\s\"'<>\\^`{|}]*)?")


@dataclass(frozen=True)
class BoardSettings:
    """What `board.toml` says; without the file the board has these defaults.

    Attributes:
        title: Of the page and of the tables.
        introduction: One paragraph below the title, plain text.
        repository: Where entries are sent, an https link; None if nowhere.
        docs: Where the method is explained, an https link; None if nowhere.
        columns: Names of the table's columns in the order in which they are shown; empty for all.
        families: Family of a model by its name in the entry, instead of the one that architecture
            and training give: see `statistics.variables.family`.
        names: Shown name of a model by its name in the entry.
        papers: Where a model is described, an https link by its name in the entry.
        weights: Where its weights are, the same.
    """

    title: str = "Leaderboard of spectral importance"
    introduction: str = (
        "Which spatial frequencies image classifiers draw on (I-ASIDE), beside how they stand up "
        "to corruptions and attacks."
    )
    repository: str | None = None
    docs: str | None = None
    columns: tuple[str, ...] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    papers: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | str) -> BoardSettings:
        """Return the settings of a board's folder; the defaults if it has no `board.toml`.

        Raises:
            InputError: The file is no TOML, or has an unknown key or a value of another type.
        """
        text = _text(Path(folder))
        return cls.parse(text) if text else cls()

    @classmethod
    def parse(cls, text: str) -> BoardSettings:
        """Return what the text of a `board.toml` says; raises as `read` does."""
        found = _toml(text)
        for key, value in found.items():
            if key not in _KINDS:
                raise InputError(f"{FILE}: expected {_among(key, _KINDS)}")
            expected, fits = _KINDS[key]
            if not fits(value):
                raise InputError(f"{FILE}: {key}: expected {expected}, got {shown(value)}")
        if "columns" in found:
            found["columns"] = tuple(found["columns"])
        return cls(**found)

    def check(self, models: Collection[str], columns: Collection[str]) -> None:
        """Refuse what names nothing on the board; nothing on an empty one.

        Args:
            models: Names in the entries.
            columns: Names of the columns of any table.

        Raises:
            InputError: A column or a model is unknown; with the nearest known name.
        """
        for key, given, known in (
            ("columns", self.columns, columns),
            ("families", self.families, models),
            ("names", self.names, models),
            ("papers", self.papers, models),
            ("weights", self.weights, models),
        ):
            for name in given:
                if known and name not in known:
                    raise InputError(f"{FILE}: {key}: expected {_among(name, known)}")

    def links(self, name: str) -> list[tuple[str, str]]:
        """Return (label, https link) of a model by its shown name."""
        own = next((key for key, shown in self.names.items() if shown == name), name)
        given = (("paper", self.papers.get(own)), ("weights", self.weights.get(own)))
        return [(label, link) for label, link in given if link is not None]

    def renamed(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries with the shown names of their models.

        Raises:
            InputError: Two models of different weights would have one name.
        """
        out: list[Entry] = []
        owns: dict[str, set[str]] = {}
        weights: dict[str, set[str]] = {}
        for entry in entries:
            own = entry.model.name
            name = self.names.get(own, own)
            model = entry.model.model_copy(update={"name": name})
            out.append(entry.model_copy(update={"model": model}))
            owns.setdefault(name, set()).add(own)
            weights.setdefault(name, set()).add(model.weights_sha256)
        for name, models in owns.items():
            if len(models) > 1 and len(weights[name]) > 1:
                raise InputError(
                    f"{FILE}: names: expected one model a name, got {shown(name)} for "
                    f"{', '.join(map(shown, sorted(models)))}, whose weights differ"
                )
        return out


def rename(folder: Path | str, old: str, new: str, entries: Iterable[Entry]) -> BoardSettings:
    """Write into `board.toml` that a model is shown under another name; entries stay as they are.

    Args:
        folder: The board.
        old: The model's name in its entries, or the one that is shown.
        new: The name to show; the name in the entries takes the line out again.
        entries: Of the board.

    Returns:
        The settings that the file now holds.

    Raises:
        InputError: No entry has the old name, the new one is that of another model, or the file
            cannot be changed without touching its other lines.
    """
    if not _is_text(new):
        raise InputError(f"expected a name, got {shown(new)}")
    entries = list(entries)
    settings = BoardSettings.read(folder)
    own = {entry.model.name for entry in entries}
    inverse = {name: key for key, name in settings.names.items() if key in own}
    if old not in own and old not in inverse:
        raise InputError(f"expected {_among(old, own | set(inverse))}")
    key = old if old in own else inverse[old]
    names = {**settings.names, key: new}
    if new == key:
        del names[key]
    text = _with_name(_text(Path(folder)), key, None if new == key else new)
    found = None
    with contextlib.suppress(InputError):  # the name stands there already, in another form
        found = BoardSettings.parse(text)
    if found is None or found != replace(settings, names=names):
        raise InputError(f"{FILE}: its {NAMES} cannot be changed by this command; edit it by hand")
    found.renamed(entries)
    write_atomic(Path(folder) / FILE, text.encode())
    return found


def _text(folder: Path) -> str:
    """Return the text of a folder's `board.toml`, empty if it has none."""
    file = folder / FILE
    try:
        return read_file(file, MOST_BYTES).decode() if file.exists() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{FILE}: expected TOML in UTF-8; {error}") from None


def _with_name(text: str, key: str, name: str | None) -> str:
    """Return TOML with a line of the table of names changed, or taken out if `name` is None."""
    start = f"{_quoted(key)} = "
    written = (start, f"{key} = ") if re.fullmatch(r"[A-Za-z0-9_-]+", key) else (start,)
    lines, inside = [], False
    for line in text.rstrip("\n").split("\n"):
        inside = line == NAMES if line.startswith("[") else inside
        if not (inside and line.startswith(written)):
            lines.append(line)
    if name is not None:
        if NAMES not in lines:
            lines += ["", NAMES]
        lines.insert(lines.index(NAMES) + 1, start + _quoted(name))
    return "\n".join(lines).lstrip("\n") + "\n"


def _quoted(text: str) -> str:
    """Return a basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise MissingExtraError.of(f"{FILE} needs tomli", "leaderboard") from error
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{FILE}: expected TOML; {error_text(error)}") from None


def _among(name: str, known: Iterable[str]) -> str:
    """Return what was expected among known names, what came, and the nearest one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    said = f"; did you mean {shown(near[0])}?" if near else ""
    return f"one of {first_names(names, 12) or 'none'}; got {shown(name)}{said}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= LONGEST


def _is_link(value: object) -> bool:
    return isinstance(value, str) and _LINK.fullmatch(value) is not None


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, [*value, *value.values()]))


def _are_links(value: object) -> bool:
    return _is_table(value) and isinstance(value, dict) and all(map(_is_link, value.values()))


_KINDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "title": ("a text", _is_text),
    "introduction": ("a text", _is_text),
    "repository": ("a link https://...", _is_link),
    "docs": ("a link https://...", _is_link),
    "columns": ("a list of names, none twice", _are_texts),
    "families": ('a table of "name" = "family"', _is_table),
    "papers": ('a table of "name in the entry" = "https://..."', _are_links),
    "weights": ('a table of "name in the entry" = "https://..."', _are_links),
    "names": ('a table of "name in the entry" = "shown name"', _is_table),
}
