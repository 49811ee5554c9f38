"""The released script's coalitions, restated from their description, for the reference protocol.

Slow on purpose: an inverse FFT for every coalition and image, as there. It exists so that a
published number can be traced, and each difference from the plain protocol switched alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.seeds import seed_of
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.spectral.absence import ABSENCES
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS
from iaside_plugins.tensors import on_device
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.table import ValueTable


def box_masks(n_bands: int, height: int, width: int) -> Tensor:
    """Return boolean masks (n_bands, H, W) on the unshifted grid: differences of nested boxes.

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


def script_table(
    game: Game, images: Tensor, labels: Tensor, names: Sequence[str], first: int = 0
) -> ValueTable:
    """Start the passes of images that are rescaled in batches, over all coalitions.

    Args:
        game: Model and protocol (`Protocol.reference` and its flags).
        images: (K, C, H, W) in [0, 1]: one batch of `image_batch`, or the whole data set where
            the protocol shuffles.
        labels: (K,) int64.
        names: What the images are called in error messages.
        first: Position of the first image in the data set, which seeds what is random.

    Raises:
        InputError: For images that are not square (boxes), or labels out of range.
    """
    protocol, runner = game.protocol, game.runner
    height, width = images.shape[2:]
    if protocol.band_norm == "boxes":
        masks = box_masks(protocol.n_bands, height, width)
    else:
        masks = SpectralPartition(protocol.n_bands, protocol.band_norm).masks(height, width)
    masks, top_label = masks.to(runner.device), int(labels.max())
    table = ValueTable.empty(all_coalitions(protocol.n_bands), names, runner, given=False)
    with on_device(runner.device):
        for s, coalition in enumerate(table.coalitions):
            present = masks[torch.from_numpy(coalition).to(runner.device)].any(dim=0)
            for number, places in enumerate(_batches(protocol, len(images), s)):
                batch = images[places].to(runner.device, runner.dtype)
                target = labels[places].to(runner.device)
                black = protocol.black_empty and not coalition.any()
                seed = seed_of("absent", protocol.seed, s, first, number)
                x = torch.zeros_like(batch) if black else _coalition(protocol, batch, present, seed)
                logits = runner.logits(x, top_label)
                values = game.log_likelihood(logits, target)
                table.fill(places.to(runner.device), slice(s, s + 1), logits, values, target)
        table.start_copy()
    return table


def _batches(protocol: Protocol, n_images: int, coalition: int) -> list[Tensor]:
    """Return batches of image indices for one coalition."""
    order = torch.arange(n_images)
    if protocol.shuffled:
        generator = torch.Generator().manual_seed(seed_of("shuffle", protocol.seed, coalition))
        order = torch.randperm(n_images, generator=generator)
    return list(torch.split(order, protocol.image_batch))


def _coalition(protocol: Protocol, images: Tensor, present: Tensor, seed: int) -> Tensor:
    """Return a batch with only the bins that are present, the others filled in, and rescaled."""
    spectrum, generator = torch.fft.fft2(images), torch.Generator().manual_seed(seed)
    absent = ABSENCES[protocol.absence].spectra(spectrum, generator)
    mixed = torch.fft.ifft2(torch.where(present, spectrum, absent))
    return RANGE_HANDLINGS[protocol.range_handling].apply(mixed)
