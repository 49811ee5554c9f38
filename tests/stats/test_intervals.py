"""Intervals over images: identities that must hold, and how often they cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.stats.intervals import (
    Z95,
    bootstrap,
    bootstrap_means,
    jackknife,
    mean_interval,
    median_interval,
    percentile_interval,
    rate_interval,
    wilson,
)


def _score(psi: np.ndarray) -> np.ndarray:
    return signed_score(importance_distribution(psi))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_the_jackknife_of_the_mean_is_the_standard_error(n):
    rows = np.random.default_rng(n).normal(size=(n, 4))
    found = jackknife(rows, lambda x: x)
    se = rows.std(axis=0, ddof=1) / np.sqrt(n)
    np.testing.assert_allclose(found.value, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.se, se, rtol=1e-10)
    np.testing.assert_allclose(found.bias, 0, atol=1e-13)
    np.testing.assert_allclose(found.interval[:, 0], found.value - 1.959964 * se, rtol=1e-6)
    np.testing.assert_allclose(found.interval[:, 1], found.value + 1.959964 * se, rtol=1e-6)


def test_the_jackknife_leaves_one_image_out_at_a_time():
    rows = np.random.default_rng(1).normal(size=(12, 5)) + np.arange(5)
    left_out = np.array([_score(np.delete(rows, k, axis=0).mean(axis=0)) for k in range(12)])
    found = jackknife(rows, _score)
    spread = np.sqrt(11 / 12 * np.sum((left_out - left_out.mean()) ** 2))
    assert float(found.se) == pytest.approx(spread, rel=1e-9)
    assert float(found.bias) == pytest.approx(11 * (left_out.mean() - found.value), rel=1e-7)
    assert found.interval.shape == (2,)


def test_the_jackknife_finds_the_bias_of_a_square():
    """E[mean^2] exceeds the square of the mean by var/n; the jackknife's estimate is s^2/n."""
    rows = np.random.default_rng(2).normal(size=(30, 1))
    found = jackknife(rows, np.square)
    assert float(found.bias[0]) == pytest.approx(rows.var(ddof=1) / 30, rel=1e-9)


def test_one_image_has_no_interval():
    found = jackknife(np.ones((1, 3)), lambda x: x)
    np.testing.assert_array_equal(found.value, 1)
    assert np.isnan(found.se).all()
    assert np.isnan(found.bias).all()
    assert found.interval.shape == (3, 2)
    assert np.isnan(found.interval).all()


@pytest.mark.parametrize(
    ("means", "n_images", "least"),
    [
        pytest.param([2.0, 1.5, 1.0, 0.5, 0.0, 0.3, 0.6, 0.9], 100, 0.93, id="one-least-band"),
        # two bands tie exactly at the minimum: the kink, where 90.5 % were measured
        pytest.param([2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.6, 0.9], 200, 0.88, id="two-tied-bands"),
    ],
)
def test_intervals_of_the_score_cover(means, n_images, least):
    """Of 1000 samples a 95 % interval covers 95 +- 0.7 (standard error) %, fewer at the kink."""
    rng = np.random.default_rng(0)
    psi = np.asarray(means)
    truth = float(_score(psi))
    covered = 0
    for _ in range(1000):
        shared = rng.standard_t(5, size=(n_images, 1))  # images are hard or easy in all bands
        found = jackknife(psi + shared + 1.5 * rng.standard_normal((n_images, 8)), _score)
        covered += bool(found.interval[0] <= truth <= found.interval[1])
    assert least <= covered / 1000 <= 0.98


@given(st.integers(1, 3000), st.data())
def test_wilson_contains_the_share_and_stays_a_proportion(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high - low > 0
    mirrored = wilson(n - successes, n)
    assert mirrored == (pytest.approx(1 - high, abs=1e-12), pytest.approx(1 - low, abs=1e-12))


def test_wilson_solves_its_equation():
    """The ends are the shares that lie 1.96 of their own standard errors from the observed."""
    for end in wilson(37, 120):
        assert abs(37 / 120 - end) == pytest.approx(Z95 * np.sqrt(end * (1 - end) / 120), rel=1e-9)


def test_mean_interval():
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0, 6.0])
    assert mean == 3
    assert high - mean == pytest.approx(Z95 * np.std([1, 2, 3, 6], ddof=1) / 2)
    assert mean - low == pytest.approx(high - mean)
    alone, ends = mean_interval([2.0])
    assert alone == 2
    assert np.isnan(ends).all()


