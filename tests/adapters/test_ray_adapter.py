"""A local Ray cluster: equal numbers, a worker killed in the middle, errors, what is missing."""

from __future__ import annotations

import sys
import threading
import time
import types
from functools import partial

import numpy as np
import oracles
import pytest
import torch
from deadly import Deadly, Slow
from image_files import Darker, make_tree

from iaside_plugins import InputError, Protocol, error_decomposition, spectral_importance
from iaside_plugins.adapters import ray_adapter
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.ray_adapter import profile_on_ray
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.errors import MissingExtraError
from iaside_plugins.evaluation.pairs import AlignedImages
from iaside_plugins.importance.chance import chance_warning

OPTIONS = {"batch_size": 8}
SOON = {  # that a machine is dead is noticed within a second
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}


@pytest.fixture(scope="module")
def ray_alone():
    """Ray, which leaves nothing outside."""
    ray = pytest.importorskip("ray", reason="needs Ray, of the extra ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise it leaves a token in the home folder
        yield ray


@pytest.fixture(scope="module")
def cluster(ray_alone):
    """A cluster of two CPUs that ends with the module's tests."""
    # "local": never that of another test process.
    ray_alone.init("local", num_cpus=2, object_store_memory=100 * 2**20, **QUIET)
    yield ray_alone
    ray_alone.shutdown()


def same(found, whole):
    for name in ("per_image", "ends", "labels", "correct"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert (found.ids, found.score, found.n_classes) == (whole.ids, whole.score, whole.n_classes)


@pytest.mark.slow
def test_models_and_conditions_as_one_process_makes_them_though_a_worker_dies(
    cluster, tmp_path, caplog
):
    """The second model kills the first worker that runs it, in the middle of a group."""
    nets = {"timm:a/b": oracles.TinyNet(seed=1), "deadly": Deadly(tmp_path, at=2)}
    models = {"timm:a/b": partial(oracles.TinyNet, seed=1), "deadly": nets["deadly"]}
    data = {"clean": oracles.sample(6), "fog 3": oracles.sample(4, seed=5)}
    protocol, folder = Protocol(4, absence="replacement"), tmp_path / "run"
    found = profile_on_ray(models, data, protocol, resume=folder, **OPTIONS)
    assert list(found) == [(model, condition) for model in models for condition in data]
    told = [
        f"{model}, {condition}: {said}"
        for (model, condition), one in found.items()
        if (said := chance_warning(int(one.correct.sum()), one.n_images, one.n_classes))
    ]
    assert told
    assert [r.message for r in caplog.records if "chance" in r.message] == told
    for (model, condition), result in found.items():
        net = nets[model] if model == "timm:a/b" else Deadly(tmp_path, times=0)
        same(result, spectral_importance(net, data[condition], protocol, **OPTIONS))
    assert len(list(tmp_path.glob("killed-*"))) == 1
    again = profile_on_ray(models, data, protocol, resume=folder, n_workers=1, **OPTIONS)
    assert [result.n_forward for result in again.values()] == [0] * 4
    end = time.monotonic() + 60
    while cluster.available_resources().get("CPU", 0) < 2:  # nothing is left behind
        assert time.monotonic() < end, "workers are left"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_model_that_kills_every_worker_is_an_error(cluster, tmp_path):
    net = Deadly(tmp_path, at=1, times=99)
    with pytest.raises(InputError, match="2 workers died one after the other on the images"):
        profile_on_ray(
            {"x": net}, {"clean": oracles.sample(2)}, Protocol(3), retries=1, n_workers=1, **OPTIONS
        )


@pytest.mark.slow
def test_errors_of_a_worker_come_back_as_they_are(cluster):
    images, labels = oracles.sample(3)
    wrong = {"c": (images, labels * 0 + 9)}
    with pytest.raises(InputError, match="label 9 is out of range: the model has 3 outputs"):
        profile_on_ray({"x": oracles.TinyNet()}, wrong, Protocol(3), n_workers=1)
    with pytest.raises(InputError, match="training mode"):
        profile_on_ray({"x": oracles.TinyNet().train()}, {"c": (images, labels)}, n_workers=1)


@pytest.mark.slow
def test_workers_are_a_device_and_read_their_own_files(cluster, tmp_path):
    make_tree(tmp_path, ("a", "b", "c"), 4, 16, 16)
    data = ImageFolderData(tmp_path, resize=None, crop=None, labels="rank")
    perturbed = {Condition("dark", k): Darker(data, k) for k in (2, 3)}
    pairs = AlignedImages(data, perturbed)
    options = {"batch_size": 16, "device": None}
    importance = spectral_importance(oracles.TinyNet(), data, Protocol(3), **options)
    errors = error_decomposition(oracles.TinyNet(), pairs, **options)
    with ray_adapter.workers_on_ray() as workers:
        options["device"] = workers
        same(spectral_importance(oracles.TinyNet(), data, Protocol(3), **options), importance)
        found = error_decomposition(oracles.TinyNet(), pairs, **options)
    np.testing.assert_array_equal(found.loss.bands, errors.loss.bands)
    assert (found.ids, found.conditions) == (errors.ids, errors.conditions)
    with pytest.raises(InputError, match="auto, cpu or cuda, got 'cuda:1'"):
        ray_adapter.workers_on_ray(device="cuda:1").__enter__()


def test_what_a_cluster_has_no_room_for(cluster):
    with pytest.raises(InputError, match="of 3 CPUs and 0 GPUs: the cluster has 2 CPUs, 0 GPUs"):
        profile_on_ray({"x": oracles.TinyNet()}, {"c": oracles.sample(2)}, num_cpus=3)
    with pytest.raises(InputError, match="n_workers must be an integer of at least 1, got 0"):
        profile_on_ray({"x": oracles.TinyNet()}, {"c": oracles.sample(2)}, n_workers=0)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[ray\]'"):
        profile_on_ray({"x": oracles.TinyNet()}, {"c": oracles.sample(2)})


class Refusing:
    """A Ray that finds no cluster."""

    exceptions = types.SimpleNamespace(RayError=ZeroDivisionError)  # base of Ray's own errors

    def is_initialized(self):
        return False

    def init(self, **_options):
        raise ConnectionError("Could not find any running Ray instance.\nMore of it.")


def test_without_a_cluster(monkeypatch):
    monkeypatch.setattr(ray_adapter, "_ray", Refusing)
    with pytest.raises(InputError, match=r"'auto' \(Could .* instance\.\); start one with `ray"):
        profile_on_ray({"x": oracles.TinyNet()}, {"c": oracles.sample(2)})


@pytest.mark.parametrize("empty", [({}, {"c": None}), ({"x": torch.nn.Identity()}, {})])
def test_nothing_to_do(empty):
    with pytest.raises(InputError, match="at least one model and one condition"):
        profile_on_ray(*empty)


def test_a_token_that_the_cluster_does_not_take(monkeypatch):
    def refuse(*_args, **_options):
        raise ZeroDivisionError("no token\nand much advice")

    monkeypatch.setattr(ray_adapter, "_ray", Refusing)
    monkeypatch.setattr(Refusing, "init", refuse)
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto' \(no token\)"):
        profile_on_ray({"x": oracles.TinyNet()}, {"c": oracles.sample(2)})


@pytest.mark.slow
def test_a_whole_machine_may_die(ray_alone, tmp_path, caplog):
    """Two machines of one CPU each beside the driver's, one of which ends while both work."""
    from ray.cluster_utils import Cluster

    if ray_alone.is_initialized():
        ray_alone.shutdown()
    node = {"object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON, **node}
    machines = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [machines.add_node(num_cpus=1, **node) for _ in range(2)]
        ray_alone.init(address=machines.address, **QUIET)
        own = ray_alone.get_runtime_context().get_node_id()  # any of them: all have one address
        lost = next(node for node in nodes if node.node_id != own)
        net = Slow(tmp_path)

        def end_one():
            while len(list(tmp_path.glob("pid-*"))) < 2:
                time.sleep(0.05)
            machines.remove_node(lost, allow_graceful=False)

        ending = threading.Thread(target=end_one)
        ending.start()
        data = oracles.sample(16)
        found = profile_on_ray({"x": net}, {"c": data}, Protocol(3), **OPTIONS)["x", "c"]
        ending.join()
        same(found, spectral_importance(oracles.TinyNet(), data, Protocol(3), **OPTIONS))
        assert "a worker died" in caplog.text
    finally:
        ray_alone.shutdown()
        machines.shutdown()
