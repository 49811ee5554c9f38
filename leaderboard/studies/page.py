"""What the studies share: names of networks, tables in pages, figures that are made again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaside_plugins.display.plots import save_figure
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.measured import folder_of
from iaside_plugins.storage.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?\n?(<!-- end -->)", re.S)


def short_name(name: str) -> str:
    """Return a network's name without what all of them have."""
    return name.removeprefix("c10_")


def fill_blocks(text: str, found: Mapping[str, str]) -> str:
    """Fill tables into a page, between ``<!-- NAME -->`` and ``<!-- end -->``.

    Raises:
        InputError: If the page asks for a table that there is not.
    """

    def fill(match: re.Match[str]) -> str:
        if match[2] not in found:
            raise InputError(f"there is no table {match[2]!r}; there are {', '.join(found)}")
        return f"{match[1]}{found[match[2]]}\n{match[3]}"

    return BLOCK.sub(fill, text)


def refresh(
    source: Path,
    folders: Iterable[str],
    condense: Callable[[Path, Any], Any],
    figure: Callable[[Any], Figure],
    indent: int | None = 1,
) -> None:
    """Take new files into a study, if a folder is given, and draw its figure.

    Args:
        source: JSON file of the study; the figure is written beside it.
        folders: What `leaderboard/entries.mk` wrote.
        condense: Folder, what is known -> what the study keeps of both.
        figure: Draws that.
        indent: Of the JSON file.

    Raises:
        InputError: As `condense` and `figure`.
    """
    for folder in folders:
        known = json.loads(source.read_text(encoding="utf-8"))
        write_json(source, condense(folder_of(folder), known), indent=indent)
    data = json.loads(source.read_text(encoding="utf-8"))
    save_figure(figure(data), source.with_suffix(".png"))
