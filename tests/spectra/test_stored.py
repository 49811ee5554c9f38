"""Spectra in files: what is written comes back, bands add up, and noise is told from the rest."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from iaside_plugins import InputError, SpectralPartition
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.spectra.stored import (
    SHIPPED,
    StoredSpectrum,
    load_spectra,
    save_spectra,
    shipped_spectra,
)
from iaside_plugins.spectral.energy import band_energies, band_products, in_bands

PARTITION = SpectralPartition(4)
RNG = torch.Generator().manual_seed(0)
X = torch.rand(200, 1, 16, 16, generator=RNG, dtype=torch.float64)
NOISE = torch.randn(X.shape, generator=RNG, dtype=torch.float64)


def spectrum(y: torch.Tensor, partition: SpectralPartition = PARTITION) -> StoredSpectrum:
    m = partition.n_bands
    energies = band_energies(X, y, partition).mean(axis=0)
    products = band_products(X, y, partition).mean(axis=0)
    condition = Condition("planted", 2)
    size = (X.shape[2], X.shape[3])
    return StoredSpectrum(
        condition, partition, size, energies[:m], energies[m : 2 * m], products, len(X)
    )


# ---- bands that add up -----------------------------------------------------------------------
@pytest.mark.parametrize("n", [(32, 4), (32, 8), (32, 16), (32, 5), (224, 8), (224, 16), (224, 12)])
def test_rings_add_up_to_any_number_of_bands(n):
    size, m = n
    images = torch.rand(2, 1, size, size, generator=RNG, dtype=torch.float64)
    rings, bands = SpectralPartition(size // 2), SpectralPartition(m)
    found = in_bands(rings.energy(images).numpy(), rings, bands, (size, size))
    np.testing.assert_allclose(found, bands.energy(images).numpy(), rtol=1e-12)


def test_bands_that_do_not_add_up_are_refused():
    energies = np.ones(4)
    np.testing.assert_array_equal(in_bands(energies, PARTITION, PARTITION, (16, 16)), energies)
    two = in_bands(energies, PARTITION, SpectralPartition(2), (16, 16))
    np.testing.assert_array_equal(two, [2, 2])
    for wanted in (SpectralPartition(3), SpectralPartition(8), SpectralPartition(4, "euclidean")):
        with pytest.raises(InputError, match=f"measure it with n_bands={wanted.n_bands}"):
            in_bands(energies, PARTITION, wanted, (16, 16))


def test_products_are_inner_products_of_band_images():
    y = X + 0.3 * NOISE
    bands, deltas = PARTITION.split(X[:3]), PARTITION.split((y - X)[:3])
    expected = (bands * deltas).sum(dim=(2, 3, 4))
    np.testing.assert_allclose(band_products(X[:3], y[:3], PARTITION), expected, atol=1e-10)


# ---- noise and what is none ------------------------------------------------------------------
def test_noise_is_told_from_the_image_itself():
    assert spectrum(X + 0.2 * NOISE).image_share(PARTITION) < 0.01
    assert spectrum(0.5 * X).image_share(PARTITION) == pytest.approx(1)
    low = PARTITION.split(X)[:, :2].sum(dim=1)  # blurred: the upper bands are gone
    assert spectrum(low).image_share(PARTITION) == pytest.approx(1)
    shifted = spectrum(X.roll(1, dims=3))
    assert 0.2 < shifted.image_share(PARTITION) < 0.8
    assert np.isnan(spectrum(X).image_share(PARTITION))


def test_the_share_by_hand():
    one = StoredSpectrum(
        Condition("fog"), PARTITION, (16, 16), np.full(4, 4.0), np.full(4, 4.0), np.full(4, 2.0), 9
    )  # a quarter of the perturbation is half the image: 1 of 4, the rest R is 3
    assert one.image_share(PARTITION) == pytest.approx((4 / 7 - 1 / 2) / (1 / 2))


# ---- files -----------------------------------------------------------------------------------
def test_a_file_gives_back_what_was_saved(tmp_path):
    saved = [spectrum(X + 0.2 * NOISE), spectrum(0.9 * X)]
    save_spectra(tmp_path / "found.json", saved, {"images": "planted"})
    found = load_spectra(tmp_path / "found.json")
    for one, other in zip(found, saved, strict=True):
        assert (one.condition, one.partition) == (other.condition, PARTITION)
        assert (one.image_size, one.n_images) == ((16, 16), 200)
        np.testing.assert_allclose(one.clean, other.clean, rtol=1e-3)
        np.testing.assert_allclose(one.noise, other.noise, rtol=1e-3)
        np.testing.assert_allclose(one.coherence, other.coherence, atol=0.0051)
    with pytest.raises(InputError, match="no spectra to save"):
        save_spectra(tmp_path / "none.json", [], {})


def test_a_spectrum_without_inner_products_is_not_saved(tmp_path):
    one = shipped_spectra(32)[0]
    with pytest.raises(InputError, match="has no inner products"):
        save_spectra(tmp_path / "s.json", [replace(one, product=one.product * np.nan)], {})


def test_files_of_something_else_are_refused(tmp_path):
    path = tmp_path / "found.json"
    save_spectra(path, [spectrum(X + NOISE)], {})
    good = json.loads(path.read_text())
    for change, message in (
        ({"format": 9}, "another version"),
        ({"conditions": []}, "its list of conditions is empty"),
        ({"clean": [1.0]}, "expected 4 numbers"),
        ({"clean": [1.0, -1.0, 1.0, 1.0]}, "finite and not negative"),
        ({"n_bands": 1}, "n_bands must be"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=message):
            load_spectra(path)
    for text in ("[]", "{}", "no JSON"):
        path.write_text(text)
        with pytest.raises(InputError, match="holds no spectra: expected what `iaside spectrum"):
            load_spectra(path)
    with pytest.raises(InputError, match="cannot read"):
        load_spectra(tmp_path / "missing.json")


# ---- shipped ---------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [32, 224])
def test_all_corruptions_are_shipped_in_rings(size):
    found = shipped_spectra(size)
    assert [one.condition for one in found] == [(c, s) for c in CORRUPTIONS for s in range(1, 6)]
    shares = {}
    for one in found:
        assert (one.partition, one.image_size) == (SpectralPartition(size // 2), (size, size))
        signal, noise = one.band_means(SpectralPartition(8), (size, size))
        assert (signal > 0).all()
        assert (noise > 0).all()
        shares.setdefault(one.condition.name, []).append(one.image_share(SpectralPartition(8)))
    assert np.mean(shares["gaussian_noise"]) < 0.05
    assert np.mean(shares["contrast"]) > 0.9
    data = json.loads((SHIPPED / f"{size}.json").read_text())
    assert data["corruptions"]["seed"] == 0
    assert data["provenance"]["git_commit"]


def test_what_is_shipped_is_small_and_other_sizes_are_named():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 150_000
    with pytest.raises(InputError, match=r"images of 32 and 224 pixels, not 128: .* spectrum=FILE"):
        shipped_spectra(128)
