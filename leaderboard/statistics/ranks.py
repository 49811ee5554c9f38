"""Ranks as intervals, and how much of a column's spread over models is error of measurement."""

from __future__ import annotations

from typing import Any

import numpy as np

from iaside_plugins.leaderboard.statistics.columns import Variable
from iaside_plugins.stats.intervals import Z95

MIN_MODELS = 3


def rank_intervals(column: Variable) -> dict[str, Any]:
    """Rank of every model, 1 the best (or greatest), with the ranks that intervals leave open.

    A model may stand anywhere between 1 + those whose interval lies wholly on the better side of
    its own, and n - those whose interval lies wholly on the other. All models see the same images,
    so differences are known better than the intervals of single models say: the ranks are wide
    rather than narrow. Equal values share the better rank.

    Args:
        column: With intervals; models without one are left out.
    """
    sign = -1.0 if column.better == "lower" else 1.0
    rows = [
        (key, m.value, sign * m.value, sorted((sign * m.interval[0], sign * m.interval[1])))
        for key, m in column.measured.items()
        if m.interval[0] is not None and m.interval[1] is not None
    ]
    ranked = []
    for key, value, signed, (low, high) in rows:
        others = [row for row in rows if row[0] != key]
        ranked.append(
            {
                "entry_id": key,
                "value": value,
                "rank": 1 + sum(other[2] > signed for other in others),
                "low": 1 + sum(other[3][0] > high for other in others),
                "high": len(rows) - sum(other[3][1] < low for other in others),
                "tied": any(other[2] == signed for other in others),
            }
        )
    return {
        "column": column.id,
        "label": column.label,
        "first": "lowest" if column.better == "lower" else "highest",
        "better": column.better,
        "models": sorted(ranked, key=lambda row: (row["rank"], row["entry_id"])),
    }


def reliability(column: Variable) -> dict[str, Any]:
    """1 - (mean squared standard error over images) / (variance over models).

    The share of a column's variance that is not error of measurement: a correlation with the
    column cannot exceed its square root but by chance (Spearman 1904). Entries hold no values of
    single images, so images cannot be split into halves; the standard errors are those of the
    stated intervals (jackknife for scores, Wilson for proportions). Errors that all models share,
    as they see the same images, are counted as if they differed: it is a lower bound.
    """
    both = [
        (m.value, (m.interval[1] - m.interval[0]) / (2 * Z95))
        for m in column.measured.values()
        if m.interval[0] is not None and m.interval[1] is not None
    ]
    found: dict[str, Any] = {"column": column.id, "label": column.label, "n_models": len(both)}
    empty = {"value": None, "standard_error": None, "standard_deviation": None}
    if len(both) < MIN_MODELS:
        return {**found, **empty, "reason": f"n = {len(both)} models, needs {MIN_MODELS}"}
    values, errors = np.array(both).T
    if np.ptp(values) == 0:
        return {**found, **empty, "reason": "the column is the same for all models"}
    noise, spread = float((errors**2).mean()), float(values.var(ddof=1))
    return {
        **found,
        "value": 1 - noise / spread,
        "standard_error": noise**0.5,
        "standard_deviation": spread**0.5,
        "reason": None,
    }
