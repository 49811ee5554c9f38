"""Shapley values: the axioms, the definition over all orders, and the sampled estimate."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iaside_plugins.shapley.coalitions import all_coalitions, chain_coalitions, cyclic_chains
from iaside_plugins.shapley.exact import (
    chain_shapley_values,
    interactions,
    n_bands_of,
    shapley_values,
)

# Nats of real models lie within +-50; rounding of 32 of them in double is below 1e-13.
nats = st.floats(-50, 50, allow_subnormal=False)
TIGHT = 1e-12


@st.composite
def games(draw, most: int = 5):
    """A game: the values of all coalitions of 2 to `most` bands."""
    return draw(arrays(np.float64, 2 ** draw(st.integers(2, most)), elements=nats))


def _random_game(n_bands: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=2**n_bands)


@given(games())
def test_equal_to_the_mean_over_all_orders(values):
    np.testing.assert_allclose(
        shapley_values(values), oracles.shapley_by_orders(values), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("n_bands", range(1, 9))
def test_equal_to_the_sum_over_subsets(n_bands):
    values = _random_game(n_bands)
    expected = oracles.shapley_by_subsets(values)
    np.testing.assert_allclose(shapley_values(values), expected, rtol=0, atol=TIGHT)


@given(games(6))
def test_efficiency(values):
    assert shapley_values(values).sum() == pytest.approx(values[-1] - values[0], abs=TIGHT * 10)


@given(games(6), st.data())
def test_symmetry_under_renaming_the_bands(values, data):
    m = n_bands_of(values)
    order = np.array(data.draw(st.permutations(range(m))))
    renamed = (all_coalitions(m) @ (1 << order)).astype(int)  # band i is called order[i]
    np.testing.assert_allclose(
        shapley_values(values[renamed]), shapley_values(values)[order], rtol=0, atol=TIGHT
    )


@given(games(6), st.data())
def test_two_interchangeable_bands_get_the_same(values, data):
    m = n_bands_of(values)
    i, j = data.draw(st.permutations(range(m)))[:2]
    inside = all_coalitions(m)
    swapped = inside.copy()
    swapped[:, [i, j]] = inside[:, [j, i]]
    even = (values + values[swapped @ (1 << np.arange(m))]) / 2
    psi = shapley_values(even)
    assert psi[i] == pytest.approx(psi[j], abs=TIGHT)


@given(games(6), st.data())
def test_a_null_player_gets_nothing(values, data):
    m = n_bands_of(values)
    null = data.draw(st.integers(0, m - 1))
    without = np.arange(2**m) & ~(1 << null)
    assert shapley_values(values[without])[null] == 0  # exactly: only differences enter


@given(games(5), st.floats(-3, 3), st.floats(-3, 3))
def test_linearity(values, a, b):
    other = _random_game(n_bands_of(values), 1)
    mixed = shapley_values(a * values + b * other)
    expected = a * shapley_values(values) + b * shapley_values(other)
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=TIGHT * 10)


@pytest.mark.parametrize("n_bands", [2, 6, 8])
def test_a_constant_game_gives_exactly_nothing(n_bands):
    """Rounding left in 0/0 would otherwise make up an importance distribution."""
    assert shapley_values(np.full(2**n_bands, -np.log(3))).tolist() == [0.0] * n_bands


@pytest.mark.parametrize("n_bands", [3, 12])
def test_an_additive_game_gives_each_band_its_own(n_bands):
    own = np.random.default_rng(2).normal(size=n_bands)
    psi = shapley_values(all_coalitions(n_bands) @ own - 3.0)
    np.testing.assert_allclose(psi, own, rtol=0, atol=1e-11)  # sums of 4096 terms


def test_rows_of_many_images_are_each_their_own():
    table = np.random.default_rng(3).normal(size=(7, 16))
    psi = shapley_values(table)
    assert psi.shape == (7, 4)
    for row, expected in zip(table, psi, strict=True):
        np.testing.assert_allclose(shapley_values(row), expected, rtol=0, atol=TIGHT)
    np.testing.assert_allclose(psi.mean(0), shapley_values(table.mean(0)), rtol=0, atol=TIGHT)


@pytest.mark.parametrize("n_bands", range(2, 7))
def test_interactions_equal_the_double_loop(n_bands):
    values = _random_game(n_bands, 4)
    found = interactions(values)
    np.testing.assert_allclose(found, oracles.interactions(values), rtol=0, atol=TIGHT)
    np.testing.assert_array_equal(found, found.T)


def test_interactions_of_known_games():
    inside = all_coalitions(4)
    additive = interactions(inside @ np.array([1.0, 2, 3, 4]))
    np.testing.assert_allclose(additive, np.diag([1.0, 2, 3, 4]), atol=1e-14)
    together = interactions(inside[:, 0] & inside[:, 1])  # worth 1 only together: synergy
    assert together[0, 1] == pytest.approx(1)
    either = interactions(inside[:, 0] | inside[:, 1])  # either is enough: redundancy
    assert either[0, 1] == pytest.approx(-1)


@given(games(6), st.integers(1, 8), st.integers(0, 1000))
def test_every_chain_estimate_is_efficient(values, n_permutations, seed):
    m = n_bands_of(values)
    chains = cyclic_chains(m, n_permutations, np.random.default_rng(seed))
    psi = chain_shapley_values(values[chain_coalitions(chains)], chains)
    assert psi.sum() == pytest.approx(values[-1] - values[0], abs=1e-11)


@pytest.mark.parametrize("n_permutations", [1, 3, 5])
def test_the_chain_estimate_is_unbiased(n_permutations):
    values = _random_game(5, 6)
    estimates = []
    for seed in range(3000):
        chains = cyclic_chains(5, n_permutations, np.random.default_rng(seed))
        estimates.append(chain_shapley_values(values[chain_coalitions(chains)], chains))
    se = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    error = np.mean(estimates, axis=0) - oracles.shapley_by_subsets(values)
    assert (se > 0).all()
    # five bands at 4 standard errors: a fair estimator fails one such test in 3000
    assert (abs(error) < 4 * se).all()


def test_the_chain_estimate_of_two_bands_is_exact():
    values = _random_game(2, 7)
    chains = cyclic_chains(2, 1, np.random.default_rng(0))  # both orders there are
    psi = chain_shapley_values(values[chain_coalitions(chains)], chains)
    np.testing.assert_allclose(psi, shapley_values(values), rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [0, 1, 3, 12])
def test_a_table_of_another_length_is_refused(size):
    with pytest.raises(ValueError, match=f"entries, got {size}"):
        shapley_values(np.zeros(size))
