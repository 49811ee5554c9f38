"""The players: bands of equal radial width that partition the spectrum of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.integers import as_integer
from iaside_plugins.spectral.band_maps import computable, image_size, split_bands

BAND_NORMS = ("chebyshev", "euclidean")


def check_image_size(height: int, width: int, n_bands: int) -> None:
    """Raise InputError unless every band can hold a frequency: height, width >= 2 * n_bands."""
    if min(height, width) < 2 * n_bands:
        most = min(height, width) // 2
        remedy = f"use n_bands <= {most}"
        if most < 2:
            remedy = "if the channels are the last axis: images.permute(0, 3, 1, 2)"
        raise InputError(
            f"images of {height} x {width} are too small for n_bands={n_bands}: expected height "
            f"and width >= 2 * n_bands = {2 * n_bands}; {remedy}"
        )


@dataclass(frozen=True)
class SpectralPartition:
    """Divides the 2-D DFT grid of a real image into bands of equal radial width, DC to Nyquist.

    The radial frequency of bin (ky, kx), in cycles/image, is a fraction of Nyquist in [0, 1]:
    chebyshev ``max(|ky|/(H/2), |kx|/(W/2))``; euclidean ``sqrt((ky/(H/2))^2 + (kx/(W/2))^2) /
    sqrt(2)``. Band i holds ``i/n_bands <= r < (i+1)/n_bands``; r = 1 belongs to the last band.
    Band 0 is the lowest and holds DC. Every mask is symmetric under k -> -k, so each band of a
    real image is real, and the bands sum to the image. Source: the method's definition (Luo et
    al., TMLR 2024), with the Nyquist row and column put into the last band on both sides.

    Args:
        n_bands: Number of bands, at least 2.
        norm: "chebyshev" (square rings, the default) or "euclidean" (round rings).

    Raises:
        InputError: For n_bands below 2 or an unknown norm.
    """

    n_bands: int = 8
    norm: str = "chebyshev"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_bands", as_integer("n_bands", self.n_bands, 2))
        if self.norm not in BAND_NORMS:
            raise InputError(f"norm must be one of {', '.join(BAND_NORMS)}, got {self.norm!r}")

    def edges(self) -> np.ndarray:
        """Return band edges as fractions of Nyquist, shape (n_bands + 1,), from 0 to 1."""
        return np.linspace(0.0, 1.0, self.n_bands + 1)

    def edges_in_cycles(self, height: int, width: int) -> np.ndarray:
        """Return band edges (n_bands + 1,) in cycles/image along the shorter side.

        Chebyshev bands end at its Nyquist frequency; euclidean ones at the grid's corner, sqrt(2)
        times that, since their radius is measured along the diagonal too.
        """
        corner = np.sqrt(2) if self.norm == "euclidean" else 1.0
        return np.asarray(self.edges() * corner * min(height, width) / 2)

    def index(self, height: int, width: int) -> Tensor:
        """Return the band of every bin on the unshifted fft2 grid: int64 (H, W).

        Integer arithmetic throughout, so that a bin on an edge falls on the right side of it.

        Raises:
            InputError: If height or width is below 2 * n_bands.
        """
        check_image_size(height, width, self.n_bands)
        ky = np.abs(np.fft.fftfreq(height, 1 / height).round().astype(np.int64))[:, None]
        kx = np.abs(np.fft.fftfreq(width, 1 / width).round().astype(np.int64))[None, :]
        if self.norm == "chebyshev":
            band = np.maximum(2 * self.n_bands * ky // height, 2 * self.n_bands * kx // width)
        else:
            # i/M <= r  <=>  i^2 (H W)^2 <= M^2 * 2 ((ky W)^2 + (kx H)^2)
            radius = 2 * self.n_bands**2 * ((ky * width) ** 2 + (kx * height) ** 2)
            edges = np.arange(self.n_bands + 1, dtype=np.int64) ** 2 * (height * width) ** 2
            band = np.searchsorted(edges, radius, side="right") - 1
        return torch.from_numpy(np.minimum(band, self.n_bands - 1))

    def masks(self, height: int, width: int) -> Tensor:
        """Return boolean masks (n_bands, H, W) on the unshifted fft2 grid; a bin is in exactly one.

        Raises:
            InputError: If height or width is below 2 * n_bands.
        """
        return self.index(height, width) == torch.arange(self.n_bands)[:, None, None]

    def split(self, images: Tensor) -> Tensor:
        """Return the band images (N, n_bands, C, H, W) of real images; they sum to the images.

        One FFT per image and one inverse FFT per band, in the precision, and on the device, of
        the images.

        Raises:
            InputError: If the shape is not (N, C, H, W) or the images are too small.
            InputTypeError: If the images are not real floating-point numbers.
        """
        return split_bands(images, self.index(*image_size(images)), self.n_bands)

    def energy(self, images: Tensor) -> Tensor:
        """Return the energy of each band, (N, n_bands): by Parseval, together all squared pixels.

        The sum over channels and the band's bins of ``|FFT2|^2 / (H W)``, unnormalised FFT, in the
        precision of the images, single at least.

        Raises:
            InputError: If the shape is not (N, C, H, W) or the images are too small.
            InputTypeError: If the images are not real floating-point numbers.
        """
        height, width = image_size(images)
        images = computable(images)
        if not len(images):  # which the FFT refuses
            return images.new_zeros(0, self.n_bands)
        power = torch.fft.fft2(images).abs().square().sum(dim=1) / (height * width)
        index = self.index(height, width).to(images.device).flatten()
        out: Tensor = power.new_zeros(len(images), self.n_bands)
        return out.index_add_(1, index, power.flatten(1))
