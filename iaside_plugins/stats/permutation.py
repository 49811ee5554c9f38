"""Resamples of models and of families, permutation tests, and corrections for many tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations as all_orders

import numpy as np
import numpy.typing as npt

from iaside_plugins.stats.correlation import LITTLE, scaled

Array = npt.NDArray[np.float64]
EXACT_UP_TO = 8  # models, of which all orders are taken: 40,320
SLACK = 1e-12  # two statistics that differ by less are equal: their order of summation differs


def family_counts(families: Sequence[str], n: int, seed: int) -> Array:
    """Return how often each model is drawn, (n, n_models), in resamples of whole families.

    If every model is a family of its own, these are resamples of models. The counts of a model lie
    side by side in memory.
    """
    names, member = np.unique(np.array(families, dtype=object), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=n
    )
    return drawn.T.astype(np.float64)[member].T


def permutations(n_models: int, n: int, seed: int) -> npt.NDArray[np.int64]:
    """Return n random orders of the models, or all of them for `EXACT_UP_TO` models and fewer.

    Returns:
        (n, n_models), or (n_models!, n_models).
    """
    if n_models <= EXACT_UP_TO:
        return np.array(list(all_orders(range(n_models))), dtype=np.int64)
    orders = np.tile(np.arange(n_models), (n, 1))
    return np.random.default_rng(seed).permuted(orders, axis=1)


def permutation_p(value: float, permuted: npt.ArrayLike, *, exact: bool = False) -> float:
    """Return the two-sided p of a correlation among those of permuted columns.

    Of all orders it is exact: the part of them whose correlation is as great. Of random ones the
    sample itself counts as one permutation, so p is never 0 (Phipson and Smyth, Statistical
    Applications in Genetics and Molecular Biology 9, 2010).

    Args:
        value: The correlation.
        permuted: Those of the orders of `permutations`.
        exact: Whether these are all orders, the sample's own among them.
    """
    drawn = np.abs(np.asarray(permuted, dtype=np.float64))
    drawn = drawn[~np.isnan(drawn)]
    as_great = int((drawn >= abs(value) - SLACK).sum())
    if exact and len(drawn):
        return max(as_great, 1) / len(drawn)
    return float((1 + as_great) / (1 + len(drawn)))


def permuted_products(
    x: Array, orders: npt.NDArray[np.int64], others: Sequence[Array], step: int = 256
) -> Array:
    """Return sums of products (B, K) of x in each of the orders (B, n) and K other columns (n,).

    Some orders at a time, which stay in the processor's cache.
    """
    columns = np.stack(others, axis=1)
    parts = [x[orders[k : k + step]] @ columns for k in range(0, len(orders), step)]
    return np.concatenate(parts)


def residuals(y: Array, z: Array) -> Array:
    """Return residuals of y after a line in z, both (..., n); after the mean if z is constant."""
    y0 = y - y.mean(axis=-1, keepdims=True)
    z0 = z - z.mean(axis=-1, keepdims=True)
    size = (z0**2).sum(axis=-1, keepdims=True)
    slope = np.divide(
        (y0 * z0).sum(axis=-1, keepdims=True), size, out=np.zeros(size.shape), where=size > 0
    )
    return np.asarray(y0 - slope * z0)


def freedman_lane(x: Array, y: Array, z: Array, orders: npt.NDArray[np.int64]) -> Array:
    """Return partial correlations (B,) of x and y given z, columns (n,), under the null hypothesis.

    The residuals of y after z are permuted and added back to the fit, then the partial
    correlation is computed again. Unlike a permutation of y, this preserves how y depends on z;
    unlike a bootstrap interval, the test holds its level for small n (Freedman and Lane, Journal of
    Business & Economic Statistics 1, 1983).

    Args:
        x: Predictor.
        y: Outcome.
        z: Column to condition on.
        orders: (B, n) of `permutations`.
    """
    a, b, line = residuals(x, z), residuals(y, z), z - z.mean()
    size, whole = (line**2).sum(), (b**2).sum()
    products, along = permuted_products(b, orders, (a, line)).T
    # What a line in z leaves of the permuted residuals: they have no mean.
    left = whole - along**2 / size if size > 0 else np.full(len(orders), whole)
    lost = left <= LITTLE * whole  # too little for a difference: computed one by one
    c = residuals(b[orders[lost]], np.broadcast_to(z, (int(lost.sum()), len(z))))
    products[lost], left[lost] = c @ a, (c**2).sum(axis=1)
    return scaled(products, (a**2).sum(), left)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's correction; missing ones stay None and are not counted.

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
    """Return R2 of y predicted by a linear fit for families left out of the fit.

    1 - (squared errors of the fit) / (squared errors of the mean of the training models): 0 for
    a fit as good as that mean, below 0 for a worse one; NaN where y is constant.

    Args:
        columns: Predictors, each (n,).
        y: Outcome (n,).
        families: Of the models; at least two.
    """
    design = np.stack([np.ones(len(y)), *columns], axis=1)
    member = np.unique(np.array(families, dtype=object), return_inverse=True)[1]
    counts, sums = np.bincount(member), np.bincount(member, y)
    baseline = float(((y - ((sums.sum() - sums) / (len(y) - counts))[member]) ** 2).sum())
    # The residuals e of a family f that is left out follow from those of the fit to all, with
    # Q an orthonormal basis of the columns: e + Q_f (I - Q_f' Q_f)^-1 Q_f' e.
    q, r = np.linalg.qr(design)
    e = y - q @ (q.T @ y)
    own, at = np.zeros((len(counts), *r.shape)), np.zeros((len(counts), len(r)))
    np.add.at(own, member, q[:, :, None] * q[:, None, :])
    np.add.at(at, member, q * e[:, None])
    left = np.eye(len(r)) - own
    clear = np.linalg.eigvalsh(left)[:, 0] > LITTLE
    clear &= np.abs(np.diag(r)).min() > LITTLE * np.abs(r).max()
    at[clear] = np.linalg.solve(left[clear], at[clear][:, :, None])[:, :, 0]
    e = e + (q * at[member]).sum(axis=1)
    for family in np.flatnonzero(~clear):  # the others do not decide the line, or barely
        out = member == family
        weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
        e[out] = y[out] - design[out] @ weights
    errors = float((e**2).sum())
    return 1 - errors / baseline if baseline > 0 else float("nan")
