"""Coalition indices: bit i is band i; chains visit from the empty to the grand coalition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins.shapley.coalitions import (
    all_coalitions,
    chain_coalitions,
    cyclic_chains,
    members,
)


def test_bit_order_is_band_order():
    rows = all_coalitions(3).tolist()
    assert rows[0] == [False, False, False]
    assert rows[1] == [True, False, False]
    assert rows[4] == [False, False, True]
    assert rows[6] == [False, True, True]
    assert rows[7] == [True, True, True]


@given(st.integers(1, 12))
def test_every_coalition_comes_once_and_indexes_itself(n_bands):
    rows = all_coalitions(n_bands)
    assert rows.shape == (2**n_bands, n_bands)
    np.testing.assert_array_equal(rows @ (1 << np.arange(n_bands)), np.arange(2**n_bands))


def test_members_takes_any_shape_and_many_bands():
    assert members(np.array([[0, 1], [2, 3]]), 2).shape == (2, 2, 2)
    assert members(np.array(2**32 - 1), 32).all()
    assert members(np.array(2**31), 32).tolist() == [False] * 31 + [True]


@given(st.integers(2, 32), st.integers(1, 70), st.integers(0, 1000))
def test_chains_are_permutations_each_followed_by_its_reverse(n_bands, n_permutations, seed):
    chains = cyclic_chains(n_bands, n_permutations, np.random.default_rng(seed))
    assert chains.shape == (2 * n_permutations, n_bands)
    np.testing.assert_array_equal(
        np.sort(chains, axis=1), np.tile(np.arange(n_bands), (2 * n_permutations, 1))
    )
    np.testing.assert_array_equal(chains[::2], chains[1::2, ::-1])


@pytest.mark.parametrize("n_bands", [2, 5, 8])
def test_a_full_cycle_puts_every_band_equally_often_in_every_place(n_bands):
    chains = cyclic_chains(n_bands, n_bands, np.random.default_rng(0))
    for place in range(n_bands):
        assert np.bincount(chains[:, place]).tolist() == [2] * n_bands


def test_a_new_cycle_starts_from_a_new_permutation():
    chains = cyclic_chains(8, 16, np.random.default_rng(0))[::2]
    rotated = [np.roll(chain, -int(np.argmin(chain))).tolist() for chain in chains]
    assert all(turn == rotated[0] for turn in rotated[:8])
    assert all(turn == rotated[8] for turn in rotated[8:])
    assert rotated[0] != rotated[8]


def test_chains_pass_from_the_empty_to_the_grand_coalition():
    visited = chain_coalitions(np.array([[2, 0, 1], [0, 1, 2]]))
    assert visited.tolist() == [[0, 4, 5, 7], [0, 1, 3, 7]]
    top = chain_coalitions(np.arange(32)[None])
    assert int(top[0, -1]) == 2**32 - 1
