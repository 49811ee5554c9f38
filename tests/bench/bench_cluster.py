"""What several workers cost and give, measured in one run.

    python tests/bench/bench_cluster.py [--quick] [--devices cpu,cpu] [--ray] [--json FILE]
        [--page docs/performance/cluster.md]

1. Growth: peak memory of the process that hands work out, and bytes that it sends and gets, for few
   and for many tiny images in files; each run is a process of its own.
2. Speed: wall-clock seconds of the same images in this process and by workers on the first 1, 2,
   ... devices (with --ray: of as many actors of a local cluster), which take turns in a random
   order; ratios are of one round. Workers are started and have the model before anything is timed.
   Every worker has one thread. The rows of all must be equal to the bit. On an idle machine only.

`plan_cluster.py` takes its figures to a cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_importance import resnet18
from PIL import Image
from tables import write_table
from torch import nn

from iaside_plugins import Protocol, SpectralImportance, spectral_importance
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.ray_adapter import workers_on_ray
from iaside_plugins.devices import peak_memory
from iaside_plugins.importance.chance import not_judged
from iaside_plugins.parallel import pool as pools
from iaside_plugins.parallel.processes import device_pool
from iaside_plugins.value_table.layout import RowLayout

FULL = {"size": 96, "n_bands": 5, "batch_size": 32, "n_images": 24, "rounds": 5}
QUICK = {"size": 32, "n_bands": 3, "batch_size": 8, "n_images": 4, "rounds": 2}
MANY = {"few": 1_000, "many": 20_000}
QUICK_MANY = {"few": 20, "many": 60}
CPU = torch.device("cpu")


# ---- growth ----------------------------------------------------------------------------------
class Tiny(nn.Module):
    """The smallest network: 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean(dim=(2, 3)))


def folder_of(root: Path, n_images: int, side: int = 16) -> Path:
    """A folder of PNG files: 100 contents, linked as often as needed."""
    for k in range(n_images):
        path = root / str(k % 10) / f"{k:06}.png"
        path.parent.mkdir(exist_ok=True)
        if k < 100:
            pixels = np.random.default_rng(k).integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.hardlink_to(root / str(k % 10) / f"{k % 100:06}.png")
    return root


def growth(n_images: int, root: Path) -> dict[str, float]:
    """Peak memory of this process, MB, and bytes by pipe, of a run by one worker."""
    sent, got = Counted(pickle.dumps), Counted(pickle.loads)
    pools.pickle = type("Counting", (), {"dumps": sent, "loads": got})
    data = ImageFolderData(root, resize=None, crop=None, labels="rank")
    before, start = peak_memory(CPU) or 0, time.process_time()
    with device_pool([CPU]) as workers:
        found = spectral_importance(Tiny().eval(), data, Protocol(4), device=workers)
    seconds = time.process_time() - start
    if found.n_images != n_images:
        raise RuntimeError(f"{found.n_images} of {n_images} images")
    return {
        "images": n_images,
        "peak_mb": (peak_memory(CPU) or 0) / 2**20,
        "before_mb": before / 2**20,
        "sent_bytes": sent.n_bytes / n_images,
        "got_bytes": got.n_bytes / n_images,
        "row_bytes": 8 * RowLayout(Protocol(4)).width,
        "driver_cpu_s": seconds / n_images,
    }


