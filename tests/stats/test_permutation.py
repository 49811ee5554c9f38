"""Resamples, permutation tests and corrections against slow versions of their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from iaside_plugins.stats import permutation as draw
from iaside_plugins.stats.correlation import Array, partial_correlation, pearson


def test_families_are_drawn_whole_and_as_many_as_there_are() -> None:
    families = ["b", "a", "b", "c", "a"]
    counts = draw.family_counts(families, 3000, seed=1)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.08)  # 4 standard errors and more
    assert (draw.family_counts(families, 3000, seed=1) == counts).all()
    assert (draw.family_counts(families, 3000, seed=2) != counts).any()


def test_every_order_comes_as_often() -> None:
    orders = draw.permutations(9, 6000, seed=0)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    for place in range(9):  # 667 expected, standard deviation 24
        assert np.unique(orders[:, place], return_counts=True)[1].min() > 560


@pytest.mark.parametrize("n", [3, 8])
def test_all_orders_of_few_models(n: int) -> None:
    orders = draw.permutations(n, 10, seed=0)
    assert len(np.unique(orders, axis=0)) == len(orders) == math.factorial(n)


def test_permutation_p_is_the_exact_one() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 1, 4, 3, 6, 5])
    exact = stats.permutation_test(
        (x,),
        lambda a: stats.pearsonr(a, y).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
    )
    every = np.array(list(itertools.permutations(range(6))))
    drawn = pearson(x[every], y, np.ones(every.shape))
    assert draw.permutation_p(exact.statistic, drawn, exact=True) == pytest.approx(exact.pvalue)
    # of random orders the sample counts once more
    expected = (exact.pvalue * 720 + 1) / 721
    assert draw.permutation_p(exact.statistic, drawn) == pytest.approx(expected)
    assert draw.permutation_p(0.9, [np.nan, 0.1, -0.95]) == pytest.approx(2 / 3)
    assert draw.permutation_p(1.0, []) == 1


def test_freedman_lane_is_the_definition() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=10)
    x, y = z + rng.normal(size=10), z - rng.normal(size=10)
    orders = np.array([np.arange(10), *(rng.permutation(10) for _ in range(5))])
    design = np.stack([np.ones(10), z], axis=1)
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    expected = [
        partial_correlation(pearson, x, fitted + (y - fitted)[order], z, np.ones((1, 10)))[0]
        for order in orders
    ]
    found = draw.freedman_lane(x, y, z, orders)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0] == pytest.approx(partial_correlation(pearson, x, y, z, np.ones((1, 10)))[0])


def test_residuals_of_a_constant_are_those_of_the_mean() -> None:
    assert draw.residuals(np.array([1.0, 2, 6]), np.full(3, 0.5)).tolist() == [-2, -1, 3]


def test_holm_is_the_stepwise_rule() -> None:
    p = [0.01, None, 0.04, 0.03, 0.5, 0.04]
    assert draw.holm(p) == pytest.approx([0.05, None, 0.12, 0.12, 0.5, 0.12])
    assert draw.holm([0.9, 0.8]) == [1, 1]
    assert draw.holm([]) == []
    assert draw.holm([None]) == [None]


def test_leave_one_family_out_is_the_definition() -> None:
    rng = np.random.default_rng(3)
    x, z = rng.normal(size=(2, 12))
    y = 2 * z - x + 0.1 * rng.normal(size=12)
    families = [f"f{k % 4}" for k in range(12)]
    errors = baseline = 0.0
    for name in set(families):
        seen = [k for k in range(12) if families[k] != name]
        fit = stats.linregress(z[seen], y[seen])
        for k in set(range(12)) - set(seen):
            errors += (y[k] - fit.intercept - fit.slope * z[k]) ** 2
            baseline += (y[k] - np.mean(y[seen])) ** 2
    assert draw.leave_one_family_out([z], y, families) == pytest.approx(1 - errors / baseline)
    assert draw.leave_one_family_out([z, x], y, families) > 0.98
    assert draw.leave_one_family_out([], y, families) == pytest.approx(0)
    assert np.isnan(draw.leave_one_family_out([z], np.zeros(12), families))


def one_by_one(x: Array, y: Array, z: Array, orders: Array) -> Array:
    """The partial correlations under the null hypothesis, written out."""
    fit = y - draw.residuals(y, z)
    return np.array(
        [
            partial_correlation(pearson, x, fit + (y - fit)[order], z, np.ones((1, len(x))))[0]
            for order in orders
        ]
    )


@pytest.mark.parametrize(("n", "levels"), [(12, 1000), (40, 5), (40, 1000), (5, 1000)])
def test_permuted_partial_correlations_are_those_of_whole_columns(n: int, levels: int) -> None:
    x, y, z = np.random.default_rng(n).integers(levels, size=(3, n)) / 7
    orders = draw.permutations(n, 60, seed=1)
    found = draw.freedman_lane(x, y, z, orders)
    np.testing.assert_allclose(found, one_by_one(x, y, z, orders), atol=1e-9)


def test_products_of_permuted_columns_do_not_depend_on_the_step() -> None:
    x, y, z = np.random.default_rng(0).normal(size=(3, 30))
    orders = draw.permutations(30, 50, seed=0)
    found = draw.permuted_products(x, orders, (y, z), step=7)
    np.testing.assert_allclose(found, x[orders] @ np.stack([y, z], axis=1), atol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "one family decides the line", "the same column twice"])
def test_a_family_left_out_is_predicted_by_the_fit_without_it(kind: str) -> None:
    rng = np.random.default_rng(3)
    families = [f"family {k // 4}" for k in range(20)]
    z, x = rng.normal(size=(2, 20))
    y = z + 0.5 * x + rng.normal(size=20)
    if kind == "one family decides the line":
        z[4:] = 1.0
    columns = [z, z] if kind == "the same column twice" else [z, x]
    design = np.stack([np.ones(20), *columns], axis=1)
    errors = baseline = 0.0
    for family in set(families):
        out = np.array([name == family for name in families])
        weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
        errors += ((y[out] - design[out] @ weights) ** 2).sum()
        baseline += ((y[out] - y[~out].mean()) ** 2).sum()
    found = draw.leave_one_family_out(columns, y, families)
    assert found == pytest.approx(1 - errors / baseline, rel=1e-9)
