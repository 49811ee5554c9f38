"""Shapley values by regression on some pairs of complementary coalitions of one image.

The Shapley values solve a weighted least-squares problem over all coalitions, under the constraint
of efficiency (Charnes et al. 1988; Lundberg and Lee 2017). Here over distinct pairs (S, S^c), as
many of each size: by their leverage (Musco and Witter, "Provably accurate Shapley value estimation
via leverage score sampling", 2025). Such a fit is biased, alike in all images, which no interval
over images would hold. So the fit is only where the estimate starts: what it leaves is estimated
without bias from pairs that it has not seen (after Covert and Lee, AISTATS 2021, and Witter, Liu
and Musco, "Regression-adjusted Monte Carlo estimators for Shapley values", 2025).
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import numpy.typing as npt

from iaside_plugins.shapley.coalitions import IntArray, members

Array = npt.NDArray[np.float64]
Fit = Callable[[Array, npt.NDArray[np.bool_]], tuple[Array, Array]]
FOLDS = 4  # fits of an image, each on three quarters of its pairs


def draw_pairs(n_bands: int, n_pairs: int, rng: np.random.Generator) -> IntArray:
    """Draw distinct pairs of complementary coalitions, (n_pairs,): the index of one of each pair.

    The pairs of sizes s and n_bands - s get equal shares for every s (half as many where both
    are n_bands / 2), at most as many as there are; within a size every pair is as likely, and
    they come in random order.

    Args:
        n_bands: Number of bands M.
        n_pairs: At most 2**(M - 1) - 1, which is all of them.
        rng: Draws them.
    """
    middle = n_bands // 2 if n_bands % 2 == 0 else None
    sizes = range(1, n_bands // 2 + 1)
    room = np.array([comb(n_bands, s) // (2 if s == middle else 1) for s in sizes])
    share = np.array([1 if s == middle else 2 for s in sizes])
    drawn = []
    for size, there, wanted in zip(sizes, room, _allocate(n_pairs, room, share), strict=True):
        ranks = rng.choice(there, size=wanted, replace=False)
        if size == middle:  # of a pair of equal sizes, the one that has the last band
            drawn.append(_subsets(n_bands - 1, size - 1, ranks) | 1 << (n_bands - 1))
        else:
            drawn.append(_subsets(n_bands, size, ranks))
    return np.concatenate(drawn)


def with_complements(pairs: IntArray, n_bands: int) -> IntArray:
    """Return all coalitions to evaluate, (2 * n_pairs + 2,): k is the complement of -1 - k.

    The empty coalition comes first, the grand one last.
    """
    half = np.concatenate([[0], pairs])
    return np.concatenate([half, (2**n_bands - 1 - half)[::-1]])


def regression_shapley_values(values: npt.ArrayLike, pairs: IntArray, n_bands: int) -> Array:
    """Return shapley values (..., n_bands) from the values of some pairs, in the values' unit.

    The fit is additive: least squares. Unbiased; efficient; exact for additive games and with all
    pairs.

    Args:
        values: (..., 2 * n_pairs + 2) of `with_complements(pairs, n_bands)`.
        pairs: (n_pairs,) of `draw_pairs`, in the order they were drawn; of each size either all
            or at least `FOLDS`.
        n_bands: Number of bands M.
    """
    inside = members(pairs, n_bands).astype(np.float64)
    size = inside.sum(axis=1).astype(np.int64)
    there, kernel = _of_size(n_bands, np.minimum(size, n_bands - size))
    centred = inside - size[:, None] / n_bands

    def fit(target: Array, seen: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        n_seen = _count(size, n_bands, seen)
        root = np.sqrt(np.where(seen, kernel * there / np.maximum(n_seen, 1), 0))
        # Of the n_bands singular values one is 0 but for rounding. A cut at the rounding itself,
        # pinv's own, would now and then miss it.
        solve = np.linalg.pinv(centred * root[:, None], rcond=1e-9)
        phi = (target * root) @ solve.T
        return phi, phi @ centred.T

    return cross_fitted(values, pairs, n_bands, fit)


def cross_fitted(values: npt.ArrayLike, pairs: IntArray, n_bands: int, fit: Fit) -> Array:
    """Return unbiased Shapley values (..., n_bands): those of fits, and of what the fits leave.

    A pair's equation is ``sum over i in S of psi_i = (v(grand) - v(empty) + v(S) - v(S^c)) / 2``,
    its weight Shapley's kernel ``k = 1 / (C(M, s) s (M - s))``. All pairs give, in one sum, the
    Shapley values of what any fit leaves, so some give it unbiased: those the fit has seen count
    once, the others of a size for all of that size it has not seen. Averaged over `FOLDS` fits,
    each without one fold of the pairs.

    Args:
        values: As of `regression_shapley_values`.
        pairs: As of `regression_shapley_values`.
        n_bands: Number of bands M.
        fit: From what the equations leave when all bands get an equal share, (..., n_pairs), and
            which of them it may use, (n_pairs,) bool, to its Shapley values (..., n_bands), whose
            sum is 0, and what it foretells of all equations (..., n_pairs).
    """
    table = np.asarray(values, dtype=np.float64)
    inside = members(pairs, n_bands).astype(np.float64)
    size = inside.sum(axis=1).astype(np.int64)
    there, kernel = _of_size(n_bands, np.minimum(size, n_bands - size))
    odd = (table - table[..., ::-1])[..., : len(pairs) + 1]
    total = -odd[..., :1]
    # psi = total / M + phi with sum(phi) = 0; the rows of `centred` sum to 0, so the least-norm
    # solution does too, and no constraint is left.
    centred = inside - size[:, None] / n_bands
    target = (total + odd[..., 1:]) / 2 - total * (size / n_bands)
    fold = _folds(np.minimum(size, n_bands - size), there)
    found = np.zeros((*table.shape[:-1], n_bands))
    for k in range(FOLDS):
        seen = fold != k
        n_seen, n_left = (_count(size, n_bands, rows) for rows in (seen, ~seen))
        phi, foretold = fit(target, seen)
        counts = np.where(seen, 1, (there - n_seen) / np.maximum(n_left, 1))
        rest = (target - foretold) * (kernel * counts)
        # over all pairs, the sum of kernel * centred * centred^T is (identity - 1/M) / (2 M)
        found += phi + 2 * n_bands * rest @ centred
    return np.asarray(total / n_bands + found / FOLDS)


def _of_size(n_bands: int, small: IntArray) -> tuple[Array, Array]:
    """Return the number of pairs of each pair's size (of the smaller coalition), and its kernel."""
    n = np.array([comb(n_bands, s) for s in range(n_bands // 2 + 1)], dtype=np.float64)[small]
    return np.where(2 * small == n_bands, n / 2, n), 1 / (n * small * (n_bands - small))


def _count(size: IntArray, n_bands: int, rows: npt.NDArray[np.bool_]) -> IntArray:
    """Return, for each pair, how many of these rows have its size."""
    small = np.minimum(size, n_bands - size)
    return np.bincount(small[rows], minlength=n_bands // 2 + 1)[small]


def _folds(small: IntArray, there: Array) -> IntArray:
    """Fold of each pair, in turn within its size; -1, in none, where all of a size are drawn."""
    fold = np.full(len(small), -1)
    for s in np.unique(small):
        rows = np.flatnonzero(small == s)
        if len(rows) < there[rows[0]]:
            fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def _allocate(n: int, room: IntArray, share: IntArray) -> IntArray:
    """Allocate n in all, in proportion to `share`, at most `room` of each kind.

    What does not fit in one kind goes to the others; remainders go to the largest fractions.
    """
    wanted = np.zeros(len(room))
    free = np.ones(len(room), dtype=bool)
    while free.any():
        left = (n - room[~free].sum()) * share / share[free].sum()
        full = free & (left >= room)
        if not full.any():
            wanted[free] = left[free]
            break
        free &= ~full
    wanted[~free] = room[~free]
    counts = np.floor(wanted + 1e-9).astype(np.int64)  # 2.9999999 is 3
    order = np.argsort(counts - wanted, kind="stable")
    counts[order[: n - counts.sum()]] += 1
    return counts


def _subsets(n_items: int, size: int, ranks: IntArray) -> IntArray:
    """Return subsets of `size` of n_items items by their rank in [0, C(n_items, size)), as bits.

    The combinatorial number system: rank = C(a, size) + C(b, size - 1) + ..., items a > b > ...
    """
    rank = np.array(ranks, dtype=np.int64)
    left = np.full(rank.shape, size)
    found = np.zeros_like(rank)
    for item in reversed(range(n_items)):
        below = np.array([comb(item, k) for k in range(size + 1)])[left]
        taken = (left > 0) & (rank >= below)
        found[taken] |= 1 << item
        rank[taken] -= below[taken]
        left[taken] -= 1
    return found
