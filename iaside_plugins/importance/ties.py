"""Intervals of scores that hold where bands tie at the minimum.

The distribution subtracts the least Shapley value. Where several bands tie for it, the least
estimate lies below each of them: scores are biased towards 0, and the jackknife, which takes the
least band of these images for the least of all, is too narrow. There the bands that are not
distinguishable from the least are also taken as one, their mean as the minimum. That estimate is
smooth and without the bias if they do tie; the interval reaches over both. Coverage with and
without ties is measured by `tests/bench/bench_coverage.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from iaside_plugins.shapley.score import importance_distribution
from iaside_plugins.stats.intervals import Z95, Estimate, jackknife

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]  # of distributions (..., M), to values (...)


def tied_bands(per_image: npt.ArrayLike, errors: float = Z95) -> list[int]:
    """Return the bands not distinguishable from the one of the least mean, itself first.

    Args:
        per_image: Shapley values of every image (n_images, M).
        errors: Band j is tied where the paired difference of its Shapley value to the least
            one's is within so many standard errors.
    """
    rows = np.asarray(per_image, dtype=np.float64)
    least = int(np.argmin(rows.mean(axis=0)))
    if len(rows) < 2:
        return [least]
    gap = rows - rows[:, [least]]
    se = gap.std(axis=0, ddof=1) / np.sqrt(len(rows))
    tied = np.flatnonzero(gap.mean(axis=0) <= errors * se)
    return [least, *(int(j) for j in tied if j != least)]


def pooled_distribution(shapley_values: npt.ArrayLike, tied: Sequence[int]) -> Array:
    """Return shares (..., M) with the mean of the tied bands as the minimum; theirs are 0.

    ``importance_distribution`` where one band is given and it is the least.
    """
    psi = np.asarray(shapley_values, dtype=np.float64)
    least = psi[..., list(tied)].mean(axis=-1, keepdims=True)
    raised = np.maximum(psi, least)
    raised[..., list(tied)] = least
    return importance_distribution(raised)


def estimate(per_image: npt.ArrayLike, statistic: Statistic, errors: float = Z95) -> Estimate:
    """Estimate a statistic of the importance distribution, with an interval that holds under ties.

    The jackknife's value, standard error and bias; its interval too where one band is least.

    Args:
        per_image: Shapley values of every image (n_images, M).
        statistic: Of distributions.
        errors: See `tied_bands`.
    """
    tied = tied_bands(per_image, errors)
    plain = jackknife(per_image, lambda psi: statistic(importance_distribution(psi)))
    if len(tied) == 1:
        return plain
    return _over_both(
        plain, jackknife(per_image, lambda psi: statistic(pooled_distribution(psi, tied)))
    )


def difference(
    first: npt.ArrayLike, second: npt.ArrayLike, statistic: Statistic, errors: float = Z95
) -> Estimate:
    """Estimate a statistic of the first model minus the second's, paired over the same images.

    Args:
        first: Shapley values of every image (n_images, M) of one model.
        second: Of the other, on the same images in the same order.
        statistic: Of distributions.
        errors: See `tied_bands`.
    """
    m = np.shape(first)[1]
    rows = np.concatenate([first, second], axis=1)
    tied = [tied_bands(per_image, errors) for per_image in (first, second)]
    plain = jackknife(
        rows,
        lambda psi: (
            statistic(importance_distribution(psi[..., :m]))
            - statistic(importance_distribution(psi[..., m:]))
        ),
    )
    if len(tied[0]) == len(tied[1]) == 1:
        return plain
    pooled = jackknife(
        rows,
        lambda psi: (
            statistic(pooled_distribution(psi[..., :m], tied[0]))
            - statistic(pooled_distribution(psi[..., m:], tied[1]))
        ),
    )
    return _over_both(plain, pooled)


def _over_both(plain: Estimate, pooled: Estimate) -> Estimate:
    """Return the first estimate with an interval that covers those of both."""
    low = np.minimum(plain.interval[..., 0], pooled.interval[..., 0])
    high = np.maximum(plain.interval[..., 1], pooled.interval[..., 1])
    return Estimate(plain.value, plain.se, plain.bias, np.stack([low, high], axis=-1))
