"""A model that remembers gives the same logits, once per batch, and changes nothing else."""

from __future__ import annotations

import pytest
import torch
from tiny_model import WATCH, network

from iaside_plugins.sensitivity.logit_cache import CachedLogits


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr(WATCH, "rows", 0)
    return network().eval()


def test_a_batch_passes_once(net):
    images = torch.rand(3, 3, 16, 16)
    model = CachedLogits(net)
    with torch.no_grad():
        expected = net(images)
        WATCH.rows = 0
        first, again = model(images), model(images.clone())
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)
    assert WATCH.rows == model.n_passed == 3


def test_another_batch_passes(net):
    images = torch.rand(3, 3, 16, 16)
    changed = images.clone()
    changed[1, 2, 5, 5] = torch.nextafter(changed[1, 2, 5, 5], torch.tensor(2.0))
    model = CachedLogits(net)
    with torch.no_grad():
        model(images)
        assert torch.equal(model(changed), net(changed))
        assert torch.equal(model(images[:2]), net(images[:2]))
        assert torch.equal(model(images.transpose(2, 3)), net(images.transpose(2, 3)))
    assert model.n_passed == 3 + 3 + 2 + 3


def test_what_is_kept_is_not_changed_from_outside(net):
    images = torch.rand(2, 3, 16, 16)
    model = CachedLogits(net)
    with torch.no_grad():
        expected = net(images)
        model(images).zero_()
        model(images).zero_()
        assert torch.equal(model(images), expected)


def test_memory_is_bounded_and_can_be_dropped(net):
    images = torch.rand(2, 3, 16, 16)
    small = CachedLogits(net, capacity=2 * 10 * 4)
    with torch.no_grad():
        small(images)
        small(images + 1)  # no room: passes each time
        small(images + 1)
        assert small.n_passed == 6
        small(images)
        assert small.n_passed == 6
        small.forget()
        small(images)
        assert small.n_passed == 8


def test_it_is_in_the_models_own_mode(net):
    assert not CachedLogits(net).training
    assert all(not part.training for part in CachedLogits(net).modules())
    assert CachedLogits(net.train()).training
