"""A Fourier heat map as text: the mean error of every band with its interval."""

from __future__ import annotations

import numpy as np

from iaside_plugins.display.text import NOTHING, aligned, interval
from iaside_plugins.heatmap.result import FourierHeatMap


def heatmap_text(result: FourierHeatMap) -> str:
    """Return what was added, the clean error, and a table of bands."""
    low, high = result.clean_error_interval
    clean = f"{100 * result.clean_error:.1f} % {interval(100 * low, 100 * high, spec='.1f')}"
    lines = [
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
