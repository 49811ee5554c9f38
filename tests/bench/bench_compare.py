"""What `iaside compare` costs: CPU seconds against bare passes, passes announced and made, memory.

    python tests/bench/bench_compare.py [--model SPEC] [--n-images N] [--n-sensitivity N] [--quick]
        [--json FILE]

All default methods on images of noise, whose cost is that of photographs, on one thread. Bare
passes of 8 images without gradients are timed before, between and after the methods' tries and the
run; a gradient counts as many of them as the announcement says. The memory is the greatest of the
process, the model and PyTorch itself included.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_board import processor
from torch import nn

from iaside_plugins.adapters.captum_adapter.comparison import (
    DEFAULT_METHODS,
    check_methods,
    compare_attributions,
    comparison_work,
)
from iaside_plugins.adapters.captum_adapter.metrics import Metrics
from iaside_plugins.adapters.models import load_model
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import added, n_passes

BATCH, TRIES = 8, 6


class Quick(nn.Module):
    """A tiny network, for --quick."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)


def measure(net: nn.Module, size: int, n_images: int, n_sensitivity: int) -> dict[str, Any]:
    """Everything, as JSON values."""
    torch.set_num_threads(1)
    images = torch.rand(n_images, 3, size, size, generator=torch.Generator().manual_seed(0))
    data = (images, torch.zeros(n_images, dtype=torch.int64))
    metrics, protocol = Metrics(n_sensitivity=n_sensitivity), Protocol()
    idle = peak()
    bare = bare_seconds(net, size)
    made = [0]
    hook = net.register_forward_pre_hook(
        lambda _, given: made.__setitem__(0, made[0] + len(given[0]))
    )
    start = time.process_time()
    work = comparison_work(net, data, check_methods(DEFAULT_METHODS), protocol, metrics)
    tried = made[0]
    compare_attributions(net, data, protocol=protocol, metrics=metrics)
    seconds = time.process_time() - start
    hook.remove()
    bare += bare_seconds(net, size)
    total = added(*work.values())
    passes = n_passes(total)
    return {
        "processor": processor(),
        "torch": torch.__version__,
        "n_images": n_images,
        "size": size,
        "n_sensitivity": n_sensitivity,
        "announced_rows": round(sum(total.values())),
        "made_rows": made[0] - 2 * tried,
        "trial_rows": 2 * tried,
        "passes": passes,
        "cpu_seconds": seconds,
        "bare_ms": 1000 * median(bare),
        "ratio": seconds / passes / median(bare),
        "peak_gb": peak(),
        "peak_before_gb": idle,
    }


def bare_seconds(net: nn.Module, size: int) -> list[float]:
    """CPU seconds of a bare pass of one image, in batches."""
    batch, found = torch.rand(BATCH, 3, size, size), []
    with torch.no_grad():
        for _ in range(TRIES):
            start = time.process_time()
            net(batch)
            found.append((time.process_time() - start) / BATCH)
    return found


def peak() -> float:
    """The greatest memory of the process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def markdown(name: str, found: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    rows = {
        "images forward (and back), announced": f"{found['announced_rows']:,}",
        "images forward (and back), made": f"{found['made_rows']:,}",
        "besides, to try the methods": f"{found['trial_rows']:,}",
        "passes announced, a gradient as 2.2": f"{found['passes']:,.0f}",
        "CPU seconds": f"{found['cpu_seconds']:.0f}",
        "bare pass of one image, CPU ms": f"{found['bare_ms']:.1f}",
        "CPU time over that of as many bare passes": f"{found['ratio']:.2f}",
        "greatest memory, GB": f"{found['peak_gb']:.2f}",
        "of that before the comparison": f"{found['peak_before_gb']:.2f}",
    }
    head = (
        f"{found['processor']}, 1 thread, torch {found['torch']}; {name}, {found['n_images']} "
        f"images of {found['size']} x {found['size']}, sensitivity on {found['n_sensitivity']}."
    )
    return "\n".join([head, "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pip:efficientnet_lite0", metavar="SPEC")
    parser.add_argument("--n-images", type=int, default=3, metavar="N")
    parser.add_argument("--n-sensitivity", type=int, default=0, metavar="N")
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the record here")
    options = parser.parse_args(arguments)
    if options.quick:
        options.model, net, size = "a tiny network", Quick().eval(), 32
    else:
        net = load_model(options.model)
        size = net.info.preprocessing.crop
    found = measure(net, size, options.n_images, options.n_sensitivity)
    print(markdown(options.model, found))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
