"""What the run of a decomposition says besides its numbers."""

from __future__ import annotations

import oracles
import pytest
import torch

from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.protocol import Protocol


def test_an_accuracy_at_chance_is_said(caplog):
    """A network that does not know the clean images: no number says what it does where it works."""
    clean = torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 10)).eval()
    torch.nn.init.zeros_(net[1].weight)
    torch.nn.init.zeros_(net[1].bias)
    error_decomposition(net, (clean, 1 - clean, torch.full((30,), 3)))
    assert "chance" in caplog.text


@pytest.mark.parametrize("same_order", [True, False])
def test_pairs_in_different_orders_are_said_once(caplog, same_order):
    """Two shuffled loaders: an image is no perturbed version of another one."""
    clean, labels = oracles.sample(16)
    generator = torch.Generator().manual_seed(0)
    noisy = (clean + 0.3 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
    order = torch.arange(16) if same_order else torch.randperm(16, generator=generator)
    perturbed = {"noise": noisy[order], "negative": 1 - clean[order], "dark": clean[order] / 9}
    parts = [slice(0, 8), slice(8, 16)]
    batches = [
        (clean[part], {name: x[part] for name, x in perturbed.items()}, labels[part])
        for part in parts
    ]
    error_decomposition(oracles.TinyNet(), batches, Protocol(n_bands=3, estimator="permutation"))
    said = [message for message in caplog.messages if "in the same order?" in message]
    assert len(said) == (0 if same_order else 1)


def test_a_perturbation_that_changes_nothing_is_said(caplog):
    """Noise that was added in place: clean and perturbed images are one tensor."""
    clean, labels = oracles.sample(3)
    noisy = clean
    noisy += 0.1
    noisy.clamp_(0, 1)
    versions = {"noise": noisy, "dark": clean / 2, ("pgd", 0.0): clean}
    error_decomposition(
        oracles.TinyNet(), (clean, versions, labels), Protocol(n_bands=3, estimator="permutation")
    )
    said = [message for message in caplog.messages if "nothing is perturbed" in message]
    assert said == ["all images under noise are the clean ones: nothing is perturbed"]
    assert "copies" not in caplog.text  # an image under two conditions is one image
