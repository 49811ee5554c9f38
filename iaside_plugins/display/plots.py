"""Plots of spectral importance (matplotlib, extra `leaderboard`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.style import COLOURS, FAINT, MARKS
from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.importance.result import SpectralImportance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 140
UNDATED = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}  # left out: the same bytes


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, *, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure (sizes in inches) and its axes row by row, without matplotlib's global state.

    Axes share their ranges in a figure of several rows, unless `shared` is false.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes_class = empty_figure(width, height)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=shared and rows > 1,
        sharey=shared and rows > 1,
        subplot_kw={"axes_class": axes_class},
    )
    return figure, list(axes.flat)


def empty_figure(width: float, height: float) -> tuple[Figure, type[Axes]]:
    """Return a figure (sizes in inches) without axes, and the class of axes to put in it.

    Both are shown by a notebook, although neither is known to pyplot.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from iaside_plugins.display.figures import NotebookAxes, NotebookFigure
    except ImportError as error:
        raise MissingExtraError.of("plots need matplotlib", "leaderboard") from error
    return NotebookFigure(figsize=(width, height), layout="constrained"), NotebookAxes


def titled(name: str, n_images: int | str, *parts: str) -> str:
    """Return the title of a plot: the model if it is known, number of images, what else matters."""
    return ", ".join(part for part in (name, f"{n_images} images", *parts) if part)


def counted(n_images: Iterable[int]) -> str:
    """Return a number of images, or the least and the greatest of several."""
    counts = sorted(n_images)
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def label_bands(ax: Axes, edges: npt.NDArray[np.float64]) -> None:
    """Label an axis on which band i stands at i: its number, and its range in cycles/image.

    Where there are more than eight bands every second one is labelled.
    """
    shown = range(0, len(edges) - 1, 1 if len(edges) <= 9 else 2)
    ax.set_xticks(shown, [f"{i}\n{edges[i]:.3g}-{edges[i + 1]:.3g}" for i in shown])
    ax.set_xlabel("band, and its range in cycles/image")


def _label_edges(ax: Axes, edges: npt.NDArray[np.float64]) -> None:
    """Make an axis one of spatial frequency with ticks at the band edges, every second of many."""
    shown = edges if len(edges) <= 9 else edges[::2]
    ax.set_xlim(0, edges[-1])
    ax.set_xticks(shown, [f"{edge:.3g}" for edge in shown])
    ax.set_xlabel("spatial frequency (cycles/image), band edges")


def plot_profile(
    result: SpectralImportance, ax: Axes | None = None, label: str | None = None
) -> Axes:
    """Plot the Shapley value of each band (nats) against frequency, with 95 % intervals.

    A band whose interval includes 0 has a hollow mark.

    Args:
        result: The result to plot.
        ax: Axes to draw on, a new figure's by default.
        label: Name in the legend; in the title of a new figure.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    if ax is None:
        ax = new_figure(6, 3.5)[1][0]
        title = titled(label or "", result.n_images, result.protocol.protocol_id)
        ax.set_title(title, parse_math=False)
    edges = result.band_edges()
    centre = (edges[:-1] + edges[1:]) / 2
    ax.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    evidence = result.evidence
    mark = MARKS[len(ax.containers) % len(MARKS)]  # another for each model
    drawn = ax.errorbar(
        centre,
        evidence.nats,
        yerr=np.nan_to_num(np.abs(evidence.intervals.T - evidence.nats)),
        marker=mark,
        markersize=4,
        capsize=3,
        label=label,
    )
    hollow = evidence.includes_zero
    ax.plot(
        centre[hollow],
        evidence.nats[hollow],
        mark,
        markersize=4,
        markerfacecolor="white",
        color=drawn.lines[0].get_color(),
        zorder=3,
    )
    _label_edges(ax, edges)
    ax.set_ylabel("Shapley value (nats)")
    return ax


def plot_profiles(results: Mapping[str, SpectralImportance]) -> Figure:
    """Plot the Shapley values of several models with intervals; see `plot_profile`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, (ax,) = new_figure(7.5, 4.2)
    n_images = counted(result.n_images for result in results.values())
    protocols = dict.fromkeys(result.protocol.protocol_id for result in results.values())
    name = next(iter(results)) if len(results) == 1 else f"{len(results)} models"
    title = titled(name, n_images, *protocols)
    figure.suptitle(title)
    for name, result in results.items():
        plot_profile(result, ax, label=name)
    ax.set_title("predictive power carried by each band (hollow: interval includes 0)")
    ax.legend()
    return figure


def draw_dots(
    ax: Axes,
    values: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    *,
    shift: float = 0.0,
    color: str = COLOURS[0],
    mark: str = MARKS[0],
    label: str | None = None,
) -> None:
    """Draw a dot and its interval in each row, from row 0 on; NaN is not drawn.

    Args:
        ax: Axes to draw on.
        values: The values (n,).
        ends: Lower and upper ends of their intervals (n, 2).
        shift: Of the dots from their rows.
        color: Of dots and intervals.
        mark: Of the dots.
        label: Name in the legend.
    """
    rows = np.arange(len(values)) + shift
    ax.hlines(rows, *ends.T, color=color, linewidth=1.5)
    ax.plot(values, rows, mark, color=color, markersize=5, label=label)


def figure_format(path: Path | str) -> str:
    """Return the format that a file's suffix names, once matplotlib is known to be installed.

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

    from iaside_plugins.storage.files import write_atomic

    with io.BytesIO() as file:
        kind = figure_format(path)
        figure.savefig(file, format=kind, dpi=DPI, metadata={UNDATED[kind]: None})
        write_atomic(Path(path), file.getvalue())
