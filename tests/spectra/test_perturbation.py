"""Perturbation spectra: a slow oracle, closed forms, white noise, and what is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.spectra.perturbation import perturbation_spectrum
from iaside_plugins.spectral.energy import band_energies
from iaside_plugins.spectral.partition import SpectralPartition


def images(n: int, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator, dtype=torch.float64)


def noise(x: Tensor, seed: int = 1) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def radius(ky: int, kx: int, height: int, width: int, norm: str) -> float:
    """Radial frequency of one bin as a fraction of Nyquist, from the definition."""
    fy, fx = min(ky, height - ky) / (height / 2), min(kx, width - kx) / (width / 2)
    return max(fy, fx) if norm == "chebyshev" else ((fy**2 + fx**2) / 2) ** 0.5


@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_energies_and_snr_bin_by_bin(norm, size):
    """The slow oracle: every bin of every image by the sum that defines the DFT."""
    height, width = size
    n_bands = 3
    x = images(4, 2, height, width)
    y = x + 0.1 * noise(x)
    y_axis, x_axis = np.arange(height), np.arange(width)
    energy = np.zeros((2, 4, n_bands))
    for which, stack in enumerate((x.numpy(), (y - x).numpy())):
        for ky in range(height):
            for kx in range(width):
                band = min(int(radius(ky, kx, height, width, norm) * n_bands + 1e-12), n_bands - 1)
                wave = np.exp(-2j * np.pi * (ky * y_axis[:, None] / height + kx * x_axis / width))
                power = np.abs((stack * wave).sum(axis=(2, 3))) ** 2 / (height * width)
                energy[which, :, band] += power.sum(axis=1)
    found = perturbation_spectrum(x, y, n_bands=n_bands, norm=norm)
    np.testing.assert_allclose(found.per_image[:, :n_bands], energy[0], rtol=1e-10)
    np.testing.assert_allclose(found.per_image[:, n_bands : 2 * n_bands], energy[1], rtol=1e-10)
    snr = 10 * np.log10(energy[0].mean(axis=0) / energy[1].mean(axis=0))
    np.testing.assert_allclose(found.snr_db.value, snr, rtol=1e-10)
    total = 10 * np.log10(energy[0].sum() / energy[1].sum())
    assert float(found.overall_snr_db.value) == pytest.approx(total, rel=1e-10)


def test_energies_are_squared_pixels():
    x = images(3, 3, 16, 16)
    y = x + noise(x)
    rows = band_energies(x, y, SpectralPartition(4))
    squares = [part.square().sum(dim=(1, 2, 3)).numpy() for part in (x, y - x)]
    np.testing.assert_allclose(rows[:, :4].sum(axis=1), squares[0], rtol=1e-12)
    np.testing.assert_allclose(rows[:, 4:8].sum(axis=1), squares[1], rtol=1e-12)
    means = [part.mean(dim=(2, 3)).square().sum(dim=1).numpy() * 256 for part in (x, y - x)]
    np.testing.assert_allclose(rows[:, 8:].T, means, rtol=1e-9)


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_white_noise_is_flat_per_frequency_at_equal_norm(kind):
    x = images(80, 3, 32, 32)
    white = noise(x) if kind == "gaussian" else images(80, 3, 32, 32, seed=5) - 0.5
    white *= 2 / torch.linalg.vector_norm(white, dim=(1, 2, 3), keepdim=True)
    found = perturbation_spectrum(x, x + white)
    variance = 4 / (3 * 32 * 32)
    density = found.density
    assert (density.interval[:, 0] < 1.03 * variance).all()
    assert (density.interval[:, 1] > 0.97 * variance).all()
    np.testing.assert_allclose(density.value[1:], variance, rtol=0.03)  # band 0 has 9 bins only
    slope, (low, high) = found.density_fit.value[0], found.density_fit.interval[0]
    assert low < 0 < high
    assert abs(slope) < 0.05
    # Band totals are not flat: wide rings have more frequencies.
    np.testing.assert_allclose(found.share.value, found.n_bins / 1024, rtol=0.1)
    assert found.energy.value[7] > 20 * found.energy.value[0]


def planted(exponent: float, n: int = 6, side: int = 16, seed: int = 0) -> Tensor:
    """Images whose energy at every frequency is exactly a power of its chebyshev radius."""
    white = torch.fft.fft2(noise(torch.empty(n, 2, side, side), seed=seed))
    k = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64).abs()
    ring = torch.maximum(k[:, None], k[None, :])
    ring[0, 0] = 1  # DC is not part of the law
    return torch.fft.ifft2(white / white.abs() * ring ** (exponent / 2)).real


def test_a_planted_power_law_is_found_exactly():
    clean, perturbation = planted(-2), planted(0.5, seed=3)
    # Rings of one radius each, but the last: no frequency within a band stands for another.
    exact = perturbation_spectrum(clean, clean + perturbation, n_bands=8)
    np.testing.assert_allclose(exact.frequencies[1:7], range(1, 7), rtol=1e-12)
    assert exact.n_bins[0] == 1
    assert np.isnan(exact.frequencies[0])
    assert exact.slope == pytest.approx(-2.5, abs=0.02)  # the last band holds radii 7 and 8
    assert exact.clean_fit.value[0] == pytest.approx(-2, abs=0.02)
    assert exact.density_fit.value[0] == pytest.approx(0.5, abs=0.02)
    assert exact.snr_fit.value[2] > 0.999
    # log SNR is log signal - log noise, and so are the slopes of one regression
    assert exact.slope == pytest.approx(
        exact.clean_fit.value[0] - exact.density_fit.value[0], abs=1e-10
    )


def test_snr_is_a_ratio_of_means_not_a_mean_of_ratios():
    x = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    x[0], x[1] = 1.0, 3.0
    delta = torch.tensor([1.0, 0.5], dtype=torch.float64).view(2, 1, 1, 1).expand_as(x)
    found = perturbation_spectrum(x, x + delta, n_bands=2)
    assert found.snr_db.value[0] == pytest.approx(10 * np.log10((1 + 9) / (1 + 0.25)), rel=1e-12)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(found.snr_db.value[1])  # neither signal nor noise there


def test_a_stronger_perturbation_shifts_the_snr_and_keeps_the_slope():
    x, delta = images(5, 3, 16, 16), noise(images(5, 3, 16, 16))
    once, twice = (perturbation_spectrum(x, x + k * delta, n_bands=4) for k in (0.1, 0.2))
    np.testing.assert_allclose(once.snr_db.value - twice.snr_db.value, 20 * np.log10(2), rtol=1e-9)
    assert once.slope == pytest.approx(twice.slope, abs=1e-9)


def test_intervals_are_a_jackknife_over_images():
    x = images(7, 1, 8, 8)
    y = x + 0.3 * noise(x)
    found = perturbation_spectrum(x, y, n_bands=2)
    leave_out = []
    for k in range(7):
        keep = [j for j in range(7) if j != k]
        leave_out.append(perturbation_spectrum(x[keep], y[keep], n_bands=2).snr_db.value)
    centre = np.mean(leave_out, axis=0)
    se = np.sqrt(6 / 7 * np.sum((np.array(leave_out) - centre) ** 2, axis=0))
    np.testing.assert_allclose(np.diff(found.snr_db.interval)[:, 0], 2 * 1.959964 * se, rtol=1e-6)


def test_failed_and_unchanged_images_are_left_out_and_counted():
    x = images(6, 3, 16, 16)
    y = x + 0.1 * noise(x)
    y[4] = x[4]
    mask = torch.tensor([True, False, True, True, True, False])
    found = perturbation_spectrum(x, y, mask, n_bands=4)
    assert (found.n_images, found.n_failed, found.n_unchanged) == (3, 2, 1)
    alone = perturbation_spectrum(x[[0, 2, 3]], y[[0, 2, 3]], n_bands=4)
    np.testing.assert_array_equal(found.snr_db.value, alone.snr_db.value)
    assert found.to_dict()["n_failed"] == 2


def test_images_in_different_orders_are_said(caplog):
    x = images(8, 3, 12, 12)
    perturbation_spectrum(x, x + 0.1 * noise(x), n_bands=3)
    assert not caplog.messages
    perturbation_spectrum(x, x.flip(0) + 0.1 * noise(x), n_bands=3)
    assert "8 of 8 images under the perturbation are more like the clean image of" in caplog.text


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_give_nan_not_an_error(n):
    x = images(2, 3, 16, 16)
    found = perturbation_spectrum(x, x + 0.1, np.arange(2) < n, n_bands=4)
    assert found.n_images == n
    assert np.isnan(found.slope_interval).all()
    assert np.isnan(found.snr_db.value).all() == (n == 0)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_band_that_is_left_alone_has_infinite_snr_and_stays_out_of_the_fit():
    x = images(4, 1, 16, 16)
    wave = torch.cos(2 * torch.pi * 5 * torch.arange(16, dtype=torch.float64) / 16)
    found = perturbation_spectrum(x, x + wave, n_bands=4)
    assert found.share.value[2] == pytest.approx(1)
    assert (found.snr_db.value[[0, 1, 3]] > 250).all()  # rounding of float64, or nothing at all
    json.dumps(found.to_dict(), allow_nan=False)


def test_precision_of_the_images_does_not_matter_beyond_their_own_rounding():
    x = images(4, 3, 16, 16).float()
    y = x + 0.1 * noise(x).float()
    single, double = perturbation_spectrum(x, y), perturbation_spectrum(x.double(), y.double())
    np.testing.assert_array_equal(single.per_image, double.per_image)
    array = perturbation_spectrum(x.numpy(), y.numpy())
    np.testing.assert_array_equal(array.per_image, double.per_image)


def test_frame_and_dict_say_the_same():
    x = images(5, 3, 16, 16)
    found = perturbation_spectrum(x, x + 0.1 * noise(x), n_bands=4)
    frame = found.to_frame()
    assert list(frame["band"]) == [0, 1, 2, 3]
    assert frame["n_bins"].sum() == 256
    assert frame["share"].sum() == pytest.approx(1)
    assert (frame["snr_db_low"] < frame["snr_db"]).all()
    data = found.to_dict()
    assert data["snr_fit"]["slope"] == found.slope
    assert [band["snr_db"] for band in data["bands"]] == list(found.snr_db.value)


GOOD = images(3, 3, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((GOOD, GOOD[:2]), InputError, r"one shape, got \(3, 3, 16, 16\) and \(2, 3, 16, 16\)"),
        ((GOOD[0], GOOD[0]), InputError, r"shape \(N, C, H, W\), got \(3, 16, 16\)"),
        ((GOOD.int(), GOOD.int()), InputTypeError, r"floating-point images, got torch\.int32"),
        ((GOOD, GOOD * torch.nan), InputError, "not finite"),
        ((GOOD, GOOD, [1, 0, 1]), InputTypeError, "mask of bool, one an image, got int64"),
        ((GOOD, GOOD, torch.ones(2, 3).bool()), InputError, r"mask of shape \(3,\).*\(2, 3\)"),
        ((GOOD[:, :, :8], GOOD[:, :, :8]), InputError, "8 x 16 are too small for n_bands=8"),
    ],
    ids=["shapes", "one image", "integers", "nan", "mask type", "mask shape", "small"],
)
def test_bad_input(arguments, kind, message):
    with pytest.raises(kind, match=message):
        perturbation_spectrum(*arguments)
