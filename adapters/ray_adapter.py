"""Spectral importance of several models under several conditions, on a Ray cluster.

The driver reads the images and stores the rows; actors, each with its share of CPUs and GPUs,
compute them. The tasks of an actor or a machine that dies go to others. The numbers are those of
one process.
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
from iaside_plugins.importance.run import ImportanceRun, importance_work
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.runner import ModelRunner, first_batch_size
from iaside_plugins.parallel.processes import WorkerEnvironment, packed, unpacked
from iaside_plugins.parallel.scheduler import RETRIES, RowRequest, Scheduler, scheduled_groups
from iaside_plugins.parallel.tasks import Task, WorkerMessage, WorkerSession
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import progress_bar, times
from iaside_plugins.value_table.rows import prepare_store
from iaside_plugins.value_table.stream import count

Source = nn.Module | str | Callable[[], nn.Module]
START = "start one with `ray start --head`, or give address='local'"


def profile_on_ray(  # noqa: PLR0913  the public signature
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
    """Compute the `spectral_importance` of every model under every condition on a cluster.

    Groups of images go to workers as these become free, at most two to each; the next model or
    condition begins while the last groups of the one before are still being computed.

    Args:
        models: Name -> a module in evaluation mode, a specification of `load_model`, or a function
            without arguments that returns a module. They are built in this process, one after the
            other, and copied to the workers.
        data: Name of the condition -> images as `spectral_importance` takes them, read once for
            each model.
        protocol: Every choice that changes a number; ``Protocol()`` by default.
        address: "auto" (the cluster of this machine), "host:6379", or "local" for a cluster on
            this machine that ends with the call. If this process is already connected to a
            cluster, that one is used.
        n_workers: Number of workers; by default as many as the cluster has room for.
        num_cpus: CPUs of one worker, and its number of threads.
        num_gpus: GPUs of one worker; by default 1 if the cluster has any, else 0.
        batch_size: As for `spectral_importance`.
        precision: "float64" needs models in double.
        retries: How often a group is tried again after the worker that ran it died.
        resume: Folder that keeps finished images, with a folder for every model and condition.
        max_images: As for `spectral_importance`, for each result.
        target_error: As for `spectral_importance`, for each result.
        target: As for `spectral_importance`, for each result.
        show_progress: Whether to show a progress bar over all images on stderr.

    Returns:
        (model, condition) -> result.

    Raises:
        InputError: There is no cluster or no room on it, input cannot be used, or images kill
            every worker.
        MissingExtraError: Ray is not installed.
    """
    if not models or not data:
        raise InputError("expected at least one model and one condition")
    protocol = protocol or Protocol()
    runs: dict[RowRequest, tuple[tuple[str, str], ImportanceRun]] = {}
    counts = [count(images, max_images) for images in data.values()]
    total = None if None in counts else len(models) * sum(filter(None, counts))
    with connected(address) as ray:
        gpus = _gpus(ray, num_gpus)
        n_actors = _n_workers(ray, n_workers, num_cpus, gpus)
        actors = Actors(ray, num_cpus, gpus)
        n_rows = first_batch_size(batch_size, actors.device)

        def requests() -> Iterator[RowRequest]:
            for name, source in models.items():
                model = _model(source)
                ModelRunner(model, model_device(model), batch_size, precision)  # checks
                actors.add(name, model)
                for condition, images in data.items():
                    slugs = [_slug(text) for text in (name, condition) if text]
                    folder = None if resume is None else Path(resume, *slugs)
                    importance = ImportanceRun(
                        model,
                        images,
                        protocol,
                        precision=precision,
                        resume=folder,
                        max_images=max_images,
                        target_error=target_error,
                        target=target,
                    )
                    groups, store = importance.groups(n_rows), importance.store
                    prepare_store(store, protocol)
                    request = RowRequest(name, protocol, batch_size, precision, groups, store)
                    runs[request] = (name, condition), importance
                    yield request

        try:
            each = importance_work(protocol)
            work = None if total is None else times(each, total)
            with progress_bar(work, show_progress) as bar:
                scheduler = Scheduler(actors, n_actors, retries)
                for request, group, keys in scheduled_groups(scheduler, requests()):
                    key, importance = runs[request]
                    bar.set_description(" ".join(key).strip())
                    bar.update(times(each, len(group)))
                    check = importance.add(group, keys)
                    request.stopped = check is not None and check.done
        finally:
            actors.stop()
            for _, importance in runs.values():
                importance.store.flush()
    return {
        key: importance.result(request.n_forward, tuple(request.choices or ()))
        for request, (key, importance) in runs.items()
    }


def importance_on_ray(
    model: nn.Module, data: Any, protocol: Protocol, *, address: str, device: str, **options: Any
) -> SpectralImportance:
    """Compute the importance of one model on one set of images on a cluster.

    Args:
        model: As for `spectral_importance`.
        data: As for `spectral_importance`.
        protocol: As for `spectral_importance`.
        address: As for `profile_on_ray`.
        device: "cpu" for workers without a GPU, "cuda" for one GPU each, "auto" for one GPU each
            if the cluster has any.
        options: The other options of `profile_on_ray`.

    Raises:
        InputError: The device is another one; also as `profile_on_ray`.
    """
    if device not in (gpus := {"auto": None, "cpu": 0.0, "cuda": 1.0}):
        raise InputError(f"on a Ray cluster device=... is auto, cpu or cuda, got {device!r}")
    found = profile_on_ray(
        {"": model}, {"": data}, protocol, address=address, num_gpus=gpus[device], **options
    )
    return found["", ""]


class Worker:
    """A Ray actor that computes rows; it holds one model at a time, that of its last task."""

    def __init__(self, device: str, environment: WorkerEnvironment) -> None:
        environment.apply()
        self._device = torch.device(device)
        self._session: tuple[str, WorkerSession] | None = None  # name of the model, its session

    def ready(self) -> bytes:
        """Return the message that the worker is ready."""
        return pickle.dumps(WorkerMessage())

    def make(self, reference: list[Any], task: Task) -> bytes:
        """Return the message with the rows of a task, or with the error that it raised.

        Args:
            reference: Ray's reference to the model, in a list so that Ray does not resolve it.
            task: The task.
        """
        if self._session is None or self._session[0] != task.model:
            self._session = None  # frees the memory for the next model
            model = unpacked(_ray().get(reference[0]), self._device)
            self._session = task.model, WorkerSession(model, self._device)
        session = self._session[1]
        try:
            return session.message(session.start(task))
        except Exception as error:  # noqa: BLE001  the driver raises it
            return session.message(error)


class Actors:
    """Ray actors by their places 0, 1, ...; the `Workers` of a `Scheduler`."""

    def __init__(self, ray: Any, num_cpus: float, num_gpus: float) -> None:
        self.device = torch.device("cuda" if num_gpus else "cpu")
        self._ray = ray
        self._worker = ray.remote(Worker).options(num_cpus=num_cpus, num_gpus=num_gpus)
        self._environment = WorkerEnvironment.current(max(1, int(num_cpus)))
        self._models: dict[str, Any] = {}
        self._actors: dict[int, tuple[Any, deque[Any]]] = {}  # actor, results that are awaited

    def add(self, name: str, model: nn.Module) -> None:
        """Make a model known to the workers."""
        self._models[name] = self._ray.put(packed(model, self._ray.cloudpickle))

    def start(self, place: int) -> None:
        """Ask the cluster for a worker, which may have to wait for room."""
        actor = self._worker.remote(str(self.device), self._environment)
        self._actors[place] = actor, deque([actor.ready.remote()])

    def send(self, place: int, task: Task) -> None:
        """Send a task to a worker."""
        actor, awaited = self._actors[place]
        awaited.append(actor.make.remote([self._models[task.model]], task))

    def receive(self) -> list[tuple[int, WorkerMessage]]:
        """Wait for the next message of a worker."""
        places = {results[0]: place for place, (_, results) in self._actors.items() if results}
        place = places[reference := self._ray.wait(list(places))[0][0]]
        try:
            message: WorkerMessage = pickle.loads(self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:
            message = WorkerMessage(error=InputError(f"a worker failed: {error.cause}"))
        except self._ray.exceptions.RayError as error:  # actor, machine or object lost
            self._end(place)
            return [(place, WorkerMessage(died=str(error).splitlines()[0]))]
        self._actors[place][1].popleft()
        return [(place, message)]

    def _end(self, place: int) -> None:
        """End a worker."""
        self._ray.kill(self._actors.pop(place)[0])

    def stop(self) -> None:
        """End all workers, whatever they are doing."""
        for place in list(self._actors):
            self._end(place)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster and yield Ray; an existing connection is used, and left open.

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
    """Import Ray, with its usage reports off unless the user has set them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError.of("--ray needs Ray", "ray") from error
    return ray


