"""Plots of a spectrum report: SNR against frequency, importance against perturbation energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.display.plots import new_figure, titled
from iaside_plugins.display.style import COLOURS
from iaside_plugins.display.text import interval
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.spectra.forecasts import NO_NOISE
from iaside_plugins.spectra.text import is_headline, label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
COLUMNS = 5


def plot_spectrum(data: Mapping[str, Any]) -> Figure:
    """Plot every perturbation's SNR against frequency with its power law, then the joined view.

    Logarithmic axes: a power law is a straight line. With a model, the last panels set its Shapley
    values (bars, nats) against each attack's energy per band (lines), and the forecast of its
    errors against the measured ones.

    Args:
        data: A report's `to_dict`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    import pandas as pd

    frame, bands = pd.DataFrame(data["conditions"]), pd.DataFrame(data["bands"])
    chosen = [row for row in frame.to_dict("records") if is_headline(_named(row))]
    joined = data["importance"] is not None
    check = data["forecast"].get("severities")
    n_panels = len(chosen) + joined + (check is not None)
    columns = min(COLUMNS, n_panels)
    rows = -(-n_panels // columns)
    figure, axes = new_figure(2.5 * columns, 2.1 * rows + 0.6, columns, rows, shared=False)
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
            ax.set_ylabel("SNR (dB), band 0 with DC", fontsize=8)
        if k >= len(chosen) - columns:
            ax.set_xlabel("cycles/image", fontsize=8)
    figure.suptitle(
        f"{_subject(data)}\nSNR by spatial frequency, 95 % intervals over images; line: power law, "
        "fitted without DC (open circle: band 0 without DC)",
    )
    return figure


def plot_snr(ax: Axes, row: Row, bands: pd.DataFrame) -> None:
    """Plot the SNR of one condition by band, band 0 with DC, with its power law, slope and R².

    The law is fitted without DC: where that moves band 0, its fitted point is an open circle.

    Args:
        ax: Axes to draw on.
        row: Of a report's "conditions".
        bands: A report's "bands".
    """
    part = bands_of(bands, row)
    columns = [f"snr_db{end}" for end in ("", "_low", "_high")]
    part = part[["frequency", *columns, "snr_without_dc_db"]].astype(float)
    known = part.dropna(subset=["frequency", columns[0]])
    x, y, low, high = known[["frequency", *columns]].to_numpy().T
    ax.errorbar(
        x,
        y,
        yerr=np.nan_to_num(np.abs([low - y, high - y])),
        fmt="o",
        markersize=3,
        capsize=2,
        color=COLOURS[0] if row["kind"] == "corruption" else COLOURS[1],
    )
    if len(x):
        _octaves(ax, x.min(), x.max())
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    slope, share = (_known(row[name]) for name in ("slope", "r_squared"))
    if slope is not None:
        fitted = part[["frequency", "snr_without_dc_db"]].dropna()
        x, y = fitted.to_numpy().T
        ax.plot(x[:1], y[:1], "o", markersize=4, markerfacecolor="none", color="0.4")
        logs = np.log10(x)  # least squares: the line goes through the mean point
        ax.plot(x, y.mean() + 10 * slope * (logs - logs.mean()), color="0.4", linewidth=1)
        parts = (
            f"slope {slope:+.2f}",
            interval(row["slope_low"], row["slope_high"]),
            "" if share is None else f"R² {share:.2f}",  # two points are on any line
        )
        text = "\n".join(part for part in parts if part)  # of one image there is no interval
        low_end, high_end = ax.get_ylim()
        is_low = y[len(y) // 2 :].mean() < (low_end + high_end) / 2  # at the right end
        height, side = (0.96, "top") if is_low else (0.08, "bottom")
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
    """Shapley values (bars, nats) and, on a scale of its own, each attack's energy (lines)."""
    found = data["importance"]
    draw_evidence(ax, Evidence.of(found["shapley_values"], found["shapley_se"]))
    ax.set_ylabel("Shapley value (nats), bars", fontsize=8)
    first = found["bands"][0]
    ax.set_xlabel(f"band, each of {first['high'] - first['low']:.3g} cycles/image", fontsize=8)
    ax.set_xticks(range(0, len(found["bands"]), 1 if len(found["bands"]) <= 9 else 2))
    ax.set_xlim(-0.6, len(found["bands"]) - 0.4)
    ax.set_title("importance and attack energy", fontsize=8)
    ax.tick_params(labelsize=7)
    own, ax = ax, ax.twinx()
    own.set_zorder(1)
    own.patch.set_visible(False)
    attacks = [row for row in data["conditions"] if row["kind"] == "attack"]
    last = {row["name"]: row for row in attacks if row["n_images"]}  # the greatest budget
    for row in last.values():
        part = bands_of(bands, row)
        ax.plot(part["band"], part["share"].astype(float), marker=".", label=row["title"])
    ax.set_ylim(0, None)
    ax.set_ylabel("part of the energy, lines", fontsize=8)
    ax.tick_params(labelsize=7)
    if last:
        ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.3, 1))


def draw_evidence(
    ax: Axes,
    evidence: Evidence,
    *,
    shift: float = 0.0,
    width: float = 0.8,
    color: str = "0.8",
    label: str | None = None,
) -> None:
    """Draw a bar from a zero line for each band whose interval excludes 0, and every interval.

    Args:
        ax: Axes to draw on.
        evidence: Of one model.
        shift: Of the bars from the bands' places.
        width: Of the bars.
        color: Of the bars.
        label: Name in the legend.
    """
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    bands = evidence.excludes_zero
    ax.bar(np.array(bands) + shift, evidence.nats[bands], width, color=color, label=label)
    ax.errorbar(
        np.arange(len(evidence.nats)) + shift,
        evidence.nats,
        yerr=np.nan_to_num(np.abs(evidence.intervals.T - evidence.nats)),
        fmt="none",
        ecolor="0.3",
        elinewidth=0.8,
    )


def plot_forecast(ax: Axes, check: Row) -> None:
    """Plot measured against forecast errors, a point a condition; on the line they are equal.

    Args:
        ax: Axes to draw on.
        check: Of `ForecastCheck.to_dict`.
    """
    kinds = (("noise", "o", COLOURS[0], False), ("not noise", "^", COLOURS[1], True))
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
    ax.legend(fontsize=6, loc="lower right")


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
