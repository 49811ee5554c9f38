"""Forecasts: the multilinear extension against its definition, its axioms, and planted games."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, SpectralImportance, spectral_importance
from iaside_plugins.importance.forecast import (
    Forecast,
    coalition_chances,
    forecast,
    mean_forecast,
    survival,
)
from iaside_plugins.spectra.perturbation import perturbation_spectrum

M = 4
RNG = np.random.default_rng(0)
HITS = RNG.random((7, 2**M)) < 0.6
WEIGHTS = np.array([0.9, 0.0, 0.35, 1.0])


def extension(hits: np.ndarray, weights: np.ndarray) -> float:
    """One image's forecast accuracy: every coalition, every band, in float64."""
    total = 0.0
    for members in itertools.product((False, True), repeat=len(weights)):
        column = sum(2**i for i, there in enumerate(members) if there)
        chance = 1.0
        for weight, there in zip(weights, members, strict=True):
            chance *= weight if there else 1 - weight
        total += chance * float(hits[column])
    return total


def additive(gains: np.ndarray) -> np.ndarray:
    """Hits of 1000 images whose accuracy is the sum of the gains of the bands that are there."""
    columns = np.arange(2 ** len(gains))
    accuracy = sum(g * (columns >> i & 1) for i, g in enumerate(gains))
    return np.arange(1000)[:, None] < 1000 * accuracy[None] - 1e-6


@pytest.fixture(scope="module")
def result() -> SpectralImportance:
    return spectral_importance(oracles.TinyNet(), oracles.sample(12, (16, 16)), Protocol(M))


# ---- the extension ---------------------------------------------------------------------------
def test_it_is_the_sum_over_coalitions():
    found = forecast(HITS, WEIGHTS)
    expected = [1 - extension(row, WEIGHTS) for row in HITS]
    np.testing.assert_allclose(found.per_image, expected, atol=1e-15)
    assert found.error == pytest.approx(np.mean(expected))
    assert coalition_chances(WEIGHTS).sum() == pytest.approx(1)


@pytest.mark.parametrize(("weight", "column"), [(1.0, -1), (0.0, 0)])
def test_all_or_no_bands_give_the_grand_or_the_empty_coalition(weight, column):
    found = forecast(HITS, np.full(M, weight))
    np.testing.assert_array_equal(found.per_image, 1 - HITS[:, column])


@pytest.mark.parametrize("band", range(M))
def test_it_is_linear_in_every_weight(band):
    at = [WEIGHTS.copy() for _ in range(3)]
    for weights, value in zip(at, (0.1, 0.5, 0.9), strict=True):
        weights[band] = value
    low, middle, high = (forecast(HITS, weights).per_image for weights in at)
    np.testing.assert_allclose(middle, (low + high) / 2, atol=1e-15)


def test_in_an_additive_game_the_bands_give_their_weighted_shares():
    gains = np.array([0.5, 0.25, 0.125, 0.125])
    found = forecast(additive(gains), WEIGHTS)
    assert found.error == pytest.approx(1 - gains @ WEIGHTS, abs=1e-12)


def test_a_band_that_decides_alone_is_the_whole_forecast():
    hits = np.tile((np.arange(2**M) >> 2 & 1).astype(bool), (3, 1))
    np.testing.assert_allclose(forecast(hits, WEIGHTS).per_image, 1 - WEIGHTS[2])


def test_survival():
    np.testing.assert_allclose(survival([1, 3, 0, 5, 0], [1, 1, 5, 0, 0]), [0.5, 0.75, 0, 1, 1])


# ---- its interval and means ------------------------------------------------------------------
def test_the_interval_counts_half_an_image_more_and_stays_in_range():
    found = forecast(HITS, WEIGHTS)
    x = found.per_image
    half = 1.959964 * np.sqrt((((x - x.mean()) ** 2).sum() + 0.5) / (len(x) - 1) / len(x))
    expected = np.clip([x.mean() - half, x.mean() + half], 0, 1)
    np.testing.assert_allclose(found.interval, expected, rtol=1e-6)
    never = Forecast(np.zeros(50), np.ones(M))
    assert never.interval[0] == 0 < never.interval[1] < 0.05
    assert np.isnan(Forecast(np.zeros(1), np.ones(M)).interval).all()
    assert "0.0% [0.0%, 2.8%], 50 images" in repr(never)


def test_a_mean_is_paired_over_images():
    first, second = forecast(HITS, WEIGHTS), forecast(HITS, 1 - WEIGHTS)
    both = mean_forecast([first, second])
    np.testing.assert_allclose(both.per_image, (first.per_image + second.per_image) / 2)
    np.testing.assert_allclose(both.survival, 0.5)
    with pytest.raises(InputError, match=r"same images, got numbers of images \[6, 7\]"):
        mean_forecast([first, forecast(HITS[1:], WEIGHTS)])
    with pytest.raises(InputError, match="same images"):
        mean_forecast([])


# ---- of a result -----------------------------------------------------------------------------
def test_a_result_forecasts_from_a_spectrum(result):
    images, _ = oracles.sample(12, (16, 16))
    noise = 0.3 * oracles.sample(12, (16, 16), seed=1)[0]
    spectrum = perturbation_spectrum(images, images + noise, n_bands=M)
    weights = [
        s / (s + n) for s, n in zip(spectrum.clean_energy.value, spectrum.energy.value, strict=True)
    ]
    found = result.forecast(spectrum)
    expected = np.mean([extension(row, np.array(weights)) for row in result.hits])
    assert found.error == pytest.approx(1 - expected, abs=1e-12)
    # Of finer bands that add up, the same.
    fine = perturbation_spectrum(images, images + noise, n_bands=8)
    assert result.forecast(fine).error == pytest.approx(found.error, abs=1e-12)


def test_next_to_no_noise_is_the_clean_error(result):
    images = oracles.sample(12, (16, 16))[0].double()  # single precision would round it away
    spectrum = perturbation_spectrum(images, images + 1e-9, n_bands=M)
    assert result.forecast(spectrum).error == pytest.approx(1 - result.clean_accuracy, abs=1e-6)


def test_what_gives_no_forecast_is_refused(result):
    images, labels = oracles.sample(12, (16, 16))
    spectrum = perturbation_spectrum(images, images + 0.1, n_bands=3)
    with pytest.raises(InputError, match="in 3 chebyshev bands does not add up to 4 chebyshev"):
        result.forecast(spectrum)
    other = perturbation_spectrum(images[..., :12], images[..., :12] + 0.1, n_bands=M)
    with pytest.raises(InputError, match="images of 16 x 12, the model's are 16 x 16"):
        result.forecast(other)
    nothing = perturbation_spectrum(images, images, n_bands=M)
    with pytest.raises(InputError, match="of no images"):
        result.forecast(nothing)
    sampled = Protocol(M, estimator="permutation")
    with pytest.raises(InputError, match="estimator='exact', got estimator='permutation'"):
        spectral_importance(oracles.TinyNet(), (images, labels), sampled).forecast(spectrum)
    with pytest.raises(InputError, match="earlier versions lack: run again"):
        replace(result, hits=None).forecast(spectrum)
    boxes = replace(result, protocol=Protocol.reference(n_bands=M))
    with pytest.raises(InputError, match="band_norm=chebyshev or euclidean, got boxes"):
        boxes.forecast(spectrum)
