"""What a cost is made of: times of tries, devices that share the work, names of models."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_model import network

from iaside_plugins.display.cost import Cost
from iaside_plugins.value_table import speed as speed_module
from iaside_plugins.value_table.speed import Speed, speed_of
from iaside_plugins.workflows import cost as cost_module
from iaside_plugins.workflows.cost import probed


@pytest.mark.parametrize(
    ("tries", "expected", "n"),
    [
        ([0.9, 0.1, 0.1, 0.1, 0.1], 0.1, 5),  # one while others used the machine
        ([0.1, 0.3, 0.1, 0.3, 0.3], 0.3, 5),  # most of them
        ([1.5, 1.1], 1.3, 2),
        ([7.0], 7.0, 1),  # long enough by itself
    ],
)
def test_a_time_is_the_median_of_a_few_tries(monkeypatch, tries, expected, n):
    clock, made = [0.0], []
    monkeypatch.setattr(speed_module.time, "perf_counter", lambda: clock[0])

    def run():
        clock[0] += tries[len(made)]
        made.append(1)

    assert speed_module.median_seconds(run) == pytest.approx(expected)
    assert len(made) == n


def test_devices_share_every_kind_of_work(monkeypatch):
    monkeypatch.setattr(speed_module, "_timed_pass", lambda *_: (0.5, 4))
    monkeypatch.setattr(speed_module, "_timed_coalitions", lambda *_: 0.1)
    net, shape = network().eval(), (3, 16, 16)
    one, four = (
        speed_of(net, shape, protocol=cost_module.Protocol(2), n_devices=n).seconds for n in (1, 4)
    )
    assert four == pytest.approx({kind: seconds / 4 for kind, seconds in one.items()})


@pytest.mark.parametrize(
    ("workers", "devices", "expected"),
    [(0, 1, 3.0), (0, 2, 1.5), (2, 1, 0.5), (2, 2, 1.0), (8, 2, 0.0), (3, 1, 0.0)],
)
def test_corruptions_are_made_beside_the_passes(monkeypatch, workers, devices, expected):
    """Of 3 s an image, beside passes of 1 s."""
    monkeypatch.setattr(cost_module, "corruption_seconds", lambda *_: 3.0)
    monkeypatch.setattr(
        cost_module, "speed_of", lambda *_, n_devices, **__: Speed({"forward": 1.0 / n_devices})
    )

    class Images(list):
        records = ()
        n_workers = workers

    images = Images([(torch.rand(1, 3, 8, 8), torch.tensor([0]), ["a"])])
    plan = SimpleNamespace(work={"corrupted": 1}, names=["fog"], settings={})
    speed = probed(network(), images, corruptions=plan, n_devices=devices)
    assert speed.seconds["corrupted"] == pytest.approx(expected)


def test_the_cost_of_one_of_several_models_names_it():
    plain = Cost({"bands": {"forward": 10}}, Speed({"forward": 1.0}))
    named = Cost({"bands": {"forward": 10}}, Speed({"forward": 1.0}), of="resnet50")
    assert plain.first_line.startswith("cost: 10 forward passes")
    assert named.first_line.startswith("cost of resnet50: 10 forward passes")
    assert named.to_dict()["of"] == "resnet50"
    assert "of" not in plain.to_dict()
