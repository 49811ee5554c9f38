"""An image, its band images, and a bar under each, in the manner of Captum's `visualization`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from iaside_plugins.display.plots import empty_figure
from iaside_plugins.display.style import COSTS, HELPS, LINE
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.value_table.stream import tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
PER_ROW = 9  # pictures
CHANNELS = (1, 3)  # of a picture


def visualize_bands(
    image: Any,
    values: npt.ArrayLike | None = None,
    *,
    partition: SpectralPartition | None = None,
    intervals: npt.ArrayLike | None = None,
    label: str = "Shapley value (nats)",
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
) -> Figure:
    """Show an image, its band images, and a bar with a value under each (needs matplotlib).

    Every band image but the lowest, which holds the mean, is shown around grey, with its contrast
    multiplied by the factor that stands over it.

    Args:
        image: (C, H, W), (H, W, C) or one such in a batch, floating point in [0, 1], of 1 or 3
            channels; a tensor or an array. If both ends may be the channels, they come first.
        values: A value for every band (M,), such as `result.per_image[k]`; no bars without.
        partition: The bands; by default square rings, as many as there are values, or eight.
        intervals: Lower and upper end of every value (M, 2).
        label: What the values are.
        title: Over the figure.
        fig_size: Width and height in inches.

    Returns:
        The figure, with hollow bars where an interval includes 0, which a notebook shows.

    Raises:
        InputError: For an image, values or intervals of another shape, or out of range.
        InputTypeError: For an image of integers.
        MissingExtraError: If matplotlib is not installed.
    """
    pictured, heights, ends = tensor(image), _numbers(values), _numbers(intervals)
    if heights is not None and pictured.ndim < 3 <= heights.ndim:
        raise InputError("expected visualize_bands(image, values), got the values before the image")
    n_values = SpectralPartition().n_bands if heights is None else heights.shape[-1]
    bands = partition or SpectralPartition(n_values)
    pixels = _checked(pictured, bands.n_bands)
    _check_shape(heights, (bands.n_bands,), "values")
    _check_shape(ends, (bands.n_bands, 2), "intervals")
    parts = bands.split(pixels.double())[0].numpy()
    edges = bands.edges_in_cycles(*pixels.shape[2:])
    n = bands.n_bands + 1
    n_columns = min(PER_ROW, n)
    n_rows = -(-n // n_columns)
    ratios = [1.0, 0.85] if heights is not None else [1.0]
    size = fig_size or (1.35 * n_columns + 0.6, 1.75 * sum(ratios) * n_rows + 0.4)
    figure, axes_class = empty_figure(*size)
    if title:
        figure.suptitle(title)
    grid = figure.subplots(
        len(ratios) * n_rows,
        n_columns,
        squeeze=False,
        height_ratios=ratios * n_rows,
        subplot_kw={"axes_class": axes_class},
    )
    for ax in grid.flat:
        ax.set_axis_off()
    for k in range(n):
        row, column = divmod(k, n_columns)
        picture = grid[len(ratios) * row, column]
        if k == 0:
            _show(picture, pixels[0].double().numpy(), "image")
            continue
        name = f"band {k - 1}\n{edges[k - 1]:.3g}-{edges[k]:.3g} cycles/image"
        _show_band(picture, parts[k - 1], name, is_lowest=k == 1)
        if heights is not None:
            _bar(grid[2 * row + 1, column], k - 1, heights, ends, label if k == 1 else "")
    return figure


def _checked(image: Tensor, n_bands: int) -> Tensor:
    """Return an image as (1, C, H, W) on the host."""
    one = image[None] if image.ndim == 3 else image
    if one.ndim == 4 and one.shape[1] not in CHANNELS and one.shape[3] in CHANNELS:
        one = one.movedim(3, 1)
    if one.ndim != 4 or len(one) != 1 or one.shape[1] not in CHANNELS:
        raise InputError(
            "expected one image of shape (C, H, W) or (H, W, C) with 1 or 3 channels, got "
            f"{tuple(image.shape)}"
        )
    check_images(one, n_bands)
    return one.cpu()


def _numbers(given: npt.ArrayLike | None) -> Array | None:
    """Return given numbers as an array of at least one axis, None for None."""
    return None if given is None else np.atleast_1d(tensor(given).cpu().double().numpy())


def _check_shape(found: Array | None, shape: tuple[int, ...], name: str) -> None:
    """Raise InputError for numbers of another shape."""
    if found is not None and found.shape != shape:
        raise InputError(f"expected {name} of shape {shape}, one a band, got {found.shape}")


def _show(ax: Axes, pixels: Array, name: str) -> None:
    """Show pixels (C, H, W) in [0, 1]."""
    shown = np.clip(np.moveaxis(pixels, 0, -1), 0, 1)
    ax.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(name, fontsize=7)


def _show_band(ax: Axes, pixels: Array, name: str, *, is_lowest: bool) -> None:
    """Show a band image around grey with its contrast raised; the lowest one as it is."""
    if is_lowest:
        _show(ax, pixels, f"{name}\nas it is")
        return
    most = float(np.abs(pixels).max())
    factor = 0.5 / most if most > 0 else 1.0
    _show(ax, 0.5 + factor * pixels, f"{name}\ncontrast x{factor:.2g}")


def _bar(ax: Axes, band: int, heights: Array, ends: Array | None, label: str) -> None:
    """Draw the value of one band, on the scale of all of them."""
    value = heights[band]
    ax.set_axis_on()
    colour = COSTS if value > 0 else HELPS
    filled = ends is None or ends[band, 0] > 0 or ends[band, 1] < 0
    ax.bar([0], [value], color=colour if filled else "white", edgecolor=colour, width=0.5)
    if ends is not None:
        error = np.abs(ends[band] - value)[:, None]
        ax.errorbar([0], [value], yerr=error, fmt="none", color="black", capsize=3)
    ax.axhline(0, color=LINE, linewidth=0.8)
    every = np.concatenate([heights, [0.0], [] if ends is None else ends.ravel()])
    low, high = np.nanmin(every), np.nanmax(every)
    margin = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlim(-0.6, 0.6)
    ax.set_xticks([])
    ax.tick_params(labelsize=7, labelleft=bool(label))
    ax.set_ylabel(label, fontsize=7)
