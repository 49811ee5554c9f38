"""What stands in for a missing band: the absence baseline of each image."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any parts, the same in every process."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def gaussian_baseline(image: Tensor, std: float, seed: int, digest: str) -> Tensor:
    """White noise like one image (C, H, W): a Hermitian complex Gaussian spectrum.

    Drawn on the CPU from (seed, image digest), so it depends neither on the device nor on the
    order of the images.

    Args:
        image: The image that the noise stands in for, (C, H, W).
        std: Standard deviation in pixels, on the scale of [0, 1].
        seed: The protocol's seed.
        digest: The image's digest.
    """
    generator = torch.Generator().manual_seed(seed_of("gaussian", seed, digest))
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float64)
    return (std * noise).to(image)


def derangement(digests: list[str], seed: int) -> npt.NDArray[np.int64]:
    """Donor of every image: a seeded random cycle, so that no image gives itself.

    The cycle runs over the images in the order of their digests: it depends on the set of
    images, not on the order they come in. Source: Sattolo, Information Processing Letters 22
    (1986).

    Args:
        digests: One digest an image, at least two.
        seed: The protocol's seed.
    """
    n = len(digests)
    ranked = np.array(sorted(range(n), key=lambda k: (digests[k], k)), dtype=np.int64)
    rng = np.random.default_rng(seed_of("replacement", seed))
    cycle = np.arange(n)
    for k in range(n - 1, 0, -1):
        j = int(rng.integers(k))
        cycle[j], cycle[k] = cycle[k], cycle[j]
    donors = np.empty(n, dtype=np.int64)
    donors[ranked] = ranked[cycle]
    return donors
