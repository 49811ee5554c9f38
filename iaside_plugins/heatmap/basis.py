"""Real Fourier basis images: the frequencies of a grid up to symmetry, and noise of one of them.

A frequency (ky, kx) is in cycles/image, -n/2 <= k < n/2 on each axis of n pixels. The images of k
and -k are the same, so that half of the grid stands for all of it. Source: Yin et al., "A Fourier
Perspective on Model Robustness in Computer Vision", NeurIPS 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.integers import as_integer
from iaside_plugins.seeds import SEED_BITS, seed_of

IntArray = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
AXIS = 32  # frequencies of an axis that `frequency_step` keeps at most, and one more


def frequency_step(
    image_size: Sequence[int], step: int | None = None, grid: int | None = None
) -> int:
    """Return the step between frequencies, by default 1 up to 64 pixels, else for a grid of 32.

    Args:
        image_size: Height and width.
        step: The step, if it is known.
        grid: Instead of it, the greatest number of frequencies on the longer axis.

    Raises:
        InputError: For both of them, or a grid below 2.
    """
    longest = max(image_size)
    if grid is None:
        default = 1 if longest <= 2 * AXIS else math.ceil(longest / AXIS)
        return default if step is None else as_integer("step", step, 1)
    if step is not None:
        raise InputError("step and grid exclude each other: give one of them")
    return math.ceil(longest / as_integer("grid", grid, 2))


def axis_frequencies(n_pixels: int, step: int) -> IntArray:
    """Return the multiples of a step among the frequencies of an axis, ascending.

    Raises:
        InputError: For a step below 1.
    """
    step = as_integer("step", step, 1)
    every = np.arange(-(n_pixels // 2), (n_pixels + 1) // 2)
    return np.asarray(every[every % step == 0])


def mirrored(frequencies: IntArray, image_size: Sequence[int]) -> IntArray:
    """Return -k for frequencies k (..., 2); k itself where both are the same bin."""
    size = np.array(image_size)
    return np.asarray((-frequencies + size // 2) % size - size // 2)


def half_frequencies(image_size: Sequence[int], step: int = 1) -> IntArray:
    """Return the frequencies (F, 2) of a grid, one of k and -k: the greater pair of numbers."""
    ky, kx = (axis_frequencies(n, step) for n in image_size)
    grid = np.stack(np.meshgrid(ky, kx, indexing="ij"), axis=-1).reshape(-1, 2)
    other = mirrored(grid, image_size)
    return grid[[tuple(k) >= tuple(m) for k, m in zip(grid, other, strict=True)]]


def weights_of(frequencies: IntArray, image_size: Sequence[int]) -> IntArray:
    """Return how many bins every frequency (F, 2) of a half grid stands for: 2, or 1 if k = -k."""
    own = (mirrored(frequencies, image_size) == frequencies).all(axis=1)
    return np.where(own, 1, 2)


def basis_images(
    frequencies: IntArray, image_size: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return basis images (F, H, W) of L2 norm 1, with energy in the bins k and -k alone.

    ``cos(2 pi (ky y / H + kx x / W))`` over the root of its sum of squares, which is H W / 2, or
    H W where k = -k.
    """
    height, width = image_size
    ky, kx = (frequencies[:, [axis]] for axis in (0, 1))
    rows = 2 * np.pi * (ky * np.arange(height) % height) / height
    columns = 2 * np.pi * (kx * np.arange(width) % width) / width
    scale = np.sqrt(weights_of(frequencies, image_size) / (height * width))[:, None]
    parts = [scale * np.cos(rows), np.cos(columns), scale * np.sin(rows), np.sin(columns)]
    a, b, c, d = (torch.from_numpy(part).to(device, dtype) for part in parts)
    return a[:, :, None] * b[:, None, :] - c[:, :, None] * d[:, None, :]


def signs(digest: str, frequencies: IntArray, n_channels: int, seed: int) -> Array:
    """Return the random sign, -1 or 1, of every frequency and channel (F, C) for one image.

    Made from the seed, the image's digest and the frequency: neither the order of images nor the
    other frequencies matter.
    """
    blocks = [() if k == 0 else (k,) for k in range(-(-n_channels // SEED_BITS))]
    drawn = [
        [seed_of("fourier", seed, digest, int(ky), int(kx), *block) for block in blocks]
        for ky, kx in frequencies
    ]
    bits = [
        [(numbers[k // SEED_BITS] >> k % SEED_BITS) & 1 for k in range(n_channels)]
        for numbers in drawn
    ]
    return 2.0 * np.array(bits, dtype=np.float64).reshape(-1, n_channels) - 1


def noisy_images(image: Tensor, basis: Tensor, sign: Tensor, norm: float) -> Tensor:
    """Return the image with every basis image added in all channels, clipped, (F, C, H, W).

    Args:
        image: (C, H, W) in [0, 1], before any normalisation.
        basis: Basis images (F, H, W) of norm 1.
        sign: Of every channel (F, C).
        norm: L2 norm of the noise in each channel.
    """
    noise = norm * sign[:, :, None, None] * basis[:, None]
    return (image + noise).clamp_(0, 1)
