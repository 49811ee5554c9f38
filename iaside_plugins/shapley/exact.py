"""From a value table to Shapley values and interactions: linear, in float64."""

from __future__ import annotations

from math import factorial

import numpy as np
import numpy.typing as npt

from iaside_plugins.shapley.coalitions import all_coalitions

Array = npt.NDArray[np.float64]


def shapley_values(values: npt.ArrayLike) -> Array:
    """Return shapley values (..., n_bands) of value tables (..., 2**n_bands), in the table's unit.

    ``psi_i = sum over S without i of |S|! (M-|S|-1)! / M! * (v(S + i) - v(S))`` (Shapley 1953).
    Differences are taken first, so that a band that changes nothing gets exactly zero.
    """
    table = np.asarray(values, dtype=np.float64)
    m = n_bands_of(table)
    inside = all_coalitions(m)
    weight = np.array([factorial(k) * factorial(m - k - 1) / factorial(m) for k in range(m)])
    out = np.empty((*table.shape[:-1], m))
    for i in range(m):
        without = np.flatnonzero(~inside[:, i])
        gain = table[..., without | (1 << i)] - table[..., without]
        out[..., i] = gain @ weight[inside[without].sum(axis=1)]
    return out


def chain_shapley_values(values: npt.ArrayLike, chains: npt.NDArray[np.int64]) -> Array:
    """Return permutation estimates (..., n_bands) from the values along chains.

    Args:
        values: (..., n_chains, n_bands + 1), the value after each band joined, empty coalition
            first.
        chains: (n_chains, n_bands), the order in which bands joined.

    The mean marginal contribution over the chains: unbiased, and efficient for every chain.
    Source: Castro, Gomez and Tejada, Computers & Operations Research 36 (2009).
    """
    gains = np.diff(np.asarray(values, dtype=np.float64), axis=-1)
    place = np.argsort(chains, axis=1)  # of each band in each chain
    by_band = np.take_along_axis(gains, np.broadcast_to(place, gains.shape), axis=-1)
    return np.asarray(by_band.mean(axis=-2))


def interactions(values: npt.ArrayLike) -> Array:
    """Return the pairwise Shapley interaction index (n_bands, n_bands) of one table (2**n_bands,).

    ``I_ij = sum over T without i, j of |T|! (M-|T|-2)! / (M-1)! * (v(T+ij) - v(T+i) - v(T+j) +
    v(T))`` (Grabisch and Roubens 1999). Positive: the bands are worth more together (synergy);
    negative: they carry the same evidence (redundancy). The diagonal holds the Shapley values.
    """
    table = np.asarray(values, dtype=np.float64)
    m = n_bands_of(table)
    inside = all_coalitions(m)
    out = np.diag(shapley_values(table))
    for i in range(m):
        for j in range(i):
            pair = (1 << i) | (1 << j)
            without = np.flatnonzero(~inside[:, i] & ~inside[:, j])
            size = inside[without].sum(axis=1)
            weight = np.array([factorial(k) * factorial(m - k - 2) for k in range(m - 1)])[size]
            mixed = (
                table[without | pair]
                - table[without | (1 << i)]
                - table[without | (1 << j)]
                + table[without]
            )
            out[i, j] = out[j, i] = weight @ mixed / factorial(m - 1)
    return out


def n_bands_of(table: Array) -> int:
    """Return number of bands of value tables (..., 2**n_bands)."""
    n = int(table.shape[-1]).bit_length() - 1
    if table.shape[-1] != 2**n or n < 1:
        raise ValueError(f"a value table has 2**n_bands entries, got {table.shape[-1]}")
    return n
