"""Plots of a spectrum report: SNR against frequency, importance against perturbation energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iaside_plugins.display.plots import new_figure, titled
from iaside_plugins.display.text import interval
from iaside_plugins.spectra.text import is_headline, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
COLUMNS = 5


def plot_spectrum(data: Mapping[str, Any]) -> Figure:
    """Plot every perturbation's SNR against frequency with its power law, then the joined view.

    Logarithmic axes: a power law is a straight line. With a model, the last row sets its Shapley
    values (bars) against the share of each attack's energy per band (lines).

    Args:
        data: A report's `to_dict`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    frame, bands = pd.DataFrame(data["conditions"]), pd.DataFrame(data["bands"])
    chosen = [row for row in frame.to_dict("records") if is_headline(_named(row))]
    joined = data["importance"] is not None
    columns = min(COLUMNS, len(chosen) + joined)
    rows = -(-(len(chosen) + joined) // columns)
    figure, axes = new_figure(2.5 * columns, 2.1 * rows + 0.6, columns, rows, shared=False)
    for ax, row in zip(axes, chosen, strict=False):
        plot_snr(ax, _named(row), bands)
    if joined:
        plot_joined(axes[len(chosen)], data, bands)
    for ax in axes[len(chosen) + joined :]:
        ax.set_visible(False)
    for k, ax in enumerate(axes[: len(chosen)]):
        if k % columns == 0:
            ax.set_ylabel("SNR (dB)", fontsize=8)
        if k >= len(chosen) - columns:
            ax.set_xlabel("cycles/image", fontsize=8)
    figure.suptitle(
        f"{_subject(data)}\nSNR by spatial frequency, 95 % intervals; line: fitted power law",
        fontsize=10,
        parse_math=False,
    )
    return figure


def plot_snr(ax: Axes, row: Row, bands: pd.DataFrame) -> None:
    """Plot the SNR of one condition without DC, with its power law, slope and R².

    Args:
        ax: Axes to draw on.
        row: Of a report's "conditions".
        bands: A report's "bands".
    """
    part = bands_of(bands, row)
    columns = [f"snr_without_dc_db{end}" for end in ("", "_low", "_high")]
    known = part[["frequency", *columns]].astype(float).dropna(subset=["frequency", columns[0]])
    x, y, low, high = known.to_numpy().T
    ax.errorbar(
        x,
        y,
        yerr=np.nan_to_num(np.abs([low - y, high - y])),
        fmt="o",
        markersize=3,
        capsize=2,
        color="C0" if row["kind"] == "corruption" else "C3",
    )
    if len(x):
        _octaves(ax, x.min(), x.max())
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    slope, share = (_known(row[name]) for name in ("slope", "r_squared"))
    if slope is not None:
        logs = np.log10(x)  # least squares: the line goes through the mean point
        ax.plot(x, y.mean() + 10 * slope * (logs - logs.mean()), color="0.4", linewidth=1)
        parts = (
            f"slope {slope:+.2f}",
            interval(row["slope_low"], row["slope_high"]),
            "" if share is None else f"R² {share:.2f}",  # two points are on any line
        )
        text = "\n".join(part for part in parts if part)  # of one image there is no interval
        # the corner that the points leave free
        height, side = (0.96, "top") if slope < -0.3 else (0.08, "bottom")
        ax.text(0.97, height, text, transform=ax.transAxes, ha="right", va=side, fontsize=6.5)
    ax.set_title(label(row), fontsize=8)
    ax.tick_params(labelsize=7)


def _octaves(ax: Axes, lowest: float, highest: float) -> None:
    """Make the frequency axis logarithmic, with ticks at powers of two, so that none overlap."""
    ends = np.log2([lowest, highest])
    ticks = 2.0 ** np.arange(np.floor(ends[0]), np.ceil(ends[1]) + 1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)


def plot_joined(ax: Axes, data: Mapping[str, Any], bands: pd.DataFrame) -> None:
    """Shares of importance (bars) and of each attack's energy per band (lines)."""
    own = pd.DataFrame(data["importance"]["bands"])
    low, high = (own[end].to_numpy(dtype=np.float64) for end in ("low", "high"))
    ax.bar(low, own["share"], 0.9 * (high - low), align="edge", color="0.8", label="importance")
    attacks = [row for row in data["conditions"] if row["kind"] == "attack"]
    last = {row["name"]: row for row in attacks if row["n_images"]}  # the greatest budget
    for row in last.values():
        part = bands_of(bands, row)
        shares = part["share"].to_numpy(dtype=np.float64)
        ax.plot((low + high) / 2, shares, marker=".", label=row["title"])
    ax.set_title("importance and attack energy", fontsize=8)
    ax.set_xlabel("cycles/image", fontsize=8)
    ax.set_ylabel("share", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=6, loc="upper right", framealpha=0.6)


def bands_of(bands: pd.DataFrame, row: Row) -> pd.DataFrame:
    """Return the rows of one condition in a report's "bands"."""
    strength = row["strength"]
    chosen = (bands["kind"] == row["kind"]) & (bands["name"] == row["name"])
    if strength is None or np.isnan(strength):
        chosen &= bands["strength"].isna()
    else:
        chosen &= bands["strength"] == strength
    rows: pd.DataFrame = bands.loc[chosen]
    return rows


def _subject(data: Mapping[str, Any]) -> str:
    """Return the model if there is one, the greatest number of images, and the bands."""
    model = data.get("model")
    n_images = max((row["n_images"] for row in data["conditions"]), default=0)
    bands = f"{data['n_bands']} bands ({data['band_norm']})"
    return titled(model["name"] if model else "", n_images, bands)


def _known(value: float | None) -> float | None:
    """Return a number, None for one that is missing."""
    return None if value is None or np.isnan(value) else value


def _named(row: Mapping[Any, Any]) -> Row:
    return {str(key): value for key, value in row.items()}
