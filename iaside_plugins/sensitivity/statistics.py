"""How rankings, associations and their reliability change between variants.

Variants V, models N, images K, bands M.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.stats.correlation import NEARLY_ONE, partial, rank_correlation

Array = npt.NDArray[np.float64]
Statistic = Callable[[npt.NDArray[np.int64]], Array]
MIN_MODELS = 4  # a partial correlation of three is +1 or -1 whatever they are


def partial_rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike, given: npt.ArrayLike) -> Array:
    """Return Spearman's correlation of x and y given a third column, all (..., N), in [-1, 1].

    NaN for fewer than `MIN_MODELS` models, for a constant column, or where the given column says
    all of x or y. See `partial`.
    """
    if np.shape(x)[-1] < MIN_MODELS:
        return np.full(np.broadcast_shapes(*map(np.shape, (x, y, given)))[:-1], np.nan)
    xy, xg, yg = rank_correlation(x, y), rank_correlation(x, given), rank_correlation(y, given)
    return partial(xy, xg, yg)


def association(scores: npt.ArrayLike, outcomes: npt.ArrayLike, clean: npt.ArrayLike) -> Array:
    """Return the mean partial rank correlation of scores and outcomes, given clean accuracy.

    Args:
        scores: (..., N), of every variant.
        outcomes: (..., Q, N).
        clean: Clean accuracy (..., N).

    Returns:
        (...); an outcome without a correlation is left out, NaN if none has one. A score that ranks
        the models as clean accuracy does, or the other way round, says nothing beyond it: 0.
    """
    x = np.asarray(scores, dtype=np.float64)[..., None, :]
    z = np.asarray(clean, dtype=np.float64)[..., None, :]
    found = partial_rank_correlation(x, outcomes, z)
    if x.shape[-1] >= MIN_MODELS:
        nothing_new = np.abs(rank_correlation(x, z)) >= NEARLY_ONE
        sound = np.abs(rank_correlation(outcomes, z)) < NEARLY_ONE
        found = np.where(nothing_new & sound, 0.0, found)
    known = ~np.isnan(found)
    total = np.where(known, found, 0).sum(axis=-1)
    count = known.sum(axis=-1)
    out = np.full(total.shape, np.nan)
    return np.asarray(np.divide(total, count, out=out, where=count > 0))


def over_resampled_models(statistic: Statistic, n_models: int, seed: int, n: int = 2000) -> Array:
    """Return values (B, ...) of a statistic of resampled models, for percentile intervals.

    Draws of fewer than `MIN_MODELS` different models are left out: their correlations are +1, -1
    or nothing, whatever the models. NaN where no draw is left.

    Args:
        statistic: Maps indices of models (B, N) to values (..., B), or NaN.
        n_models: How many there are.
        seed: Of the resampling.
        n: Number of draws.
    """
    draws = np.random.default_rng(seed).integers(n_models, size=(n, n_models))
    different = np.array([len(set(draw.tolist())) for draw in draws])
    draws = draws[different >= MIN_MODELS]
    if len(draws) == 0:
        nothing = statistic(np.arange(n_models)[None])
        return np.moveaxis(np.full(nothing.shape, np.nan), -1, 0)
    step = max(1, 20_000 // n_models**2)  # draws at a time: some ten MB a hundred variants
    parts = [statistic(draws[k : k + step]) for k in range(0, len(draws), step)]
    return np.moveaxis(np.concatenate(parts, axis=-1), -1, 0)


def half_reliability(
    per_image: Sequence[npt.ArrayLike], beta: float, seed: int = 0, n: int = 200
) -> float:
    """Return Spearman's correlation over models of signed scores from two halves of the images.

    The mean of `n` random halvings, the same ones for every model: 1 where the ranking of models
    does not depend on which images were taken.

    Args:
        per_image: For every model its Shapley values (K, M), of the same images in one order.
        beta: Of the score.
        seed: Of the halvings.
        n: Number of halvings.

    Returns:
        In [-1, 1]; NaN for fewer than two models or images.
    """
    psi = np.stack([np.asarray(one, dtype=np.float64) for one in per_image])
    n_images = psi.shape[1]
    if len(psi) < 2 or n_images < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    first = np.argsort(rng.random((n, n_images)), axis=1) < n_images // 2  # (n, K) half of them
    halves = []
    for chosen in (first, ~first):
        means = np.einsum("hk,nkm->hnm", chosen.astype(np.float64), psi)
        means /= chosen.sum(axis=1)[:, None, None]
        halves.append(signed_score(importance_distribution(means), beta))
    found = rank_correlation(*halves)
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")


def stability(matrix: Array, neighbours: Sequence[Sequence[int]]) -> Array:
    """Return the mean correlation (V,) of each ranking with its neighbours', from a matrix (V, V).

    NaN without neighbours. NaN entries, of constant rankings, count as 0: no agreement.
    """
    known = np.nan_to_num(matrix)
    return np.array([known[i, list(n)].mean() if n else np.nan for i, n in enumerate(neighbours)])


def matched(
    levels: Sequence[Sequence[object]], axis: int, level: object, base: object
) -> list[tuple[int, int]]:
    """Return pairs of variants that differ on one axis alone: the base's level, and another.

    Args:
        levels: Of every variant, on every axis.
        axis: Index of the axis.
        level: The other level.
        base: The base's.

    Returns:
        Indices (with `base`, with `level`).
    """
    place = {tuple(one): k for k, one in enumerate(levels)}
    pairs = []
    for one, k in place.items():
        if one[axis] == base:
            other = place.get((*one[:axis], level, *one[axis + 1 :]))
            if other is not None:
                pairs.append((k, other))
    return pairs


def main_effect(values: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """Return the mean change of a value (V, ...) over matched pairs; NaN for no pair."""
    if not pairs:
        return np.full(values.shape[1:], np.nan)
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    return np.asarray((values[second] - values[first]).mean(axis=0))


def without_each(statistic: Statistic, n_models: int) -> Array:
    """Return values (..., N) of a statistic of models (B, N - 1), each model left out once."""
    everyone = np.arange(n_models)
    return statistic(np.stack([np.delete(everyone, k) for k in everyone]))
