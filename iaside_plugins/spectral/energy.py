"""Energies of images and perturbations by band, and the frequency at which a band stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.errors import InputError
from iaside_plugins.spectral.band_maps import image_size
from iaside_plugins.spectral.partition import SpectralPartition

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BandEnergies:
    """Energies of images x and of perturbations x' - x, in squared pixels.

    Attributes:
        signal: Of x in every band (..., M).
        noise: Of x' - x in every band (..., M).
        signal_dc: Of the DC bin of x (...).
        noise_dc: Of the DC bin of x' - x (...).
    """

    signal: Array
    noise: Array
    signal_dc: Array
    noise_dc: Array

    @classmethod
    def of_rows(cls, rows: Array) -> BandEnergies:
        """Return what rows (..., 2 M + 2) of `band_energies` hold."""
        m = rows.shape[-1] // 2 - 1
        return cls(rows[..., :m], rows[..., m : 2 * m], rows[..., -2], rows[..., -1])

    @property
    def changed(self) -> npt.NDArray[np.bool_]:
        """Whether there is a perturbation (...)."""
        return np.asarray(self.noise.sum(axis=-1) > 0)

    def without_dc(self) -> tuple[Array, Array]:
        """Return signal and noise without the DC bins, which are in band 0."""
        signal, noise = self.signal.copy(), self.noise.copy()
        signal[..., 0] -= self.signal_dc
        noise[..., 0] -= self.noise_dc
        return signal, noise


def band_energies(clean: Any, perturbed: Any, partition: SpectralPartition) -> Array:
    """Return rows (N, 2 M + 2): band energies of x, of x' - x, and the energies of their DC bins.

    `BandEnergies.of_rows` reads them.

    By Parseval, in squared pixels summed over channels; float64. An energy of x' - x that the
    rounding of pixels can make, the squared precision of the image's energy, is 0.

    Raises:
        InputError: Shapes that differ or are not (N, C, H, W), or values that are not finite.
        InputTypeError: Images that are not floating-point numbers.
    """
    size = image_size(clean)
    image_size(perturbed)
    if clean.shape != perturbed.shape:
        raise InputError(
            f"expected clean and perturbed images of one shape, got {tuple(clean.shape)} and "
            f"{tuple(perturbed.shape)}"
        )
    x = clean.detach().double()
    delta = perturbed.detach().to(x) - x
    if not bool(torch.isfinite(delta).all()):
        raise InputError("the images hold values that are not finite (NaN or infinite)")
    parts = [partition.energy(x), partition.energy(delta)]
    parts += [
        part.sum(dim=(2, 3)).square().sum(1, True) / (size[0] * size[1]) for part in (x, delta)
    ]
    precision = max(torch.finfo(one.dtype).eps for one in (clean, perturbed))
    least = precision**2 * parts[0].sum(dim=1, keepdim=True)
    parts[1::2] = [torch.where(part > least, part, 0.0) for part in parts[1::2]]
    return np.asarray(torch.cat(parts, dim=1).cpu().numpy())


def band_products(clean: Any, perturbed: Any, partition: SpectralPartition) -> Array:
    """Return the inner product of x and x' - x in every band (N, M), squared pixels; float64.

    Half of what the band's energy of x' exceeds those of x and x' - x by; zero on average for
    noise that has nothing to do with the image. The images are those of `band_energies`.
    """
    x = clean.detach().double()
    y = perturbed.detach().to(x)
    energies = partition.energy(y) - partition.energy(x) - partition.energy(y - x)
    return np.asarray(energies.cpu().numpy() / 2)


def in_bands(
    energies: Array,
    measured: SpectralPartition,
    wanted: SpectralPartition,
    image_size: tuple[int, int],
) -> Array:
    """Return energies (..., M) in some bands from those (..., M') in the same or finer ones.

    Exact: refused where a fine band lies in two of the wanted ones.

    Args:
        energies: Of the measured bands, on the last axis.
        measured: The measured bands.
        wanted: The bands of the answer.
        image_size: Height and width of the images.

    Raises:
        InputError: If the measured bands do not add up to the wanted ones.
    """
    if measured == wanted:
        return np.asarray(energies)
    belongs = _belongs(measured, wanted, tuple(image_size))
    if (belongs.sum(axis=1) > 1).any():
        raise InputError(
            f"a spectrum in {measured.n_bands} {measured.norm} bands does not add up to "
            f"{wanted.n_bands} {wanted.norm} bands: expected the same bands or a finer split of "
            f"them; measure it with n_bands={wanted.n_bands} and band_norm={wanted.norm}"
        )
    return np.asarray(energies @ belongs)


@lru_cache(maxsize=8)
def _belongs(
    first: SpectralPartition, second: SpectralPartition, image_size: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Return which bands of two partitions share a frequency (M, M'), bool."""
    one, other = (p.index(*image_size).flatten().numpy() for p in (first, second))
    shared = np.zeros((first.n_bands, second.n_bands), dtype=bool)
    shared[one, other] = True
    return shared


def band_frequencies(partition: SpectralPartition, height: int, width: int) -> Array:
    """Return the geometric mean frequency of each band without DC, cycles/image; NaN if empty."""
    ky = np.abs(np.fft.fftfreq(height, 1 / height))[:, None] / (height / 2)
    kx = np.abs(np.fft.fftfreq(width, 1 / width))[None, :] / (width / 2)
    radius = np.maximum(ky, kx) if partition.norm == "chebyshev" else np.hypot(ky, kx)
    cycles = radius * min(height, width) / 2
    index = partition.index(height, width).numpy()
    index[0, 0] = -1
    bands = [np.log(cycles[index == band]) for band in range(partition.n_bands)]
    return np.array([np.exp(part.mean()) if part.size else np.nan for part in bands])


def decibel(signal: Array, noise: Array) -> Array:
    """Return 10 log10 of a ratio of energies; infinite where there is no noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(signal / noise))
