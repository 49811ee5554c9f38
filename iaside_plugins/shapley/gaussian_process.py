"""Shapley values by a Gaussian process on some pairs of complementary coalitions of one image.

As in `regression`, but the fit is not additive: a Gaussian process (Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006). Its kernel has an additive part and one in which
two coalitions are the more alike the more they share, of the bands that are in and of those that
are out, each band by a weight of its own; so bands that act together are learned as such. What the
fit leaves is estimated without bias from pairs that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from iaside_plugins.shapley.coalitions import IntArray, members
from iaside_plugins.shapley.regression import Fit, cross_fitted

Array = npt.NDArray[np.float64]
START, SPREAD = -0.2, 0.5  # mean and standard deviation of a band's log weight, before any pair
LEAST, GREATEST = -5.0, 2.0  # of all log weights
FITTED = 128  # pairs that the weights are fitted on, at most: the cost is cubic
STEPS = 15


def gaussian_process_shapley_values(values: npt.ArrayLike, pairs: IntArray, n_bands: int) -> Array:
    """Return shapley values (..., n_bands) from the values of some pairs, in the values' unit.

    Unbiased; efficient; exact with all pairs.

    Args:
        values: (..., 2 * n_pairs + 2) of `with_complements(pairs, n_bands)`.
        pairs: (n_pairs,) of `draw_pairs`, in the order they were drawn; of each size either all
            or at least `regression.FOLDS`.
        n_bands: Number of bands M.
    """
    table = np.asarray(values, dtype=np.float64)
    fit = _fit(pairs, n_bands)
    games = table.reshape(-1, table.shape[-1])  # each has weights of its own
    found = [cross_fitted(game, pairs, n_bands, fit) for game in games]
    return np.array(found).reshape(*table.shape[:-1], n_bands)


def _fit(pairs: IntArray, n_bands: int) -> Fit:
    """Return the fit for `cross_fitted`; the grand coalition, whose value is 0, is always seen."""
    inside = members(np.append(pairs, 2**n_bands - 1), n_bands).astype(np.float64)

    def fit(target: Array, seen: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        known, values = inside[np.append(seen, True)], np.append(target[seen], 0.0)
        if not values.any():
            return np.zeros(n_bands), np.zeros(len(pairs))
        logs = _likeliest(known[-FITTED:], values[-FITTED:])
        alpha = np.linalg.solve(_noisy(_kernel(known, known, logs), logs), values)
        phi = alpha @ _kernel_shapley_values(known, logs)
        found = _kernel(inside, known, logs) @ alpha
        # The noise leaves the grand coalition a little above or below 0: shared out equally.
        equally = 2 * inside.mean(axis=1) - 1
        return phi - phi.mean(), (found - found[-1] * equally)[:-1]

    return fit


def _kernel(first: Array, second: Array, logs: Array) -> Array:
    """Return the kernel (a, b): covariances of ``(v(S) - v(S^c)) / 2``, odd under complements.

    Args:
        first: Coalitions as 0 and 1, (a, n_bands).
        second: Coalitions, (b, n_bands).
        logs: Logarithms (n_bands + 2,) of the weights: each band's, the additive part's and that
            of the noise, which is all that a smooth game does not have.
    """
    bands = np.exp(logs[:-2])
    shared = sum(sign * part for sign, _, _, part in _parts(first, second, bands))
    return np.asarray(shared / _scale(bands) + np.exp(logs[-2]) * _additive(first, second))


def _parts(first: Array, second: Array, bands: Array) -> Iterator[tuple[int, Array, Array, Array]]:
    """Yield sign, memberships and exp(weight they share): in both, out of both, in one only."""
    for sign, a, b in (
        (1, first, second),
        (1, 1 - first, 1 - second),
        (-1, first, 1 - second),
        (-1, 1 - first, second),
    ):
        yield sign, a, b, np.exp((a * bands) @ b.T)


def _additive(first: Array, second: Array) -> Array:
    """Return the additive part of the kernel, (a, b)."""
    return np.asarray((2 * first - 1) @ (2 * second - 1).T / first.shape[1])


def _scale(bands: Array) -> float:
    """Return the mean over coalitions of what both positive parts are for one and itself."""
    return float(2 * np.prod((1 + np.exp(bands)) / 2))


def _noisy(kernel: Array, logs: Array) -> Array:
    """Return a kernel of coalitions and themselves with noise, but for the last, the grand one."""
    noise = np.full(len(kernel), np.exp(logs[-1]))
    noise[-1] = 1e-6
    return np.asarray(kernel + np.diag(noise))


def _kernel_shapley_values(known: Array, logs: Array) -> Array:
    """Return the Shapley values (b, n_bands) of the games ``S -> _kernel(S, known)``.

    ``v(S)`` and ``-v(S^c)`` have the same Shapley values, so two parts of the kernel stand for
    four. Each is a product over bands; its Shapley values are the integral of the derivatives of
    its multilinear extension along the diagonal (Owen, Management Science 18, 1972), a polynomial
    of degree M - 1, which Gauss and Legendre's nodes integrate exactly.
    """
    bands, m = np.exp(logs[:-2]), known.shape[1]
    nodes, areas = np.polynomial.legendre.leggauss((m + 1) // 2)
    found = np.exp(logs[-2]) * 2 * (2 * known - 1) / m
    for sign, own in ((1, known), (-1, 1 - known)):
        gain = own * np.expm1(bands)
        each = np.log1p((nodes[:, None, None] + 1) / 2 * gain)
        others = np.exp(each.sum(axis=2, keepdims=True) - each)
        found += sign * 2 / _scale(bands) * gain * np.tensordot(areas / 2, others, 1)
    return np.asarray(found)


def _likeliest(known: Array, values: Array) -> Array:
    """Return the likeliest log weights (n_bands + 2,), by steps along the signs of the gradient.

    A step grows while its sign stays and shrinks where it turns (Riedmiller and Braun 1993).
    """
    n_weights = known.shape[1] + 2
    logs = np.append(np.full(n_weights - 2, START), [0.0, np.log(0.1)])
    step, before = np.full(n_weights, 0.3), np.zeros(n_weights)
    for _ in range(STEPS):
        sign = np.sign(_gradient(known, values, logs))
        step = np.clip(step * np.where(sign * before < 0, 0.5, 1.2), 1e-3, 0.6)
        logs = np.clip(logs + step * sign, LEAST, GREATEST)
        before = sign
    return logs


def _gradient(known: Array, values: Array, logs: Array) -> Array:
    """Return the gradient (n_bands + 2,) of the log likelihood plus that of the weights beforehand.

    Of any multiple of the kernel the likeliest is taken, so the unit of the values is no matter.
    """
    bands = np.exp(logs[:-2])
    inverse = np.linalg.inv(_noisy(_kernel(known, known, logs), logs))
    alpha = inverse @ values
    slope = np.outer(alpha, alpha) * (len(values) / (values @ alpha)) - inverse
    gain, total = np.zeros(len(bands)), 0.0
    for sign, a, b, part in _parts(known, known, bands):
        own = sign / _scale(bands) * slope * part
        gain += np.sum(a * (own @ b), axis=0)
        total += own.sum()
    gain = bands * (gain - total / (1 + np.exp(-bands))) / 2 - (logs[:-2] - START) / SPREAD**2
    additive = np.exp(logs[-2]) * (slope * _additive(known, known)).sum() / 2
    noise = np.exp(logs[-1]) * np.trace(slope[:-1, :-1]) / 2
    return np.append(gain, [additive, noise])
