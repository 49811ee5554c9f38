"""Cached logits are the model's own; the fitted temperature makes clean images likeliest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tiny_model import WATCH, network

from iaside_plugins.errors import InputError
from iaside_plugins.sensitivity.logits import (
    RANGE,
    CachedLogits,
    fitted_temperature,
    negative_log_likelihood,
)


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


def test_what_is_cached_is_not_changed_from_outside(net):
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


def sampled(temperature: float, n: int = 4000):
    """Logits, and labels drawn from their softmax at a temperature."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(n, 5)) * 3
    p = np.exp(log_softmax(logits / temperature, axis=1))
    labels = np.array([rng.choice(5, p=row) for row in p])
    return logits, labels


def test_likelihood_is_that_of_the_softmax():
    logits, labels = sampled(1.0, 50)
    expected = -log_softmax(logits / 1.7, axis=1)[np.arange(50), labels].mean()
    assert negative_log_likelihood(logits, labels, 1.7) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    assert fitted_temperature(*sampled(temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_temperature_of_a_fine_grid_is_better():
    logits, labels = sampled(2.0, 200)
    grid = np.geomspace(*RANGE, 20_001)
    found = fitted_temperature(logits, labels)
    best = min(negative_log_likelihood(logits, labels, t) for t in grid)
    assert negative_log_likelihood(logits, labels, found) <= best + 1e-7


def test_scaled_logits_scale_the_temperature():
    logits, labels = sampled(1.5, 300)
    ratio = fitted_temperature(logits * 4, labels) / fitted_temperature(logits, labels)
    assert ratio == pytest.approx(4, rel=1e-3)


def test_the_ends_of_the_range():
    logits = np.eye(3) * 5.0
    certain = fitted_temperature(logits, [0, 1, 2])
    assert RANGE[0] <= certain < 0.3
    assert negative_log_likelihood(logits, [0, 1, 2], certain) < 1e-6
    assert fitted_temperature(logits, [1, 2, 0]) == pytest.approx(RANGE[1], rel=0.01)


@pytest.mark.parametrize(
    ("logits", "labels"), [(np.zeros((1, 3)), [0]), (np.zeros(3), [0]), (np.zeros((3, 2)), [0, 1])]
)
def test_what_cannot_be_fitted_is_refused(logits, labels):
    with pytest.raises(InputError, match="at least two images"):
        fitted_temperature(logits, labels)
