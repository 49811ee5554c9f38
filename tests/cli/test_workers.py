"""The same figures from several devices, in processes of their own; bad devices in one line."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch

from iaside_plugins.cli import groups
from iaside_plugins.parallel.processes import device_pool

MODEL = "python:tiny_model:network"


def _options(images):
    return ("--data", images, "--n-bands", 3, "--batch-size", 8, "--json", "-")


@pytest.mark.usefixtures("forked_workers")
def test_two_devices_give_what_one_gives(iaside, images, tmp_path):
    one = json.loads(iaside("profile", MODEL, *_options(images), "--device", "cpu").out)
    two = json.loads(iaside("profile", MODEL, *_options(images), "--device", "cpu,cpu").out)
    assert 0 <= two.pop("n_forward") - one.pop("n_forward") <= 1  # the black image, by each
    assert one == two
    more = ("--corruptions", "contrast,fog", "--attacks", "none", "--workers", 2)
    where = ("--device", "cpu,cpu", "--out", tmp_path / "e.json")
    entry = iaside("evaluate", MODEL, *_options(images), *more, *where)
    found = json.loads(entry.out)
    assert found["spectral"]["score"] == one["score"]
    here = iaside("evaluate", MODEL, *_options(images), *more, "--out", tmp_path / "f.json")
    assert found["corruption"] == json.loads(here.out)["corruption"]


def test_devices_that_are_not_there(iaside, images):
    for device in ("cpu,cuda:7", "cuda:7,cpu"):
        iaside("profile", MODEL, *_options(images), "--device", device).refused("cuda:7", "GPUs")
    iaside("profile", MODEL, *_options(images), "--device", "cpu,tpu").refused("'tpu'")
    iaside("profile", MODEL, *_options(images), "--ray", "auto", "--device", "cuda:1").refused(
        "on a Ray cluster --device is auto, cpu or cuda, got 'cuda:1'"
    )


@pytest.mark.usefixtures("forked_workers")
def test_a_ray_cluster_gets_what_one_process_would_do(iaside, images, monkeypatch, tmp_path):
    """What the command asks for; `test_ray_adapter` has a cluster."""
    asked = []

    @contextlib.contextmanager
    def workers(*address_and_device):
        asked.append(address_and_device)
        with device_pool([torch.device("cpu")]) as pool:
            yield pool

    monkeypatch.setattr(groups, "workers_on_ray", workers)
    one = json.loads(iaside("profile", MODEL, *_options(images)).out)
    found = iaside("profile", MODEL, *_options(images), "--ray", "head:6379")
    assert json.loads(found.out) == one
    assert asked == [("head:6379", "auto")]
    split = ("--corruptions", "contrast", "--severities", 5, "--forwards", "plain")
    one = json.loads(iaside("explain", MODEL, *_options(images), *split).out)
    run = iaside("explain", MODEL, *_options(images), *split, "--ray", "auto", "--device", "cpu")
    assert 0 <= (found := json.loads(run.out)).pop("n_forward") - one.pop("n_forward") <= 2
    assert found == one
    whole = ("--corruptions", "contrast", "--attacks", "none", "--out")
    iaside("evaluate", MODEL, *_options(images), *whole, tmp_path / "a.json")
    run = iaside("evaluate", MODEL, *_options(images), *whole, tmp_path / "b.json", "--ray", "auto")
    one, found = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert found["corruption"] == one["corruption"]
    assert asked[1:] == [("auto", "cpu"), ("auto", "auto")]
