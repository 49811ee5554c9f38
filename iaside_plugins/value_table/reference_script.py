"""The released script's coalitions, restated from their description, for the reference protocol.

Slow on purpose: an inverse FFT for every coalition and image, as there. It exists so that a
published number can be traced, and each difference from the plain protocol switched alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.spectral.absence import seed_of
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.value_table.game import Game


def box_masks(n_bands: int, height: int, width: int) -> Tensor:
    """Boolean masks (n_bands, H, W) on the unshifted grid: differences of nested boxes.

    Box i of the shifted spectrum has side int(n i / M), n = min(H, W), and starts at
    (n - side) // 2. Boxes of even side in an even n are not symmetric under k -> -k.

    Raises:
        InputError: For images that are not square: the boxes would not hold the whole spectrum.
    """
    if height != width:
        raise InputError(
            f"the released script's boxes need square images, got {height} x {width}; crop first"
        )
    box = torch.zeros(n_bands + 1, height, width, dtype=torch.bool)
    for i in range(n_bands + 1):
        side = int(height * i / n_bands)
        start = (height - side) // 2
        box[i, start : start + side, start : start + side] = True
    rings: Tensor = torch.fft.ifftshift(box[1:] & ~box[:-1], dim=(-2, -1))
    return rings


def script_rows(
    game: Game, images: Tensor, labels: Tensor, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Values (K, 2**n_bands) in nats and hits (K,) of the images that are rescaled in batches.

    Args:
        game: Model, protocol (`Protocol.reference` and its flags), device and precision.
        images: (K, C, H, W) in [0, 1]: one batch of `image_batch`, or the whole data set where
            the protocol shuffles.
        labels: (K,) int64.
        first: Position of the first image in the data set, which seeds what is random.

    Raises:
        InputError: For images that are not square (boxes), labels out of range, or non-finite
            logits.
    """
    protocol = game.protocol
    coalitions = all_coalitions(protocol.n_bands)
    height, width = images.shape[2:]
    if protocol.band_norm == "boxes":
        masks = box_masks(protocol.n_bands, height, width)
    else:
        masks = SpectralPartition(protocol.n_bands, protocol.band_norm).masks(height, width)
    masks = masks.to(game.device)
    top_label = int(labels.max())
    values = torch.zeros(len(images), len(coalitions), dtype=torch.float64)
    hits = torch.zeros(len(images), dtype=torch.bool)
    for s, coalition in enumerate(coalitions):
        kept = masks[torch.from_numpy(coalition).to(game.device)].any(dim=0)
        for number, rows in enumerate(_batches(protocol, len(images), s)):
            batch = images[rows].to(game.device, game.dtype)
            target = labels[rows].to(game.device)
            black = protocol.black_empty and not coalition.any()
            seed = seed_of("absent", protocol.seed, s, first, number)
            x = torch.zeros_like(batch) if black else _coalition(protocol, batch, kept, seed)
            logits = game.logits(x, top_label)
            if not bool(torch.isfinite(logits).all()):
                bands = np.flatnonzero(coalition).tolist()
                raise InputError(f"the model gives non-finite logits for coalition {bands}")
            values[rows, s] = game.log_likelihood(logits, target).double().cpu()
            if coalition.all():
                hits[rows] = (logits.argmax(dim=1) == target).cpu()
    return values, hits


def _batches(protocol: Protocol, n_images: int, coalition: int) -> list[Tensor]:
    """Batches of image indices for one coalition."""
    order = torch.arange(n_images)
    if protocol.shuffled:
        generator = torch.Generator().manual_seed(seed_of("shuffle", protocol.seed, coalition))
        order = torch.randperm(n_images, generator=generator)
    return list(torch.split(order, protocol.image_batch))


def _coalition(protocol: Protocol, images: Tensor, kept: Tensor, seed: int) -> Tensor:
    """Modulus of the filtered batch, its minimum and maximum (all images, channels) to 0 and 1."""
    spectrum = torch.fft.fft2(images)
    if protocol.absence == "zero":
        absent = torch.zeros_like(spectrum)
    else:
        generator = torch.Generator().manual_seed(seed)
        if protocol.absence == "gaussian_bins":
            noise = torch.randn(2, *spectrum.shape, generator=generator, dtype=torch.float64)
            absent = torch.complex(noise[0], noise[1]).mul(0.5).to(spectrum)
        else:
            absent = spectrum[torch.randperm(len(images), generator=generator)]
    x: Tensor = torch.fft.ifft2(torch.where(kept, spectrum, absent)).abs()
    x = x - x.min()
    return (x / x.max()).nan_to_num(0.0).clamp(0, 1)
