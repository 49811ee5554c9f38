"""Images split by any map of bands on the DFT grid, joined again, and checked maps of one's own.

A band map ("index") gives the band of every bin of the unshifted fft2 grid, int64 (H, W). All
channels share it. It must be symmetric under k -> -k, so that every band of a real image is real.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from iaside_plugins.errors import InputError, InputTypeError

_log = logging.getLogger(__name__)


def split_bands(images: Tensor, index: Tensor, n_bands: int) -> Tensor:
    """Return band images (N, n_bands, C, H, W) of real images (N, C, H, W); they sum to the images.

    Args:
        images: Floating point.
        index: Band of every bin on the unshifted fft2 grid, (H, W), symmetric under k -> -k.
        n_bands: Number of bands; a band without a bin comes out black.

    Raises:
        InputError: If the shape is not (N, C, H, W).
        InputTypeError: If the images are not real floating-point numbers.
    """
    height, width = image_size(images)
    masks = _half_masks(index, n_bands, images.device)
    spectrum = torch.fft.rfft2(computable(images))
    bands: Tensor = torch.fft.irfft2(spectrum[:, None] * masks[:, None], s=(height, width))
    return bands.to(images.dtype)


def join_bands(stack: Tensor, index: Tensor, n_bands: int) -> Tensor:
    """Sum band images (N, n_bands, C, H, W) to (N, C, H, W), each projected on its own band.

    Undoes `split_bands`. What a band image holds outside its band is dropped, so the derivative
    with respect to a band image lies in that band: without the projection every band would have
    the same derivative.

    Args:
        stack: Floating point.
        index: Band of every bin on the unshifted fft2 grid, (H, W), symmetric under k -> -k.
        n_bands: Number of bands.

    Raises:
        InputError: If the shape is not (N, n_bands, C, H, W).
    """
    if stack.ndim != 5 or stack.shape[1] != n_bands:
        raise InputError(
            f"expected band images of shape (N, {n_bands}, C, H, W), got {tuple(stack.shape)}"
        )
    masks = _half_masks(index, n_bands, stack.device)
    spectrum = (torch.fft.rfft2(computable(stack)) * masks[:, None]).sum(dim=1)
    images: Tensor = torch.fft.irfft2(spectrum, s=tuple(stack.shape[-2:]))
    return images.to(stack.dtype)


def _half_masks(index: Tensor, n_bands: int, device: torch.device) -> Tensor:
    """Return masks (n_bands, H, W // 2 + 1) on the half of the grid that rfft2 keeps."""
    half = index[:, : index.shape[1] // 2 + 1].to(device)
    return half == torch.arange(n_bands, device=device)[:, None, None]


def computable(images: Tensor) -> Tensor:
    """Return images in single precision at least: there is no FFT in half precision."""
    return images if images.dtype == torch.float64 else images.float()


def keep_bands(images: Tensor, index: Tensor, bands: Sequence[int]) -> Tensor:
    """Return images (N, C, H, W) with nothing left outside some bands; differentiable.

    One FFT and one inverse FFT an image, in its precision (single precision for halves, for which
    there is no FFT).

    Args:
        images: Floating point.
        index: Band of every bin on the unshifted fft2 grid, (H, W), symmetric under k -> -k.
        bands: Numbers of the bands that stay.

    Raises:
        InputError: If the shape is not (N, C, H, W).
        InputTypeError: If the images are not real floating-point numbers.
    """
    height, width = image_size(images)
    half = index[:, : width // 2 + 1].to(images.device)
    mask = torch.isin(half, torch.tensor(list(bands), dtype=half.dtype, device=half.device))
    spectrum = torch.fft.rfft2(computable(images)) * mask
    found: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return found.to(images.dtype)


def image_size(images: Tensor) -> tuple[int, int]:
    """Return height and width of a batch of real floating-point images.

    Raises:
        InputError: If the shape is not (N, C, H, W).
        InputTypeError: If the images are not real floating-point numbers.
    """
    if not images.is_floating_point():
        raise InputTypeError(f"expected floating-point images, got {images.dtype}")
    if images.ndim != 4:
        raise InputError(f"expected images of shape (N, C, H, W), got {tuple(images.shape)}")
    return images.shape[2], images.shape[3]


def parseval_shares(gradients: Tensor, differences: Tensor, index: Tensor, n_bands: int) -> Tensor:
    """Return the share of each band in ``sum(gradient * difference)``, (N, n_bands) float64.

    ``phi_i = 1/(H W) * sum over bins of band i of Re(conj(FFT2(gradient)) * FFT2(difference))``,
    summed over channels; by Parseval's theorem the shares of an image sum to its product. What an
    attribution of the form gradient times difference (Integrated Gradients, Input X Gradient)
    gives to every band.

    Args:
        gradients: (N, C, H, W) real.
        differences: (N, C, H, W) real: image minus baseline.
        index: Band of every bin on the unshifted fft2 grid, (H, W).
        n_bands: Number of bands.

    Raises:
        InputError: If the shapes differ or are not (N, C, H, W).
        InputTypeError: If either is not real floating-point numbers.
    """
    height, width = image_size(gradients)
    image_size(differences)
    if gradients.shape != differences.shape:
        raise InputError(
            f"expected gradients and differences of one shape, got {tuple(gradients.shape)} and "
            f"{tuple(differences.shape)}"
        )
    first, second = (torch.fft.fft2(part.double()) for part in (gradients, differences))
    products = (first.conj() * second).real.sum(dim=1) / (height * width)
    out: Tensor = products.new_zeros(len(products), n_bands)
    return out.index_add_(1, index.to(out.device).flatten(), products.flatten(1))


def check_band_map(band_map: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Check a user's own band map; return it as int64 (H, W) on the CPU.

    Args:
        band_map: Integers of shape (H, W), or with leading axes of length 1.
        size: Height and width of the images; by default the map's own.

    Raises:
        InputTypeError: If it holds no integers.
        InputError: If its shape is not the images', it has negative bands, or it is not
            symmetric under k -> -k.
    """
    if not torch.is_tensor(band_map) or band_map.is_floating_point() or band_map.is_complex():
        kind = band_map.dtype if torch.is_tensor(band_map) else type(band_map).__name__
        raise InputTypeError(f"expected a band map of integers, got {kind}")
    if band_map.ndim < 2 or not band_map.numel():
        raise InputError(f"expected a band map of shape (H, W), got {tuple(band_map.shape)}")
    height, width = tuple(band_map.shape[-2:]) if size is None else tuple(size)
    if band_map.shape[-2:] != (height, width) or band_map.numel() != height * width:
        raise InputError(
            f"expected a band map of shape ({height}, {width}), one band a bin of the unshifted "
            f"fft2 grid shared by all channels, got {tuple(band_map.shape)}"
        )
    index = band_map.detach().to("cpu", torch.int64).reshape(height, width)
    mirrored = index.flip(0, 1).roll((1, 1), (0, 1))  # at k: the band of -k
    if not torch.equal(index, mirrored):
        y, x = (int(k) for k in torch.nonzero(index != mirrored)[0])
        raise InputError(
            f"the band map is not symmetric under k -> -k: bin ({y}, {x}) is in band "
            f"{int(index[y, x])}, bin ({-y % height}, {-x % width}) in band "
            f"{int(mirrored[y, x])}; a band of a real image would be complex. Build it from "
            "|fftfreq|, on the unshifted grid (not fftshifted)"
        )
    if int(index.min()) < 0:
        raise InputError(f"bands are numbered from 0, got band {int(index.min())}")
    return index


def check_no_gaps(maps: list[Tensor]) -> int:
    """Check the band numbers of maps that share their bands; return the number of bands.

    Raises:
        InputError: For fewer than two bands, or if a number from 0 to the greatest has no bin.
    """
    found = sorted(set(torch.cat([one.flatten() for one in maps]).tolist()))
    gap = next((i for i, band in enumerate(found) if band != i), None)
    if gap is not None:
        raise InputError(
            f"bands are numbered from 0 without gaps, but no bin is in band {gap} and the "
            f"greatest is {found[-1]}; renumber the feature_mask"
        )
    if len(found) < 2:
        raise InputError("expected at least two bands, got a feature_mask with one")
    if all(int(one[0, 0]) > 0 for one in maps):
        _log.warning("band 0 does not hold the mean of the image; is the feature_mask fftshifted?")
    return len(found)
