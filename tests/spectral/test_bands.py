"""The bands partition the spectrum exactly as defined, for every size and shape."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iaside_plugins import InputError, SpectralPartition
from iaside_plugins.errors import InputTypeError


@st.composite
def grids(draw):
    """Height, width, n_bands and norm of a grid that can hold the bands."""
    height, width = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    n_bands = draw(st.integers(2, min(height, width) // 2))
    return height, width, n_bands, draw(st.sampled_from(["chebyshev", "euclidean"]))


def test_no_images_have_no_energies():
    assert SpectralPartition(4).energy(torch.zeros(0, 3, 8, 8)).shape == (0, 4)


def _reflected(masks: torch.Tensor) -> torch.Tensor:
    """Masks at -k: index (-y mod H, -x mod W) of the unshifted grid."""
    return masks.flip(1, 2).roll((1, 1), dims=(1, 2))


@settings(max_examples=60, deadline=None)
@given(grids())
def test_masks_equal_the_definition_bin_by_bin(grid):
    height, width, n_bands, norm = grid
    masks = SpectralPartition(n_bands, norm).masks(height, width)
    assert masks.dtype == torch.bool
    assert masks.shape == (n_bands, height, width)
    np.testing.assert_array_equal(masks.numpy(), oracles.band_masks(n_bands, height, width, norm))


@settings(max_examples=100, deadline=None)
@given(grids())
def test_masks_partition_the_grid_symmetrically(grid):
    height, width, n_bands, norm = grid
    partition = SpectralPartition(n_bands, norm)
    masks = partition.masks(height, width)
    assert bool((masks.sum(dim=0) == 1).all())
    assert bool(masks.flatten(1).any(dim=1).all()), "a band is empty"
    assert torch.equal(masks, _reflected(masks))
    assert bool(masks[0, 0, 0]), "DC belongs to band 0"
    if height % 2 == 0 and width % 2 == 0:
        assert bool(masks[-1, height // 2, width // 2]), "the Nyquist corner: r = 1"
    if norm == "chebyshev" and height % 2 == 0:
        assert bool(masks[-1, height // 2].all()), "the whole Nyquist row has r = 1"
    if norm == "chebyshev" and width % 2 == 0:
        assert bool(masks[-1, :, width // 2].all())
    assert torch.equal(partition.index(height, width), masks.int().argmax(dim=0))


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(1, 3), st.integers(0, 2**31))
def test_split_sums_to_the_images_and_equals_full_complex_filters(grid, channels, seed):
    height, width, n_bands, norm = grid
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.random((2, channels, height, width)))
    partition = SpectralPartition(n_bands, norm)
    bands = partition.split(images)
    assert bands.shape == (2, n_bands, channels, height, width)
    assert bands.dtype == torch.float64
    # FFT rounding of values near 1 in double is some 1e-15
    torch.testing.assert_close(bands.sum(dim=1), images, rtol=0, atol=1e-13)
    masks = oracles.band_masks(n_bands, height, width, norm)
    filtered = np.fft.ifft2(np.fft.fft2(images.numpy())[:, None] * masks[:, None])
    assert abs(filtered.imag).max() < 1e-13
    np.testing.assert_allclose(bands.numpy(), filtered.real, rtol=0, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(0, 2**31))
def test_split_is_idempotent_and_energies_add_up(grid, seed):
    height, width, n_bands, norm = grid
    images = torch.from_numpy(np.random.default_rng(seed).random((1, 2, height, width)))
    partition = SpectralPartition(n_bands, norm)
    bands = partition.split(images)[0]
    again = partition.split(bands)  # (band, band, C, H, W): a band's only band is itself
    expected = torch.zeros_like(again)
    for i in range(n_bands):
        expected[i, i] = bands[i]
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-13)
    energy = partition.energy(images)[0]
    per_band = bands.square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(energy, per_band, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(energy.sum(), images.square().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("size", "n_bands"), [((224, 224), 8), ((33, 20), 7), ((15, 15), 7)])
def test_float32_stays_float32_and_close(size, n_bands):
    images = oracles.sample(2, size)[0]
    bands = SpectralPartition(n_bands).split(images)
    assert bands.dtype == torch.float32
    half = images.half()
    energy = SpectralPartition(n_bands).energy(half)
    torch.testing.assert_close(energy, SpectralPartition(n_bands).energy(half.float()))
    # float32 rounding (6e-8) of an FFT over up to 50,000 pixels: 5e-7 measured
    torch.testing.assert_close(bands.sum(dim=1), images, rtol=0, atol=2e-6)


def test_edges_are_equal_fractions_of_nyquist():
    np.testing.assert_allclose(SpectralPartition(4).edges(), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_bands": 1}, "at least 2, got 1"),
        ({"n_bands": True}, "at least 2, got True"),
        ({"n_bands": 8.0}, "at least 2, got 8.0"),
        ({"norm": "manhattan"}, "chebyshev, euclidean, got 'manhattan'"),
    ],
)
def test_bad_partitions_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SpectralPartition(**arguments)


@pytest.mark.parametrize("size", [(15, 64), (64, 15)])
def test_images_too_small_for_the_bands_are_refused(size):
    with pytest.raises(InputError, match=rf"{size[0]} x {size[1]} .*n_bands=8.*= 16; .*<= 7"):
        SpectralPartition(8).masks(*size)


@pytest.mark.parametrize("method", ["split", "energy"])
def test_wrong_images_are_refused(method):
    apply = getattr(SpectralPartition(4), method)
    with pytest.raises(InputTypeError, match=r"torch\.uint8"):
        apply(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputTypeError, match=r"torch\.complex64"):
        apply(torch.zeros(1, 3, 8, 8, dtype=torch.complex64))
    with pytest.raises(InputError, match=r"got \(3, 8, 8\)"):
        apply(torch.zeros(3, 8, 8))


@pytest.mark.parametrize(("norm", "top"), [("chebyshev", 16.0), ("euclidean", 16.0 * 2**0.5)])
def test_edges_in_cycles_bound_the_bins_of_every_band(norm, top):
    """A bin's radius in cycles/image lies between its band's edges, whatever the norm."""
    partition = SpectralPartition(8, norm)
    edges = partition.edges_in_cycles(32, 32)
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(top, rel=1e-15)
    cycles = np.abs(np.fft.fftfreq(32, 1 / 32))
    ky, kx = np.meshgrid(cycles, cycles, indexing="ij")
    radius = np.maximum(ky, kx) if norm == "chebyshev" else np.hypot(ky, kx)
    band = partition.index(32, 32).numpy()
    slack = 1e-9  # hypot and the edges round; the partition itself is exact
    assert np.all(radius >= edges[band] - slack)
    assert np.all(radius <= edges[band + 1] + slack)
