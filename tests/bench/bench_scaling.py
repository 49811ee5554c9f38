"""How spectral importance gets quicker with workers, measured in one run.

    python tests/bench/bench_scaling.py [--quick] [--devices cpu,cpu] [--ray] [--json FILE]

Wall-clock seconds of the same images in this process and by workers on the first 1, 2, ... devices
(with --ray: of as many actors on a local cluster), which take turns in a random order; ratios are
of one round. Workers are started and have the model before anything is timed; the seconds until
then stand beside. Every worker has one thread. The rows of all must be equal to the bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_importance import photographs, resnet18
from iaside_plugins.parallel.scheduler import RowRequest, Scheduler, scheduled_groups

from iaside_plugins import Protocol, SpectralImportance
from iaside_plugins.adapters import ray_adapter
from iaside_plugins.importance.run import ImportanceRun
from iaside_plugins.parallel.processes import device_workers
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.rows import stored_groups

FULL = {"size": 112, "n_bands": 6, "batch_size": 32, "n_images": 24, "rounds": 5}
QUICK = {"size": 32, "n_bands": 3, "batch_size": 8, "n_images": 4, "rounds": 2}


def profile_of(model: torch.nn.Module, n_images: int, choices: dict[str, int]) -> ImportanceRun:
    """A profile of images made when they are asked for."""
    return ImportanceRun(
        model,
        photographs(n_images, choices["size"]),
        Protocol(choices["n_bands"]),
        precision="float32",
        resume=None,
        max_images=None,
        target_error=None,
    )


def alone(model: torch.nn.Module, n_images: int, choices: dict[str, int]) -> SpectralImportance:
    """In this process."""
    profile = profile_of(model, n_images, choices)
    game = Game.of(model, profile.protocol, torch.device("cpu"), choices["batch_size"])
    for group, keys in stored_groups(game, profile.groups(game.runner.n_rows), profile.store):
        profile.add(group, keys)
    return profile.result(game.n_forward, ())


def by(
    scheduler: Scheduler, model: Any, n_images: int, choices: dict[str, int]
) -> SpectralImportance:
    """By workers that are there already."""
    profile, rows = profile_of(model, n_images, choices), choices["batch_size"]
    run = RowRequest("", profile.protocol, rows, "float32", profile.groups(rows), profile.store)
    for _, group, keys in scheduled_groups(scheduler, [run]):
        profile.add(group, keys)
    return profile.result(run.n_forward, ())


@contextlib.contextmanager
def ray_workers(model: torch.nn.Module, n_workers: int) -> Iterator[Scheduler]:
    """Actors on the cluster that is connected."""
    with ray_adapter.connected("local") as ray:
        actors = ray_adapter.Actors(ray, num_cpus=1, num_gpus=0)
        actors.add("", model)
        try:
            yield Scheduler(actors, n_workers)
        finally:
            actors.stop()


def measure(choices: dict[str, int], devices: list[str], on_ray: bool) -> dict[str, Any]:
    """Everything, as JSON values."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, n_images = resnet18(), choices["n_images"]
    methods: dict[str, Callable[[], SpectralImportance]] = {
        "alone": lambda: alone(model, n_images, choices)
    }
    starts: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        if on_ray:
            import ray

            ray.init(
                num_cpus=len(devices),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
            stack.callback(ray.shutdown)
        for n in range(1, len(devices) + 1):
            places = [torch.device(name) for name in devices[:n]]
            start = time.perf_counter()
            scheduler = stack.enter_context(
                ray_workers(model, n) if on_ray else device_workers(model, places)
            )
            by(scheduler, model, 4 * n, choices)  # all are there, and warm
            name = f"{n} worker{'s' if n > 1 else ''}"
            starts[name] = time.perf_counter() - start
            methods[name] = lambda scheduler=scheduler: by(scheduler, model, n_images, choices)
        rounds, results = [], {}
        order, shuffle = list(methods), random.Random(0)
        for _ in range(choices["rounds"]):
            shuffle.shuffle(order)
            seconds = {}
            for name in order:
                start = time.perf_counter()
                results[name] = methods[name]()
                seconds[name] = time.perf_counter() - start
            rounds.append(seconds)
    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "workers": "ray" if on_ray else "processes",
        "devices": devices,
        **choices,
        "rounds": rounds,
        "start_seconds": starts,
        "speed": {name: ratio(rounds, name) for name in methods if name != "alone"},
        "equal": all(
            np.array_equal(result.values, results["alone"].values) for result in results.values()
        ),
    }


def ratio(rounds: list[dict[str, float]], name: str) -> dict[str, float]:
    """How many times quicker than alone: median and range over rounds."""
    ratios = [seconds["alone"] / seconds[name] for seconds in rounds]
    return {"median": median(ratios), "least": min(ratios), "greatest": max(ratios)}


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [
        f"ResNet-18, {report['n_images']} images of {report['size']} x {report['size']}, "
        f"{report['n_bands']} bands, batch {report['batch_size']}, 1 thread a worker, "
        f"{report['workers']} on {report['cores']} cores. "
        f"Rows equal to those of one process: {'yes' if report['equal'] else 'NO'}.",
        "",
        "| workers | times quicker than one process: median (range) | start, s |",
        "|---|---|---|",
    ]
    for name, speed in report["speed"].items():
        lines.append(
            f"| {name} | {speed['median']:.2f} ({speed['least']:.2f} to {speed['greatest']:.2f}) "
            f"| {report['start_seconds'][name]:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only shows that it runs")
    parser.add_argument("--devices", default="cpu,cpu", help="one a worker, at most")
    parser.add_argument("--ray", action="store_true", help="actors instead of processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round here")
    options = parser.parse_args(arguments)
    report = measure(QUICK if options.quick else FULL, options.devices.split(","), options.ray)
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
