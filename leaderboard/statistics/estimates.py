"""Correlations over the models of a comparison, with intervals and p, or why there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.stats import correlation as correlated
from iaside_plugins.stats import permutation as draw
from iaside_plugins.stats.correlation import (
    Array,
    Correlation,
    kendall,
    of_ranks,
    pearson,
    permuted_kendall,
    resampled_ranks,
    spearman,
)
from iaside_plugins.stats.intervals import Z95, percentile_interval

SEED, N_RESAMPLES, N_PERMUTATIONS = 0, 2000, 4999
N_PERMUTATIONS_KENDALL = 999  # each is a sum over pairs of models
MIN_MODELS = 3  # of a correlation
MIN_INTERVAL = 5  # models or families, of an interval: below, resamples are a handful
NO_WIDTH = 1e-9  # of an interval: resamples that differ by rounding alone
KEPT = 12  # columns and resamples whose ranks are held: 16 MB each of 1,000 models
MIN_DEFINED = 0.95  # share of resamples in which a statistic must exist to have an interval
CORRELATIONS: dict[str, Correlation] = {
    "spearman": spearman,
    "kendall": kendall,
    "pearson": pearson,
}
Estimate = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """The models of a comparison: their families, and what is drawn from them.

    Attributes:
        families: Of each model.
        known: Correlations of pairs of columns found so far.
        drawn: The same over resamples.
        ranked: Ranks over resamples of the `KEPT` columns that were used last.
    """

    families: tuple[str, ...]
    known: dict[tuple[str, bytes, bytes], Estimate] = field(default_factory=dict)
    drawn: dict[tuple[str, int, bytes, bytes], Array] = field(default_factory=dict)
    ranked: dict[tuple[int, bytes], Array] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of models."""
        return len(self.families)

    @property
    def n_families(self) -> int:
        """Number of families."""
        return len(set(self.families))

    @property
    def is_exact(self) -> bool:
        """Whether `orders` are all orders there are."""
        return self.n <= draw.EXACT_UP_TO

    @cached_property
    def all(self) -> Array:
        """Every model once, (1, n)."""
        return np.ones((1, self.n))

    @cached_property
    def by_model(self) -> Array:
        """Resamples of models (N_RESAMPLES, n)."""
        own = [f"{k:06}" for k in range(self.n)]
        return draw.family_counts(own, N_RESAMPLES, SEED)

    @cached_property
    def by_family(self) -> Array:
        """Resamples of whole families (N_RESAMPLES, n)."""
        return draw.family_counts(self.families, N_RESAMPLES, SEED + 1)

    @cached_property
    def orders(self) -> npt.NDArray[np.int64]:
        """Orders of the models (B, n): all up to `EXACT_UP_TO` models, else N_PERMUTATIONS."""
        return draw.permutations(self.n, N_PERMUTATIONS, SEED + 2)

    def over(self, name: str, x: Array, y: Array, counts: Array) -> Array:
        """Return a correlation of `CORRELATIONS` in the resamples of `all` or `by_...`, once."""
        key = (name, id(counts), x.tobytes(), y.tobytes())
        if key not in self.drawn:
            if name == "spearman":
                found = of_ranks(self._ranks(x, counts), self._ranks(y, counts), counts)
            else:
                found = CORRELATIONS[name](x, y, counts)
            self.drawn[key] = found
        return self.drawn[key]

    def _ranks(self, x: Array, counts: Array) -> Array:
        """Return the ranks of a column in resamples; those of the columns used last are kept."""
        key = (id(counts), x.tobytes())
        found = self.ranked.pop(key, None)
        self.ranked[key] = resampled_ranks(x, counts) if found is None else found
        while len(self.ranked) > KEPT:
            del self.ranked[next(iter(self.ranked))]
        return self.ranked[key]


def correlation(name: str, x: Array, y: Array, sample: Sample) -> Estimate:
    """Return a correlation of `CORRELATIONS` with both intervals and its permutation p."""
    key = (name, x.tobytes(), y.tobytes())
    if key not in sample.known:
        sample.known[key] = _correlation(name, x, y, sample)
    return dict(sample.known[key])


def _correlation(name: str, x: Array, y: Array, sample: Sample) -> Estimate:
    if reason := undefined(sample, x, y):
        return nothing(reason)
    if name == "kendall":
        n_orders = None if sample.is_exact else N_PERMUTATIONS_KENDALL
        permuted = permuted_kendall(x, y, sample.orders[:n_orders])
    else:
        first = resampled_ranks(x, sample.all)[0] if name == "spearman" else x
        second = resampled_ranks(y, sample.all)[0] if name == "spearman" else y
        a, b = first - first.mean(), second - second.mean()
        products = draw.permuted_products(a, sample.orders, (b,))[:, 0]
        permuted = products / np.sqrt((a**2).sum() * (b**2).sum())
    return _estimate(lambda counts: sample.over(name, x, y, counts), permuted, sample)


