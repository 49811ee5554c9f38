"""Plots of how attribution methods agree, band by band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.errors import InputError
from iaside_plugins.importance.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from iaside_plugins.display.plots import label_bands, new_figure
from iaside_plugins.display.text import number
from iaside_plugins.importance.result import band_edges


def plot_agreement(reports: Mapping[str, AgreementReport]) -> Figure:
    """Plot attributions in nats with 95 % intervals: a row a method, a column a model.

    The first method's stand as grey bars behind the others, where they are told from 0; each panel
    has a zero line and a scale of its own, and says the rank correlation of the two with its
    interval. Marks of values that are not told from 0 are hollow.

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
        1.2 + 3.4 * len(reports),
        1.2 + 1.05 * len(names),
        len(reports),
        len(names),
        shared=False,
    )
    grid = np.array(axes, dtype=object).reshape(len(names), len(reports))
    for column, (title, report) in enumerate(reports.items()):
        found = report.to_frame().set_index("method")
        if report.protocol.n_bands != first.protocol.n_bands:
            raise InputError(f"expected reports of one number of bands, {title} has another")
        evidence = {method.name: report.evidence(method) for method in report.methods}
        for row, name in enumerate(names):
            _plot_values(grid[row][column], evidence[name], evidence[names[0]], row == 0)
            if row:
                _note(grid[row][column], found.loc[name])
            if not column:
                grid[row][0].set_ylabel(titles[name].replace(" ", "\n", 1), fontsize=9)
        heading = f"{title}\n{report.n_images} images".strip()
        grid[0][column].set_title(heading, fontsize=9, parse_math=False)
        label_bands(grid[-1][column], band_edges(report.protocol, report.image_size))
        grid[-1][column].tick_params(axis="x", labelsize=7)
    figure.suptitle(
        "mean attribution of each band in nats (Saliency: no unit), 95 % intervals over images; "
        "hollow: not told from 0",
        fontsize=10,
    )
    return figure


def _plot_values(ax: Axes, own: Evidence, first: Evidence, is_first: bool) -> None:
    """Plot one method's values with intervals, over the first one's as grey bars."""
    ax.axhline(0, color="0.6", linewidth=0.8)
    told = first.told
    ax.bar(told, first.nats[told], color="0.75" if is_first else "0.88", width=0.8)
    bands = np.arange(len(own.nats))
    colour = "0.3" if is_first else "C0"
    ax.errorbar(
        bands,
        own.nats,
        yerr=np.nan_to_num(np.abs(own.intervals.T - own.nats)),
        fmt="o",
        markersize=3.5,
        capsize=2,
        color=colour,
    )
    hollow = own.untold
    ax.plot(
        hollow,
        own.nats[hollow],
        "o",
        markersize=3.5,
        color=colour,
        markerfacecolor="white",
        zorder=3,  # above the marks of the error bars
    )
    ax.margins(y=0.3)  # room for the correlation
    ax.set_xticks(bands)


def _note(ax: Axes, row: Any) -> None:
    """Write the rank correlation with the first method into a corner."""
    value, low, high = (row[f"rank_correlation{end}"] for end in ("", "_low", "_high"))
    if not np.isnan(value):
        text = f"rank correlation {number(value, low, high)}"
        ax.text(0.98, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize=7)
