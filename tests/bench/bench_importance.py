"""What spectral importance costs beside the forward passes it needs, measured in one run.

    python tests/bench/bench_importance.py [--quick] [--json FILE]

Ratios against bare forward passes of the same rows at the same batch size, on one thread: times
are CPU time of the process, methods take turns in a random order, each ratio is of one round. Also
peak memory for few and many images, and the number of passes of each estimator.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins import Protocol, SpectralPartition, spectral_importance
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.spectral.coalition_images import coalition_matrix, image_components
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.table import coalition_batches

FULL = {"size": 224, "n_bands": 8, "batch_size": 32, "rounds": 7, "few": 50, "many": 500}
QUICK = {"size": 32, "n_bands": 4, "batch_size": 8, "rounds": 2, "few": 4, "many": 16}


# ---- networks: standard shapes, random weights ---------------------------------------------
def conv(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its batch norm."""
    return [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]


class Residual(nn.Module):
    """``after(body(x) + shortcut(x))``."""

    def __init__(self, body: list[nn.Module], shortcut: list[nn.Module], after: nn.Module):
        super().__init__()
        self.body, self.shortcut = nn.Sequential(*body), nn.Sequential(*shortcut)
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.body(images) + self.shortcut(images))


def head(channels: int) -> list[nn.Module]:
    """Average pooling and 1000 classes."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]


def resnet18() -> nn.Module:
    """ResNet-18 for 224 x 224 (He et al. 2016)."""
    layers = [*conv(3, 64, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for out in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and out > 64 else 1
            body = [*conv(channels, out, 3, stride), nn.ReLU(True), *conv(out, out)]
            shortcut = conv(channels, out, 1, stride) if channels != out else []
            layers.append(Residual(body, shortcut, nn.ReLU(True)))
            channels = out
    return nn.Sequential(*layers, *head(channels)).eval()


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 1.0 for 224 x 224 (Sandler et al. 2018)."""
    stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]  # expansion, channels, blocks, stride
    layers, channels = [*conv(3, 32, 3, 2), nn.ReLU6(True)], 32
    for expansion, out, blocks, first in stages:
        for block in range(blocks):
            stride, wide = (first if block == 0 else 1), channels * expansion
            body = [*conv(channels, wide, 1), nn.ReLU6(True)] if expansion > 1 else []
            body += [*conv(wide, wide, 3, stride, wide), nn.ReLU6(True), *conv(wide, out, 1)]
            plain = stride > 1 or channels != out
            layers.append(nn.Sequential(*body) if plain else Residual(body, [], nn.Identity()))
            channels = out
    return nn.Sequential(*layers, *conv(channels, 1280, 1), nn.ReLU6(True), *head(1280)).eval()


class Cheap(nn.Module):
    """Channel means and a linear layer: leaves the cost of everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 10)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean(dim=(2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"ResNet-18": resnet18, "MobileNetV2": mobilenet_v2}


# ---- what is measured ----------------------------------------------------------------------
def photographs(n: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one image of noise and its label, made when they are asked for."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        yield torch.rand(1, 3, size, size, generator=generator), torch.zeros(1, dtype=torch.long)


def make_inputs(game: Game, images: Tensor) -> None:
    """All coalition images of one image but the empty one, batch by batch, without a model."""
    n_bands = game.protocol.n_bands
    coalitions = all_coalitions(n_bands)[1:]
    index = SpectralPartition(n_bands).index(*images.shape[2:])
    components = image_components(images, None, index, n_bands)
    matrix = coalition_matrix(coalitions, components)
    for places, grand in coalition_batches(coalitions, game.runner.n_rows):
        game._batch(components, matrix[places], images, grand)


@torch.no_grad()
def forwards(model: nn.Module, ready: Tensor, n_rows: int) -> None:
    """Bare forward passes of n_rows rows in batches of a ready input."""
    for start in range(0, n_rows, len(ready)):
        model(ready[: n_rows - start])


def cpu_seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def overhead(model: nn.Module, choices: dict[str, int]) -> list[dict[str, float]]:
    """One record a round: CPU seconds of an image's forwards, its inputs, and the whole call.

    Inputs are made five times a round, as they are too quick to be timed once.
    """
    protocol, batch_size = Protocol(choices["n_bands"]), choices["batch_size"]
    data = next(photographs(1, choices["size"]))
    ready = torch.rand(batch_size, *data[0].shape[1:])
    game = Game.of(model, protocol, torch.device("cpu"), batch_size)
    methods: dict[str, Callable[[], Any]] = {
        "bare": lambda: forwards(model, ready, 2**protocol.n_bands),
        "bare again": lambda: forwards(model, ready, 2**protocol.n_bands),
        "inputs": lambda: [make_inputs(game, data[0]) for _ in range(5)],
        "total": lambda: spectral_importance(model, data, protocol, batch_size=batch_size),
    }
    methods["bare"]()  # warm
    methods["inputs"]()
    order, shuffle = list(methods), random.Random(0)
    records = []
    for _ in range(choices["rounds"]):
        shuffle.shuffle(order)
        seconds = {name: cpu_seconds(methods[name]) for name in order}
        seconds["inputs"] /= 5
        records.append(seconds)
    return records


def peak_memory(n_images: int, choices: dict[str, int]) -> float:
    """Greatest resident memory in MB of a process of its own that profiles so many images."""
    command = [sys.executable, __file__, "--memory-of", str(n_images), json.dumps(choices)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def profile_lazily(n_images: int, choices: dict[str, int]) -> float:
    """Profile images that are made one by one; this process's greatest resident memory in MB."""
    torch.set_num_threads(1)
    data = photographs(n_images, choices["size"])
    protocol = Protocol(choices["n_bands"])
    spectral_importance(Cheap(), data, protocol, batch_size=choices["batch_size"])
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def passes() -> list[dict[str, Any]]:
    """Forward passes an image of each estimator, counted on ten small images."""
    rows = []
    for n_bands in (8, 16):
        for pairs in (None, 1, 2, 4):
            if pairs is None and n_bands == 16:
                rows.append({"n_bands": 16, "estimator": "exact", "passes": 2.0**16})  # derived
                continue
            sampled = {} if pairs is None else {"estimator": "permutation", "n_permutations": pairs}
            result = spectral_importance(Cheap(), photographs(10, 32), Protocol(n_bands, **sampled))
            name = "exact" if pairs is None else f"permutation, {pairs} pair(s) of chains"
            entry = {"n_bands": n_bands, "estimator": name, "passes": result.n_forward / 10}
            rows.append(entry)
    return rows


