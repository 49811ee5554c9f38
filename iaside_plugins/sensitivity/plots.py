"""Plots of a sensitivity study (matplotlib, extra `leaderboard`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.display.plots import new_figure
from iaside_plugins.sensitivity.design import AXES
from iaside_plugins.sensitivity.text import TITLES, caution, level_text, one_at_a_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPED = ("n_bands", "range_handling", "absence")  # blocks of the matrix of rankings


def plot_sensitivity(data: Mapping[str, Any]) -> Figure:
    """Plot three panels: scores by one choice at a time, agreement of rankings, association.

    Args:
        data: `to_dict` of a report.
    """
    figure, axes = new_figure(15, 5.4, columns=3)
    _scores(axes[0], data)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=8, fontsize=7
    )
    _rankings(axes[1], data)
    _associations(axes[2], data)
    return figure


def _scores(ax: Axes, data: Mapping[str, Any]) -> None:
    chosen = one_at_a_time(data)
    height = np.arange(len(chosen))[::-1]
    for k, model in enumerate(data["models"]):
        cells = [data["variants"][place]["models"][k] for place, _ in chosen]
        value = np.array([cell["signed_score"] for cell in cells])
        ends = np.array([cell["signed_score_interval"] for cell in cells], dtype=np.float64)
        error = np.nan_to_num(np.abs(ends.T - value))
        shift = (k - (len(data["models"]) - 1) / 2) * 0.7 / len(data["models"])
        ax.errorbar(
            value,
            height - shift,
            xerr=error,
            fmt="o",
            markersize=3,
            linewidth=0.8,
            color=f"C{k % 10}",
            label=model["name"].replace("$", r"\$"),
        )
    ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_yticks(height, [label for _, label in chosen], fontsize=8)
    ax.set_xlabel("signed score, 95 % intervals over images")
    ax.set_title("1  One choice changed at a time", fontsize=10)


def _rankings(ax: Axes, data: Mapping[str, Any]) -> None:
    variants = _ranked(data)
    order = sorted(
        range(len(variants)),
        key=lambda k: tuple(
            data["axes"][axis].index(variants[k][axis])
            for axis in (*GROUPED, *(axis for axis in AXES if axis not in GROUPED))
        ),
    )
    matrix = np.array(data["spearman"], dtype=np.float64)[np.ix_(order, order)]  # None is NaN
    shown = ax.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
    groups = [tuple(variants[k][axis] for axis in GROUPED) for k in order]
    starts = [k for k in range(len(order)) if k == 0 or groups[k] != groups[k - 1]]
    middles = [(a + b - 1) / 2 for a, b in zip(starts, [*starts[1:], len(order)], strict=True)]
    names = ["{} bands, {}, {}".format(*groups[k]) for k in starts]
    for start in starts[1:]:
        ax.axhline(start - 0.5, color="0.2", linewidth=0.5)
        ax.axvline(start - 0.5, color="0.2", linewidth=0.5)
    ax.set_yticks(middles, names, fontsize=7)
    ax.set_xticks([])
    ax.figure.colorbar(shown, ax=ax, shrink=0.8)
    ax.set_title("2  Rank correlation of the models' signed scores", fontsize=10)


def _associations(ax: Axes, data: Mapping[str, Any]) -> None:
    variants = [one for one in data["variants"] if one["association"] is not None]
    ax.set_title("3  With retained shares, given clean accuracy", fontsize=10)
    if not variants:
        ax.text(
            0.5,
            0.5,
            "no association: needs entries\nof four or more models",
            ha="center",
            va="center",
            transform=ax.transAxes,
        )
        ax.set_axis_off()
        return
    base = next((one for one in variants if one["name"] == data["base"]), None)
    labels: list[str] = []
    for axis in AXES:
        for level in _levels(data, axis):
            own = [one["association"] for one in variants if one[axis] == level]
            at = len(labels)
            ax.plot(
                own,
                np.full(len(own), at),
                "|",
                color=f"C{AXES.index(axis)}",
                markersize=9,
                alpha=0.6,
            )
            ax.plot(np.mean(own), at, "D", color=f"C{AXES.index(axis)}", markersize=5)
            labels.append(f"{TITLES[axis]} {level_text(level)}")
    if base is not None:
        ax.axvline(base["association"], color="0.3", linewidth=0.8, linestyle="--", label="base")
        ax.legend(fontsize=7)
    ax.set_yticks(range(len(labels)), labels, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(-1.05, 1.05)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel(f"partial rank correlation; {caution(len(data['models']))}", fontsize=9)


def _ranked(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the variants of the rows of the matrix: all, or those of a condensed study."""
    by_name = {one["name"]: one for one in data["variants"]}
    return [by_name[name] for name in data.get("ranked", by_name)]


def _levels(data: Mapping[str, Any], axis: str) -> Sequence[Any]:
    levels = list(data["axes"][axis])
    return levels if len(levels) > 1 else []
