"""Correlations and agreement of profiles: against scipy and by hand, with ties and constants."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from iaside_plugins.stats import correlation as ours
from iaside_plugins.stats.correlation import (
    normalised,
    profile_distance,
    rank_correlation,
    ranks,
    sign_agreement,
)

Array = Any
KINDS: list[tuple[Callable[..., Array], Callable[..., Any]]] = [
    (ours.spearman, stats.spearmanr),
    (ours.kendall, stats.kendalltau),
    (ours.pearson, stats.pearsonr),
]


def by_scipy(kind: Callable[..., Any], x: Array, y: Array, count: Array) -> float:
    """The correlation of the rows written out, each as often as it was drawn."""
    a, b = (np.repeat(v, count.astype(int)) for v in (x, y))
    if len(a) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant columns, which give NaN
        return float(kind(a, b).statistic)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.integers(1, 12))
def test_resampled_correlations_are_scipys(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(levels, size=(2, n)) / 7  # few levels: many ties, often a constant column
    counts = rng.multinomial(n, np.full(n, 1 / n), size=4).astype(float)
    for fast, slow in KINDS:
        expected = [by_scipy(slow, x, y, count) for count in counts]
        np.testing.assert_allclose(fast(x, y, counts), expected, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(("fast", "slow"), KINDS, ids=["spearman", "kendall", "pearson"])
def test_constant_columns_have_no_correlation(fast: Any, slow: Any) -> None:
    flat, rising = np.full(6, 0.1), np.arange(6.0)
    counts = np.ones((1, 6))
    assert np.isnan(fast(flat, rising, counts)).all()
    assert np.isnan(fast(rising, flat, counts)).all()
    only_one = np.array([[0, 0, 6.0, 0, 0, 0]])  # the sample varies, the resample does not
    assert np.isnan(fast(rising, rising, only_one)).all()
    assert fast(rising, -rising, counts) == pytest.approx(-1)


def test_ranks_are_mean_ranks() -> None:
    x = np.array([3.0, 1, 3, 2, 1])
    assert ours.resampled_ranks(x, np.ones((1, 5)))[0].tolist() == stats.rankdata(x).tolist()
    counts = np.array([[2.0, 0, 1, 3, 1]])
    rows = np.repeat(x, counts[0].astype(int))
    wanted = dict(zip(rows, stats.rankdata(rows), strict=True))
    found = ours.resampled_ranks(x, counts)[0]
    assert all(rank == wanted[value] for value, rank in zip(x, found, strict=True))


@pytest.mark.parametrize("levels", [(5, 5), (1000, 5), (5, 1000), (None, None)])
@pytest.mark.parametrize("n", [3, 9, 37])
def test_permuted_kendall_is_scipys(n: int, levels: tuple[int | None, int | None]) -> None:
    rng = np.random.default_rng(n)
    x, y = (rng.permutation(n) / 3 if k is None else rng.integers(k, size=n) / 3 for k in levels)
    x[0], y[0] = -1, -1  # neither is constant
    orders = np.array([rng.permutation(n) for _ in range(20)])
    expected = [stats.kendalltau(x[order], y).statistic for order in orders]
    np.testing.assert_allclose(ours.permuted_kendall(x, y, orders), expected, atol=1e-12)


def test_correlations_of_many_models_are_scipys() -> None:
    """More models than are multiplied together, and resamples whose counts differ in order."""
    rng = np.random.default_rng(0)
    n = ours.BLOCK + 70
    x = rng.normal(size=n)
    y = np.round(x + rng.normal(size=n), 1)  # some ties
    counts = rng.multinomial(n, np.full(n, 1 / n), size=3).astype(float)
    for fast, slow in KINDS:
        expected = [by_scipy(slow, x, y, count) for count in counts]
        for laid_out in (counts, np.asfortranarray(counts)):
            np.testing.assert_allclose(fast(x, y, laid_out), expected, atol=1e-12)


def test_a_spread_that_differences_of_sums_would_lose_is_kept() -> None:
    x = np.concatenate([1e9 + np.array([0.0, 1, 3, 2]), [0.0]])
    y = np.array([0.0, 2, 3, 1, -5])
    counts = np.array([[1.0, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    expected = [by_scipy(stats.pearsonr, x, y, count) for count in counts]
    np.testing.assert_allclose(ours.pearson(x, y, counts), expected, atol=1e-6)
    three = ours.partial_pearson(x, y, y**2, counts)
    slow = ours.partial(*(ours.pearson(a, b, counts) for a, b in ((x, y), (x, y**2), (y, y**2))))
    np.testing.assert_allclose(three, slow, atol=1e-12)


def test_partial_is_the_correlation_of_residuals() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=25)
    x, y = z + rng.normal(size=25), -2 * z + rng.normal(size=25)
    design = np.stack([np.ones(25), z], axis=1)
    rest = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y)]
    ones = np.ones((1, 25))
    found = ours.partial_correlation(ours.pearson, x, y, z, ones)[0]
    assert found == pytest.approx(stats.pearsonr(*rest).statistic, abs=1e-12)
    ranked = [stats.rankdata(v) for v in (x, y, z)]
    by_rank = ours.partial_correlation(ours.spearman, x, y, z, ones)[0]
    assert by_rank == pytest.approx(ours.partial_correlation(ours.pearson, *ranked, ones)[0])


def test_nothing_is_left_where_clean_accuracy_says_it_all() -> None:
    z, x = np.arange(8.0), np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    ones = np.ones((1, 8))
    assert np.isnan(ours.partial_correlation(ours.pearson, x, 2 * z + 1, z, ones)).all()
    assert np.isnan(ours.partial_correlation(ours.spearman, z**3, x, z, ones)).all()


PROFILES = st.lists(st.integers(-4, 4), min_size=3, max_size=9)


@settings(deadline=None)
@given(PROFILES, st.integers(0, 2**31))
def test_ranks_and_their_correlation_are_scipys(values, seed):
    other = np.random.default_rng(seed).integers(-4, 5, len(values))
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values) - 1)
    found = rank_correlation(values, other)
    if len(set(values)) == 1 or len(set(other.tolist())) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(values, other).statistic, abs=1e-12)


def test_nan_has_no_rank():
    columns = [[np.nan, 1, 2, 3], [4, 1, 2, 3]]
    np.testing.assert_array_equal(rank_correlation(columns, [4, 1, 2, 3]), [np.nan, 1])
    np.testing.assert_array_equal(rank_correlation([4, 1, 2, 3], columns), [np.nan, 1])


def test_they_work_on_the_last_axis():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
    for statistic in (rank_correlation, sign_agreement, profile_distance):
        found = statistic(a, b)
        assert found.shape == (5, 4)
        assert found[3, 2] == pytest.approx(statistic(a[3, 2], b[3, 2]))


def test_signs_and_distances_by_hand():
    assert sign_agreement([1, -2, 3, 0], [4, -1, -1, 0]) == 0.75
    assert profile_distance([1, 3], [2, 6]) == 0
    assert profile_distance([1, 1], [-1, -1]) == 1
    assert profile_distance([1, 0], [0, 7]) == 1
    assert profile_distance([1, 3], [3, 1]) == pytest.approx(0.5)
    np.testing.assert_allclose(normalised([2, -6]), [0.25, -0.75])


def test_a_profile_of_nothing_has_no_shares():
    assert np.isnan(normalised([0, 0])).all()
    assert np.isnan(profile_distance([0, 0], [1, 2]))
    assert np.isnan(sign_agreement([np.nan, 1], [1, 1]))
