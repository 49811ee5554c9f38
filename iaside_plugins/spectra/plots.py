"""Plots of a spectrum report: SNR against frequency, importance against perturbation energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iaside_plugins.display.plots import new_figure
from iaside_plugins.display.text import interval
from iaside_plugins.spectra.forecasts import NO_NOISE
from iaside_plugins.spectra.text import is_headline, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
COLUMNS = 5


def plot_spectrum(data: Mapping[str, Any]) -> Figure:
    """Plot every perturbation's SNR against frequency with its power law, then the joined view.

    Logarithmic axes: a power law is a straight line. With a model, the last panels set its Shapley
    values (bars) against the share of each attack's energy per band (lines), and the forecast of
    its errors against the measured ones.

    Args:
        data: A report's `to_dict`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    frame, bands = pd.DataFrame(data["conditions"]), pd.DataFrame(data["bands"])
    chosen = [row for row in frame.to_dict("records") if is_headline(_named(row))]
    joined = data["importance"] is not None
    check = data["forecast"].get("severities")
    n_panels = len(chosen) + joined + (check is not None)
    columns = min(COLUMNS, n_panels)
    rows = -(-n_panels // columns)
    figure, axes = new_figure(2.5 * columns, 2.1 * rows + 0.4, columns, rows, shared=False)
    for ax, row in zip(axes, chosen, strict=False):
        plot_snr(ax, _named(row), bands)
    if joined:
        plot_joined(axes[len(chosen)], data, bands)
    if check is not None:
        plot_forecast(axes[n_panels - 1], check)
    for ax in axes[n_panels:]:
        ax.set_visible(False)
    for k, ax in enumerate(axes[: len(chosen)]):
        if k % columns == 0:
            ax.set_ylabel("SNR (dB)", fontsize=8)
        if k >= len(chosen) - columns:
            ax.set_xlabel("cycles/image", fontsize=8)
    figure.suptitle(
        "SNR by spatial frequency, 95 % intervals over images; line: fitted power law", fontsize=10
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
    ax.set_xscale("log")
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    slope = row["slope"]
    if slope is not None and not np.isnan(slope):
        logs = np.log10(x)  # least squares: the line goes through the mean point
        ax.plot(x, y.mean() + 10 * slope * (logs - logs.mean()), color="0.4", linewidth=1)
        parts = (
            f"slope {slope:+.2f}",
            interval(row["slope_low"], row["slope_high"]),
            f"R² {row['r_squared']:.2f}",
        )
        text = "\n".join(part for part in parts if part)  # of one image there is no interval
        falls = slope < -0.3  # the corner that the points leave free
        place = (0.97, 0.96, "right", "top") if falls else (0.03, 0.08, "left", "bottom")
        ax.text(*place[:2], text, transform=ax.transAxes, ha=place[2], va=place[3], fontsize=6.5)
    ax.set_title(label(row), fontsize=8)
    ax.tick_params(labelsize=7)


def plot_joined(ax: Axes, data: Mapping[str, Any], bands: pd.DataFrame) -> None:
    """Shares of importance (bars) and of each attack's energy per band (lines)."""
    own = pd.DataFrame(data["importance"]["bands"])
    ax.bar(own["band"], own["share"], color="0.8", label="importance")
    attacks = [row for row in data["conditions"] if row["kind"] == "attack"]
    last = {row["name"]: row for row in attacks if row["n_images"]}  # the greatest budget
    for row in last.values():
        part = bands_of(bands, row)
        ax.plot(part["band"], part["share"].astype(float), marker=".", label=row["title"])
    ax.set_title("importance and attack energy", fontsize=8)
    ax.set_xlabel("band", fontsize=8)
    ax.set_ylabel("share", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def plot_forecast(ax: Axes, check: Row) -> None:
    """Plot measured against forecast errors, a point a condition; on the line they are equal.

    Args:
        ax: Axes to draw on.
        check: Of `ForecastCheck.to_dict`.
    """
    kinds = (("noise", "o", "C0", False), ("not noise", "^", "C1", True))
    for text, marker, colour, is_none in kinds:
        rows = [r for r in check["conditions"] if is_none == ((r["image_share"] or 0) >= NO_NOISE)]
        x, y = ([row[name] for row in rows] for name in ("forecast", "error"))
        ax.plot(x, y, marker, markersize=2.5, color=colour, label=text)
    ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    ax.axhline(check["clean_error"], color="0.7", linewidth=0.8, linestyle=":", label="clean error")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_title("errors, forecast and measured", fontsize=8)
    ax.set_xlabel("forecast", fontsize=8)
    ax.set_ylabel("measured", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=6, loc="lower right", frameon=False)


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


def _named(row: Mapping[Any, Any]) -> Row:
    return {str(key): value for key, value in row.items()}
