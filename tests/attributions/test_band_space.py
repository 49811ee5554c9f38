"""Models in band space: band images and gates give what the model gives."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, SpectralPartition
from iaside_plugins.attributions.band_space import BandSplit, heat_map_spectrum

IMAGES, LABELS = oracles.sample(3, (10, 9), dtype=torch.float64)


@pytest.fixture
def net():
    """A tiny network in double."""
    return oracles.TinyNet().double()


def test_it_splits_as_the_partition_does():
    for norm in ("chebyshev", "euclidean"):
        stack = BandSplit(3, norm)(IMAGES)
        assert torch.equal(stack, SpectralPartition(3, norm).split(IMAGES))
    index = SpectralPartition(3).index(10, 9)
    own = BandSplit(feature_mask=index[None, None].int())
    assert own.n_bands == 3
    assert torch.equal(own(IMAGES), BandSplit(3)(IMAGES))
    with pytest.raises(InputError, match=r"\(8, 9\).*got \(10, 9\)"):
        own(torch.rand(1, 3, 8, 9))


def test_band_images_and_gates_give_the_models_log_likelihoods(net):
    split = BandSplit(3)
    stack = split(IMAGES)
    expected = net(IMAGES).log_softmax(dim=1).detach().numpy()
    ones = torch.ones(3, 3, dtype=torch.float64)
    for found in (split.band_forward(net)(stack), split.gate_forward(net)(ones, stack)):
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)
    raw = split.band_forward(net, value_fn=lambda out: out)(stack)
    np.testing.assert_allclose(raw.detach().numpy(), net(IMAGES).detach().numpy(), atol=1e-12)


def test_a_closed_gate_takes_its_band_away_and_leaves_the_baselines(net):
    split = BandSplit(3)
    baseline = torch.full_like(IMAGES, 0.3)
    gates = torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.float64)
    found = split.gate_forward(net)(gates, split(IMAGES - baseline), baseline)
    masks = oracles.band_masks(3, 10, 9)
    for k, kept in enumerate(([0, 2], [1, 2], [])):
        image = oracles.coalition_image(IMAGES[k].numpy(), baseline[k].numpy(), masks, kept)
        expected = net(torch.from_numpy(image)[None]).log_softmax(dim=1)[0]
        np.testing.assert_allclose(found[k].detach().numpy(), expected.detach(), atol=1e-12)


def test_rows_are_counted_and_gradients_apart(net):
    split = BandSplit(3)
    forward, stack = split.band_forward(net), split(IMAGES)
    with torch.no_grad():
        forward(stack)
    assert (forward.rows, forward.gradient_rows) == (3, 0)
    forward(stack[:2].requires_grad_())
    assert (forward.rows, forward.gradient_rows) == (5, 2)


def test_the_models_mode_is_left_alone():
    net = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Flatten(), torch.nn.Linear(270, 3))
    net.train()
    net[0].eval()
    BandSplit(3).band_forward(net.double())
    assert net.training
    assert not net[0].training


def test_the_spectrum_of_a_heat_map_is_its_own_and_sums_to_one():
    coarse = torch.ones(1, 1, 8, 8) + torch.linspace(0, 0.1, 8)
    fine = (-1.0) ** torch.arange(8).expand(1, 1, 8, 8)
    shares = heat_map_spectrum(torch.cat([coarse, fine]), n_bands=4)
    np.testing.assert_allclose(shares.sum(dim=1).numpy(), 1, rtol=1e-6)
    assert shares[0, 0] > 0.9
    assert shares[1, 3] > 0.9
    with pytest.raises(InputError, match="zero everywhere"):
        heat_map_spectrum(torch.zeros(1, 1, 8, 8), n_bands=4)
    assert "NOT the importance" in (heat_map_spectrum.__doc__ or "")
