"""The figure of `criteria/` on views of a band, from its evidence.json.

``python -m iaside_plugins.leaderboard.studies.views`` draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.display.plots import counted, new_figure, save_figure, titled
from iaside_plugins.display.style import DIVERGING, SMALL
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.criteria import VIEWS
from iaside_plugins.leaderboard.studies.evidence import FOLDER
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import short_name
from iaside_plugins.storage.files import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("standard", "adversarial", "certified", "other")  # of training


def views_figure(data: Mapping[str, Any]) -> Figure:
    """Draw how each view ranks the bands beside contributions per energy, network by network."""
    kinds = {name: kind(data["nets"][name]) for name in data["views"] if name in data["nets"]}
    names = sorted(kinds, key=lambda name: (KINDS.index(kinds[name]), name))
    if not names:
        raise InputError("expected networks with views and an entry, there are none")
    values = np.array(
        [[_or_nan(data["views"][name][view]) for view in VIEWS] for name in names], float
    )
    figure, (ax,) = new_figure(6.2, 1.2 + 0.2 * len(names))
    ax.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        if np.isfinite(value):
            dark = abs(value) > 0.6
            ax.text(
                column,
                row,
                f"{value:+.2f}",
                ha="center",
                va="center",
                fontsize=SMALL,
                color="white" if dark else "black",
            )
    ax.set_xticks(
        range(len(VIEWS)), [view.replace("-restricted ", "-restricted\n") for view in VIEWS]
    )
    labels = [short_name(name) for name in names]
    for row, name in enumerate(names):
        if row == 0 or kinds[name] != kinds[names[row - 1]]:
            labels[row] = f"{kinds[name]}: {labels[row]}"
            ax.axhline(row - 0.5, color="white", linewidth=3)
    ax.set_yticks(range(len(names)), labels)
    n_images = counted(data["views"][name]["n_images"] for name in names)
    title = "Views of a band and contributions per energy: rank correlation over bands"
    figure.suptitle(titled(title, n_images))
    return figure


def kind(net: Mapping[str, Any]) -> str:
    """Return which of `KINDS` its training is, by the first word."""
    word = str(net["training"] or "").partition(" ")[0].rstrip(",")
    return word if word in KINDS else KINDS[-1]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def main(_: Iterable[str] = ()) -> None:
    """Draw the figure from evidence.json."""
    data = read_json(FOLDER / "evidence.json")
    save_figure(views_figure(data), FOLDER / "views.png")


if __name__ == "__main__":
    run(main)
