"""What the studies share: names of networks, tables in pages, and how their figures are drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.plots import draw_dots, save_figure
from iaside_plugins.display.style import COLOURS, DIVERGING, LABEL, MARKS, SMALL
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.measured import folder_of
from iaside_plugins.storage.files import read_json, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
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
        known = read_json(source)
        write_json(source, condense(folder_of(folder), known), indent=indent)
    data = read_json(source)
    save_figure(figure(data), source.with_suffix(".png"))


def draw_by_band(
    figure: Figure,
    axes: Sequence[Axes],
    tables: Mapping[str, Array],
    rows: Sequence[str],
    label: str,
) -> None:
    """Draw tables (rows, bands) side by side in one scale of colours; white is 0.

    Args:
        figure: The figure, which gets the colour bar.
        axes: One a table.
        tables: By their titles.
        rows: Names of the rows.
        label: Of the colour bar.
    """
    most = max(float(np.abs(values).max()) for values in tables.values())
    for k, (ax, (title, values)) in enumerate(zip(axes, tables.items(), strict=True)):
        shown = ax.imshow(values, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto")
        ax.set_title(title)
        ax.set_xticks(range(values.shape[1]))
        ax.set_xlabel("band")
        ax.set_yticks(range(len(rows)), rows if k == 0 else [])
    bar = figure.colorbar(shown, ax=axes)
    bar.set_label(label, fontsize=LABEL)
    bar.ax.tick_params(labelsize=SMALL)


def draw_kind(ax: Axes, values: Array, kind: int, label: str) -> None:
    """Draw values with their intervals, a row a network, a little aside of those of another kind.

    Args:
        ax: Axes to draw on.
        values: Value, lower and upper end (n, 3).
        kind: 0 or 1.
        label: Of the kind, in the legend.
    """
    draw_dots(
        ax,
        values[:, 0],
        values[:, 1:],
        shift=0.12 * (2 * kind - 1),
        color=COLOURS[kind],
        mark=MARKS[kind],
        label=label,
    )
