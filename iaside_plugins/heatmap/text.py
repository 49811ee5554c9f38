"""A Fourier heat map as text: the mean error of every band with its interval."""

from __future__ import annotations

import numpy as np

from iaside_plugins.display.text import NOTHING, aligned, interval, number
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.heatmap.views import BandViews
from iaside_plugins.importance.chance import warning_line


def heatmap_text(result: FourierHeatMap) -> str:
    """Return what was added, the clean error, and a table of bands; at chance that comes first."""
    low, high = result.clean_error_interval
    clean = f"{100 * result.clean_error:.1f} % {interval(100 * low, 100 * high, spec='.1f')}"
    hits = int((~result.clean_wrong).sum())
    lines = [
        *warning_line(hits, result.n_images, result.n_classes),
        "",
        f"Fourier noise of L2 norm {result.norm:g} in each channel, one frequency at a time "
        f"({len(result.frequencies)} up to symmetry), {result.n_images} images",
        f"error without noise {clean}; with noise, mean over the frequencies of a band:",
        "",
    ]
    rows = [["band", "cycles/image", "error, %", "95 % interval"]]
    for row in result.to_frame().to_dict("records"):
        ends = interval(100 * row["error_low"], 100 * row["error_high"], spec=".1f")
        error = NOTHING if np.isnan(row["error"]) else f"{100 * row['error']:.1f}"
        rows.append([str(row["band"]), f"{row['low']:.3g}-{row['high']:.3g}", error, ends])
    return "\n".join([*lines, *aligned(rows)])


def views_text(found: BandViews) -> str:
    """Return a table of views by bands, and the rank correlations of every two."""
    m = found.values.shape[1]
    rows = [["view", *(str(i) for i in range(m)), "unit"]]
    for view, values in zip(found.views, found.values, strict=True):
        rows.append([view.name, *(number(x, spec=".3g") for x in values), view.unit])
    lines = ["", f"views of the bands, {found.n_images} images", *aligned(rows)]
    lines += ["", f"rank correlation over the {m} bands, intervals over images"]
    pairs = []
    for i, first in enumerate(found.views):
        for j, second in enumerate(found.views[:i]):
            ends = found.agreement_interval[i, j]
            pairs.append([f"{second.name}, {first.name}", number(found.agreement[i, j], *ends)])
    return "\n".join([*lines, *aligned(pairs)])
