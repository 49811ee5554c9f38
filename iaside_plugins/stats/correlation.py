"""Correlations: of two columns, over resampled models, given a third column; and of profiles.

A resample is written as counts: how often each of the n models was drawn. Drawing models and
drawing whole families are then the same computation, and so is the sample itself (all counts 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Correlation = Callable[[Array, Array, Array], Array]
NEARLY_ONE = 1 - 1e-12  # a correlation above is exact: nothing is left to explain
BLOCK = 128  # columns of a symmetric matrix that are multiplied together: the other half is not
LITTLE = 1e-6  # share of a column's squares: a spread below is not taken as a difference of sums
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
    """Return Spearman's correlation of two columns (..., n), in [-1, 1].

    NaN if one is constant, or holds NaN, which has no rank. Pearson's correlation of the ranks
    (Spearman, American Journal of Psychology 15, 1904).
    """
    a, b = (ranks(x) - ranks(x).mean(axis=-1, keepdims=True) for x in (first, second))
    found = scaled((a * b).sum(axis=-1), (a**2).sum(axis=-1), (b**2).sum(axis=-1))
    unranked = np.isnan(first).any(axis=-1) | np.isnan(second).any(axis=-1)
    return np.where(unranked, np.nan, found)


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
    if x.ndim == y.ndim == 1:
        return pearson_matrix((x, y), counts)[:, 0, 1]
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


def pearson_matrix(columns: Sequence[Array], counts: Array) -> Array:
    """Return `pearson` of every two of K columns (n,) in resamples, (B, K, K).

    All sums of products are one matrix product. Where a resample holds so little of a column's
    spread that it would be lost in their difference, the deviations are summed one by one.
    """
    k = len(columns)
    x = np.stack([v - v.mean() for v in columns])
    sums = counts @ np.concatenate([x, (x[:, None] * x).reshape(k * k, -1)]).T
    total = counts.sum(axis=1)
    means, squares = sums[:, :k] / total[:, None], sums[:, k:].reshape(-1, k, k)
    products = squares - total[:, None, None] * means[:, :, None] * means[:, None, :]
    own = np.einsum("bkk->bk", products)
    lost = own <= LITTLE * np.einsum("bkk->bk", squares)
    spread = np.where(lost, 1, own)
    out = np.clip(products / np.sqrt(spread[:, :, None] * spread[:, None, :]), -1, 1)
    for i, j in np.argwhere(lost.any(axis=0)[:, None] | lost.any(axis=0)):
        rows = lost[:, i] | lost[:, j]
        one_by_one = np.broadcast_to(columns[i], (int(rows.sum()), len(columns[i])))
        out[rows, i, j] = pearson(one_by_one, columns[j], counts[rows])
    return np.asarray(out)


def _drawn_up_to(x: Array, counts: Array) -> Array:
    """Return how many draws have one of the least k values of a column (n,), k = 0, 1, ...

    Quickest where the counts of a model lie side by side, as those of `permutation.family_counts`.

    Returns:
        (number of values + 1, B).
    """
    order = np.argsort(x, kind="stable")
    ends = np.flatnonzero(np.concatenate([np.diff(x[order]) > 0, [True]]))
    up_to = np.cumsum(counts.T[order], axis=0)[ends]
    return np.concatenate([np.zeros((1, len(counts))), up_to])


def resampled_ranks(x: Array, counts: Array) -> Array:
    """Return ranks (B, n) from 1 of the models in resamples; equal values share their mean rank.

    Args:
        x: (n,) the column.
        counts: (B, n).
    """
    up_to = _drawn_up_to(x, counts)
    middle = (up_to[1:] + up_to[:-1] + 1) / 2
    return np.asarray(middle[_levels(x)].T)


def _levels(x: Array) -> npt.NDArray[np.intp]:
    """Return which of its values, from the least, each element of a column is."""
    return np.unique(x, return_inverse=True)[1]


def of_ranks(first: Array, second: Array, counts: Array) -> Array:
    """Return Spearman's correlation (B,) of resamples from both columns' `resampled_ranks`.

    Ranks are halves of whole numbers, of known mean: the sums are exact.
    """
    total = counts.sum(axis=1)
    centre = total * (total + 1) ** 2 / 4
    products = (
        np.einsum("bn,bn,bn->b", counts, a, b) - centre
        for a, b in ((first, second), (first, first), (second, second))
    )
    return np.asarray(np.clip(scaled(*products), -1, 1))


def spearman(x: Array, y: Array, counts: Array) -> Array:
    """Return Spearman's rank correlation (B,) of resamples; columns (n,), counts (B, n).

    Pearson's of mean ranks, so right under ties (American Journal of Psychology 15, 1904).
    """
    return of_ranks(resampled_ranks(x, counts), resampled_ranks(y, counts), counts)


def kendall(x: Array, y: Array, counts: Array) -> Array:
    """Return Kendall's tau-b (B,) of resamples; columns (n,), counts (B, n), NaN if constant.

    Concordant minus discordant pairs over the geometric mean of the pairs that either column
    tells apart (Kendall, Biometrika 33, 1945). Copies of one model are ties in both columns.
    """
    signs = [np.sign(v[:, None] - v[None, :]).astype(np.float32) for v in (x, y)]
    agree, drawn = np.triu(signs[0] * signs[1]), counts.astype(np.float32)
    both = np.zeros(len(counts))
    for start in range(0, len(x), BLOCK):  # sums up to the number of draws: exact in float32
        some = slice(start, start + BLOCK)
        before = drawn[:, : some.stop] @ agree[: some.stop, some]
        both += 2 * np.einsum("bn,bn->b", before, counts[:, some])
    total = counts.sum(axis=1)
    tied = [
        np.einsum("bn,bn->b", counts, counts)
        if len(np.unique(v)) == len(v)
        else (np.diff(_drawn_up_to(v, counts), axis=0) ** 2).sum(axis=0)
        for v in (x, y)
    ]
    return scaled(both, total**2 - tied[0], total**2 - tied[1])


def permuted_kendall(x: Array, y: Array, orders: npt.NDArray[np.int64]) -> Array:
    """Return Kendall's tau-b (B,) of x in each of the orders (B, n) and y; neither is constant."""
    n_pairs = len(x) * (len(x) - 1)
    tied = [int((np.bincount(_levels(v)) ** 2).sum()) - len(v) for v in (x, y)]
    order = np.argsort(y, kind="stable")
    group, levels = _levels(y)[order], _levels(x).astype(np.int32)[orders[:, order]]
    rising = _rising_pairs(levels, group)
    if any(tied):
        balance = rising - _rising_pairs(levels.max() - levels, group)
    else:
        balance = 2 * rising - n_pairs / 2
    return np.asarray(2 * balance / np.sqrt(float(n_pairs - tied[0]) * float(n_pairs - tied[1])))