def _model(source: Source) -> nn.Module:
    """Return the model of one of the values that `profile_on_ray` takes."""
    if isinstance(source, nn.Module):
        return source
    return load_model(source) if isinstance(source, str) else source()


def _gpus(ray: Any, wanted: float | None) -> float:
    """Return the GPUs of one worker."""
    return float(ray.cluster_resources().get("GPU", 0) >= 1) if wanted is None else wanted


def _n_workers(ray: Any, wanted: int | None, num_cpus: float, num_gpus: float) -> int:
    """Return how many workers to start: as many as asked for, or as there is room for."""
    if wanted is not None and (type(wanted) is not int or wanted < 1):
        raise InputError(f"n_workers must be an integer of at least 1, got {wanted!r}")
    resources, needs = ray.cluster_resources(), {"CPU": num_cpus, "GPU": num_gpus}
    room = [int(resources.get(kind, 0) // need) for kind, need in needs.items() if need > 0]
    if not room or min(room) < 1:
        have = ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in needs)
        wants = f"{num_cpus:g} CPUs and {num_gpus:g} GPUs"
        raise InputError(f"no room for a worker of {wants}: the cluster has {have}")
    return wanted or min(room)


def _slug(name: str) -> str:
    """Return a folder's name that can be read, and differs for every name."""
    return f"{re.sub('[^A-Za-z0-9.-]+', '_', name)[:60]}-{sha256(name.encode()).hexdigest()[:6]}"
