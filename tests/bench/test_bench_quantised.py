"""The quantised networks of `bench_quantised.py` are rounded ones, and differences are paired."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins.adapters.models.classifier import Classifier
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.workflows.source import open_model

WHERE = importlib.util.spec_from_file_location(
    "bench_quantised", Path(__file__).with_name("bench_quantised.py")
)
bench = importlib.util.module_from_spec(WHERE)
WHERE.loader.exec_module(bench)
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning")


class SameConv(nn.Conv2d):
    """Pads on the right and at the bottom, as Keras does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = max(self.kernel_size[0] - self.stride[0], 0)
        return super().forward(nn.functional.pad(x, (p // 2, p - p // 2, p // 2, p - p // 2)))


class NormAct(nn.BatchNorm2d):
    """Holds what follows it, as timm's does."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


@pytest.fixture(scope="module")
def model() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [SameConv(3, 6, 3, stride=2), NormAct(6), nn.Conv2d(6, 6, 3, bias=False)]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))
        for values in (net[0].weight, net[2].weight, net[-1].weight, net[1].running_mean):
            nn.init.normal_(values)
        nn.init.zeros_(net[-1].bias)
    info = open_model("python:tiny_model:network", device="cpu").info
    return Classifier(net, info)


def test_plain_layers_are_the_same_network(model):
    images, _ = oracles.sample(4, (16, 16))
    net = bench.plain(model.net)
    assert {type(part) for part in net.modules()}.isdisjoint({SameConv, NormAct})
    np.testing.assert_allclose(net(images).detach(), model.net(images).detach(), atol=1e-6)


def test_fewer_bits_round_more(model):
    images, _ = oracles.sample(16, (16, 16))
    with torch.no_grad():
        exact = model(images)
        off = {
            bits: float((bench.quantised(model, images, bits)(images) - exact).abs().max())
            for bits in (8, 2)
        }
    assert 0 < off[8] < off[2] / 8


def test_what_a_relu6_clips_has_its_range_but_for_the_first(model):
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.ReLU6()]
    more = [nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 3, 3), nn.ReLU()]
    assert bench.clipped(nn.Sequential(*layers, *more)) == {"3", "5", "6"}
    assert bench.clipped(nn.Sequential(nn.ReLU6())) == set()


def test_padding_of_another_kind_is_no_silent_change(model):
    class Reversed(SameConv):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.Conv2d.forward(self, nn.functional.pad(x, (1, 0, 1, 0)))

    net = nn.Sequential(Reversed(3, 6, 3, stride=2), *list(model.net)[1:])
    images, _ = oracles.sample(4, (16, 16))
    with pytest.raises(bench.InputError, match="plain layers give other logits"):
        bench.quantised(Classifier(net.eval(), model.info), images, 8)


def test_differences_are_those_of_the_models_and_halves_add_up(model):
    images, labels = oracles.sample(6, (16, 16))
    noise = 0.5 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    perturbed = {Condition("gaussian_noise", 3): (images + noise).clamp(0, 1)}
    turned = copy.deepcopy(model.net)
    turned[-1].weight.data.neg_()
    other = Classifier(turned, model.info)
    models = {"float": model, "same": model, "8": other}
    found = bench.compared(models, [(images, perturbed, labels, list("abcdef"))])
    for part in ("clean", "perturbed", "added", "lower", "upper"):
        first, then = (found[name]["mean"][part][0] for name in ("float", "8"))
        assert found["difference"]["8"]["noise"][part][0] == pytest.approx(then - first)
        value, low, high = found["difference"]["same"]["mean"][part]
        assert value == 0
        assert low < 0 < high
    split = found["difference"]["8"]["mean"]
    assert split["lower"][0] + split["upper"][0] == pytest.approx(split["added"][0])
    assert split["clean"][0] != 0


def test_other_readings_add_what_they_make_wrong(model):
    images, _ = oracles.sample(5, (16, 16))
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    dark = torch.zeros_like(images)
    with torch.no_grad():
        lost = float((model(dark).argmax(dim=1) != labels).double().mean())
    read = {Condition("pillow box"): images, Condition("opencv area"): dark}
    found = bench.systematic({"float": model, "8": model}, [(images, read, labels, list("abcde"))])
    assert found["readings"] == ["pillow box", "opencv area"]
    assert found["float"]["clean"][0] == 0
    assert found["float"]["added"][0] == pytest.approx(lost / 2)
    assert found["difference"]["8"]["added"][0] == 0
