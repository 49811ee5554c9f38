"""Plots of spectral importance (matplotlib, extra `leaderboard`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iaside_plugins.attributions.agreement import AgreementReport
from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.stats.intervals import Z95

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, *, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with axes row by row, on no global state of matplotlib's.

    Axes have one range in a figure of several rows, unless `shared` is false.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib: pip install 'iaside-plugins[leaderboard]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(
        rows, columns, squeeze=False, sharex=shared and rows > 1, sharey=shared and rows > 1
    )
    return figure, list(axes.flat)


def plot_profile(
    result: SpectralImportance, ax: Axes | None = None, label: str | None = None
) -> Axes:
    """Shapley value of each band (nats) against frequency, with 95 % intervals over images.

    Args:
        result: What to show.
        ax: Axes to draw on, a new figure's by default.
        label: Name in the legend.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    if ax is None:
        ax = new_figure(6, 3.5)[1][0]
    edges = result.band_edges()
    centre = (edges[:-1] + edges[1:]) / 2
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.errorbar(
        centre, result.shapley_values, yerr=Z95 * np.nan_to_num(result.shapley_se),
        marker="o", markersize=4, capsize=3, label=label,
    )  # fmt: skip
    ax.set_xlim(0, edges[-1])
    ax.set_xticks(edges)
    ax.set_xticklabels([f"{edge:.3g}" for edge in edges])
    ax.set_xlabel("spatial frequency (cycles/image), band edges")
    ax.set_ylabel("Shapley value (nats)")
    return ax


def plot_profiles(results: Mapping[str, SpectralImportance]) -> Figure:
    """Several models side by side: Shapley values on the left, shares on the right.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, (left, right) = new_figure(11, 4, columns=2)
    for name, result in results.items():
        plot_profile(result, left, label=name)
        edges = result.band_edges()
        share, interval = result.distribution, result.distribution_interval
        width = np.abs(interval.T - share)
        right.errorbar(
            (edges[:-1] + edges[1:]) / 2, share, yerr=np.nan_to_num(width),
            marker="o", markersize=4, capsize=3, label=name,
        )  # fmt: skip
        right.set_xticks(edges)
        right.set_xticklabels([f"{edge:.3g}" for edge in edges])
    left.set_title("predictive power carried by each band")
    right.set_title("importance distribution")
    right.set_xlabel("spatial frequency (cycles/image), band edges")
    right.set_ylabel("share")
    right.set_ylim(0, None)
    right.legend(fontsize="small")
    return figure


def plot_agreement(reports: Mapping[str, AgreementReport]) -> Figure:
    """Normalised profiles with 95 % intervals: a row a method, a column a model.

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
        grid[-1][column].set_xlabel("band (0 is the lowest)")
    figure.suptitle("share of each band, 95 % intervals over images", fontsize=10)
    return figure


def _plot_shares(ax: Axes, profile: pd.DataFrame, first: pd.DataFrame, is_first: bool) -> None:
    """One method's shares as points with intervals, over the first one's as grey bars."""
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.bar(first["band"], first["share"], color="0.75" if is_first else "0.88", width=0.8)
    share = profile["share"].to_numpy()
    ends = profile[["share_low", "share_high"]].to_numpy().T
    ax.errorbar(
        profile["band"], share, yerr=np.nan_to_num(np.abs(ends - share)),
        fmt="o", markersize=3.5, capsize=2, color="0.3" if is_first else "C0",
    )  # fmt: skip
    ax.set_xticks(profile["band"])


def _note(ax: Axes, row: Any) -> None:
    """Rank correlation with the first method, in a corner."""
    value, low, high = (row[f"rank_correlation{end}"] for end in ("", "_low", "_high"))
    if not np.isnan(value):
        text = f"rank correlation {value:+.2f} [{low:+.2f}, {high:+.2f}]"
        ax.text(0.98, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize=7)


def figure_format(path: Path | str) -> str:
    """The format that a file's suffix names, with matplotlib at hand to write it.

    Raises:
        InputError: For another suffix than .png, .svg or .pdf.
        MissingExtraError: If matplotlib is not installed.
    """
    new_figure(1, 1)
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"plots are written as .png, .svg or .pdf, not to {Path(path).name}")
    return suffix[1:]


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure; the file's suffix says the format (.png, .svg, .pdf).

    Raises:
        InputError: If the file cannot be written, or its suffix is another one.
    """
    import io

    from iaside_plugins.storage.row_store import write_atomic

    with io.BytesIO() as file:
        figure.savefig(file, format=figure_format(path), dpi=150)
        write_atomic(Path(path), file.getvalue())
