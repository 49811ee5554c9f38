"""benchmark(..., explain=True): RobustBench's own numbers, split over bands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from robustbench_layout import Pooled, fitted, make_cifar

from iaside_plugins.adapters.imagenet.cifar import read_cifar
from iaside_plugins.adapters.robustbench_adapter.api import benchmark, cost, evaluate
from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.errors import InputError

N = 8
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cifar(tmp_path_factory.mktemp("cifar"), N)


@pytest.fixture(scope="module")
def net(cifar: Path) -> Pooled:
    pixels, labels = read_cifar(cifar, "cifar10") or (None, None)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    return fitted(images, torch.from_numpy(labels.copy()), 10, brittle=1.0)


def options(cifar: Path, **given: Any) -> dict[str, Any]:
    return {
        "n_examples": N,
        "data_dir": cifar,
        "show_progress": False,
        "n_spectral": None,
        "n_bands": 2,
        "profiles": False,
        "explain": True,
        **given,
    }


def test_the_split_adds_up_to_the_robust_accuracy_and_is_in_robustbenchs_json(net, cifar):
    given = options(cifar, threat_model="corruptions", to_disk=True, model_name="mine")
    _, robust = benchmark(net, **given, entry_path="entry.json")
    entry = parse_entry(Path("entry.json").read_bytes(), "entry.json")
    split = entry.decomposition
    assert split is not None
    assert len(split.conditions) == 75
    assert split.mean.perturbed == pytest.approx(1 - robust)
    assert split.mean.clean + sum(split.mean.bands) == pytest.approx(1 - robust)
    (file,) = Path("model_info").rglob("mine.json")
    group = json.loads(file.read_text())["iaside_corruptions"]
    assert group["error_by_band"]["mean"]["bands"] == list(split.mean.bands)
    passes = cost(net, **given).passes["explain"]
    assert passes == N * (75 * 3 + 15)  # counted in the network: a clean pass for each corruption


def test_a_forged_split_is_refused(net, cifar):
    made = evaluate(net, **options(cifar, threat_model="corruptions"))
    stem = made["entry_id"]

    def problems(change: Any) -> list[str]:
        raw = json.loads(json.dumps(made))
        change(raw["decomposition"])
        return check_entry(parse_entry(json.dumps(raw), f"{stem}.json"), stem)

    assert problems(lambda group: None) == []
    first = ("conditions", 0)

    def of(group: Any) -> Any:
        return group[first[0]][first[1]]

    cases = {
        "clean + bands": lambda g: of(g).update(perturbed=of(g)["perturbed"] / 2 + 0.25),
        "a share of": lambda g: of(g).update(
            perturbed=of(g)["perturbed"] + 0.01, bands=[of(g)["bands"][0] + 0.01, of(g)["bands"][1]]
        ),
        "expected an interval": lambda g: of(g).update(bands_interval=[[0.5, 0.4]] * 2),
        "expected 2 bands": lambda g: of(g).update(bands=[0.1]),
        "every condition once": lambda g: g["conditions"].append(of(g)),
        "mean of the conditions": lambda g: g["mean"].update(bands=[9e-3, -9e-3]),
        "expected at most": lambda g: g.update(n_images=10**6),
        "benchmark's": lambda g: g["protocol"].update(range_handling="rescale", protocol_id="x"),
    }
    for message, change in cases.items():
        found = problems(change)
        assert any(message in line or "protocol_id" in line for line in found), (message, found)


def test_errors_under_autoattack_are_split(net, cifar):
    attack = {"eps": 3 / 255, "attacks": ["apgd-ce"]}
    made = evaluate(net, **options(cifar, **attack))
    (one,) = made["decomposition"]["conditions"]
    robust = made["adversarial"]["attacks"][0]["accuracy"]["value"]
    assert one["level"] == 3 / 255
    assert one["perturbed"] == pytest.approx(1 - robust)
    with pytest.raises(InputError, match="spectral=False"):
        benchmark(net, **options(cifar, spectral=False, **attack))
