"""Importance distribution and score: the formulas, the stated facts, the edges."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iaside_plugins.shapley.score import importance_distribution, score, score_range, signed_score

psis = st.integers(2, 12).flatmap(
    lambda m: arrays(np.float64, m, elements=st.floats(-50, 50), unique=True)
)
betas = st.floats(0.05, 0.95)


@given(psis)
def test_distribution_equals_the_formula(psi):
    p = importance_distribution(psi)
    np.testing.assert_allclose(p, oracles.distribution(psi.tolist()), rtol=0, atol=1e-12)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p.min() == 0
    assert p.argmin() == psi.argmin()


@given(psis, betas)
def test_score_equals_the_formula(psi, beta):
    p = oracles.distribution(psi.tolist())
    expected = oracles.signed_score(p, beta)
    # the denominator |1 - eta| is at least 0.01 for these beta: rounding grows a hundredfold
    assert signed_score(p, beta) == pytest.approx(expected, abs=1e-11)
    assert score(p, beta) == pytest.approx(abs(expected), abs=1e-11)
    low, high = score_range(len(p), beta)
    assert low - 1e-11 <= expected <= high + 1e-11


def test_the_stated_facts_for_eight_bands():
    weights = 0.75 ** np.arange(8)
    eta = weights.sum() / (8 * np.linalg.norm(weights))
    ends = np.eye(8)
    # The three figures of the method's notes, to the digits given there.
    assert score(ends[0]) == pytest.approx(0.522, abs=5e-4)
    assert score(ends[7]) == pytest.approx(0.300, abs=6e-4)
    assert signed_score(ends[7]) == -score(ends[7])
    assert score_range(8) == (pytest.approx(-0.300, abs=6e-4), pytest.approx(0.522, abs=5e-4))
    assert score(np.full(8, 1 / 8)) == pytest.approx(0, abs=1e-15)
    assert eta == pytest.approx(0.2991, abs=5e-5)


def test_more_weight_on_low_bands_scores_higher():
    falling = importance_distribution([4, 3, 2, 1])
    assert signed_score(falling) > 0 > signed_score(falling[::-1])


@pytest.mark.parametrize("psi", [[0.0, 0.0, 0.0, 0.0], [-1.5, -1.5], [3.0] * 8])
def test_equal_values_share_alike_and_score_nothing(psi):
    p = importance_distribution(psi)
    np.testing.assert_allclose(p, 1 / len(psi))
    assert score(p) == pytest.approx(0, abs=1e-15)


def test_stacks_are_scored_row_by_row():
    rows = np.random.default_rng(0).normal(size=(5, 3, 8))
    rows[2, 1] = 1.0  # a uniform row among others
    p = importance_distribution(rows)
    assert p.shape == rows.shape
    assert signed_score(p).shape == (5, 3)
    np.testing.assert_allclose(p[4, 2], importance_distribution(rows[4, 2]))
    np.testing.assert_allclose(p[2, 1], 1 / 8)
    assert signed_score(p)[4, 2] == pytest.approx(float(signed_score(p[4, 2])))


@given(psis, st.floats(0.1, 10), st.floats(-10, 10))
def test_distribution_ignores_scale_and_shift(psi, scale, shift):
    moved = importance_distribution(scale * psi + shift)
    gap = np.ptp(psi)
    # cancellation: rounding of values up to 510, relative to the spread
    np.testing.assert_allclose(
        moved, importance_distribution(psi), rtol=0, atol=1e-11 / gap + 1e-12
    )
