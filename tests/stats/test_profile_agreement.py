"""Agreement of profiles: against scipy, by hand, and what does not exist stays NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iaside_plugins.stats.correlation import (
    normalised,
    profile_distance,
    rank_correlation,
    ranks,
    sign_agreement,
)

PROFILES = st.lists(st.integers(-4, 4), min_size=3, max_size=9)


@settings(deadline=None)
@given(PROFILES, st.integers(0, 2**31))
def test_ranks_and_their_correlation_are_scipys(values, seed):
    stats = pytest.importorskip("scipy.stats")
    other = np.random.default_rng(seed).integers(-4, 5, len(values))
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values) - 1)
    found = rank_correlation(values, other)
    if len(set(values)) == 1 or len(set(other.tolist())) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(values, other).statistic, abs=1e-12)


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
