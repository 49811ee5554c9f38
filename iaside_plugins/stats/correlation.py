"""How far two profiles of bands agree: ranks, signs, shares. Pure functions on the last axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def ranks(values: npt.ArrayLike) -> Array:
    """Ranks on the last axis, from 0; tied values share their mean rank."""
    x = np.asarray(values, dtype=np.float64)
    above = x[..., :, None] > x[..., None, :]
    equal = x[..., :, None] == x[..., None, :]
    return np.asarray(above.sum(axis=-1) + (equal.sum(axis=-1) - 1) / 2)


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Spearman's correlation of two profiles (..., n_bands), in [-1, 1]; NaN if one is constant.

    Pearson's correlation of the ranks (Spearman, American Journal of Psychology 15, 1904).
    """
    a, b = (ranks(x) - ranks(x).mean(axis=-1, keepdims=True) for x in (first, second))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    out = np.full(scale.shape, np.nan)
    return np.asarray(np.divide((a * b).sum(axis=-1), scale, out=out, where=scale > 0))


def sign_agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Share of bands with the same sign in two profiles (..., n_bands), in [0, 1]; NaN for NaN."""
    a, b = np.sign(first), np.sign(second)
    return np.asarray(np.where(np.isnan(a + b), np.nan, a == b).mean(axis=-1))


def profile_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> Array:
    """Half the summed absolute difference of normalised profiles, in [0, 1]; NaN for zero ones.

    A profile (..., n_bands) is divided by its summed absolute values: 0 for the same shares of
    the same signs, 1 for opposite profiles or profiles on different bands.
    """
    a, b = normalised(first), normalised(second)
    return np.asarray(np.abs(a - b).sum(axis=-1) / 2)


def normalised(profile: npt.ArrayLike) -> Array:
    """A profile (..., n_bands) over its summed absolute values; NaN where they are all zero."""
    x = np.asarray(profile, dtype=np.float64)
    size = np.abs(x).sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(x, size, out=np.full(x.shape, np.nan), where=size > 0))


STATISTICS = {
    "rank_correlation": rank_correlation,
    "sign_agreement": sign_agreement,
    "profile_distance": profile_distance,
}
