"""How much of the coalition images lies outside [0, 1], before anything is done about it."""

from __future__ import annotations

from torch import Tensor

from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.spectral.absence import ABSENCES, ImageContext
from iaside_plugins.spectral.band_maps import image_size
from iaside_plugins.spectral.coalition_images import coalition_matrix, image_components
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import image_digest

TOLERANCE = 1e-6  # rounding of sums of bands is not a departure from the range


def off_range_share(images: Tensor, protocol: Protocol) -> float:
    """Share of pixel values below 0 or above 1 in the coalition images, without range handling.

    Every coalition counts the same; the grand one has none.

    Args:
        images: (K, C, H, W) in [0, 1], at least two for the replacement absence.
        protocol: Bands and absence; its range handling is not applied.

    Returns:
        In [0, 1].
    """
    partition = SpectralPartition(protocol.n_bands, protocol.band_norm)
    index = partition.index(*image_size(images))
    coalitions = all_coalitions(protocol.n_bands)
    baselines = _baselines(images, protocol)
    outside, total = 0, 0
    for k in range(len(images)):
        one = images[k : k + 1].float()
        base = None if baselines is None else baselines[k : k + 1]
        components = image_components(one, base, index, protocol.n_bands)
        made = coalition_matrix(coalitions, components) @ components[0]
        outside += int(((made < -TOLERANCE) | (made > 1 + TOLERANCE)).sum())
        total += made.numel()
    return outside / total


def _baselines(images: Tensor, protocol: Protocol) -> Tensor | None:
    absence, seed = ABSENCES[protocol.absence], protocol.seed
    digests = [image_digest(image, 0) for image in images]
    donors = [None] * len(images) if absence.donors is None else absence.donors(digests, seed)
    return absence.baselines(
        list(images),
        [
            ImageContext(
                digest, seed, protocol.absence_std, None if donor is None else images[donor]
            )
            for digest, donor in zip(digests, donors, strict=True)
        ],
    )
