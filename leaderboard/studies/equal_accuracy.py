"""The figure of `criteria/` on networks of equal clean accuracy, from its evidence.json.

``python -m iaside_plugins.leaderboard.studies.equal_accuracy`` draws it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from iaside_plugins.display.plots import counted, new_figure, save_figure, titled
from iaside_plugins.display.style import COLOURS, FAINT, LINE, MARKS, SMALL
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies.criteria import EQUAL
from iaside_plugins.leaderboard.studies.evidence import FOLDER
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import short_name
from iaside_plugins.leaderboard.studies.views import KINDS, kind
from iaside_plugins.storage.files import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def equal_accuracy_figure(data: Mapping[str, Any]) -> Figure:
    """Draw robust accuracy against what may tell networks apart; grey: other clean accuracies."""
    columns = (
        ("signed_score", "signed score (high: leans to low bands)"),
        ("upper_nats", "nats in the upper half of the bands"),
    )
    figure, axes = new_figure(10, 4.4, columns=len(columns), shared=False)
    nets = {name: one for name, one in data["nets"].items() if one["robust"] is not None}
    if not nets:
        raise InputError("expected networks with an accuracy under PGD at 2/255, there are none")
    for ax, (column, label) in zip(axes, columns, strict=True):
        _draw(ax, nets, column)
        ax.set_xlabel(label)
    axes[0].set_ylabel("accuracy in % under PGD at 2/255")
    title = f"clean accuracy {EQUAL[0]:.2f} to {EQUAL[1]:.2f}"
    axes[0].legend(title=title, fontsize=SMALL, loc="lower right")
    n_images = counted(one["n_images"] for one in nets.values())
    figure.suptitle(
        titled("Equal accuracy, different robustness (grey: other accuracies)", n_images)
    )
    return figure


def _draw(ax: Axes, nets: Mapping[str, Any], column: str) -> None:
    """Draw robust accuracy against a column; networks of equal accuracy have colour and name."""
    for k, wanted in enumerate(KINDS):
        own = [one for one in nets.values() if kind(one) == wanted]
        if not own:
            continue
        for equal in (False, True):
            some = [one for one in own if is_equal(one) == equal]
            ax.scatter(
                [one[column] for one in some],
                [100 * one["robust"] for one in some],
                color=COLOURS[k] if equal else FAINT,
                marker=MARKS[k],
                s=28,
                label=wanted if equal else None,
            )
    middle = sum(ax.get_xlim()) / 2
    for name, one in nets.items():
        if is_equal(one):
            left = one[column] > middle
            ax.annotate(
                short_name(name),
                (one[column], 100 * one["robust"]),
                xytext=(-4 if left else 4, 3),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=SMALL,
                color=LINE,
            )


def is_equal(net: Mapping[str, Any]) -> bool:
    """Return whether a network is among those of equal accuracy."""
    return bool(EQUAL[0] <= net["clean"] <= EQUAL[1])


def main(_: Iterable[str] = ()) -> None:
    """Draw the figure."""
    data = read_json(FOLDER / "evidence.json")
    save_figure(equal_accuracy_figure(data), FOLDER / "equal-accuracy.png")


if __name__ == "__main__":
    run(main)
