"""Faster forward passes: taken only where they give the model's numbers, and said so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.inference import runner, tuning
from iaside_plugins.inference.forward import Forward, Step
from iaside_plugins.inference.tuning import HALF_TOLERANCE, tune

CPU = torch.device("cpu")
FAST = Protocol(3, forwards="fast")


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    ).eval()


@pytest.fixture
def always_faster(monkeypatch, without_onnxruntime):
    """Every step gains: what is tested is whether it may be taken."""
    monkeypatch.setattr(
        tuning, "_seconds", lambda some, _: [1.0 / (k + 1) for k in range(len(some))]
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
    assert fast.protocol.same(plain.protocol)  # how passes are made is beside it
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
    found = tune(plain, "fast", images, torch.zeros(4, dtype=torch.long))
    step = next(step for step in found.steps if step.name == "channels_last")
    assert not step.used
    assert step.deviation > tuning.TOLERANCE
    assert "moved by" in step.reason
    assert not found.channels_last


def test_a_step_that_gains_nothing_is_left_out(monkeypatch):
    monkeypatch.setattr(tuning, "_seconds", lambda some, _: [1.0] * len(some))
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
    with pytest.raises(InputError, match="the model failed"):
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
    monkeypatch.setattr(tuning, "_seconds", _never)
    resumed = spectral_importance(_net(), data, FAST, resume=tmp_path)
    np.testing.assert_array_equal(resumed.values, whole.values)
    assert resumed.forwards == whole.forwards


def _never(*_):
    raise AssertionError("timed again")


def test_what_began_with_a_step_is_refused_without_it():
    plain = Forward(lambda x: x.flatten(1)[:, :4], CPU)
    with pytest.raises(InputError, match=r"began with fold_batch_norms .* no torch module"):
        tune(
            plain,
            "fast",
            torch.rand(2, 3, 8, 8),
            torch.zeros(2, dtype=torch.long),
            {"fold_batch_norms": True},
        )


class Uncopied(nn.Sequential):
    """Copies of it are the module itself, as of a backbone that several models share."""

    def __deepcopy__(self, memo):
        return self


@pytest.mark.usefixtures("without_onnxruntime")
@pytest.mark.parametrize("gain", [2.0, 0.5])
def test_a_model_that_cannot_be_copied_is_left_alone(monkeypatch, gain):
    monkeypatch.setattr(tuning, "_seconds", lambda some, _: [gain**-k for k in range(len(some))])
    data = oracles.sample(2, n_classes=4)
    plain = spectral_importance(_net(), data, Protocol(3))
    net = Uncopied(*_net()).eval()
    found = spectral_importance(net, data, FAST)
    assert set(found.forwards) <= {"threads"}
    np.testing.assert_array_equal(found.values, plain.values)
    np.testing.assert_array_equal(spectral_importance(net, data, Protocol(3)).values, plain.values)


class DayAndNight(nn.Module):
    """Two branches with one convolution; only dark images take the second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 8, 3)
        self.day = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())
        self.night = nn.Sequential(conv, nn.GroupNorm(2, 8), nn.ReLU())
        self.day[1].running_var.fill_(0.1)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        bright = (images.amax(dim=(1, 2, 3)) > 0.05).tolist()
        rows = [
            (self.day if day else self.night)(image[None])
            for image, day in zip(images, bright, strict=True)
        ]
        return self.head(torch.cat(rows).mean(dim=(2, 3)))


@pytest.mark.usefixtures("always_faster")
def test_a_layer_that_other_code_reads_stays_as_it_is():
    data, net = oracles.sample(3, n_classes=4), DayAndNight().eval()
    plain = spectral_importance(net, data, Protocol(3))
    fast = spectral_importance(net, data, FAST)
    assert "fold_batch_norms" in fast.forwards
    np.testing.assert_allclose(fast.values, plain.values, rtol=0, atol=1e-5)


class WrongOnBlack(nn.Module):
    """Tells a black image from others by the layout of its memory."""

    def forward(self, images: Tensor) -> Tensor:
        odd = float(images.stride(1) == 1)
        dark = (images.abs().amax(dim=(1, 2, 3)) == 0).float()[:, None]
        return images.mean(dim=(2, 3)) + dark * odd * torch.tensor([1.0, 0.0, 0.0])


@pytest.mark.usefixtures("always_faster")
def test_the_black_image_is_compared_too():
    found = spectral_importance(WrongOnBlack().eval(), oracles.sample(2), FAST)
    assert "channels_last" not in found.forwards


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.flatten(1)[:, :1], "at least 2 classes"),
        (lambda x: (x,), "expected logits of shape"),
        (lambda x: x.flatten(1)[:, 0], "expected logits of shape"),
        (lambda x: x.flatten(1)[:, :2], "label .* is out of range"),
    ],
)
@pytest.mark.parametrize(
    "options", [{"protocol": Protocol(3), "precision": "bfloat16"}, {"protocol": FAST}]
)
def test_models_of_another_kind_are_told_what_is_wrong(model, message, options):
    images, labels = oracles.sample(2)
    with pytest.raises(InputError, match=message):
        spectral_importance(model, (images, torch.full_like(labels, 2)), **options)


class HalfWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(432, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1).to(self.head.weight.dtype))


def test_models_with_half_weights_still_run():
    data = oracles.sample(2, n_classes=4)
    net = HalfWeights().bfloat16().eval()
    assert spectral_importance(net, data, Protocol(3), precision="bfloat16").n_images == 2


def test_a_resumed_run_is_not_judged_by_another_image(tmp_path):
    """The probe of a resumed run is another image: a coarse precision stays accepted."""
    torch.manual_seed(0)
    net = HalfWeights().eval()
    images, labels = oracles.sample(3, n_classes=4)
    spectral_importance(
        net, (images[:1], labels[:1]), Protocol(3), precision="bfloat16", resume=tmp_path
    )
    assert json.loads((tmp_path / "run.json").read_text())["settled"]["forwards"] == {}
    with torch.no_grad():
        checks = []
        check = tuning._check_half
        try:
            tuning._check_half = lambda *given: checks.append(given)
            spectral_importance(
                net, (images, labels), Protocol(3), precision="bfloat16", resume=tmp_path
            )
        finally:
            tuning._check_half = check
    assert checks == []


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


def test_a_step_without_room_is_not_taken(monkeypatch):
    def build(_forward, _probe):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(tuning, "_ladder", lambda _kind, _device: {"cuda_graph": build})
    plain = Forward(_net(), CPU)
    found = tune(plain, "fast", torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
    assert found == plain
    assert found.steps == (Step("cuda_graph", False, "CUDA out of memory."),)


@pytest.mark.parametrize(("n_bands", "batch_size"), [(3, 64), (3, 20), (3, 5), (5, 8)])
def test_what_depends_on_shapes_is_tried_with_those_of_the_first_pass(
    n_bands, batch_size, monkeypatch
):
    seen = []

    def settled(forward, _kind, probe, _labels, _given):
        seen.append(len(probe))
        return replace(forward, model=lambda images: seen.append(len(images)) or net(images))

    net = oracles.TinyNet()
    monkeypatch.setattr(runner, "tune", settled)
    data, protocol = oracles.sample(9), Protocol(n_bands, forwards="compiled")
    spectral_importance(net, data, protocol, batch_size=batch_size)
    probe, black, first, *_ = seen
    assert probe == first <= batch_size
    assert black == 1


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
