"""Correlations: of two columns, over resampled models, given a third column; and of profiles.

A resample is written as counts: how often each of the n models was drawn. Drawing models and
drawing whole families are then the same computation, and so is the sample itself (all counts 1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Correlation = Callable[[Array, Array, Array], Array]
NEARLY_ONE = 1 - 1e-12  # a correlation above is exact: nothing is left to explain
PAIRWISE = 300  # models; above, sorting (n log n an order) is quicker than comparing all pairs
TINY = 1e-12  # spread below this share of a column's size is rounding


def scaled(products: Array, first: Array, second: Array) -> Array:
    """Return products over the root of two sums of squares; NaN where one of those is zero."""
    size = np.sqrt(first * second)
    return np.asarray(
        np.divide(products, size, out=np.full(np.shape(size), np.nan), where=size > 0)
    )


def ranks(values: npt.ArrayLike) -> Array:
    """Return ranks on the last axis, from 0; tied values share their mean rank."""
    x = np.asarray(values, dtype=np.float64)
    above = x[..., :, None] > x[..., None, :]
    equal = x[..., :, None] == x[..., None, :]
    return np.asarray(above.sum(axis=-1) + (equal.sum(axis=-1) - 1) / 2)


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Return Spearman's correlation of two columns (..., n), in [-1, 1]; NaN if one is constant.

    Pearson's correlation of the ranks (Spearman, American Journal of Psychology 15, 1904).
    """
    a, b = (ranks(x) - ranks(x).mean(axis=-1, keepdims=True) for x in (first, second))
    return scaled((a * b).sum(axis=-1), (a**2).sum(axis=-1), (b**2).sum(axis=-1))


def spearman_matrix(scores: npt.ArrayLike) -> Array:
    """Return Spearman's correlation of every two rankings, (V, V), of scores (V, N)."""
    x = np.asarray(scores, dtype=np.float64)
    return rank_correlation(x[:, None], x[None])


def kendall_matrix(scores: npt.ArrayLike) -> Array:
    """Return `kendall` of every two rankings, (V, V), of scores (V, N); NaN for a constant one."""
    x = np.asarray(scores, dtype=np.float64)
    upper = np.triu_indices(x.shape[1], k=1)
    signs = np.sign(x[:, :, None] - x[:, None, :])[:, upper[0], upper[1]]
    size = np.abs(signs).sum(axis=1)
    return scaled(signs @ signs.T, size[:, None], size)


def pearson(x: Array, y: Array, counts: Array) -> Array:
    """Return Pearson's correlation of resamples, in [-1, 1]; NaN where a column is constant.

    Args:
        x: One column (n,), or one a resample (B, n).
        y: The other, likewise.
        counts: (B, n) how often each model was drawn.

    Returns:
        (B,) one correlation a resample.
    """
    total = counts.sum(axis=1)
    a, b = (np.broadcast_to(v, counts.shape) for v in (x, y))
    a, b = (v - ((counts * v).sum(axis=1) / total)[:, None] for v in (a, b))
    products = [(counts * p).sum(axis=1) for p in (a * b, a * a, b * b)]
    sizes = [TINY * (1 + np.abs(v).max()) for v in (x, y)]
    spread = np.sqrt(products[1] * products[2])
    varies = (products[1] > total * sizes[0] ** 2) & (products[2] > total * sizes[1] ** 2)
    out = np.full(len(counts), np.nan)
    np.divide(products[0], spread, out=out, where=varies)
    return np.asarray(np.clip(out, -1, 1))


def resampled_ranks(x: Array, counts: Array) -> Array:
    """Return ranks (B, n) from 1 of the models in resamples; equal values share their mean rank.

    Args:
        x: (n,) the column.
        counts: (B, n).
    """
    order = np.argsort(x, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(x[order]) > 0]))
    group = np.add.reduceat(counts[:, order], starts, axis=1)  # how often each value was drawn
    middle = np.cumsum(group, axis=1) - (group - 1) / 2
    return np.asarray(middle[:, np.searchsorted(x[order][starts], x)])


