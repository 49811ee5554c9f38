"""Plot of a sensitivity study (matplotlib, extra `leaderboard`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.plots import draw_dots, new_figure
from iaside_plugins.display.style import FAINT, LINE, SMALL
from iaside_plugins.display.text import number
from iaside_plugins.sensitivity.design import AXES
from iaside_plugins.sensitivity.statistics import matched, over_resampled_models
from iaside_plugins.sensitivity.text import TITLES, caution, level_text
from iaside_plugins.stats.correlation import rank_correlation
from iaside_plugins.stats.intervals import percentile_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]


def plot_sensitivity(data: Mapping[str, Any]) -> Figure:
    """Plot how far the ranking of the models stays when one choice is changed, a row a choice.

    The mean rank correlation of signed scores over all pairs of variants that differ in the choice
    alone, the least at the top, with 95 % intervals over models; a dashed line at what another half
    of the images does.

    Args:
        data: `to_dict` of a report.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    known = [effect for effect in data["effects"] if effect["ranking"] is not None]
    known.sort(key=lambda effect: float(effect["ranking"]))
    value = np.array([effect["ranking"] for effect in known], dtype=np.float64)
    ends = np.array([_interval(data, effect) for effect in known]).reshape(-1, 2)
    figure, (ax,) = new_figure(7.5, 1.9 + 0.32 * len(known))
    base = next(one for one in data["variants"] if one["name"] == data["base"])
    figure.suptitle(
        "Which choice changes the ranking of the models?\n"
        f"{len(data['models'])} models, {data['n_images']} images; base: {data['base']}"
    )
    draw_dots(ax, value, ends)
    for row, (x, (low, high)) in enumerate(zip(value, ends, strict=True)):
        ax.text(1.04, row, number(x, low, high), va="center", fontsize=SMALL)
    ax.axvline(1, color=FAINT, linewidth=0.8, zorder=0)
    if base["reliability"] is not None:
        half = f"two halves of the images: {number(base['reliability'])}"
        ax.axvline(base["reliability"], color=LINE, linewidth=0.8, linestyle="--", label=half)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
    names = [f"{TITLES[one['axis']]}: {level_text(one['level'])}" for one in known]
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(min(0.0, float(np.nanmin(ends, initial=0))) - 0.02, 1.02)
    ax.set_xlabel(
        "rank correlation of the models' signed scores before and after the change (1: the same\n"
        f"ranking), 95 % intervals over models; {caution(len(data['models']))}"
    )
    return figure


def _interval(data: Mapping[str, Any], effect: Mapping[str, Any]) -> Array:
    """Return the interval over models of the mean rank correlation of a change's pairs."""
    variants = data["variants"]
    base = next(one for one in variants if one["name"] == data["base"])
    axis = effect["axis"]
    levels = [[one[name] for name in AXES] for one in variants]
    pairs = matched(levels, AXES.index(axis), effect["level"], base[axis])
    scores = np.array(
        [[one["signed_score"] for one in variant["models"]] for variant in variants], np.float64
    )
    before, after = (scores[list(side)] for side in zip(*pairs, strict=True))

    def agreement(places: npt.NDArray[np.int64]) -> Array:
        return np.asarray(rank_correlation(before[:, places], after[:, places]).mean(axis=0))

    drawn = over_resampled_models(agreement, len(data["models"]), data.get("seed", 0))
    return percentile_interval(drawn)
