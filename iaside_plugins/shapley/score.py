"""From Shapley values to the importance distribution and the spectral robustness score.

All functions work on the last axis, so a stack of leave-one-out estimates is one call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BETA = 0.75  # weight ratio of neighbouring bands, as published


def importance_distribution(shapley_values: npt.ArrayLike) -> Array:
    """Return the shares of the bands, (..., n_bands), in [0, 1]; they sum to 1, the least is 0.

    ``p = (psi - min psi) / sum(psi - min psi)`` (Luo et al., TMLR 2024). Where all Shapley values
    are equal the quotient is 0/0; by symmetry every band then gets 1/n_bands, which scores 0.
    """
    psi = np.asarray(shapley_values, dtype=np.float64)
    raised = psi - psi.min(axis=-1, keepdims=True)
    total = raised.sum(axis=-1, keepdims=True)
    uniform = np.full_like(raised, 1 / psi.shape[-1])
    return np.asarray(np.divide(raised, total, out=uniform, where=total > 0))


def signed_score(distribution: npt.ArrayLike, beta: float = BETA) -> Array:
    """Return the signed spectral robustness score (...): positive leans to low bands.

    ``(<p, b>/||b||_2 - eta) / |1 - eta|`` with ``b = (1, beta, ..., beta^(M-1))`` and
    ``eta = ||b||_1 / (M ||b||_2)``: the authors' score without its absolute value. Its range is
    `score_range(n_bands, beta)`; scores of different n_bands or beta are not comparable.
    Negative values lean to high bands.
    """
    p = np.asarray(distribution, dtype=np.float64)
    weights = beta ** np.arange(p.shape[-1])
    norm = np.sqrt(np.sum(weights**2))
    eta = weights.sum() / (p.shape[-1] * norm)
    return np.asarray((p @ weights / norm - eta) / abs(1 - eta))


def score(distribution: npt.ArrayLike, beta: float = BETA) -> Array:
    """Return the spectral robustness score (...): the absolute `signed_score` (Luo et al.)."""
    return np.abs(signed_score(distribution, beta))


def score_range(n_bands: int, beta: float = BETA) -> tuple[float, float]:
    """Return the least and greatest signed score: all mass on the highest, or the lowest, band."""
    ends = signed_score(np.eye(n_bands)[[n_bands - 1, 0]], beta)
    return float(ends[0]), float(ends[1])
