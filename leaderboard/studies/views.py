"""Figures of `criteria/` from its evidence.json: views of a band, and networks of equal accuracy.

``python -m iaside_plugins.leaderboard.studies.views`` draws both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.display.plots import new_figure, save_figure, titled
from iaside_plugins.display.style import COLOURS, DIVERGING, FAINT, LABEL, LINE, MARKS, SMALL
from iaside_plugins.leaderboard.studies.criteria import EQUAL, VIEWS
from iaside_plugins.leaderboard.studies.evidence import FOLDER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("standard", "adversarial", "certified")  # of training, by its first word


def views_figure(data: Mapping[str, Any]) -> Figure:
    """Draw how each view ranks the bands beside contributions per energy, network by network."""
    names = sorted(data["views"], key=lambda name: (_kind(data["nets"][name]), name))
    values = np.array(
        [[_or_nan(data["views"][name][view]) for view in VIEWS] for name in names], float
    )
    figure, (ax,) = new_figure(6.5, 1.2 + 0.22 * len(names))
    shown = ax.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto")
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
    labels = [f"{name.removeprefix('c10_')} ({_kind(data['nets'][name])})" for name in names]
    ax.set_yticks(range(len(names)), labels)
    figure.colorbar(shown, ax=ax).set_label("rank correlation over bands", fontsize=LABEL)
    n_images = data["views"][names[0]]["n_images"]
    title = "Do views of a band agree with contributions per energy?"
    figure.suptitle(titled(title, n_images))
    return figure


def equal_accuracy_figure(data: Mapping[str, Any]) -> Figure:
    """Draw robust accuracy against signed score, clean accuracy in grey where it is not equal."""
    figure, axes = new_figure(11, 4.6, columns=2, shared=False)
    columns = (
        ("signed_score", "signed score (high: leans to low bands)"),
        ("clean", "clean accuracy"),
    )
    for ax, (column, label) in zip(axes, columns, strict=True):
        for k, kind in enumerate(KINDS):
            for equal in (False, True):
                some = {
                    name: one
                    for name, one in data["nets"].items()
                    if _kind(one) == kind and is_equal(one) == equal
                }
                ax.scatter(
                    [one[column] for one in some.values()],
                    [100 * one["robust"] for one in some.values()],
                    color=COLOURS[k] if equal else FAINT,
                    marker=MARKS[k],
                    s=28,
                    label=kind if equal else None,
                )
        for name, one in data["nets"].items():
            if is_equal(one):
                ax.annotate(
                    name.removeprefix("c10_"),
                    (one[column], 100 * one["robust"]),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=SMALL,
                    color=LINE,
                )
        ax.set_xlabel(label)
    axes[0].set_ylabel("accuracy in % under PGD at 2/255")
    axes[0].legend(title=f"clean accuracy {EQUAL[0]:.2f} to {EQUAL[1]:.2f}", fontsize=SMALL)
    n_images = next(iter(data["nets"].values()))["n_images"]
    figure.suptitle(
        titled("Equal accuracy, different robustness (grey: other accuracies)", n_images)
    )
    return figure


def is_equal(net: Mapping[str, Any]) -> bool:
    """Return whether a network is among those of equal accuracy."""
    return bool(EQUAL[0] <= net["clean"] <= EQUAL[1])


def _kind(net: Mapping[str, Any]) -> str:
    found: str = net["training"].split()[0].rstrip(",")
    return found


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def main() -> None:
    """Draw the figures."""
    data = json.loads((FOLDER / "evidence.json").read_text(encoding="utf-8"))
    save_figure(views_figure(data), FOLDER / "views.png")
    save_figure(equal_accuracy_figure(data), FOLDER / "equal-accuracy.png")


if __name__ == "__main__":
    main()