def test_the_bootstrap_resamples_images_and_repeats_with_its_seed():
    rows = np.random.default_rng(0).normal(1, 1, size=(60, 2))
    drawn = bootstrap_means(rows, seed=3)
    assert drawn.shape == (2000, 2)
    se = rows.std(axis=0, ddof=1) / np.sqrt(60)
    # the percentile interval of a mean is close to the normal one; 2,000 resamples leave 5 %
    interval = percentile_interval(drawn)
    np.testing.assert_allclose(interval[:, 1] - interval[:, 0], 2 * 1.96 * se, rtol=0.1)
    np.testing.assert_allclose(interval.mean(axis=1), rows.mean(axis=0), atol=0.3 * se.max())
    np.testing.assert_array_equal(drawn, bootstrap_means(rows, seed=3))
    assert not np.array_equal(drawn, bootstrap_means(rows, seed=4))


def test_a_statistic_gets_the_interval_of_its_resamples():
    rows = np.random.default_rng(0).normal(1, 1, size=(60, 3))
    value, interval = bootstrap(rows, lambda x: x.max(axis=-1), seed=3)
    assert float(value) == rows.mean(axis=0).max()
    expected = percentile_interval(bootstrap_means(rows, seed=3).max(axis=1))
    np.testing.assert_array_equal(interval, expected)
    assert np.isnan(bootstrap(rows[:1], lambda x: x)[1]).all()


def test_the_bootstrap_of_many_images_is_drawn_in_parts():
    rows = np.random.default_rng(0).normal(size=(30_000, 1))
    drawn = bootstrap_means(rows, n=400)  # more counts than fit in one part
    assert drawn.shape == (400, 1)
    assert float(drawn.std()) == pytest.approx(1 / np.sqrt(30_000), rel=0.15)


def test_what_is_not_known_is_left_out_of_percentiles():
    drawn = np.column_stack([np.linspace(0, 1, 401), np.full(401, np.nan)])
    drawn[::2, 0] = np.nan
    interval = percentile_interval(drawn)
    np.testing.assert_allclose(interval[0], [0.0275, 0.9725], atol=0.002)
    assert np.isnan(interval[1]).all()


@pytest.mark.parametrize("n", [6, 7, 8, 9, 16, 17, 60, 5000])
def test_the_median_interval_is_the_narrowest_that_binomials_allow(n):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).permutation(n).astype(float)
    median, (low, high) = median_interval(values)
    assert median == np.median(values)
    below = int(low)
    assert high == n - 1 - below
    assert 2 * stats.binom.cdf(below, n, 0.5) <= 0.05 < 2 * stats.binom.cdf(below + 1, n, 0.5)


def test_the_median_interval_covers_whatever_the_tails():
    rng = np.random.default_rng(0)
    hits = sum(
        low <= 0 <= high
        for low, high in (median_interval(rng.standard_cauchy(16))[1] for _ in range(1000))
    )
    assert hits >= 930, "at least 95 %, with three standard errors of 1,000 draws"
    assert np.isnan(median_interval(np.arange(5.0))[1]).all()


def test_the_interval_of_rates_is_wilson_s_of_as_many_answers_as_they_vary_like():
    yes = np.array([1.0, 0, 0, 1, 0, 0, 0, 1])
    assert rate_interval(yes) == pytest.approx(wilson(3, 8))
    same = np.full(20, 0.3)
    assert rate_interval(same) == pytest.approx(wilson(6, 20))
    assert rate_interval(np.zeros(5)) == pytest.approx(wilson(0, 5))
    assert np.isnan(rate_interval([0.5, np.nan])).all()
    rng = np.random.default_rng(0)
    each = rng.binomial(50, rng.beta(2, 5, size=(400, 40))) / 50
    found = np.array([rate_interval(rates) for rates in each])
    covered = ((found[:, 0] <= 2 / 7) & (found[:, 1] >= 2 / 7)).mean()
    assert 0.92 < covered < 0.98
    assert np.diff(found).mean() < np.diff(wilson(40 * 2 / 7, 40))[0] * 0.6
