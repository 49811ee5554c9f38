"""What exact Shapley values of bands cost here and in Captum, measured in one run.

    python tests/bench/bench_captum.py [--quick] [--json FILE]

The same network, images and bands: `SpectralShapley`, which evaluates all 2**M coalitions, against
Captum's own `ShapleyValues`, which walks M! orders, on gates of the bands (its cheapest form). Both
take turns, on one thread; passes are counted at the network, seconds are wall-clock, and the two
results are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import captum
import torch
from captum.attr import ShapleyValues
from torch import Tensor, nn

from iaside_plugins.adapters.captum_adapter import BandSplit, SpectralShapley

FULL = {"size": 32, "width": 32, "n_images": 8, "n_bands": [4, 5, 6], "rounds": 3}
QUICK = {"size": 16, "width": 4, "n_images": 2, "n_bands": [3, 4], "rounds": 2}


class Network(nn.Module):
    """Three convolutions and a linear layer, with a count of the rows that went through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rows = 0
        sizes = [(3, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
        layers: list[nn.Module] = []
        for i, o, stride in sizes:
            layers += [nn.Conv2d(i, o, 3, stride, 1), nn.BatchNorm2d(o), nn.ReLU()]
        self.net = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10)
        )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.rows += len(images)
        return self.net(images)


def timed(net: Network, run: Callable[[], Tensor]) -> tuple[Tensor, dict[str, float]]:
    """What a method found, and what it took: rows through the network and seconds."""
    net.rows, start = 0, time.perf_counter()
    found = run()
    return found, {"rows": net.rows, "seconds": time.perf_counter() - start}


def measure(choices: dict[str, Any]) -> dict[str, Any]:
    """Everything, as JSON values: one record a number of bands."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, n = Network(choices["width"]), choices["n_images"]
    images = torch.rand(n, 3, choices["size"], choices["size"])
    labels = torch.arange(n) % 10
    records = []
    for n_bands in choices["n_bands"]:
        split = BandSplit(n_bands)
        gates, stack = torch.ones(n, n_bands), split(images)
        ours = SpectralShapley(net)
        captums = ShapleyValues(split.gate_forward(net))
        # As many rows in one forward pass for both.
        runs = {
            "ours": lambda m=n_bands, ours=ours: ours.attribute(
                images, target=labels, n_bands=m, perturbations_per_eval=8
            ),
            "captum": lambda captums=captums, gates=gates, stack=stack: captums.attribute(
                gates, target=labels, additional_forward_args=(stack,), perturbations_per_eval=8
            ),
        }
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
        for _ in range(choices["rounds"]):
            found = {}
            for name, run in runs.items():
                found[name], cost = timed(net, run)
                rounds[name].append(cost)
        records.append(
            {
                "n_bands": n_bands,
                "difference": float((found["ours"] - found["captum"]).abs().max()),
                "ratio": median(
                    b["seconds"] / a["seconds"]
                    for a, b in zip(rounds["ours"], rounds["captum"], strict=True)
                ),
                **{
                    f"{name}_{key}": median(cost[key] for cost in costs)
                    for name, costs in rounds.items()
                    for key in ("rows", "seconds")
                },
            }
        )
    return {
        "torch": torch.__version__,
        "captum": captum.__version__,
        "machine": platform.machine(),
        "threads": 1,
        **choices,
        "records": records,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    n = report["n_images"]
    lines = [
        f"{n} images of {report['size']} x {report['size']}, three convolutions, 1 thread, torch "
        f"{report['torch']}, Captum {report['captum']}, {report['machine']}; medians of "
        f"{report['rounds']} rounds.",
        "",
        "| bands | passes an image: ours | Captum | seconds: ours | Captum | ratio | "
        "greatest difference (nats) |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['n_bands']} | {row['ours_rows'] / n:,.0f} | {row['captum_rows'] / n:,.0f} "
        f"| {row['ours_seconds']:.2f} | {row['captum_seconds']:.2f} | {row['ratio']:.0f} "
        f"| {row['difference']:.1e} |"
        for row in report["records"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the records here")
    options = parser.parse_args(arguments)
    report = measure(QUICK if options.quick else FULL)
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
