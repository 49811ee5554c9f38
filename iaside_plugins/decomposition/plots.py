"""Pictures of an error decomposition: a heat map of conditions by bands, with margins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.comparison import DecompositionDifference
from iaside_plugins.decomposition.contributions import Contributions
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.display.plots import empty_figure, label_bands
from iaside_plugins.display.style import COSTS, DIVERGING, FAINT, HELPS, SMALL
from iaside_plugins.stats.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_decomposition(result: ErrorDecomposition, name: str = "") -> Figure:
    """Plot contributions of bands by condition in points, the mean on top, errors at the side.

    Args:
        result: The decomposition.
        name: Name of the model, for the title.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    mean = result.error.over(result.error.mean_conditions)
    title = (
        f"{name or 'model'}: error {100 * float(mean.clean.value):.1f} % -> "
        f"{100 * float(mean.perturbed.value):.1f} %, "
        f"{result.n_images} images, {result.protocol.protocol_id}"
    )
    return _heat_map(result.error, result.band_edges(), title, "error, %", 0)


def plot_difference(found: DecompositionDifference, first: str, second: str) -> Figure:
    """Plot the difference of two models in points: blue where the first errs less.

    Args:
        found: First minus second.
        first: Name of the first model.
        second: Name of the second.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    title = f"{first} less {second}, {len(found.ids)} images; blue: {first} errs less"
    return _heat_map(found.error, found.band_edges, title, "difference of errors, points", -1)


def _heat_map(
    game: Contributions, edges: npt.NDArray[np.float64], title: str, side_label: str, least: float
) -> Figure:
    names = list(dict.fromkeys(one.name for one in game.conditions))
    splits = [game.over([name]) for name in names]
    mean = game.over(game.mean_conditions)
    figure, axes = empty_figure(8, 2.6 + 0.3 * len(names))
    figure.suptitle(title)
    grid = figure.add_gridspec(
        2, 2, height_ratios=(1.5, 0.3 * len(names) + 0.3), width_ratios=(3, 1.3)
    )
    heat = figure.add_subplot(grid[1, 0], axes_class=axes)
    top = figure.add_subplot(grid[0, 0], sharex=heat, axes_class=axes)
    side = figure.add_subplot(grid[1, 1], sharey=heat, axes_class=axes)
    values = 100 * np.stack([split.bands.value for split in splits])
    most = max(float(np.abs(values).max()), 1e-9)
    heat.imshow(values, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto")
    for (k, i), value in np.ndenumerate(values):
        colour = "white" if abs(value) > 0.6 * most else "black"
        heat.text(i, k, f"{value:.1f}", ha="center", va="center", fontsize=SMALL, color=colour)
    heat.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    label_bands(heat, edges)
    _bars(top, mean.bands)
    top.set_ylabel("points,\nmean")
    top.tick_params(labelbottom=False)
    for k, split in enumerate(splits):
        side.plot(
            [100 * float(split.clean.value), 100 * float(split.perturbed.value)],
            [k, k],
            color=COSTS,
            linewidth=3,
        )
        side.errorbar(
            100 * float(split.perturbed.value),
            k,
            xerr=_whisker(split.perturbed, least),
            color="black",
            capsize=2,
            linewidth=1,
        )
    side.axvline(100 * float(mean.clean.value), color=FAINT, linewidth=1, label="clean")
    side.set_xlabel(f"{side_label}\n(from clean, grey)")
    side.tick_params(labelleft=False)
    return figure


def _whisker(estimate: Estimate, least: float) -> npt.NDArray[np.float64]:
    """Return the lengths (2, 1) of an interval's two sides in points, within what there can be."""
    ends = np.clip(estimate.interval, least, 1)
    return 100 * np.abs(ends - estimate.value)[:, None]


def _bars(ax: Axes, bands: Estimate) -> None:
    """Draw the mean contribution of every band with its interval."""
    value, half = 100 * bands.value, 100 * np.diff(bands.interval, axis=1)[:, 0] / 2
    colours = [COSTS if v > 0 else HELPS for v in value]
    ax.bar(range(len(value)), value, color=colours, width=0.8)
    ax.errorbar(range(len(value)), value, yerr=half, fmt="none", color="black", capsize=2)
    ax.axhline(0, color=FAINT, linewidth=0.8)
