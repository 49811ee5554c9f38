"""Fits of a power law: a line through logarithms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FIT = ("slope", "curvature", "r_squared", "residual_db")
"""What `fit_power_law` gives: exponent, bend, share of variance explained, misfit in dB."""
_ROUNDING = 1e-12  # of logarithms in float64
FIT_RANGES = {
    "slope": (-np.inf, np.inf),
    "curvature": (-np.inf, np.inf),
    "r_squared": (0.0, 1.0),
    "residual_db": (0.0, np.inf),
}


def fit_power_law(frequencies: npt.ArrayLike, values: npt.ArrayLike) -> Array:
    """Fit ``log10 value = slope * log10 frequency + constant``; return `FIT`, (..., 4).

    slope is the exponent; curvature the coefficient of (log10 frequency)^2 in a fit of second
    order, 0 for a power law, negative where the fall steepens; r_squared the share of the
    logarithms' variance that the line explains; residual_db the root mean square distance of the
    points from the line, in dB (10 log10). Ordinary least squares, every point of the same weight.

    Args:
        frequencies: (P,) positive, distinct.
        values: (..., P) positive.

    Returns:
        NaN for a line through fewer than two points, a bend or a misfit of fewer than three, and
        for the r_squared of values that do not vary.
    """
    x, y = np.log10(np.asarray(frequencies, dtype=np.float64)), np.log10(values)
    if len(x) < 2:
        return np.full((*y.shape[:-1], len(FIT)), np.nan)
    x = x - x.mean()  # keeps the fit of second order well conditioned; its bend does not change
    line = y @ np.linalg.pinv(np.vander(x, 2)).T
    residual = y - line @ np.vander(x, 2).T
    spread = ((y - y.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    missed = (residual**2).sum(axis=-1)
    out = np.full((*y.shape[:-1], len(FIT)), np.nan)
    out[..., 0] = line[..., 0]
    if len(x) > 2:
        out[..., 1] = (y @ np.linalg.pinv(np.vander(x, 3)).T)[..., 0]
        flat = spread <= len(x) * _ROUNDING**2
        out[..., 2] = np.where(flat, np.nan, 1 - missed / np.where(flat, 1, spread))
        out[..., 3] = 10 * np.sqrt(missed / len(x))
    return out
