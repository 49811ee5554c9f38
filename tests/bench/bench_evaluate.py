"""What `evaluate` costs beside the forward passes and the making of corruptions that it needs.

    python tests/bench/bench_evaluate.py [--quick] [--models M=DIR=N,...] [--profile] [--explain]
        [--json FILE]

Wall and CPU seconds of `iaside evaluate --attacks none` from image files to the entry, against bare
forward passes of the same rows in the same batches, and against making the corrupted images alone.
The wall time cannot be less than the larger of (passes, making / workers), nor than all CPU work
divided by the cores of the machine: each is given, with the ratio. Wall times count on an idle
machine only. Also how often a file is decoded, and how often worker processes are started.
`--explain`: CPU seconds of `evaluate --explain` with pairs of the one reading, and read apart.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import logging
import os
import platform
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.adapters.imagenet import corrupted, decoding, stream
from iaside_plugins.allocator import keep_freed_memory
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan import EvaluationPlan
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.workflows.evaluate import evaluation_plan, with_explained
from iaside_plugins.workflows.source import DataSource, open_model

KIT = Path(os.environ.get("IASIDE_KIT", Path(__file__).parents[3] / "shared" / "kit"))
MODELS = (
    f"pip:efficientnet_lite0={KIT / 'images'}=24,kit:c10_resnet20={KIT / 'cifar10'}=128,"
    f"kit:c10_small_pgd={KIT / 'cifar10'}=200"
)
FULL: dict[str, Any] = {"n_images": 24, "n_bands": 8, "batch_size": 64, "rounds": 1}
QUICK: dict[str, Any] = {"n_images": 4, "n_bands": 2, "batch_size": 2, "rounds": 1}


# ---- clocks and counts -----------------------------------------------------------------------
def measured(run: Callable[[], Any]) -> dict[str, float]:
    """Wall seconds, and CPU seconds of this process and of the ended workers that it started."""
    before, start = os.times(), time.perf_counter()
    run()
    wall, after = time.perf_counter() - start, os.times()
    own = after.user + after.system - before.user - before.system
    workers = after.children_user + after.children_system
    workers -= before.children_user + before.children_system
    return {"wall": wall, "main CPU": own, "workers CPU": workers}


@contextmanager
def counted(counts: dict[str, int]) -> Iterator[None]:
    """Count decodings in this process, and starts of workers, within."""
    decode, start = stream.decode, torch.utils.data.DataLoader.__iter__

    def counted_decode(*args: Any, **kwargs: Any) -> Any:
        counts["decodings"] += 1
        return decode(*args, **kwargs)

    def counted_start(loader: Any) -> Any:
        counts["pool starts"] += loader.num_workers > 0
        return start(loader)

    counts |= {"decodings": 0, "pool starts": 0}
    stream.decode = counted_decode
    torch.utils.data.DataLoader.__iter__ = counted_start  # type: ignore[method-assign]
    try:
        yield
    finally:
        stream.decode = decoding.decode
        torch.utils.data.DataLoader.__iter__ = start  # type: ignore[method-assign]


# ---- what is measured ------------------------------------------------------------------------
@torch.no_grad()
def passes(model: torch.nn.Module, sides: tuple[int, ...], n_rows: int, batch_size: int) -> None:
    """Bare forward passes of so many rows, in batches of a ready input."""
    ready = torch.rand(min(batch_size, n_rows), *sides)
    for first in range(0, n_rows, batch_size):
        model(ready[: n_rows - first])


def make(plan: EvaluationPlan) -> None:
    """Make all images of all conditions in this process, as the workers make them."""
    corruptions = plan.corruptions
    assert corruptions is not None
    cells = [corruptions.corrupted(name, s) for name in corruptions.names for s in SEVERITIES]
    plain = corruptions.images(None, 0)
    streams: list[Any] = [plan.clean, *([] if plain is None else [plain]), *cells]
    for one in streams:
        one.n_workers = 0
    for _ in stream.StreamGroup(streams):
        pass


def bench(spec: str, data: Path, choices: dict[str, Any], n_workers: int) -> dict[str, Any]:
    """One record: times of `evaluate`, its passes and its images alone, with counts."""
    model = open_model(spec, device="cpu")
    protocol = Protocol(choices["n_bands"])
    n, batch_size = choices["n_images"], choices["batch_size"]

    def planned(workers: int) -> EvaluationPlan:
        source = DataSource(data, n_images=n, workers=workers, batch_size=batch_size)
        return evaluation_plan(source, model)

    def whole(plan: EvaluationPlan) -> None:
        evaluate(model, plan, protocol, batch_size=batch_size)

    images: Tensor = next(iter(planned(0).clean))[0]
    plan = planned(0)
    corruptions = plan.corruptions
    assert corruptions is not None
    n_conditions = 1 + (corruptions.images(None, 0) is not None)
    n_conditions += len(SEVERITIES) * len(corruptions.names)
    n_coalitions = round(RowLayout(protocol).n_passes)

    def bare() -> None:
        for _ in range(n):
            passes(model, images.shape[1:], n_coalitions, batch_size)
        for _ in range(n_conditions):
            passes(model, images.shape[1:], n, batch_size)

    passes(model, images.shape[1:], batch_size, batch_size)  # warm
    rounds = []
    counts: dict[str, int] = {}
    for _ in range(choices["rounds"]):
        found = {"passes": measured(bare), "making": measured(lambda: make(planned(0)))}
        with counted(counts):
            found["evaluate"] = measured(lambda: whole(planned(n_workers)))
        rounds.append(found)
    starts = counts["pool starts"]
    small = {"n_images": 2, "batch_size": 2}
    with counted(counts):
        source = DataSource(data, **small)
        evaluate(model, evaluation_plan(source, model), Protocol(2), batch_size=2)
    return {
        "model": spec,
        "n_images": n,
        "n_workers": n_workers,
        "batch_size": batch_size,
        "passes": n * (n_coalitions + n_conditions),
        "rounds": rounds,
        "decodings of a file": counts["decodings"] / 2,
        "pool starts": starts,
        **bounds(rounds, n_workers),
    }


def bounds(rounds: list[dict[str, dict[str, float]]], n_workers: int) -> dict[str, float]:
    """Medians over rounds: seconds of each part, the bounds of the wall time, and the ratios."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, float] = {}

    def mid(of: Callable[[dict[str, dict[str, float]]], float]) -> float:
        return median(of(one) for one in rounds)

    def all_cpu(one: dict[str, float]) -> float:
        return one["main CPU"] + one["workers CPU"]

    def larger(one: dict[str, dict[str, float]]) -> float:
        return max(one["passes"]["wall"], one["making"]["wall"] / n_workers)

    def by_cores(one: dict[str, dict[str, float]]) -> float:
        return (all_cpu(one["passes"]) + all_cpu(one["making"])) / (cores or 1)

    for name in ("passes", "making", "evaluate"):
        found[f"{name}, s"] = mid(lambda one, name=name: one[name]["wall"])  # type: ignore[misc]
        found[f"{name}, CPU s"] = mid(lambda one, name=name: all_cpu(one[name]))  # type: ignore[misc]
    found["bound, s"] = mid(larger)
    found["bound by cores, s"] = mid(by_cores)
    found["wall / bound"] = mid(lambda one: one["evaluate"]["wall"] / larger(one))
    found["wall / larger bound"] = mid(
        lambda one: one["evaluate"]["wall"] / max(larger(one), by_cores(one))
    )
    found["CPU / CPU of the parts"] = mid(
        lambda one: all_cpu(one["evaluate"]) / (all_cpu(one["passes"]) + all_cpu(one["making"]))
    )
    return found


