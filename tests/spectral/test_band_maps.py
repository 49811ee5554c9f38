"""Band maps of one's own, splitting and joining by any map, and Parseval's shares."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iaside_plugins import InputError, SpectralPartition
from iaside_plugins.errors import InputTypeError
from iaside_plugins.spectral.band_maps import (
    check_band_map,
    check_no_gaps,
    join_bands,
    parseval_shares,
    split_bands,
)

SIZES = st.tuples(st.integers(4, 15), st.integers(4, 15))


def symmetric_map(height: int, width: int, n_bands: int, seed: int) -> torch.Tensor:
    """A random symmetric map that uses every band: bin k and bin -k share one."""
    rng = np.random.default_rng(seed)
    index = np.zeros((height, width), dtype=np.int64)
    bins = [(y, x) for y in range(height) for x in range(width)]
    for k, (y, x) in enumerate(rng.permutation(bins)):
        index[y, x] = index[-y % height, -x % width] = k % n_bands
    return torch.from_numpy(index)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**31))
def test_a_random_symmetric_map_splits_real_images_that_sum_back(size, seed):
    index = symmetric_map(*size, 3, seed)
    assert torch.equal(check_band_map(index, size), index)
    images = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 2, *size)))
    stack = split_bands(images, index, 3)
    for band in range(3):
        mask = index.numpy() == band
        whole = np.fft.ifft2(np.fft.fft2(images.numpy()) * mask)
        assert abs(whole.imag).max() < 1e-12
        np.testing.assert_allclose(stack[:, band].numpy(), whole.real, atol=1e-12)
    np.testing.assert_allclose(stack.sum(dim=1).numpy(), images.numpy(), atol=1e-12)
    np.testing.assert_allclose(join_bands(stack, index, 3).numpy(), images.numpy(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**31))
def test_a_bin_without_its_mirror_is_refused(size, seed):
    index = symmetric_map(*size, 3, seed)
    y, x = size[0] // 2 - (size[0] % 2 == 0), 1  # no bin of its own mirror
    index[y, x] = (index[y, x] + 1) % 3
    with pytest.raises(InputError, match=rf"bin \({y}, {x}\)|bin \({-y % size[0]}, {size[1] - 1}"):
        check_band_map(index)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 3), st.integers(0, 2**31))
def test_parseval_shares_are_the_products_of_the_band_images(size, channels, seed):
    rng = np.random.default_rng(seed)
    first, second = (torch.from_numpy(rng.normal(size=(2, channels, *size))) for _ in "ab")
    index = SpectralPartition(2).index(*size)
    shares = parseval_shares(first, second, index, 2)
    expected = (first[:, None] * split_bands(second, index, 2)).sum(dim=(2, 3, 4))
    np.testing.assert_allclose(shares.numpy(), expected.numpy(), atol=1e-10)
    whole = (first * second).sum(dim=(1, 2, 3))
    np.testing.assert_allclose(shares.sum(dim=1).numpy(), whole.numpy(), atol=1e-10)


def test_joining_drops_what_lies_outside_the_bands():
    images, _ = oracles.sample(2, (10, 9), dtype=torch.float64)
    index = SpectralPartition(3).index(10, 9)
    stack = images[:, None].expand(-1, 3, -1, -1, -1)  # the whole image in every band's place
    np.testing.assert_allclose(join_bands(stack, index, 3).numpy(), images.numpy(), atol=1e-12)


def test_the_gradient_of_a_band_image_lies_in_its_band():
    images, _ = oracles.sample(1, (10, 10), dtype=torch.float64)
    index = SpectralPartition(3).index(10, 10)
    stack = split_bands(images, index, 3).requires_grad_()
    torch.sigmoid(3 * join_bands(stack, index, 3)).sum().backward()
    spectrum = torch.fft.fft2(stack.grad).abs()
    for band in range(3):
        assert float(spectrum[:, band][..., index != band].max()) < 1e-12
        assert float(spectrum[:, band].max()) > 1e-6


def test_leading_axes_of_length_one_are_let_through():
    index = SpectralPartition(2).index(8, 6)
    for shape in ((8, 6), (1, 8, 6), (1, 1, 8, 6)):
        assert torch.equal(check_band_map(index.int().view(shape), (8, 6)), index)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(8, 6), "integers, got torch.float32"),
        ([[0]], "integers, got list"),
        (torch.zeros(1, 3, 8, 6, dtype=torch.long), r"\(8, 6\).*got \(1, 3, 8, 6\)"),
        (torch.zeros(6, 8, dtype=torch.long), r"\(8, 6\).*got \(6, 8\)"),
        (torch.arange(5), r"shape \(H, W\), got \(5,\)"),
        (torch.tensor(1), r"shape \(H, W\), got \(\)"),
        (torch.zeros(0, 6, dtype=torch.long), r"shape \(H, W\), got \(0, 6\)"),
        (-torch.ones(8, 6, dtype=torch.long), "from 0, got band -1"),
        (
            torch.arange(48).view(8, 6),
            r"not symmetric.*\(0, 1\) is in band 1, bin \(0, 5\) in band 5",
        ),
    ],
)
def test_wrong_maps_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        check_band_map(wrong, (8, 6))


def test_a_shifted_map_is_refused_or_at_least_remarked_upon(caplog):
    with pytest.raises(InputError, match=r"not symmetric.*not fftshifted"):
        check_band_map(torch.fft.fftshift(SpectralPartition(2).index(9, 7)))
    # for even sides the shifted map is symmetric as well, only upside down
    check_no_gaps([check_band_map(torch.fft.fftshift(SpectralPartition(2).index(8, 6)))])
    assert "is the feature_mask fftshifted?" in caplog.text


def test_gaps_and_single_bands_are_refused():
    index = SpectralPartition(3).index(8, 8)
    assert check_no_gaps([index]) == 3
    with pytest.raises(InputError, match="no bin is in band 1 and the greatest is 3"):
        check_no_gaps([torch.where(index == 1, 3, index)])
    with pytest.raises(InputError, match="no bin is in band 3"):  # and no memory for the gap
        check_no_gaps([torch.where(index == 1, 2**40, index), index])
    with pytest.raises(InputError, match="at least two bands"):
        check_no_gaps([torch.zeros(4, 4, dtype=torch.long)])
    # together two maps may have all bands, though neither has
    assert check_no_gaps([torch.zeros(4, 4, dtype=torch.long), index[:2] * 0 + 1]) == 2


def test_shapes_and_types_are_checked():
    images = torch.rand(2, 3, 8, 8)
    index = SpectralPartition(2).index(8, 8)
    with pytest.raises(InputError, match="one shape"):
        parseval_shares(images, images[:1], index, 2)
    with pytest.raises(InputTypeError, match="floating-point"):
        parseval_shares(images.int(), images, index, 2)
    with pytest.raises(InputError, match=r"\(N, C, H, W\)"):
        split_bands(images[0], index, 2)
    stack = split_bands(images, index, 2)
    for wrong in (stack[:, :1], stack[0]):
        with pytest.raises(InputError, match=r"band images of shape \(N, 2, C, H, W\)"):
            join_bands(wrong, index, 2)


def test_half_precision_is_split_in_single():
    images, _ = oracles.sample(1, (8, 8))
    index = SpectralPartition(2).index(8, 8)
    half = split_bands(images.bfloat16(), index, 2)
    assert half.dtype == torch.bfloat16
    whole = split_bands(images.bfloat16().float(), index, 2)
    np.testing.assert_array_equal(half.float().numpy(), whole.bfloat16().float().numpy())
    assert join_bands(half, index, 2).dtype == torch.bfloat16
