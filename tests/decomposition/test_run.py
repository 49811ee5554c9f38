"""What the run of a decomposition says besides its numbers."""

from __future__ import annotations

import torch

from iaside_plugins.decomposition.run import error_decomposition


def test_an_accuracy_at_chance_is_said(caplog):
    """A network that does not know the clean images: no number says what it does where it works."""
    clean = torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 10)).eval()
    torch.nn.init.zeros_(net[1].weight)
    torch.nn.init.zeros_(net[1].bias)
    error_decomposition(net, (clean, 1 - clean, torch.full((30,), 3)))
    assert "chance" in caplog.text
