"""Plots of how attribution methods agree, band by band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from iaside_plugins.display.plots import label_bands, new_figure
from iaside_plugins.display.text import number
from iaside_plugins.importance.result import band_edges


def plot_agreement(reports: Mapping[str, AgreementReport]) -> Figure:
    """Plot normalised profiles with 95 % intervals: a row a method, a column a model.

    The first method's profile stands in grey behind the others; each panel says the rank
    correlation of the two with its interval.

    Args:
        reports: Reports by the name of the model; the methods that all of them have are shown.

    Raises:
        InputError: If the reports have different numbers of bands.
        MissingExtraError: If matplotlib is not installed.
    """
    first = next(iter(reports.values()))
    titles = {
        method.name: method.title
        for method in first.methods
        if all(method.name in report.names for report in reports.values())
    }
    names = list(titles)
    figure, axes = new_figure(
        1.2 + 3.4 * len(reports), 1.2 + 0.95 * len(names), len(reports), len(names)
    )
    grid = np.array(axes, dtype=object).reshape(len(names), len(reports))
    for column, (title, report) in enumerate(reports.items()):
        found = report.to_frame().set_index("method")
        if report.protocol.n_bands != first.protocol.n_bands:
            raise InputError(f"expected reports of one number of bands, {title} has another")
        profiles = dict(list(report.profiles().groupby("method")))
        for row, name in enumerate(names):
            _plot_shares(grid[row][column], profiles[name], profiles[names[0]], row == 0)
            if row:
                _note(grid[row][column], found.loc[name])
            if not column:
                grid[row][0].set_ylabel(titles[name].replace(" ", "\n", 1), fontsize=9)
        heading = f"{title}\n{report.n_images} images".strip()
        grid[0][column].set_title(heading, fontsize=9, parse_math=False)
        label_bands(grid[-1][column], band_edges(report.protocol, report.image_size))
        grid[-1][column].tick_params(axis="x", labelsize=7)
    figure.suptitle("share of each band, 95 % intervals over images", fontsize=10)
    return figure


def _plot_shares(ax: Axes, profile: pd.DataFrame, first: pd.DataFrame, is_first: bool) -> None:
    """Plot one method's shares with intervals, over the first one's as grey bars."""
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.bar(first["band"], first["share"], color="0.75" if is_first else "0.88", width=0.8)
    share = profile["share"].to_numpy()
    ends = profile[["share_low", "share_high"]].to_numpy().T
    ax.errorbar(
        profile["band"],
        share,
        yerr=np.nan_to_num(np.abs(ends - share)),
        fmt="o",
        markersize=3.5,
        capsize=2,
        color="0.3" if is_first else "C0",
    )


def _note(ax: Axes, row: Any) -> None:
    """Write the rank correlation with the first method into a corner."""
    value, low, high = (row[f"rank_correlation{end}"] for end in ("", "_low", "_high"))
    if not np.isnan(value):
        text = f"rank correlation {number(value, low, high)}"
        ax.text(0.98, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize=7)
