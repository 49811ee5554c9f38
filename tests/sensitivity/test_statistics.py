"""Rank matrices, partial correlations, reliability and effects, against slow versions and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import oracles
import pytest
from scipy import stats

from iaside_plugins.sensitivity.statistics import (
    association,
    half_reliability,
    main_effect,
    matched,
    over_resampled_models,
    partial_rank_correlation,
    stability,
    without_each,
)
from iaside_plugins.stats.correlation import kendall_matrix, spearman_matrix


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def tied(rng, shape):
    """Numbers with ties."""
    return rng.integers(0, 5, size=shape).astype(float)


@pytest.mark.parametrize("draw", ["continuous", "tied"])
def test_matrices_are_scipys(rng, draw):
    scores = rng.normal(size=(6, 9)) if draw == "continuous" else tied(rng, (6, 9))
    spearman, kendall = spearman_matrix(scores), kendall_matrix(scores)
    for i, j in itertools.product(range(6), repeat=2):
        assert spearman[i, j] == pytest.approx(stats.spearmanr(scores[i], scores[j]).statistic)
        assert kendall[i, j] == pytest.approx(stats.kendalltau(scores[i], scores[j]).statistic)


def test_a_constant_ranking_has_no_correlation(rng):
    scores = np.stack([np.ones(5), rng.normal(size=5)])
    for matrix in (spearman_matrix(scores), kendall_matrix(scores)):
        assert np.isnan(matrix[0]).all()
        assert matrix[1, 1] == 1


def residuals(y, given):
    """What a line in the given column leaves of another."""
    slope, level = np.polyfit(given, y, 1)
    return y - slope * given - level


@pytest.mark.parametrize("draw", ["continuous", "tied"])
def test_a_partial_correlation_is_that_of_the_residuals_of_ranks(rng, draw):
    for _ in range(20):
        x, y, given = rng.normal(size=(3, 12)) if draw == "continuous" else tied(rng, (3, 12))
        left = [residuals(stats.rankdata(v), stats.rankdata(given)) for v in (x, y)]
        expected = np.corrcoef(*left)[0, 1]
        assert partial_rank_correlation(x, y, given) == pytest.approx(expected)


def test_a_score_that_knows_clean_accuracy_alone_has_no_partial_correlation(rng):
    clean = rng.random(10)
    y = -clean + 0.3 * rng.normal(size=10)
    assert np.isnan(partial_rank_correlation(np.exp(clean), y, clean))
    assert np.isnan(partial_rank_correlation(y, -clean, clean))
    assert abs(spearman_matrix(np.stack([clean, y]))[0, 1]) > 0.5  # which looks like something


def test_three_models_have_no_partial_correlation():
    assert np.isnan(partial_rank_correlation([1, 2, 3], [2, 1, 3], [1, 3, 2]))


def test_association_is_the_mean_over_outcomes_that_have_one(rng):
    scores, outcomes, clean = rng.normal(size=(4, 8)), rng.normal(size=(3, 8)), rng.random(8)
    outcomes[1] = 0.0  # no model survives this budget: nothing to correlate with
    found = association(scores, outcomes, clean)
    for k, score in enumerate(scores):
        each = [partial_rank_correlation(score, outcomes[q], clean) for q in (0, 2)]
        assert found[k] == pytest.approx(np.mean(each))
    assert np.isnan(association(scores, outcomes[1:2], clean)).all()
    assert association(-clean, outcomes, clean) == 0  # defined, and nothing new
    assert np.isnan(association(-clean, outcomes[1:2], clean))
    assert np.isnan(association(scores, clean[None], clean)).all()  # nothing left to explain


def test_half_reliability_is_the_mean_over_halvings(rng):
    psi = rng.normal(size=(5, 12, 4)) + np.arange(5)[:, None, None] * np.array([0.3, 0, 0, -0.3])
    seed, n, beta = 4, 7, 0.6
    order = np.argsort(np.random.default_rng(seed).random((n, 12)), axis=1)
    expected = []
    for halving in order:
        halves = []
        for chosen in (halving < 6, halving >= 6):
            means = [one[chosen].mean(axis=0) for one in psi]
            halves.append([oracles.signed_score(oracles.distribution(m), beta) for m in means])
        expected.append(stats.spearmanr(*halves).statistic)
    found = half_reliability(list(psi), beta, seed, n)
    assert found == pytest.approx(np.mean(expected))


def test_half_reliability_is_1_without_noise_and_about_0_with_nothing_else(rng):
    steady = [np.tile([3.0 + k, 2, 1, 0], (20, 1)) for k in range(6)]
    assert half_reliability(steady, 0.75) == pytest.approx(1)
    noise = [rng.normal(size=(40, 4)) for _ in range(30)]
    assert abs(half_reliability(noise, 0.75)) < 0.3
    assert np.isnan(half_reliability(noise[:1], 0.75))
    assert np.isnan(half_reliability([one[:1] for one in noise], 0.75))


def test_stability_is_the_mean_with_neighbours():
    matrix = np.array([[1, 0.5, np.nan], [0.5, 1, 0.2], [np.nan, 0.2, 1]])
    found = stability(matrix, [[1, 2], [0, 2], []])
    assert found[:2] == pytest.approx([0.25, 0.35])
    assert np.isnan(found[2])


def test_pairs_differ_on_one_axis_alone_and_their_effect_is_the_mean_change():
    levels = [("none", 6), ("clip", 6), ("none", 8), ("clip", 8), ("clip", 4)]
    pairs = matched(levels, 0, "clip", "none")
    assert pairs == [(0, 1), (2, 3)]
    assert matched(levels, 1, 8, 6) == [(0, 2), (1, 3)]
    values = np.array([0.1, 0.4, -0.2, 0.3, 9.0])
    assert main_effect(values, pairs) == pytest.approx((0.3 + 0.5) / 2)
    assert np.isnan(main_effect(values, []))


def test_resampling_and_leaving_out_choose_places_of_models(rng):
    values = rng.normal(size=7)
    drawn = over_resampled_models(lambda at: values[at].mean(axis=-1), 7, seed=1, n=4000)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(7), rel=0.1)
    few = over_resampled_models(lambda at: values[at].mean(axis=-1), 3, seed=1)
    assert np.isnan(few).all()
    left = without_each(lambda at: values[at].sum(axis=-1), 7)
    assert left == pytest.approx(values.sum() - values)
