"""Intervals where bands tie at the minimum: what they are, and how often they cover."""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import Protocol, SpectralImportance, compare, spectral_importance
from iaside_plugins.importance.ties import difference, estimate, pooled_distribution, tied_bands
from iaside_plugins.shapley.score import importance_distribution, score, signed_score
from iaside_plugins.stats.intervals import Z95, jackknife

APART = np.array([3.0, 1, 2, 0])
TIED = np.array([3.0, 0, 1, 0])


def _rows(means: np.ndarray, n: int = 100, seed: int = 1) -> np.ndarray:
    return means + 0.5 * np.random.default_rng(seed).standard_normal((n, len(means)))


def _signed(psi: np.ndarray) -> np.ndarray:
    return signed_score(importance_distribution(psi))


def _result(psi: np.ndarray) -> SpectralImportance:
    k, m = psi.shape
    ends = np.stack([0 * psi[:, 0], psi.sum(axis=1)], axis=1)
    names, ones = tuple(map(str, range(k))), np.ones(k, np.int64)
    return SpectralImportance(
        Protocol(m), psi, ends, None, ones, names, ones > 0, 2, 0, (32, 32), "float32"
    )


# ---- what they are --------------------------------------------------------------------------
@pytest.mark.parametrize("statistic", [signed_score, score])
def test_one_least_band_leaves_the_jackknife_as_it_is(statistic):
    rows = _rows(APART)
    assert tied_bands(rows) == [3]
    plain = jackknife(rows, lambda psi: statistic(importance_distribution(psi)))
    found = estimate(rows, statistic)
    for name in ("value", "se", "bias", "interval"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_tied_bands_widen_the_interval_and_nothing_else():
    rows = _rows(TIED)
    tied = tied_bands(rows)
    assert sorted(tied) == [1, 3]
    plain = jackknife(rows, _signed)
    found = estimate(rows, signed_score)
    for name in ("value", "se", "bias"):
        assert getattr(found, name) == getattr(plain, name)
    pooled = []  # the bands as one, by hand
    for k in range(len(rows)):
        psi = np.delete(rows, k, axis=0).mean(axis=0)
        least = (psi[1] + psi[3]) / 2
        shares = np.array([psi[0] - least, 0, psi[2] - least, 0])
        pooled.append(oracles.signed_score((shares / shares.sum()).tolist()))
    se = np.sqrt(99 / 100 * np.sum((pooled - np.mean(pooled)) ** 2))
    centre = float(signed_score(pooled_distribution(rows.mean(axis=0), tied)))
    ends = [*plain.interval, centre - Z95 * se, centre + Z95 * se]
    np.testing.assert_allclose(found.interval, [min(ends), max(ends)], rtol=1e-9)


def test_results_and_comparisons_give_these_intervals():
    first, second = _rows(TIED), _rows(np.array([0.0, 2, 0, 1]), seed=2)
    one, other = _result(first), _result(second)
    np.testing.assert_array_equal(one.signed_score_interval, estimate(first, signed_score).interval)
    np.testing.assert_array_equal(one.score_interval, estimate(first, score).interval)
    found = compare(one, other)
    expected = difference(first, second, signed_score)
    np.testing.assert_array_equal(found.signed_score_difference_interval, expected.interval)
    assert found.score_difference == pytest.approx(one.score - other.score, abs=1e-12)


def test_a_difference_without_ties_is_the_paired_jackknife():
    first, second = _rows(APART), _rows(APART[::-1], seed=2)
    rows = np.concatenate([first, second], axis=1)
    plain = jackknife(rows, lambda psi: _signed(psi[..., :4]) - _signed(psi[..., 4:]))
    found = difference(first, second, signed_score)
    np.testing.assert_array_equal(found.interval, plain.interval)


def test_a_difference_with_ties_reaches_over_the_paired_jackknife():
    wider = 0
    for seed in range(20):
        first, second = _rows(TIED, seed=seed), _rows(APART[::-1], seed=100 + seed)
        rows = np.concatenate([first, second], axis=1)
        plain = jackknife(rows, lambda psi: _signed(psi[..., :4]) - _signed(psi[..., 4:])).interval
        found = difference(first, second, signed_score).interval
        assert found[0] <= plain[0]
        assert found[1] >= plain[1]
        wider += bool(np.diff(found) > np.diff(plain))
    assert wider >= 5


def test_more_standard_errors_tie_more_bands():
    rows = _rows(np.array([3.0, 0.18, 2, 0]), n=100)  # a difference has a standard error of 0.07
    assert tied_bands(rows, 0.0) == [3]
    assert tied_bands(rows, 5.0) == [3, 1]
    assert tied_bands(rows, 1e9) == [3, 0, 1, 2]


def test_all_bands_tied_share_alike():
    assert pooled_distribution(np.array([1.0, 2, 3, 4]), [0, 1, 2, 3]).tolist() == [0.25] * 4
    rows = np.random.default_rng(0).standard_normal((20, 4))
    found = estimate(rows, signed_score, errors=1e9)
    assert np.isfinite(found.interval).all()


def test_a_band_below_the_pooled_minimum_gets_nothing():
    """A tied band may lie far above the least where it is noisy: shares stay shares."""
    shares = pooled_distribution(np.array([[4.0, 0.5, 0.0, 2.0]]), [2, 3])
    np.testing.assert_allclose(shares, [[1.0, 0, 0, 0]])
    assert pooled_distribution(np.array([4.0, 1, 0, 2]), [2]).tolist() == pytest.approx(
        importance_distribution([4.0, 1, 0, 2]).tolist()
    )


# ---- how often they cover -------------------------------------------------------------------
SAMPLES = 500
# Of 500 samples a 95 % interval covers 95 +- 1.0 (standard error) %; three of them is the margin.
MARGIN = 3 * np.sqrt(0.95 * 0.05 / SAMPLES)


def _coverage(population: np.ndarray, n_images: int) -> tuple[float, float]:
    """Of the signed score, by this interval and by the jackknife alone."""
    rng = np.random.default_rng(0)
    truth = float(_signed(population.mean(axis=0)))
    covered = np.zeros(2)
    for _ in range(SAMPLES):
        rows = population[rng.integers(len(population), size=n_images)]
        ends = estimate(rows, signed_score).interval, jackknife(rows, _signed).interval
        covered += [low <= truth <= high for low, high in ends]
    return tuple(covered / SAMPLES)


def _rotated(psi: np.ndarray, n_tied: int) -> np.ndarray:
    """A population whose n_tied least bands have exactly the same mean."""
    least = np.argsort(psi.mean(axis=0))[:n_tied]
    copies = [psi.copy() for _ in range(n_tied)]
    for turn, copy in enumerate(copies):
        copy[:, least] = psi[:, np.roll(least, turn)]
    return np.concatenate(copies)


@pytest.mark.parametrize("n_tied", [1, 2, 3])
def test_intervals_cover_with_and_without_ties(n_tied):
    rng = np.random.default_rng(7)
    shared = rng.standard_t(5, size=(400, 1))  # images are hard or easy in all bands
    psi = np.array([2.0, 1.5, 1.0, 0.5, 0.0, 0.3, 0.6, 0.9]) + shared
    population = _rotated(psi + 1.5 * rng.standard_normal((400, 8)), n_tied)
    found, alone = _coverage(population, 100)
    assert 0.95 - MARGIN <= found <= 0.98
    if n_tied == 3:
        assert alone < 0.92 < found, "the jackknife alone must be what is mended"


@pytest.fixture(scope="module")
def real(kit):
    """Shapley values of every lossless CIFAR-10 image of the kit under a trained network."""
    spec = importlib.util.spec_from_file_location("ties_tests_kit", kit / "kit.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    name = "c10_resnet2b_adv"
    record = next(
        model
        for model in json.loads((kit / "models.json").read_text())["models"]
        if model["name"] == name
    )
    mean, std = (torch.tensor(record[key]).view(3, 1, 1) for key in ("mean", "std"))
    with warnings.catch_warnings():  # its loader leaves its files to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        net = loader.load(name)
        data = list(loader.batches(name))
    found = spectral_importance(lambda x: net((x - mean) / std), data, batch_size=256)
    return found.per_image


@pytest.mark.kit
@pytest.mark.parametrize("n_images", [50, 200])
@pytest.mark.parametrize("n_tied", [1, 2, 3])
def test_intervals_cover_on_a_real_value_table(real, n_tied, n_images):
    found, _ = _coverage(_rotated(real, n_tied), n_images)
    assert 0.95 - MARGIN <= found <= 0.98


def test_saved_results_keep_their_intervals(tmp_path):
    one = _result(_rows(TIED))
    one.save(tmp_path / "one.npz")
    np.testing.assert_array_equal(
        SpectralImportance.load(tmp_path / "one.npz").score_interval, one.score_interval
    )
    assert replace(one, per_image=_rows(APART)).tied_bands == [3]
