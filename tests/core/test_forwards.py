"""Faster forward passes: taken only where they give the model's numbers, and said so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, forwards, spectral_importance
from iaside_plugins.forwards import HALF_TOLERANCE, Forward, Step, settle

CPU = torch.device("cpu")
FAST = Protocol(3, forwards="fast")


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
    ).eval()  # fmt: skip


@pytest.fixture
def always_faster(monkeypatch):
    """Every step gains: what is tested is whether it may be taken."""
    monkeypatch.setattr(
        forwards, "_seconds", lambda some, _: [1.0 / (k + 1) for k in range(len(some))]
    )


@pytest.mark.usefixtures("always_faster")
def test_fast_passes_give_the_plain_values():
    data = oracles.sample(3, n_classes=4)
    plain = spectral_importance(_net(), data, Protocol(3))
    fast = spectral_importance(_net(), data, FAST)
    assert {"fold_batch_norms", "channels_last"} <= set(fast.forwards)
    assert plain.forwards == ()
    # Float32 in another order: a thousandth of what a step may move a log-probability.
    np.testing.assert_allclose(fast.values, plain.values, rtol=0, atol=1e-5)
    assert fast.protocol.protocol_id != plain.protocol.protocol_id
    assert json.loads(json.dumps(fast.to_dict()))["forwards"] == list(fast.forwards)


@pytest.mark.parametrize("range_handling", ["none", "clip", "rescale"])
@pytest.mark.parametrize("absence", ["zero", "gaussian"])
@pytest.mark.usefixtures("always_faster")
def test_fast_passes_see_the_same_coalition_images(absence, range_handling):
    protocol = Protocol(3, absence=absence, range_handling=range_handling)
    data, net = oracles.sample(3, n_classes=4), _net().double()
    plain = spectral_importance(net, data, protocol, precision="float64")
    fast = spectral_importance(net, data, replace(protocol, forwards="fast"), precision="float64")
    assert "channels_last" in fast.forwards
    np.testing.assert_allclose(fast.values, plain.values, rtol=0, atol=1e-12)


class NotSequential(nn.Module):
    """Sees the order of memory: channels_last changes its output."""

    def forward(self, images: Tensor) -> Tensor:
        order = torch.as_strided(images, (len(images), 4), (images.stride(0), 1))
        return order * 10


@pytest.mark.usefixtures("always_faster")
def test_a_step_that_moves_a_log_probability_is_refused():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = Forward(NotSequential().eval(), CPU)
    found = settle(plain, "fast", images, torch.zeros(4, dtype=torch.long))
    step = next(step for step in found.steps if step.name == "channels_last")
    assert not step.used
    assert step.deviation > forwards.TOLERANCE
    assert "moved by" in step.reason
    assert not found.channels_last


def test_a_step_that_gains_nothing_is_left_out(monkeypatch):
    monkeypatch.setattr(forwards, "_seconds", lambda some, _: [1.0] * len(some))
    result = spectral_importance(_net(), oracles.sample(2, n_classes=4), FAST)
    assert result.forwards == ()


def test_a_plain_function_runs_as_it_is():
    net = _net()
    result = spectral_importance(lambda x: net(x), oracles.sample(2, n_classes=4), FAST)
    assert set(result.forwards) <= {"threads"}


def test_threads_are_put_back():
    before = torch.get_num_threads()
    Forward(_net(), CPU, threads=before + 1)(torch.rand(2, 3, 8, 8))
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError):
        Forward(lambda _: (_ for _ in ()).throw(RuntimeError()), CPU, threads=2)(torch.rand(1))
    assert torch.get_num_threads() == before


def test_the_user_s_model_is_left_alone():
    net = _net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    spectral_importance(net, oracles.sample(2, n_classes=4), FAST)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net[0].weight.is_contiguous()
    assert isinstance(net[1], nn.BatchNorm2d)


@pytest.mark.usefixtures("always_faster")
def test_a_resumed_run_repeats_what_it_began_with(tmp_path, monkeypatch):
    data = oracles.sample(4, n_classes=4)
    whole = spectral_importance(_net(), data, FAST)
    spectral_importance(_net(), data, FAST, resume=tmp_path, max_images=2)
    assert json.loads((tmp_path / "run.json").read_text())["settled"]["forwards"]
    monkeypatch.setattr(forwards, "_seconds", _never)
    resumed = spectral_importance(_net(), data, FAST, resume=tmp_path)
    np.testing.assert_array_equal(resumed.values, whole.values)
    assert resumed.forwards == whole.forwards


def _never(*_):
    raise AssertionError("timed again")


def test_what_began_with_a_step_is_refused_without_it():
    plain = Forward(lambda x: x.flatten(1)[:, :4], CPU)
    with pytest.raises(InputError, match=r"began with fold_batch_norms .* no torch module"):
        settle(plain, "fast", torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.long),
               {"fold_batch_norms": True})  # fmt: skip


class Steep(nn.Module):
    """So steep that bfloat16 moves its log-likelihoods by nats."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)) * 1000


def test_half_precision_is_refused_where_it_is_too_coarse():
    torch.manual_seed(0)
    data = oracles.sample(2, n_classes=4, size=(8, 8))
    with pytest.raises(InputError, match=rf"bfloat16.*more than {HALF_TOLERANCE:g}.*float32"):
        spectral_importance(Steep().eval(), data, Protocol(3), precision="bfloat16")


def test_steps_are_written_down():
    forward = Forward(_net(), CPU, steps=(Step("threads", True, "quick", 0.0, 2.0),), threads=3)
    assert forward.choices() == {"threads": 3}
    assert forward.to_list()[0]["speedup"] == 2.0


@pytest.mark.slow
def test_compiled_passes_give_the_plain_values():
    data = oracles.sample(2, n_classes=4)
    plain = spectral_importance(_net(), data, Protocol(3))
    compiled = spectral_importance(_net(), data, Protocol(3, forwards="compiled"))
    np.testing.assert_allclose(compiled.values, plain.values, rtol=0, atol=1e-5)
