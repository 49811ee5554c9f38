"""The same figures from several devices, in processes of their own; bad devices in one line."""

from __future__ import annotations

import json

from iaside_plugins.adapters import ray_adapter
from iaside_plugins.errors import InputError

MODEL = "python:tiny_model:network"


def _options(images):
    return ("--data", images, "--n-bands", 3, "--batch-size", 8, "--json", "-")


def test_two_devices_give_what_one_gives(iaside, images, tmp_path):
    one = json.loads(iaside("profile", MODEL, *_options(images), "--device", "cpu").out)
    two = json.loads(iaside("profile", MODEL, *_options(images), "--device", "cpu,cpu").out)
    assert 0 <= two.pop("n_forward") - one.pop("n_forward") <= 1  # the black image, by each
    assert one == two
    more = ("--corruptions", "none", "--attacks", "none")
    where = ("--device", "cpu,cpu", "--out", tmp_path / "e.json")
    entry = iaside("evaluate", MODEL, *_options(images), *more, *where)
    found = json.loads(entry.out)["spectral"]
    assert found["score"] == one["score"]


def test_devices_that_are_not_there(iaside, images):
    for device in ("cpu,cuda:7", "cuda:7,cpu"):
        iaside("profile", MODEL, *_options(images), "--device", device).refused("cuda:7", "GPUs")
    iaside("profile", MODEL, *_options(images), "--device", "cpu,tpu").refused("'tpu'")
    iaside("profile", MODEL, *_options(images), "--ray", "auto", "--device", "cuda:1").refused(
        "on a Ray cluster --device is auto, cpu or cuda, got 'cuda:1'"
    )


def test_a_ray_cluster_gets_what_one_process_would_do(iaside, images, monkeypatch):
    """What the command hands over; `test_ray_adapter` has a cluster."""
    asked = []

    def refuse(*given, **options):
        asked.append((given, options))
        raise InputError("no cluster")

    monkeypatch.setattr(ray_adapter, "profile_on_ray", refuse)
    for device, gpus in (("auto", None), ("cpu", 0), ("cuda", 1)):
        iaside(
            "profile", MODEL, *_options(images), "--ray", "head:6379", "--device", device
        ).refused("no cluster")
        (models, data, protocol), options = asked.pop()
        assert next(iter(models.values())).info.name == "network"
        assert len(next(iter(data.values()))) == 6
        assert protocol.n_bands == 3
        assert options["num_gpus"] == gpus
        assert (options["address"], options["batch_size"]) == ("head:6379", 8)
