"""How near forecasts of errors are to measured ones, over networks, with intervals over families.

Tables have a row a network and a column a cell: a corruption at a severity. The rival of a forecast
takes the clean error for the error of every cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from iaside_plugins.leaderboard.statistics.estimates import NO_WIDTH
from iaside_plugins.stats.correlation import rank_correlation
from iaside_plugins.stats.intervals import percentile_interval

Array = npt.NDArray[np.float64]
N_RESAMPLES, SEED = 1000, 0
FORECAST, RIVAL = "forecast", "clean error"
RIVAL_LESS_OWN = f"{RIVAL} - {FORECAST}: mean absolute error"


def double_centred(table: Array) -> Array:
    """Return a table (networks, cells) without the means of its rows and of its columns."""
    rows = table - table.mean(axis=1, keepdims=True)
    return np.asarray(rows - rows.mean(axis=0))


def flat_ranks(first: Array, second: Array) -> float:
    """Return Spearman's correlation over all networks and cells; NaN of a table of one value."""
    if min(np.ptp(first), np.ptp(second)) < NO_WIDTH:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(first.ravel(), second.ravel()).statistic)  # sorts: quick for thousands


def within(first: Array, second: Array) -> float:
    """Return Spearman's correlation over the cells, mean over networks."""
    each = rank_correlation(first, second)
    known = each[np.isfinite(each)]
    return float(known.mean()) if len(known) else float("nan")


def nearness(name: str, own: Array, measured: Array) -> dict[str, float]:
    """Return the figures of a forecast (networks, cells), each called after it."""
    centred = flat_ranks(double_centred(own), double_centred(measured))
    return {
        f"{name}: mean absolute error": float(np.abs(own - measured).mean()),
        f"{name}: rank correlation, nets x cells": flat_ranks(own, measured),
        f"{name}: rank correlation within nets": within(own, measured),
        f"{name}: rank correlation, double-centred": centred,
    }


def figures(tables: Mapping[str, Array]) -> dict[str, float]:
    """Return the figures of forecasts and of their rival.

    Args:
        tables: "measured" and "forecast" (networks, cells) and "clean" (networks, 1), in shares.
    """
    measured = tables["measured"]
    own = nearness(FORECAST, tables["forecast"], measured)
    rival = float(np.abs(tables["clean"] - measured).mean())
    return own | {
        f"{RIVAL}: mean absolute error": rival,
        RIVAL_LESS_OWN: rival - own[f"{FORECAST}: mean absolute error"],
    }


def with_intervals(
    tables: Mapping[str, Array],
    families: Sequence[str],
    statistic: Callable[[Mapping[str, Array]], Mapping[str, float]],
    n_resamples: int = N_RESAMPLES,
) -> dict[str, list[float]]:
    """Return every figure of a statistic with the ends of its 95 % interval.

    Args:
        tables: Of the networks, see `figures`.
        families: Of each network: the bootstrap draws all networks of a family together.
        statistic: Takes tables, returns figures by name.
        n_resamples: Of the bootstrap.
    """
    names = sorted(set(families))
    members = [np.flatnonzero(np.array(families) == name) for name in names]
    rng, drawn = np.random.default_rng(SEED), []
    for _ in range(n_resamples):
        rows = np.concatenate([members[k] for k in rng.integers(len(names), size=len(names))])
        some = {key: table[rows] for key, table in tables.items()}
        drawn.append(list(statistic(some).values()))
    values = statistic(tables)
    return {
        name: [float(value), *percentile_interval(column).tolist()]
        for (name, value), column in zip(values.items(), np.array(drawn).T, strict=True)
    }
