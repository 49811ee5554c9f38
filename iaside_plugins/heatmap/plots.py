"""Pictures of a Fourier heat map, and of several views of the bands beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iaside_plugins.display.plots import empty_figure, label_bands, titled
from iaside_plugins.display.style import COSTS, DIVERGING, LABEL, LINE, SMALL
from iaside_plugins.display.text import interval, number
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.heatmap.views import BandView, BandViews

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HUE = ("white", COSTS, "#3d0610")  # white at no error, ever darker, one hue


def plot_heatmap(result: FourierHeatMap, name: str = "") -> Figure:
    """Plot the error at every frequency, DC in the middle, and the mean of every band.

    Args:
        result: The heat map.
        name: Name of the model, for the title.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes_class = empty_figure(9.5, 4.3)
    figure.suptitle(
        titled(
            name,
            result.n_images,
            f"Fourier noise of L2 norm {result.norm:g} in each channel",
            f"clean error {100 * result.clean_error:.1f} %",
        ),
    )
    left, right = figure.subplots(
        1, 2, width_ratios=(1, 1.15), subplot_kw={"axes_class": axes_class}
    )
    draw_map(left, result)
    draw_band_means(right, result)
    return figure


def draw_map(ax: Axes, result: FourierHeatMap) -> None:
    """Draw the error at every frequency in percent, white for 0, and the edges of the bands."""
    from matplotlib.colors import LinearSegmentedColormap

    ky, kx, error = result.grid()
    half = result.step / 2
    extent = (kx[0] - half, kx[-1] + half, ky[-1] + half, ky[0] - half)
    colours = LinearSegmentedColormap.from_list("error", HUE)
    shown = ax.imshow(
        100 * error, cmap=colours, vmin=0, vmax=100, extent=extent, interpolation="nearest"
    )
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.02)
    bar.set_label("error, %", fontsize=LABEL)
    bar.ax.tick_params(labelsize=SMALL)
    _draw_edges(ax, result)
    ax.set_xlim(extent[0], extent[1])
    ax.set_ylim(extent[2], extent[3])
    ax.set_xlabel("horizontal frequency $k_x$, cycles/image")
    ax.set_ylabel("vertical frequency $k_y$, cycles/image")


def _draw_edges(ax: Axes, result: FourierHeatMap) -> None:
    """Draw the edges between bands: square rings, or round ones."""
    from matplotlib.patches import Ellipse, Rectangle

    height, width = result.image_size
    is_round = result.partition.norm == "euclidean"
    for edge in result.partition.edges()[1:-1]:
        a, b = edge * width / 2, edge * height / 2
        if is_round:
            root = 2 * np.sqrt(2)
            ring: Ellipse | Rectangle = Ellipse((0, 0), root * a, root * b)
        else:  # between the last frequency below the edge and the first one from it on
            a, b = (result.step * (np.ceil(x / result.step) - 0.5) for x in (a, b))
            ring = Rectangle((-a, -b), 2 * a, 2 * b)
        ring.set(fill=False, edgecolor=LINE, linewidth=0.5)
        ax.add_patch(ring)


def draw_band_means(ax: Axes, result: FourierHeatMap) -> None:
    """Draw the mean error of every band in percent with its interval, over the clean error."""
    value, interval = 100 * result.band_means, 100 * result.band_means_interval
    bands = np.arange(len(value))
    ax.bar(bands, value, color=COSTS, width=0.8)
    error = np.abs(interval.T - value)
    ax.errorbar(bands, value, yerr=error, fmt="none", color="black", capsize=2)
    ax.axhline(100 * result.clean_error, color=LINE, linewidth=1, linestyle="--", label="clean")
    ax.set_ylim(0, 100)
    label_bands(ax, result.band_edges())
    ax.set_ylabel("mean error of a band, %")
    ax.legend()


def plot_views(found: BandViews, name: str = "") -> Figure:
    """Plot a heat map, every view of its bands, and how far their rankings agree.

    Args:
        found: The views.
        name: Name of the model, for the title.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    n_columns = 1 + -(-len(found.views) // 2)
    figure, axes_class = empty_figure(1.2 + 4.2 * n_columns, 7.6)
    figure.suptitle(
        titled(name, found.n_images, "95 % intervals over images (hollow: interval includes 0)"),
    )
    grid = figure.subplots(2, n_columns, squeeze=False, subplot_kw={"axes_class": axes_class})
    draw_map(grid[0, 0], found.heat_map)
    grid[0, 0].set_title(f"error under Fourier noise, norm {found.heat_map.norm:g}")
    draw_agreement(grid[1, 0], found)
    others = list(grid[:, 1:].flat)
    for ax, view in zip(others, found.views, strict=False):
        draw_view(ax, view, found.heat_map.band_edges())
    for ax in others[len(found.views) :]:
        ax.set_visible(False)
    return figure


def draw_view(ax: Axes, view: BandView, edges: npt.NDArray[np.float64]) -> None:
    """Draw the value of every band with its interval; hollow where it includes 0."""
    value = view.value
    bands = np.arange(len(value))
    low, high = view.interval.T
    filled = view.is_rate | (low > 0) | (high < 0)
    colours = np.where(filled, COSTS, "white")
    ax.bar(bands, np.nan_to_num(value), color=colours.tolist(), edgecolor=COSTS, width=0.8)
    error = np.nan_to_num(np.abs(view.interval.T - value))
    ax.errorbar(bands, value, yerr=error, fmt="none", color="black", capsize=2)
    ax.axhline(0, color=LINE, linewidth=0.8)
    if view.is_rate:
        ax.set_ylim(0, 100)
    label_bands(ax, edges)
    ax.set_ylabel(view.unit)
    ax.set_title(view.name)


def draw_agreement(ax: Axes, found: BandViews) -> None:
    """Draw the rank correlation of every two views with its interval."""
    names = [view.name.replace(" ", "\n") for view in found.views]
    ax.imshow(found.agreement, cmap=DIVERGING, vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(found.agreement):
        if i == j:
            continue
        ends = interval(*found.agreement_interval[i, j])
        text = number(value) + ("\n" + ends.replace(", ", ",\n") if ends else "")
        colour = "white" if abs(value) > 0.6 else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    ax.set_xticks(range(len(names)), names, fontsize=SMALL)
    ax.set_yticks(range(len(names)), names, fontsize=SMALL)
    ax.set_title("rank correlation over bands")
