"""The estimator with a Gaussian process: its kernel, its weights, no bias, and fewer passes."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.shapley import gaussian_process as gp
from iaside_plugins.shapley.coalitions import all_coalitions, members
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.shapley.regression import (
    draw_pairs,
    regression_shapley_values,
    with_complements,
)


def _game(n_bands: int) -> np.ndarray:
    """A game in which few bands act together, and some noise."""
    rng = np.random.default_rng(7)
    inside = all_coalitions(n_bands).astype(float)
    own = inside @ rng.normal(size=n_bands)
    return own + 3 * inside[:, :3].prod(axis=1) + 0.05 * rng.normal(size=2**n_bands)


def _logs(n_bands: int) -> np.ndarray:
    return np.append(np.random.default_rng(1).normal(-0.5, 0.5, n_bands), [0.3, -2.0])


def _estimate(run, game: np.ndarray, n_bands: int, n_pairs: int, seed: int) -> np.ndarray:
    pairs = draw_pairs(n_bands, n_pairs, np.random.default_rng(seed))
    return run(game[..., with_complements(pairs, n_bands)], pairs, n_bands)


@pytest.mark.parametrize("n_bands", [2, 5, 6])
def test_the_shapley_values_of_the_kernel_are_those_of_all_its_coalitions(n_bands):
    coalitions = all_coalitions(n_bands).astype(float)
    games = gp._kernel(coalitions, coalitions, _logs(n_bands))
    found = gp._kernel_shapley_values(coalitions, _logs(n_bands))
    for game, psi in zip(games.T, found, strict=True):
        np.testing.assert_allclose(psi, oracles.shapley_by_subsets(game), rtol=0, atol=1e-12)


def test_the_kernel_is_odd_and_a_covariance():
    coalitions = all_coalitions(5).astype(float)
    kernel = gp._kernel(coalitions, coalitions, _logs(5))
    np.testing.assert_allclose(kernel[::-1], -kernel, atol=1e-12)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)
    assert np.linalg.eigvalsh(kernel).min() > -1e-10


def test_the_gradient_is_that_of_the_likelihood():
    rng = np.random.default_rng(0)
    known = all_coalitions(5)[[3, 9, 14, 17, 22, 30, 31]].astype(float)
    values = rng.normal(size=len(known))

    def likelihood(logs: np.ndarray) -> float:
        kernel = gp._noisy(gp._kernel(known, known, logs), logs)
        scale = values @ np.linalg.solve(kernel, values)
        prior = ((logs[:-2] - gp.START) ** 2).sum() / (2 * gp.SPREAD**2)
        determinant = np.linalg.slogdet(kernel)[1]
        return float(-len(values) / 2 * np.log(scale) - determinant / 2 - prior)

    logs = _logs(5)
    steps = 1e-5 * np.eye(len(logs))
    slopes = [(likelihood(logs + step) - likelihood(logs - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gp._gradient(known, values, logs), slopes, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n_bands", [2, 3, 6, 7])
def test_exact_when_all_coalitions_are_there(n_bands):
    game = np.random.default_rng(n_bands).normal(size=2**n_bands)
    found = _estimate(
        gp.gaussian_process_shapley_values, game, n_bands, 2 ** (n_bands - 1) - 1, seed=0
    )
    np.testing.assert_allclose(found, oracles.shapley_by_subsets(game), rtol=0, atol=1e-11)


def test_unbiased_where_the_fit_alone_is_not(monkeypatch):
    monkeypatch.setattr(gp, "STEPS", 2)  # whatever the weights are
    game = np.random.default_rng(5).normal(size=2**6)  # white noise: no fit foretells it
    exact = oracles.shapley_by_subsets(game)

    def far(folds: list[np.ndarray]) -> np.ndarray:
        error = np.mean(folds, axis=0) - exact
        return abs(error) / (np.std(folds, axis=0) / np.sqrt(len(folds)))

    run = gp.gaussian_process_shapley_values
    found = [_estimate(run, game, 6, 23, seed) for seed in range(100)]
    assert (far(found) < 4).all()

    def fit_alone(values, pairs, n_bands, fit):
        odd = (values - values[::-1])[: len(pairs) + 1]
        size = members(pairs, n_bands).mean(axis=1)
        target = (odd[1:] - odd[0]) / 2 + odd[0] * size
        return fit(target, np.full(len(pairs), True))[0] - odd[0] / n_bands

    monkeypatch.setattr(gp, "cross_fitted", fit_alone)
    alone = [_estimate(run, game, 6, 23, seed) for seed in range(100)]
    assert (far(alone) > 4).any()


def test_bands_that_act_together_cost_fewer_passes_than_in_a_regression():
    game, exact = _game(10), shapley_values(_game(10))
    errors = [
        np.mean([(_estimate(run, game, 10, 100, seed) - exact) ** 2 for seed in range(6)])
        for run in (gp.gaussian_process_shapley_values, regression_shapley_values)
    ]
    assert errors[0] < 0.25 * errors[1]


@pytest.mark.parametrize("unit", [1e-3, 1e6])
def test_the_unit_of_the_values_does_not_matter(unit):
    run = gp.gaussian_process_shapley_values
    one = _estimate(run, _game(8), 8, 40, seed=0)
    np.testing.assert_allclose(_estimate(run, unit * _game(8), 8, 40, seed=0) / unit, one)


def test_a_stack_of_games_and_one_that_never_changes():
    games = np.stack([[_game(6), np.full(64, 2.0)], [-_game(6), all_coalitions(6)[:, 0]]])
    found = _estimate(gp.gaussian_process_shapley_values, games, 6, 24, seed=0)
    assert found.shape == (2, 2, 6)
    np.testing.assert_allclose(found.sum(axis=-1), games[..., -1] - games[..., 0], atol=1e-12)
    np.testing.assert_array_equal(found[0, 1], 0.0)
    np.testing.assert_allclose(found[1, 0], -found[0, 0], atol=1e-12)


def test_as_an_estimator_it_evaluates_the_coalitions_of_the_regression():
    images, labels = oracles.sample(2, (24, 24))
    fields = {"n_bands": 12, "n_coalitions": 96}
    protocol = Protocol(estimator="gaussian_process", **fields)
    found = spectral_importance(oracles.TinyNet(), (images, labels), protocol)
    other = spectral_importance(
        oracles.TinyNet(), (images, labels), Protocol(estimator="regression", **fields)
    )
    assert found.n_forward == other.n_forward == 2 * 95 + 1
    assert protocol.protocol_id != other.protocol.protocol_id
    assert abs(found.per_image - other.per_image).max() > 1e-9
    gain = found.ends[:, 1] - found.ends[:, 0]
    np.testing.assert_allclose(found.per_image.sum(axis=1), gain, rtol=0, atol=1e-12)


def test_too_few_coalitions_are_refused():
    with pytest.raises(InputError, match="even number from 64 to 256 with n_bands=8, got 62"):
        Protocol(8, estimator="gaussian_process", n_coalitions=62)