def spearman(x: Array, y: Array, counts: Array) -> Array:
    """Return Spearman's rank correlation (B,) of resamples; columns (n,), counts (B, n).

    Pearson's of mean ranks, so right under ties (American Journal of Psychology 15, 1904).
    """
    return pearson(resampled_ranks(x, counts), resampled_ranks(y, counts), counts)


def kendall(x: Array, y: Array, counts: Array) -> Array:
    """Return Kendall's tau-b (B,) of resamples; columns (n,), counts (B, n), NaN if constant.

    Concordant minus discordant pairs over the geometric mean of the pairs that either column
    tells apart (Kendall, Biometrika 33, 1945). Copies of one model are ties in both columns.
    """
    a, b = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
    both, first, second = (((counts @ m) * counts).sum(axis=1) for m in (a * b, a * a, b * b))
    return scaled(both, first, second)


def permuted_kendall(x: Array, y: Array, orders: npt.NDArray[np.int64]) -> Array:
    """Return Kendall's tau-b (B,) of x in each of the orders (B, n) and y; neither is constant."""
    n = len(x)
    if n > PAIRWISE:
        from scipy import stats

        return np.array([stats.kendalltau(x[order], y).statistic for order in orders])
    i, j = np.triu_indices(n, 1)
    signs = np.sign(x[:, None] - x[None, :]).astype(np.float32).ravel()  # sums are whole numbers
    second = np.sign(y[i] - y[j]).astype(np.float32)
    spread = np.sqrt(np.abs(signs).sum(dtype=np.float64) / 2 * np.abs(second).sum(dtype=np.float64))
    step = max(1, 4_000_000 // len(i))  # orders at a time: 32 MB of places
    parts = [orders[k : k + step] for k in range(0, len(orders), step)]
    return np.asarray(
        np.concatenate([signs[o[:, i] * n + o[:, j]] @ second for o in parts]) / spread
    )


def partial(xy: Array, xz: Array, yz: Array) -> Array:
    """Return the correlation of x and y given z from those of pairs; NaN where z says it all.

    Equal to the correlation of the residuals of x and y after a line in z (Yule, Proceedings of
    the Royal Society A 79, 1907). For rank correlations, of residuals of ranks.
    """
    known = (np.abs(xz) < NEARLY_ONE) & (np.abs(yz) < NEARLY_ONE)
    spread = np.sqrt(np.where(known, (1 - xz**2) * (1 - yz**2), 1))
    return np.asarray(np.clip(np.where(known, (xy - xz * yz) / spread, np.nan), -1, 1))


def partial_correlation(kind: Correlation, x: Array, y: Array, z: Array, counts: Array) -> Array:
    """Return the partial correlation (B,) of x and y given z, by `pearson` or `spearman`."""
    return partial(kind(x, y, counts), kind(x, z, counts), kind(y, z, counts))


def sign_agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Return the share of bands of one sign in two profiles (..., n_bands); NaN for NaN."""
    a, b = np.sign(first), np.sign(second)
    return np.asarray(np.where(np.isnan(a + b), np.nan, a == b).mean(axis=-1))


def profile_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Return half the summed absolute difference of normalised profiles, in [0, 1].

    A profile (..., n_bands) is divided by its summed absolute values: 0 for the same shares of
    the same signs, 1 for opposite profiles or profiles on different bands; NaN for zero profiles.
    """
    a, b = normalised(first), normalised(second)
    return np.asarray(np.abs(a - b).sum(axis=-1) / 2)


def normalised(profile: npt.ArrayLike) -> Array:
    """Return a profile (..., n_bands) over its summed absolute values; NaN where all are zero."""
    x = np.asarray(profile, dtype=np.float64)
    size = np.abs(x).sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(x, size, out=np.full(x.shape, np.nan), where=size > 0))


STATISTICS = {
    "rank_correlation": rank_correlation,
    "sign_agreement": sign_agreement,
    "profile_distance": profile_distance,
}