def scaling(choices: dict[str, int]) -> list[dict[str, Any]]:
    """Input making of one image by size, bands and batch, over plain copies of the same rows.

    A copy of a ready batch is what memory allows: the product that makes a batch reads less (only
    the bands) and writes as much.
    """
    sizes = (32, 128, 224) if choices["size"] > 32 else (32,)
    cases = [(size, 8, 32) for size in sizes] + [(128, m, 32) for m in (4, 10)]
    cases += [(128, 8, rows) for rows in (8, 128)]
    out = []
    for size, n_bands, rows in cases if choices["size"] > 32 else [(32, 4, 8)]:
        game = Game.of(Cheap(), Protocol(n_bands), torch.device("cpu"), rows)
        image = torch.rand(1, 3, size, size)
        ready, target = torch.rand(rows, 3, size, size), torch.empty(rows, 3, size, size)
        batches = 2**n_bands // rows
        repeats = max(1, 40_000_000 // (size**2 * 2**n_bands * 3))
        methods: dict[str, Callable[[], Any]] = {
            "inputs": partial(_often, repeats, make_inputs, game, image),
            "bare": partial(_often, repeats * batches, target.copy_, ready),
        }
        records = [
            {name: cpu_seconds(run) for name, run in methods.items()}
            for _ in range(choices["rounds"] + 1)
        ]
        found = ratio(records[1:], "inputs")  # the first warms up
        case = {"size": size, "n_bands": n_bands, "batch_size": rows, "inputs/copy": found}
        out.append(case)
    return out


def _often(n: int, run: Callable[..., Any], *arguments: Any) -> None:
    for _ in range(n):
        run(*arguments)


# ---- the report ----------------------------------------------------------------------------
def ratio(records: list[dict[str, float]], name: str) -> dict[str, float]:
    """Median and range over rounds of a method's time over the bare forwards of its round."""
    ratios = [record[name] / record["bare"] for record in records]
    return {"median": median(ratios), "least": min(ratios), "greatest": max(ratios)}


def measure(choices: dict[str, int]) -> dict[str, Any]:
    """Everything, as JSON values."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": 1,
        **choices,
        "networks": {},
    }
    rows = 2 ** choices["n_bands"]
    for name, build in NETWORKS.items():
        records = overhead(build(), choices)
        report["networks"][name] = {
            "ms_per_forward": 1e3 * median(r["bare"] for r in records) / rows,
            "us_per_input": 1e6 * median(r["inputs"] for r in records) / rows,
            "rounds": records,
            **{
                f"{method}/bare": ratio(records, method)
                for method in records[0]
                if method != "bare"
            },
        }
    report["peak_memory_mb"] = {
        str(n): peak_memory(n, choices) for n in (choices["few"], choices["many"])
    }
    report["passes"] = passes()
    report["scaling"] = scaling(choices)
    return report


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""

    def share(found: dict[str, float], form: str) -> str:
        return f"{found['median']:{form}} ({found['least']:{form}} to {found['greatest']:{form}})"

    size = report["size"]
    lines = [
        f"{size} x {size}, batch {report['batch_size']}, {report['n_bands']} bands, float32, "
        f"{report['rounds']} rounds, 1 thread, torch {report['torch']}, {report['machine']}. "
        "CPU time against bare forwards of the same round: median (range).",
        "",
        "| network | ms/forward | inputs, us/row | inputs / bare | total / bare | bare / bare |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in report["networks"].items():
        lines.append(
            f"| {name} | {found['ms_per_forward']:.1f} | {found['us_per_input']:.0f} "
            f"| {share(found['inputs/bare'], '.2%')} | {share(found['total/bare'], '.3f')} "
            f"| {share(found['bare again/bare'], '.3f')} |"
        )
    lines += ["", "| images | peak memory, MB |", "|---|---|"]
    lines += [f"| {n} | {value:.0f} |" for n, value in report["peak_memory_mb"].items()]
    lines += ["", "| bands | estimator | passes an image |", "|---|---|---|"]
    for row in report["passes"]:
        lines.append(f"| {row['n_bands']} | {row['estimator']} | {row['passes']:,.1f} |")
    lines += [
        "",
        "| size | bands | batch | inputs / copies of ready batches |",
        "|---|---|---|---|",
    ]
    for row in report["scaling"]:
        shown = share(row["inputs/copy"], ".2f")
        lines.append(f"| {row['size']} | {row['n_bands']} | {row['batch_size']} | {shown} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round here")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        print(profile_lazily(int(options.memory_of[0]), json.loads(options.memory_of[1])))
        return
    report = measure(QUICK if options.quick else FULL)
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
