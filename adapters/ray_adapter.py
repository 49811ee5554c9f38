"""Spectral importance on a Ray cluster: models x conditions x images, exactly.

The driver reads the images and keeps the rows; actors, each with its share of CPUs and GPUs, make
them. What an actor or a machine that dies had under way, others do.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import ImportanceRun
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.memory import first_batch_size
from iaside_plugins.parallel.processes import WorkerEnvironment, news, packed, unpacked
from iaside_plugins.parallel.scheduler import (
    RETRIES,
    RowRequest,
    Scheduler,
    WorkerMessage,
    computed_by,
)
from iaside_plugins.parallel.tasks import Task, WorkerSession
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.rows import restore
from iaside_plugins.value_table.stream import count, progress_bar

Source = nn.Module | str | Callable[[], nn.Module]
START = "start one with `ray start --head`, or give address='local'"


def profile_on_ray(
    models: Mapping[str, Source],
    data: Mapping[str, Any],
    protocol: Protocol | None = None,
    *,
    address: str = "auto",
    n_workers: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    batch_size: int | str = 64,
    precision: str = "float32",
    retries: int = RETRIES,
    resume: Path | str | None = None,
    max_images: int | None = None,
    target_error: float | None = None,
    target: str = "signed_score",
    show_progress: bool = False,
) -> dict[tuple[str, str], SpectralImportance]:
    """`spectral_importance` of every model under every condition, on the workers of a cluster.

    Groups of images are handed out as workers become free, two to each at most; the next model or
    condition begins while the last groups of the one before it are under way.

    Args:
        models: By name: a module in evaluation mode, a specification of `load_model`, or a
            function without arguments; built here one after the other, and copied to the workers.
        data: By the name of the condition: images as `spectral_importance` takes them; read once
            for each model.
        protocol: Every choice that changes a number; ``Protocol()`` by default.
        address: "auto" (the cluster of this machine), "host:6379", or "local" for a cluster of
            this machine's own that ends with the call. In a process that is connected already,
            that connection is used.
        n_workers: As many as the cluster has room for by default.
        num_cpus: Of one worker, and its threads.
        num_gpus: GPUs of one worker; by default 1 where the cluster has any, else 0.
        batch_size: As for `spectral_importance`.
        precision: "float64" needs models in double.
        retries: How often a group is tried again after the worker that ran it died.
        resume: Folder that keeps finished images, for every model and condition.
        max_images: As for `spectral_importance`, as `target_error` and `target`: for each result.
        target_error: See `max_images`.
        target: See `max_images`.
        show_progress: Whether to show a progress bar over all images on stderr.

    Returns:
        Results by (model, condition).

    Raises:
        InputError: No cluster or no room on it, bad input, or images that kill every worker.
        MissingExtraError: Ray is not installed.
    """
    if not models or not data:
        raise InputError("expected at least one model and one condition")
    protocol = protocol or Protocol()
    profiles: dict[RowRequest, tuple[tuple[str, str], ImportanceRun]] = {}
    known = [count(images, max_images) for images in data.values()]
    total = None if None in known else len(models) * sum(filter(None, known))
    with connected(address) as ray:
        gpus = _gpus(ray, num_gpus)
        places = _places(ray, n_workers, num_cpus, gpus)
        actors = Actors(ray, num_cpus, gpus)
        n_rows = first_batch_size(batch_size, actors.device)

        def runs() -> Iterator[RowRequest]:
            for name, source in models.items():
                model = _built(source)
                game = Game(model, protocol, model_device(model), batch_size, precision)  # checks
                actors.add(name, model)
                for condition, images in data.items():
                    slugs = [_slug(text) for text in (name, condition) if text]
                    folder = None if resume is None else Path(resume, *slugs)
                    profile = ImportanceRun(
                        model,
                        images,
                        protocol,
                        precision=precision,
                        resume=folder,
                        max_images=max_images,
                        target_error=target_error,
                        target=target,
                    )
                    groups = profile.groups(n_rows)
                    restore(game, profile.store)
                    run = RowRequest(name, protocol, batch_size, precision, groups, profile.store)
                    profiles[run] = (name, condition), profile
                    yield run

        try:
            with progress_bar(total, show_progress) as bar:
                for run, group, keys in computed_by(Scheduler(actors, places, retries), runs()):
                    key, profile = profiles[run]
                    bar.set_description(" ".join(key), refresh=False)
                    bar.update(len(group))
                    look = profile.take(group, keys)
                    run.stopped = look is not None and look.done
        finally:
            actors.stop()
            for _, profile in profiles.values():
                profile.store.flush()
    return {
        key: profile.result(run.n_forward, tuple(run.choices or ()))
        for run, (key, profile) in profiles.items()
    }


def importance_on_ray(
    model: nn.Module, data: Any, protocol: Protocol, *, address: str, device: str, **options: Any
) -> SpectralImportance:
    """`profile_on_ray` of one model on one set of images, for the command line.

    Args:
        model: As `data` and `protocol`, of `spectral_importance`.
        data: See `model`.
        protocol: See `model`.
        address: Of the cluster.
        device: "cpu" for workers without a GPU, "cuda" for one each, "auto" for what there is.
        options: Of `profile_on_ray`.

    Raises:
        InputError: For another device, and as `profile_on_ray`.
    """
    if device not in (gpus := {"auto": None, "cpu": 0.0, "cuda": 1.0}):
        raise InputError(f"on a Ray cluster device=... is auto, cpu or cuda, got {device!r}")
    found = profile_on_ray(
        {"": model}, {"": data}, protocol, address=address, num_gpus=gpus[device], **options
    )
    return found["", ""]


class Worker:
    """What an actor runs: one model at a time, fetched when a shard of another one comes."""

    def __init__(self, device: str, surroundings: WorkerEnvironment) -> None:
        surroundings.take_over()
        self._device = torch.device(device)
        self._desk: tuple[str, WorkerSession] | None = None

    def ready(self) -> bytes:
        """Says that it is there."""
        return pickle.dumps(WorkerMessage())

    def make(self, reference: list[Any], shard: Task) -> bytes:
        """The rows of a shard; the reference to its model is in a list so that Ray leaves it be."""
        if self._desk is None or self._desk[0] != shard.model:
            self._desk = None  # room for the next model
            model = unpacked(_ray().get(reference[0]), self._device)
            self._desk = shard.model, WorkerSession(model, self._device)
        desk = self._desk[1]
        try:
            return news(desk, desk.begin(shard))
        except Exception as error:  # noqa: BLE001  the driver raises it
            return news(desk, error)


class Actors:
    """Ray actors by their places, see `crew.Workers`."""

    def __init__(self, ray: Any, num_cpus: float, num_gpus: float) -> None:
        self.device = torch.device("cuda" if num_gpus else "cpu")
        self._ray = ray
        self._kind = ray.remote(Worker).options(num_cpus=num_cpus, num_gpus=num_gpus)
        self._surroundings = WorkerEnvironment.here(max(1, int(num_cpus)))
        self._models: dict[str, Any] = {}
        self._there: dict[int, tuple[Any, deque[Any]]] = {}  # actor, what it has under way

    def add(self, name: str, model: nn.Module) -> None:
        """Make a model known to the workers."""
        self._models[name] = self._ray.put(packed(model, self._ray.cloudpickle))

    def start(self, place: int) -> None:
        """Ask the cluster for a worker; it may have to wait for room."""
        actor = self._kind.remote(str(self.device), self._surroundings)
        self._there[place] = actor, deque([actor.ready.remote()])

    def give(self, place: int, shard: Task) -> None:
        """Send a shard to a worker."""
        actor, under_way = self._there[place]
        under_way.append(actor.make.remote([self._models[shard.model]], shard))

    def hear(self) -> list[tuple[int, WorkerMessage]]:
        """News of one worker."""
        places = {refs[0]: place for place, (_, refs) in self._there.items() if refs}
        place = places[reference := self._ray.wait(list(places))[0][0]]
        try:
            heard: WorkerMessage = pickle.loads(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:
            heard = WorkerMessage(error=InputError(f"a worker failed: {error.cause}"))
        except self._ray.exceptions.RayError as error:  # actor, machine or object lost
            self._end(place)
            return [(place, WorkerMessage(died=str(error).splitlines()[0]))]
        self._there[place][1].popleft()
        return [(place, heard)]

    def _end(self, place: int) -> None:
        self._ray.kill(self._there.pop(place)[0])

    def stop(self) -> None:
        """End all workers, whatever they do."""
        for place in list(self._there):
            self._end(place)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster; a connection that was there before is used and stays.

    Raises:
        InputError: There is no such cluster.
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    own = address == "local"
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR if own else logging.WARNING,
            **({"include_dashboard": False} if own else {}),
        )
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no Ray cluster at {address!r} ({reason}); {START}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--ray needs Ray: pip install 'iaside-plugins[ray]'") from error
    return ray


def _built(source: Source) -> nn.Module:
    if isinstance(source, nn.Module):
        return source
    return load_model(source) if isinstance(source, str) else source()


def _gpus(ray: Any, wanted: float | None) -> float:
    return float(ray.cluster_resources().get("GPU", 0) >= 1) if wanted is None else wanted


def _places(ray: Any, wanted: int | None, num_cpus: float, num_gpus: float) -> int:
    """Workers to start: as many as asked for, or as there is room for."""
    if wanted is not None and (type(wanted) is not int or wanted < 1):
        raise InputError(f"n_workers must be an integer of at least 1, got {wanted!r}")
    there, needs = ray.cluster_resources(), {"CPU": num_cpus, "GPU": num_gpus}
    room = [int(there.get(kind, 0) // need) for kind, need in needs.items() if need > 0]
    if not room or min(room) < 1:
        have = ", ".join(f"{there.get(kind, 0):g} {kind}s" for kind in needs)
        wants = f"{num_cpus:g} CPUs and {num_gpus:g} GPUs"
        raise InputError(f"no room for a worker of {wants}: the cluster has {have}")
    return wanted or min(room)


def _slug(name: str) -> str:
    """A folder's name: legible, and its own for every name."""
    return f"{re.sub('[^A-Za-z0-9.-]+', '_', name)[:60]}-{sha256(name.encode()).hexdigest()[:6]}"