def partial_pearson(x: Array, y: Array, z: Array, sample: Sample) -> Estimate:
    """Return the partial Pearson correlation of x and y given z, each on its scale."""
    if reason := undefined(sample, x, y, z, least=MIN_MODELS + 1):
        return nothing(reason)
    permuted = draw.freedman_lane(x, y, z, sample.orders)
    return _estimate(lambda counts: correlated.partial_pearson(x, y, z, counts), permuted, sample)


def partial_spearman(x: Array, y: Array, z: Array, sample: Sample) -> Estimate:
    """Return the partial rank correlation of x and y given z.

    Its interval over models is Fisher's with the variance of Bonett and Wright (Psychometrika 65,
    2000): the percentile interval of resamples that are ranked anew excludes 0 in 34 to 54 % of
    draws of 8 models where there is nothing (`tests/bench/bench_statistics.py`), as ties of
    copies leave nearly nothing after z. Over families the ranks of the sample are kept.
    """
    if reason := undefined(sample, x, y, z, least=MIN_MODELS + 1):
        return nothing(reason)
    a, b, c = (resampled_ranks(v, sample.all)[0] for v in (x, y, z))
    permuted = draw.freedman_lane(a, b, c, sample.orders)
    found = _estimate(lambda w: correlated.partial_pearson(a, b, c, w), permuted, sample)
    if found["interval"] is not None:
        r = found["value"]
        half = Z95 * np.sqrt((1 + r**2 / 2) / (sample.n - 4))
        centre = np.arctanh(r)
        found["interval"] = np.tanh(np.array([centre - half, centre + half]))
    return found


def added_rank_correlation(x: Array, y: Array, z: Array, sample: Sample) -> Estimate:
    """Return |Spearman of score| - |Spearman of clean accuracy|, same resamples, no p."""
    if reason := undefined(sample, x, y, z):
        return nothing(reason)

    def added(counts: Array) -> Array:
        score, clean = (np.abs(sample.over("spearman", v, y, counts)) for v in (x, z))
        return score - clean

    return _estimate(added, None, sample)


def nothing(reason: str) -> Estimate:
    """Return an estimate without a value, with the reason."""
    return {"value": None, "interval": None, "family_interval": None, "p": None, "reason": reason}


def undefined(sample: Sample, *columns: Array, least: int = MIN_MODELS) -> str | None:
    """Return why a statistic has no value; None if it has one."""
    if sample.n < least:
        return f"n = {sample.n} models, needs {least}"
    if any(np.ptp(column) == 0 for column in columns):
        return "one of the columns is the same for all models"
    return None


def _estimate(
    statistic: Callable[[Array], Array], permuted: Array | None, sample: Sample
) -> Estimate:
    """Return a statistic of all models with intervals and p, if there are enough models."""
    value = float(statistic(sample.all)[0])
    if np.isnan(value):
        return nothing("clean accuracy decides one of the columns: nothing is left to correlate")
    reasons: list[str] = []
    return {
        "value": value,
        "interval": _interval(statistic, sample.n, "models", lambda: sample.by_model, reasons),
        "family_interval": _interval(
            statistic, sample.n_families, "families", lambda: sample.by_family, reasons
        ),
        "p": None
        if permuted is None
        else draw.permutation_p(value, permuted, exact=sample.is_exact),
        "reason": "; ".join(reasons) or None,
    }


def _interval(
    statistic: Callable[[Array], Array],
    n: int,
    of: str,
    counts: Callable[[], Array],
    reasons: list[str],
) -> Array | None:
    """Return the percentile interval over resamples; None, with the reason in `reasons`.

    A perfect order is perfect in every resample: the interval would have no width, and so would
    Fisher's. There is none.
    """
    if n < MIN_INTERVAL:
        reasons.append(f"no interval over {of}: {n}, needs {MIN_INTERVAL}")
        return None
    drawn = statistic(counts())
    defined = 1 - float(np.isnan(drawn).mean())
    if defined < MIN_DEFINED:
        least = f"needs {MIN_DEFINED:.0%}"
        reasons.append(f"no interval over {of}: defined in {defined:.2%} of resamples, {least}")
        return None
    found = percentile_interval(drawn)
    if found[1] - found[0] < NO_WIDTH:
        reasons.append(f"no interval over {of}: the same value in every resample")
        return None
    return found
