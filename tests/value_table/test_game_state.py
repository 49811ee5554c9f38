"""A run leaves alone what is not its own: images, weights, gradients, seeds, torch's flags."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.tensors import exact_product


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(4),
        Protocol(4, absence="gaussian"),
        Protocol(4, absence="replacement"),
        Protocol(4, estimator="permutation"),
        Protocol.reference(4, absence="gaussian_bins"),
        Protocol.reference(4, absence="batch_replacement", shuffled=True),
    ],
)
def test_no_state_is_touched(protocol):
    net, (images, labels) = oracles.TinyNet(), oracles.sample(3)
    net.conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept, targets = images.clone(), labels.clone()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    with torch.enable_grad():
        spectral_importance(net, (images, labels), protocol)
        assert torch.is_grad_enabled()
    with torch.no_grad():
        spectral_importance(net, (images, labels), protocol)
        assert not torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(
        np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True)
    )
    assert torch.equal(images, kept)
    assert torch.equal(labels, targets)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    grads = {name: value.requires_grad for name, value in net.named_parameters()}
    assert grads == {name: name != "conv.weight" for name in grads}
    assert all(value.grad is None for value in net.parameters())
    assert not net.training


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_precision_of_matrix_products_is_left_as_it_was(run, precision):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            with exact_product():
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
                assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        run()
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("flag", ["", "torch.backends.cuda.matmul.fp32_precision = 'tf32'"])
def test_torchs_newer_precision_flags_are_neither_broken_nor_in_the_way(run, flag):
    """In a fresh process: torch refuses its older flags for good once old and new disagree."""
    code = (
        "import torch; from iaside_plugins import Protocol, spectral_importance\n"
        "def state():\n"
        "    b = torch.backends\n"
        "    legacy = None if NEWER else torch.get_float32_matmul_precision()\n"
        "    return b.fp32_precision, b.cuda.matmul.fp32_precision, "
        "b.mkldnn.matmul.fp32_precision, legacy\n"
        f"NEWER = {bool(flag)}\n{flag}\nbefore = state()\n"
        "model = lambda x: x.flatten(1)[:, :3]\n"
        "data = torch.rand(2, 3, 8, 8), torch.zeros(2)\n"
        "spectral_importance(model, data, Protocol(3))\n"
        "assert state() == before, (before, state())\n"
    )
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has the older flags only")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_torch_without_the_newer_flags_is_served_by_the_older(monkeypatch):
    """Before 2.9 neither cuBLAS nor oneDNN products have a flag of the newer kind."""
    older = SimpleNamespace(
        cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=True)), mkldnn=SimpleNamespace()
    )
    state = ["medium"]
    monkeypatch.setattr(torch, "backends", older)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: state[-1])
    monkeypatch.setattr(torch, "set_float32_matmul_precision", state.append)
    with exact_product():
        assert state[-1] == "highest"
    assert state[-1] == "medium"


def test_an_autocast_around_the_call_does_not_reach_the_model(run):
    plain = run().values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(run().values, plain)


class InPlace(oracles.TinyNet):
    """Destroys its input, as a model whose first layer works in place does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        images.fill_(7.0)
        return logits


@pytest.mark.parametrize(
    "protocol", [Protocol(4), Protocol(4, absence="replacement"), Protocol.reference(4)]
)
@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_model_that_works_in_place_does_no_harm(protocol, batch_size):
    images, labels = oracles.sample(3)
    kept = images.clone()
    options = {"batch_size": batch_size}
    found = spectral_importance(InPlace(), (images, labels), protocol, **options)
    assert torch.equal(images, kept)
    expected = spectral_importance(oracles.TinyNet(), (kept, labels), protocol, **options)
    np.testing.assert_array_equal(found.values, expected.values)


def test_attacks_inside_the_iterable_have_their_gradients():
    net, (images, labels) = oracles.TinyNet(), oracles.sample(4)

    def attacked():
        for k in range(0, 4, 2):
            x = images[k : k + 2].clone().requires_grad_()
            loss = nn.functional.cross_entropy(net(x), labels[k : k + 2])
            (slope,) = torch.autograd.grad(loss, x)
            yield (x + 0.1 * slope.sign()).clamp(0, 1), labels[k : k + 2]

    found = spectral_importance(net, attacked(), Protocol(3))
    fixed = [(x.detach(), y) for x, y in attacked()]
    expected = spectral_importance(net, fixed, Protocol(3))
    np.testing.assert_array_equal(found.values, expected.values)


class Purifier(nn.Module):
    """Takes a gradient step on its input before it classifies, as purifying defences do."""

    def __init__(self):
        super().__init__()
        self.net = oracles.TinyNet()
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.net(x).square().sum(), x)
        return self.net(images - 0.01 * slope)


def test_a_model_that_differentiates_inside_works(run):
    assert np.isfinite(run(model=Purifier()).values).all()


class Caching(oracles.TinyNet):
    """Makes a constant on its first call and keeps it, as position tables are kept."""

    constant = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.constant is None:
            self.constant = torch.full((1, 3, 1, 1), 0.5)
        return super().forward(images * self.constant)


def test_what_a_model_caches_can_still_be_trained_with(run):
    net = Caching()
    run(model=net)
    images = oracles.sample(1)[0].requires_grad_()
    net(images).sum().backward()
    assert images.grad is not None
