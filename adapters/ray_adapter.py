"""The workers of a Ray cluster: actors, each with its share of CPUs and GPUs.

They read their own images, and send rows back; models and jobs lie once in the object store. The
part of an actor or a machine that dies goes to another actor, and the cluster is asked for a new
one: not by Ray's `max_restarts`, with which the part would wait until there is room again.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.errors import InputError, MissingExtraError, first_line
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import ImportanceRun, importance_work
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.integers import as_integer
from iaside_plugins.parallel.pool import RETRIES, DiedError, Pool
from iaside_plugins.parallel.session import Session, WorkerEnvironment
from iaside_plugins.parallel.shards import RowRequest, worker_groups
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import Progress, times
from iaside_plugins.value_table.stream import count

Source = nn.Module | str | Callable[[], nn.Module]
START = "start one with `ray start --head`, or give address='local'"
GPUS = {"auto": None, "cpu": 0.0, "cuda": 1.0}  # of a worker, by the name of its device


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

    The next model or condition begins while the last images of the one before are under way.

    Args:
        models: Name -> a module in evaluation mode, a specification of `load_model`, or a function
            without arguments that returns a module. They are built in this process, one after the
            other, and copied to the workers.
        data: Name of the condition -> images as `spectral_importance` takes them. Files, such as
            those of `ImageFolderData`, are read by the workers, who must have them at the same
            path; of other images the pixels travel, once for each model.
        protocol: Every choice that changes a number; ``Protocol()`` by default.
        address: "auto" (the cluster of this machine), "host:6379", or "local" for a cluster on
            this machine that ends with the call. If this process is already connected to a
            cluster, that one is used.
        n_workers: Number of workers; by default as many as the cluster has room for.
        num_cpus: CPUs of one worker, and its number of threads.
        num_gpus: GPUs of one worker; by default 1 if the cluster has any, else 0.
        batch_size: As for `spectral_importance`.
        precision: "float64" needs models in double.
        retries: How often images are tried again after the worker that had them died.
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
    each = importance_work(protocol)

    def requests(workers: Pool) -> Iterator[RowRequest]:
        for name, source in models.items():
            model = _model(source)
            ModelRunner(model, model_device(model), batch_size, precision)  # checks
            copies = workers.put_model(model)
            for condition, images in data.items():
                slugs = [_slug(text) for text in (name, condition)]
                run = ImportanceRun(
                    model,
                    images,
                    protocol,
                    precision=precision,
                    resume=None if resume is None else Path(resume, *slugs),
                    max_images=max_images,
                    target_error=target_error,
                    target=target,
                )
                request = run.request(batch_size, workers.device, copies)
                runs[request] = (name, condition), run
                yield request
            del model  # before the next one is built

    try:
        with (
            workers_on_ray(
                address,
                n_workers=n_workers,
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                retries=retries,
            ) as workers,
            Progress(None if total is None else times(each, total), show_progress) as bar,
        ):
            for request, group in worker_groups(workers, requests(workers)):
                key, run = runs[request]
                bar.set_description(" ".join(key))
                bar.update(times(each, len(group.keys)))
                check = run.add(group)
                request.stopped = check is not None and check.done
    finally:
        for _, run in runs.values():
            run.store.flush()
    results = {
        key: run.result(request.n_forward, tuple(request.forwards))
        for request, (key, run) in runs.items()
    }
    for key, one in results.items():
        warn_at_chance(int(one.correct.sum()), one.n_images, one.n_classes, ", ".join(key))
    return results


@contextmanager
def workers_on_ray(
    address: str = "auto",
    device: str = "auto",
    *,
    n_workers: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    retries: int = RETRIES,
) -> Iterator[Pool]:
    """Start workers on a cluster; they end with the context.

    They are a `device` of `spectral_importance`, `error_decomposition` and `evaluate`.

    Args:
        address: As for `profile_on_ray`; so are all that are not listed here.
        device: "cpu" for workers without a GPU, "cuda" for one GPU each, "auto" for one GPU each
            if the cluster has any.
        n_workers: Number of workers.
        num_cpus: CPUs of one worker.
        num_gpus: GPUs of one worker, where it is not what the device says.
        retries: How often images are tried again.

    Raises:
        InputError: The device is another one, there is no cluster or no room on it.
        MissingExtraError: Ray is not installed.
    """
    if device not in GPUS:
        raise InputError(f"on a Ray cluster device=... is auto, cpu or cuda, got {device!r}")
    with connected(address) as ray:
        gpus = _gpus(ray, GPUS[device] if num_gpus is None else num_gpus)
        n = _n_workers(ray, n_workers, num_cpus, gpus)
        place = torch.device("cuda" if gpus else "cpu")
        actor = ray.remote(Actor).options(num_cpus=num_cpus, num_gpus=gpus)
        environment = WorkerEnvironment.current(max(1, int(num_cpus)))
        workers = [RayWorker(ray, actor, place, environment) for _ in range(n)]
        with Pool(workers, place, ray.put, retries, ray.cloudpickle) as pool:
            yield pool


class Actor:
    """What runs in a worker of the cluster."""

    def __init__(self, device: torch.device, environment: WorkerEnvironment) -> None:
        environment.apply()
        self._session = Session(device, _ray().get)

    def ready(self) -> None:
        """Return once the worker is there."""

    def run(self, names: list[Any], data: bytes) -> bytes:
        """Return what `Session.run` gives.

        Args:
            names: Ray's references to model and job, in a list so that Ray does not resolve them.
            data: Of the part.
        """
        model, job = names
        return self._session.run(model, job, data)


class RayWorker:
    """An actor on the cluster, see `pool.Worker`."""

    def __init__(self, ray: Any, actor: Any, *arguments: Any) -> None:
        self._ray, self._class, self._arguments = ray, actor, arguments
        self._actor: Any = None

    def start(self) -> None:
        """Ask the cluster for an actor, which may have to wait for room."""
        self.stop()
        self._actor = self._class.remote(*self._arguments)
        self._get(self._actor.ready.remote())

    def run(self, model: Any, job: Any, data: bytes) -> bytes:
        """Return what the actor makes of a part."""
        found: bytes = self._get(self._actor.run.remote([model, job], data))
        return found

    def stop(self) -> None:
        """End the actor, whatever it is doing."""
        if self._actor is not None:
            self._ray.kill(self._actor)

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # actor, machine or object lost
            raise DiedError(first_line(error)) from error


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
        reason = first_line(error)
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
    if wanted is not None:
        wanted = as_integer("n_workers", wanted, 1)
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
