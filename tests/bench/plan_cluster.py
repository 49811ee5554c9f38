"""On paper: what a run takes on a cluster, from constants that are each named.

    python tests/bench/plan_cluster.py [BENCH.json] [--images N] [--gpus N] [--CONSTANT VALUE] ...
        [--page docs/performance/cluster.md]

BENCH.json is that of `bench_cluster.py`, whose figures of bytes and of the driver's time and memory
are taken; the rest is assumed, and an option each. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tables import write_table

from iaside_plugins import Protocol
from iaside_plugins.value_table.layout import RowLayout

MEASURED = "measured by `bench_cluster.py`"
ASSUMED = "not measured: "


@dataclass(frozen=True)
class Plan:
    """A run, and the constants of its cost; `SOURCES` says where each is from."""

    images: int = 1_000_000
    models: int = 100
    conditions: int = 75
    bands: int = 8
    gpus: int = 64
    cores_a_gpu: int = 8
    passes_a_second: float = 2_500.0
    efficiency: float = 0.95
    corrupting_ms: float = 30.0
    decoding_ms: float = 8.0
    file_bytes: float = 110_000.0
    sent_bytes: float = 69.0
    got_bytes: float = 78.0
    driver_ms: float = 0.04
    driver_bytes: float = 1_800.0
    gpu_hour: float = 2.0


SOURCES = {
    "passes_a_second": ASSUMED + "of one GPU, ResNet-50 at 224 pixels in half precision; "
    "`make gpu-check` measures it",
    "efficiency": ASSUMED + "the share that a worker reaches; `make gpu-check` measures it",
    "corrupting_ms": ASSUMED + "CPU time, mean of the 15 at 224 pixels",
    "decoding_ms": ASSUMED + "CPU time, an ImageNet JPEG with its resize",
    "file_bytes": ASSUMED + "the mean of ImageNet's validation images",
    "gpu_hour": ASSUMED + "dollars",
    "sent_bytes": MEASURED + ", an image under one condition",
    "got_bytes": MEASURED + ", a row beside its numbers",
    "driver_ms": MEASURED + ", CPU time of a row",
    "driver_bytes": MEASURED + ", a row beside its numbers",
}


def with_figures(plan: Plan, bench: Path) -> Plan:
    """The plan with what a run of the bench measured."""
    few, many = json.loads(bench.read_text())["growth"].values()
    more = (many["peak_mb"] - few["peak_mb"]) * 2**20 / (many["images"] - few["images"])
    return replace(
        plan,
        sent_bytes=many["sent_bytes"],
        got_bytes=many["got_bytes"] - many["row_bytes"],
        driver_ms=1e3 * many["driver_cpu_s"],
        driver_bytes=max(0.0, more - many["row_bytes"]),
    )


@dataclass(frozen=True)
class Job:
    """One kind of result: its rows, and what a row takes.

    Attributes:
        name: What it is.
        rows: Rows of all models.
        passes: Forward passes of a row.
        row_bytes: Numbers of a row.
    """

    name: str
    rows: float
    passes: float
    row_bytes: int


def jobs(plan: Plan) -> list[Job]:
    """All that can be asked for, each by itself."""
    exact = RowLayout(Protocol(plan.bands))
    chains = RowLayout(Protocol(plan.bands, estimator="permutation"))
    pairs = RowLayout(Protocol(plan.bands, estimator="permutation"), paired=True)
    each = plan.images * plan.models
    many = each * plan.conditions
    return [
        Job("profile, exact", each, exact.n_passes, 8 * exact.width),
        Job("profile, chains", each, chains.n_passes, 8 * chains.width),
        Job("evaluate", many, 1, 16),
        Job("explain, chains", many, pairs.n_passes + 1 / plan.conditions, 8 * pairs.width),
    ]


def lines(plan: Plan) -> list[str]:
    """The tables."""
    found = ["| constant | value | source |", "|---|---|---|"]
    for one in fields(plan):
        value = getattr(plan, one.name)
        shown = f"{value:.3g}" if isinstance(value, float) else f"{value:,}"
        found.append(f"| {one.name} | {shown} | {SOURCES.get(one.name, 'chosen')} |")
    rate = plan.gpus * plan.passes_a_second * plan.efficiency
    found += [
        "",
        f"All GPUs make {rate:,.0f} passes a second (gpus x passes_a_second x efficiency).",
        "",
        "| job | passes | time of the GPUs | dollars | rows | stored rows, TB | rows a second | "
        "to and from the driver, MB/s | the driver's CPU, cores | its memory, GB a model |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for job in jobs(plan):
        seconds = job.rows * job.passes / rate
        price = seconds / 3600 * plan.gpus * plan.gpu_hour
        speed = job.rows / seconds
        traffic = speed * (plan.sent_bytes + plan.got_bytes + job.row_bytes) / 1e6
        memory = job.rows / plan.models * (job.row_bytes + plan.driver_bytes) / 1e9
        found.append(
            f"| {job.name} | {job.rows * job.passes:.3g} | {time(seconds)} | {price:,.0f} | "
            f"{job.rows:.3g} | {job.rows * job.row_bytes / 1e12:.2f} | {speed:,.0f} | "
            f"{traffic:,.1f} | {speed * plan.driver_ms / 1e3:.1f} | {memory:,.0f} |"
        )
    cores = plan.gpus * plan.cores_a_gpu
    corrupted = plan.images * plan.conditions
    once = corrupted * plan.corrupting_ms / 1e3 / cores
    found += [
        "",
        f"Making the corrupted images once takes {time(once)} of {cores} cores (images x "
        f"conditions x corrupting_ms / cores); anew for each of {plan.models} models "
        f"{time(once * plan.models)}. Kept, they are {corrupted * plan.file_bytes / 1e12:.1f} TB "
        "(images x conditions x file_bytes). Decoding kept ones for all models takes "
        f"{time(corrupted * plan.models * plan.decoding_ms / 1e3 / cores)} of the cores, and reads "
        f"{corrupted * plan.models * plan.file_bytes / 1e12:,.0f} TB.",
    ]
    return found


def time(seconds: float) -> str:
    """A duration as people say it."""
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", nargs="?", type=Path, help="JSON of bench_cluster.py")
    for one in fields(Plan):
        kind = float if isinstance(one.default, float) else int
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind)
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write the tables there")
    options = vars(parser.parse_args())
    bench, page = options.pop("bench"), options.pop("page")
    plan = Plan() if bench is None else with_figures(Plan(), bench)
    given = {name: value for name, value in options.items() if value is not None}
    table = "\n".join(lines(replace(plan, **given)))
    print(table)
    if page is not None:
        write_table(page, "plan", table)


if __name__ == "__main__":
    main()
