"""Pictures of a Fourier heat map, and of several views of the bands beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from iaside_plugins.display.plots import empty_figure, label_bands, titled
from iaside_plugins.heatmap.result import FourierHeatMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HUE = ("white", "#b2182b", "#3d0610")  # white at no error, ever darker, one hue
BAR, LINE = "#b2182b", "0.35"


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
        fontsize=10,
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
    bar.set_label("error, %")
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
    ax.bar(bands, value, color=BAR, width=0.8)
    error = np.abs(interval.T - value)
    ax.errorbar(bands, value, yerr=error, fmt="none", color="black", capsize=2)
    ax.axhline(100 * result.clean_error, color=LINE, linewidth=1, linestyle="--", label="clean")
    ax.set_ylim(0, 100)
    label_bands(ax, result.band_edges())
    ax.set_ylabel("mean error of a band, %")
    ax.legend(fontsize=8)
