"""What `bench_temperature.py` calls an illusion is one, and a small step is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import oracles
import pytest
import torch
from torch import nn

from iaside_plugins.adapters.foolbox_adapter import AttackSpec

WHERE = importlib.util.spec_from_file_location(
    "bench_temperature", Path(__file__).with_name("bench_temperature.py")
)
bench = importlib.util.module_from_spec(WHERE)
WHERE.loader.exec_module(bench)
SPEC = AttackSpec("pgd", "Linf", 5, 0.5, True, (0.03,))


class Loud(nn.Module):
    """A linear network; of a large size the gradient of its cross-entropy is 0 in float32."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.net = nn.Linear(3 * 16 * 16, 3)
        weights = torch.randn(3, 3 * 16 * 16, generator=torch.Generator().manual_seed(0))
        self.net.weight.data, self.net.bias.data = size * weights, torch.zeros(3)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images.flatten(1) - 0.5)


def own_answers(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    images, _ = oracles.sample(12, (16, 16))
    with torch.no_grad():
        return images, model(images).argmax(dim=1)


def test_large_logits_feign_robustness_and_more_starts_do_not_see_it():
    pytest.importorskip("foolbox")
    model = Loud(1e6)
    found = bench.attacked(model, *own_answers(model), SPEC, [1e5, 1e6])
    assert found["n_right"] == 12
    assert found["n_robust"] >= 11  # a random start alone may fool one
    assert found["n_left"] < 6 < found["n_left_starts"]
    assert found["change"][2] < 0
    assert found["change_starts"][2] < 0


def test_ordinary_logits_feign_nothing():
    pytest.importorskip("foolbox")
    model = Loud(1.0)
    found = bench.attacked(model, *own_answers(model), SPEC, [1.0])
    assert found["n_robust"] == found["n_left"] < 12
    assert "n_left_starts" not in found


def test_what_an_earlier_try_fools_is_not_attacked_again():
    pytest.importorskip("foolbox")
    model = Loud(1.0)
    images, labels = own_answers(model)
    nothing = torch.zeros(12, dtype=torch.bool)
    assert not bench.holding(model, images, labels, SPEC, [(1.0, 0)], nothing).any()


def test_a_score_at_the_same_temperature_is_the_same():
    model = Loud(1.0)
    images, labels = own_answers(model)
    batches = [(images, labels)]
    found = bench.scores(model, batches, 1.0)
    assert found["1"] == found["fitted"]
    assert found["change"][0] == 0
    other = bench.scores(model, batches, 5.0)
    assert other["1"] == found["1"]
    assert other["fitted"] != other["1"]
    assert other["change"][0] == pytest.approx(other["fitted"][0] - other["1"][0])