def printed(records: list[dict[str, Any]]) -> None:
    """Print the table."""
    columns = [
        *("model", "n_images", "n_workers", "passes, s", "making, s", "evaluate, s"),
        *("bound, s", "bound by cores, s", "wall / bound", "wall / larger bound"),
        *("passes, CPU s", "making, CPU s", "evaluate, CPU s", "CPU / CPU of the parts"),
        *("decodings of a file", "pool starts"),
    ]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for record in records:
        shown = [record[name] for name in columns]
        print(f"| {' | '.join(f'{x:.2f}' if isinstance(x, float) else str(x) for x in shown)} |")


def explained(spec: str, data: Path, choices: dict[str, Any]) -> list[dict[str, Any]]:
    """One record for pairs read apart and one for pairs of the one reading, of one process."""
    model, n = open_model(spec, device="cpu"), choices["n_images"]
    source = DataSource(data, n_images=n, batch_size=choices["batch_size"])
    whole = with_explained(evaluation_plan(source, model), source, model)
    assert whole.explained is not None
    records, entries = [], []
    making = corrupted.corrupt
    for name, plan in (
        ("read apart", replace(whole, explained=None, perturbed=[whole.explained])),
        ("one reading", whole),
    ):
        counts, made = {"decodings": 0}, [0]

        def counted_making(*args: Any, made: list[int] = made, **options: Any) -> Any:
            made[0] += 1
            return making(*args, **options)

        corrupted.corrupt = counted_making
        with counted(counts):
            times = measured(
                lambda plan=plan: entries.append(  # type: ignore[misc]
                    evaluate(model, plan, Protocol(choices["n_bands"]))[0]["decomposition"]
                )
            )
        corrupted.corrupt = making
        record = {"model": spec, "n_images": n, "pairs": name, "CPU s": times["main CPU"]}
        each = counts["decodings"] / n, made[0] / n
        records.append(record | dict(zip(("decodings", "corruptions made"), each, strict=True)))
    assert entries[0] == entries[1], "the same numbers"
    print(f"\n| {' | '.join(records[0])} |\n|{'---|' * len(records[0])}")
    for record in records:
        shown = [f"{x:.2f}" if isinstance(x, float) else str(x) for x in record.values()]
        print(f"| {' | '.join(shown)} |")
    return records


