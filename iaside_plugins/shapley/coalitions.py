"""Coalitions of bands: bit i of a coalition's index says whether band i is in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BoolMatrix = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


def all_coalitions(n_bands: int) -> BoolMatrix:
    """Return every coalition, (2**n_bands, n_bands) bool; row s holds band i if bit i of s is set.

    Row 0 is the empty coalition, the last row the grand coalition.
    """
    return members(np.arange(2**n_bands), n_bands)


def members(indices: IntArray, n_bands: int) -> BoolMatrix:
    """Return rows of membership (..., n_bands) for coalition indices (...)."""
    return (np.asarray(indices)[..., None] >> np.arange(n_bands) & 1).astype(bool)


def cyclic_chains(n_bands: int, n_permutations: int, rng: np.random.Generator) -> IntArray:
    """Return orders in which bands join, (2 * n_permutations, n_bands), each with its reverse.

    The permutations are cyclic shifts of one random permutation (a new one after each n_bands
    of them), so every band takes every place equally often; each is followed by its reverse
    (antithetic). Both lower the variance of the permutation estimator of Shapley values.
    """
    chains = []
    for k in range(n_permutations):
        if k % n_bands == 0:
            start = rng.permutation(n_bands)
        chain = np.roll(start, -(k % n_bands))
        chains += [chain, chain[::-1]]
    return np.stack(chains).astype(np.int64)


def nested_coalitions(n_bands: int) -> IntArray:
    """Return (2 M - 2,): the lowest k of M bands for k = 1 to M - 1, then all but the lowest k."""
    low = 2 ** np.arange(1, n_bands, dtype=np.int64) - 1
    return np.concatenate([low, 2**n_bands - 1 - low])


def chain_coalitions(chains: IntArray) -> IntArray:
    """Return coalition indices along chains, (n_chains, n_bands + 1): empty first, grand last."""
    joined = np.cumsum(1 << chains, axis=1)
    return np.concatenate([np.zeros((len(chains), 1), np.int64), joined], axis=1)