class Counted:
    """A function of bytes, or to bytes, that counts them."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function, self.n_bytes = function, 0

    def __call__(self, value: Any) -> Any:
        found = self.function(value)
        self.n_bytes += len(found if isinstance(found, bytes) else value)
        return found


def grown(sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """The growth for few and for many images, each in a process of its own."""
    found = {}
    for name, n_images in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            folder_of(Path(folder), n_images)
            command = [sys.executable, __file__, "--growth", str(n_images), folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout)
    return found


# ---- speed -----------------------------------------------------------------------------------
def speed(choices: dict[str, int], devices: list[str], on_ray: bool) -> dict[str, Any]:
    """Seconds of each round, and of starting."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, protocol, size = resnet18(), Protocol(choices["n_bands"]), choices["size"]

    def profile(device: Any, n_images: int = choices["n_images"]) -> SpectralImportance:
        data = ImageFolderData(None, resize=None, crop=None, records=records[:n_images])
        options = {"batch_size": choices["batch_size"], "device": device}
        with not_judged():  # random weights
            return spectral_importance(model, data, protocol, **options)

    places: dict[str, Any] = {"alone": None}
    starts: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        root = folder_of(Path(stack.enter_context(tempfile.TemporaryDirectory())), 24, size)
        records = ImageFolderData(root, resize=None, crop=None, labels="rank").records
        if on_ray:
            import ray

            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
            ray.init(num_cpus=2 * len(devices), **quiet)  # those of all pools are there at once
            stack.callback(ray.shutdown)
        for n in range(1, len(devices) + 1):
            start = time.perf_counter()
            pool = (
                workers_on_ray(n_workers=n)
                if on_ray
                else device_pool([torch.device(name) for name in devices[:n]])
            )
            name = f"{n} worker{'s' if n > 1 else ''}"
            places[name] = stack.enter_context(pool)
            profile(places[name], 4 * n)  # all are there, and warm
            starts[name] = time.perf_counter() - start
        profile(None, 1)
        rounds, cpu, results = [], [], {}
        order, shuffle = list(places), random.Random(0)
        for _ in range(choices["rounds"]):
            shuffle.shuffle(order)
            seconds, busy = {}, {}
            for name in order:
                start, before = time.perf_counter(), cpu_seconds(places[name])
                results[name] = profile(places[name])
                seconds[name] = time.perf_counter() - start
                busy[name] = cpu_seconds(places[name]) - before
            rounds.append(seconds)
            cpu.append(busy)
    own = results["alone"].values
    return {
        **choices,
        "workers": "ray" if on_ray else "processes",
        "devices": devices,
        "rounds": rounds,
        "cpu_rounds": cpu,
        "start_seconds": starts,
        "speed": {name: ratio(rounds, name) for name in starts},
        "cpu": {name: ratio(cpu, name) for name in starts},
        "equal": all(np.array_equal(result.values, own) for result in results.values()),
    }


def cpu_seconds(pool: Any) -> float:
    """CPU time so far of this process, and of those of a pool on Linux; not of actors."""
    processes = [getattr(worker, "_process", None) for worker in getattr(pool, "_workers", ())]
    files = [Path(f"/proc/{one.pid}/stat") for one in processes if one is not None]
    fields = [file.read_text().rpartition(")")[2].split() for file in files if file.exists()]
    ticks = sum(int(each[11]) + int(each[12]) for each in fields)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def ratio(rounds: list[dict[str, float]], name: str) -> dict[str, float]:
    """How many times quicker than alone: median and range over rounds."""
    ratios = [seconds["alone"] / seconds[name] for seconds in rounds]
    return {"median": median(ratios), "least": min(ratios), "greatest": max(ratios)}


def ranged(found: dict[str, float]) -> str:
    """A median with its range."""
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['greatest']:.2f})"


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor())


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    found = report["speed"]
    lines = [
        "| images | peak memory of the driver, MB | of that before | sent, bytes an image | "
        "got, bytes an image | a row, bytes | CPU of the driver, ms an image |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['images']:,} | {one['peak_mb']:.0f} | {one['before_mb']:.0f} | "
        f"{one['sent_bytes']:.0f} | {one['got_bytes']:.0f} | {one['row_bytes']} | "
        f"{1e3 * one['driver_cpu_s']:.2f} |"
        for one in report["growth"].values()
    ]
    few, many = report["growth"].values()
    each = (many["peak_mb"] - few["peak_mb"]) * 2**20 / (many["images"] - few["images"])
    lines += [
        "",
        f"Each image more takes {each:.0f} bytes of the driver's memory.",
        "",
        f"ResNet-18, {found['n_images']} images of {found['size']} x {found['size']}, "
        f"{found['n_bands']} bands, batch {found['batch_size']}, 1 thread a worker, "
        f"{found['workers']} on {report['cores']} cores of {report['processor']}. "
        f"Rows equal to those of one process: {'yes' if found['equal'] else 'NO'}.",
        "",
        "| workers | times quicker than one process: median (range) | "
        "CPU seconds of one process over those of all: median (range) | start, s |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {ranged(found['speed'][name])} | {ranged(found['cpu'][name])} "
        f"| {found['start_seconds'][name]:.1f} |"
        for name in found["speed"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only shows that it runs")
    parser.add_argument("--devices", default="cpu,cpu", help="one a worker, at most")
    parser.add_argument("--ray", action="store_true", help="actors instead of processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round here")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write the tables there")
    parser.add_argument("--growth", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.growth is not None:
        print(json.dumps(growth(int(options.growth[0]), Path(options.growth[1]))))
        return
    report = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "growth": grown(QUICK_MANY if options.quick else MANY),
        "speed": speed(QUICK if options.quick else FULL, options.devices.split(","), options.ray),
    }
    print(markdown(report))
    if options.page is not None:
        write_table(options.page, "workers", markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
