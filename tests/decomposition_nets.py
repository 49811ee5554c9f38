"""Perturbed images, and networks whose errors under them are known, for tests of decompositions."""

from __future__ import annotations

import oracles
import torch
from torch import nn

from iaside_plugins import Protocol
from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.spectral.partition import SpectralPartition

CHAINS = Protocol(4, estimator="permutation")


def perturbed_pairs(
    n: int, size=(12, 10), n_conditions: int = 3, dtype=torch.float32, seed: int = 0
):
    """Images in the middle of [0, 1], and versions with noise of growing strength."""
    x, y = oracles.sample(n, size, dtype=dtype)
    x = 0.3 + 0.4 * x
    generator = torch.Generator().manual_seed(seed)
    perturbed = {
        ("noise", k + 1): (
            x + (k + 1) * 0.1 * (torch.rand(x.shape, generator=generator, dtype=dtype) - 0.5)
        ).clamp(0, 1)
        for k in range(n_conditions)
    }
    return x, perturbed, y


class Planted(nn.Module):
    """Says class 1 where an image differs from grey in one band, else class 0."""

    def __init__(self, band: int, n_bands: int, size: tuple[int, int]):
        super().__init__()
        self.register_buffer("index", SpectralPartition(n_bands, "chebyshev").index(*size))
        self.band = band

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        energy = keep_bands(images - 0.5, self.index, [self.band]).square().sum(dim=(1, 2, 3))
        return torch.stack([torch.full_like(energy, 1e-6), energy], dim=1) * 1e4


class Loud(nn.Module):
    """Says class 1 where an image differs from grey by more than half of the strongest noise."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        energy = (images - 0.5).square().mean(dim=(1, 2, 3))
        return torch.stack([torch.full_like(energy, 0.003), energy], dim=1) * 1e3


def grey_pairs(n: int, n_conditions: int = 3):
    """Grey images and what noise makes of them; `Loud` errs on the stronger noise alone."""
    x, perturbed, _ = perturbed_pairs(n, (12, 12), n_conditions)
    grey = torch.full_like(x, 0.5)
    return grey, {k: 0.5 + z - x for k, z in perturbed.items()}, torch.zeros(n, dtype=torch.long)