PARTS = {
    "forward passes": ("forward.py", "__call__"),
    "making images (in the workers)": ("stream.py", "_read_chunk"),
    "coalition images": ("game.py", "_batch"),
    "bands of an image": ("coalition_images.py", "image_components"),
    "digests of images": ("provenance.py", "image_digest"),
    "checks of images": ("checks.py", "check_images"),
    "chunks to batches": ("stream.py", "__next__"),  # without what is made inside
    "copies of batches": ("", "<method 'clone' of 'torch._C.TensorBase' objects>"),
    "answers of logits": ("runner.py", "log_likelihood"),
    "results of rows": ("corruption.py", "group"),
}
"""Part of an evaluation -> the file and the function that does it."""


def profiled(spec: str, data: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """CPU seconds of each part of `evaluate` in one process, without workers."""
    model = open_model(spec, device="cpu")
    source = DataSource(data, n_images=choices["n_images"], batch_size=choices["batch_size"])
    plan = evaluation_plan(source, model)
    with cProfile.Profile(time.process_time) as profile:
        evaluate(model, plan, Protocol(choices["n_bands"]), batch_size=choices["batch_size"])
    stats = pstats.Stats(profile)
    found = {
        part: sum(
            cumulative
            for (file, _, name), (_, _, _, cumulative, _) in stats.stats.items()  # type: ignore[attr-defined]
            if name == function and Path(file).name.endswith(where)
        )
        for part, (where, function) in PARTS.items()
    }
    found["chunks to batches"] -= found["making images (in the workers)"]
    whole = stats.total_tt  # type: ignore[attr-defined]
    found = {**dict(sorted(found.items(), key=lambda one: -one[1])), "all": whole}
    print(f"\n| {spec}, {choices['n_images']} images | CPU s | share |\n|---|---|---|")
    for part, seconds in found.items():
        print(f"| {part} | {seconds:.2f} | {seconds / whole:.1%} |")
    return {"model": spec, "seconds": found}


def tiny_images(folder: Path) -> Path:
    """Write a folder of two classes with small PNG files of noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("airplane", "frog"):
        (folder / name).mkdir()
        for k in range(QUICK["n_images"] // 2):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    return folder


def subject(text: str, n: int | None, choices: dict[str, Any]) -> tuple[str, Path, dict[str, Any]]:
    """Return model, folder and choices of MODEL=DIR=N; a number given apart counts first."""
    spec, data, *own = text.split("=")
    return spec, Path(data), {**choices, "n_images": n or int([*own, choices["n_images"]][0])}


def processor() -> str:
    """Return the processor's name, and how many cores there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny images, no kit")
    parser.add_argument("--models", default=MODELS, help="MODEL=DIR[=N],...")
    parser.add_argument("--n-images", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="where the time goes, too")
    parser.add_argument("--explain", action="store_true", help="evaluate --explain, too")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    keep_freed_memory()  # as the command does
    given = {name: getattr(args, name) for name in ("n_images", "batch_size", "rounds")}
    choices = {**(QUICK if args.quick else FULL), **{k: v for k, v in given.items() if v}}
    with tempfile.TemporaryDirectory() as folder:
        subjects = [subject(one, args.n_images, choices) for one in args.models.split(",")]
        if args.quick:
            sys.path.insert(0, str(Path(__file__).parents[1]))
            subjects = [("python:tiny_model:small_input", tiny_images(Path(folder)), choices)]
        print(f"{processor()}, {torch.get_num_threads()} threads of torch\n")
        records = [bench(*one, args.workers) for one in subjects]
        printed(records)
        profiles = [profiled(*one) for one in subjects if args.profile]
        splits = [one for subject in subjects if args.explain for one in explained(*subject)]
    if args.json is not None:
        report = {"processor": processor(), "records": records, "profiles": profiles}
        report["explain"] = splits
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