def _rising_pairs(levels: npt.NDArray[np.int32], group: npt.NDArray[np.intp]) -> Array:
    """Return how many pairs of places rise from an earlier group to a later one, (B,).

    Each group's levels are put in falling order, so that no pair rises within it. Then pairs
    between neighbouring blocks of 1, 2, 4, ... places are counted by sorting both together: the
    ranks of the right block's levels, less those that it would have alone.

    Args:
        levels: (B, n) whole numbers from 0 to n - 1.
        group: (n,) of each place, rising from 0.
    """
    n = levels.shape[1]
    place, double = np.arange(n, dtype=np.int32), 2 * levels
    if group[-1] < n - 1:
        own = (2 * n * (group + 1)).astype(np.int32)
        double = own - np.sort(own - double, axis=1)
    found = np.zeros(len(levels))
    size = 1
    while size < n:
        block, rank = place // (2 * size), place % (2 * size)
        left = (rank < size).astype(np.int32)  # of equal levels the right block's come first
        key = double + (2 * n * block + left)
        key.sort(axis=1)
        at_right = 1.0 - (key & 1)
        found += at_right @ rank - (rank - size)[left == 0].sum()
        size *= 2
    return found


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


def partial_pearson(x: Array, y: Array, z: Array, counts: Array) -> Array:
    """Return the same as `partial_correlation` by `pearson`, in one go."""
    pairs = pearson_matrix((x, y, z), counts)
    return partial(pairs[:, 0, 1], pairs[:, 0, 2], pairs[:, 1, 2])


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
