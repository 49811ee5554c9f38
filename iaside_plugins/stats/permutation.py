"""Resamples of models and of families, permutation tests, and corrections for many tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from iaside_plugins.stats.correlation import scaled

Array = npt.NDArray[np.float64]
SLACK = 1e-12  # two statistics that differ by less are equal: their order of summation differs


def family_counts(families: Sequence[str], n: int, seed: int) -> Array:
    """How often each model is drawn when whole families are drawn with replacement, (n, n_models).

    With every model a family of its own these are resamples of models.
    """
    names = sorted(set(families))
    member = np.array([names.index(family) for family in families], dtype=np.int64)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=n
    )
    return drawn[:, member].astype(np.float64)


def permutations(n_models: int, n: int, seed: int) -> npt.NDArray[np.int64]:
    """Orders (n, n_models) of the models, each drawn at random."""
    orders = np.tile(np.arange(n_models), (n, 1))
    return np.random.default_rng(seed).permuted(orders, axis=1)


def permutation_p(value: float, permuted: npt.ArrayLike) -> float:
    """Two-sided p of a correlation among those of permuted columns.

    The sample itself counts as one permutation, so p is never 0 (Phipson and Smyth, Statistical
    Applications in Genetics and Molecular Biology 9, 2010).
    """
    drawn = np.abs(np.asarray(permuted, dtype=np.float64))
    drawn = drawn[~np.isnan(drawn)]
    return float((1 + (drawn >= abs(value) - SLACK).sum()) / (1 + len(drawn)))


def residuals(y: Array, z: Array) -> Array:
    """What a line in z leaves of y, both (..., n); y minus its mean where z is constant."""
    y0 = y - y.mean(axis=-1, keepdims=True)
    z0 = z - z.mean(axis=-1, keepdims=True)
    size = (z0**2).sum(axis=-1, keepdims=True)
    slope = np.divide(
        (y0 * z0).sum(axis=-1, keepdims=True), size, out=np.zeros(size.shape), where=size > 0
    )
    return np.asarray(y0 - slope * z0)


def freedman_lane(x: Array, y: Array, z: Array, orders: npt.NDArray[np.int64]) -> Array:
    """Partial correlations (B,) of x and y given z, columns (n,), under the null hypothesis.

    What z leaves of y is permuted and put back on what z explains, then the partial correlation
    is computed again; unlike a permutation of y that keeps how y goes with z, and unlike a
    bootstrap interval the test holds its level for small n (Freedman and Lane, Journal of
    Business & Economic Statistics 1, 1983).

    Args:
        x: Predictor.
        y: Outcome.
        z: What is given.
        orders: (B, n) of `permutations`.
    """
    a = residuals(x, z)
    b = residuals(residuals(y, z)[orders], np.broadcast_to(z, orders.shape))
    return scaled(b @ a, (a**2).sum(), (b**2).sum(axis=1))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of the p-values that there are; the others stay None.

    The k-th least of m is multiplied by m - k + 1, and none falls below the one before it
    (Scandinavian Journal of Statistics 6, 1979).
    """
    known = sorted((value, k) for k, value in enumerate(p) if value is not None)
    out: list[float | None] = [None] * len(p)
    least = 0.0
    for position, (value, k) in enumerate(known):
        least = max(least, min(1.0, value * (len(known) - position)))
        out[k] = least
    return out


def leave_one_family_out(columns: Sequence[Array], y: Array, families: Sequence[str]) -> float:
    """R2 of y predicted by a linear fit for families that the fit has not seen.

    1 - (squared errors of the fit) / (squared errors of the mean of the training models): 0 for
    a fit that is worth as much as that mean, below 0 for a worse one; NaN where y is constant.

    Args:
        columns: Predictors, each (n,).
        y: Outcome (n,).
        families: Of the models; at least two.
    """
    design = np.stack([np.ones(len(y)), *columns], axis=1)
    errors, baseline = 0.0, 0.0
    for family in sorted(set(families)):
        out = np.array([name == family for name in families])
        weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
        errors += float(((y[out] - design[out] @ weights) ** 2).sum())
        baseline += float(((y[out] - y[~out].mean()) ** 2).sum())
    return 1 - errors / baseline if baseline > 0 else float("nan")


def over(statistic: Callable[[Array], Array], counts: Array, step: int = 1000) -> Array:
    """A statistic of resamples, `step` of them at a time, so that memory stays bounded."""
    parts = [statistic(counts[k : k + step]) for k in range(0, len(counts), step)]
    return np.concatenate(parts)
