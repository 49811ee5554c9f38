"""Share of coalition pixels outside [0, 1], against coalition images by full FFTs."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins.protocol import Protocol
from iaside_plugins.sensitivity.off_range import off_range_share
from iaside_plugins.spectral.absence import derangement, gaussian_baseline
from iaside_plugins.storage.provenance import image_digest


def slow_share(images, baselines, n_bands, norm):
    masks = oracles.band_masks(n_bands, *images.shape[2:], norm)
    outside = []
    for image, baseline in zip(images, baselines, strict=True):
        for coalition in range(2**n_bands):
            made = oracles.coalition_image(
                image, baseline, masks, oracles.members(coalition, n_bands)
            )
            outside.append(((made < -1e-6) | (made > 1 + 1e-6)).mean())
    return np.mean(outside)


@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement"])
def test_share_is_that_of_slow_coalition_images(absence, norm):
    images = torch.rand(3, 2, 10, 8, generator=torch.Generator().manual_seed(1))
    protocol = Protocol(n_bands=3, absence=absence, band_norm=norm, seed=2)
    digests = [image_digest(image, 0) for image in images]
    baselines = np.zeros(images.shape)
    if absence == "replacement":
        baselines = images[torch.from_numpy(derangement(digests, 2))].numpy()
    elif absence == "gaussian":
        pairs = zip(images, digests, strict=True)
        baselines = np.stack([gaussian_baseline(i, 0.5, 2, d).numpy() for i, d in pairs])
    expected = slow_share(images.numpy().astype(float), baselines, 3, norm)
    assert 0 < expected < 1
    assert off_range_share(images, protocol) == pytest.approx(expected, abs=1e-3)


def test_the_range_handling_of_the_protocol_is_not_applied():
    images = torch.rand(2, 1, 8, 8)
    none, clip = (Protocol(n_bands=2, range_handling=r) for r in ("none", "clip"))
    assert off_range_share(images, none) == off_range_share(images, clip) > 0


def test_images_without_detail_stay_in_range():
    flat = torch.full((1, 3, 8, 8), 0.4)
    assert off_range_share(flat, Protocol(n_bands=4)) == 0
