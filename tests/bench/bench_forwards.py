"""Faster forward passes against bare ones and the released script, in one run, on real models.

    python tests/bench/bench_forwards.py [--models SPEC,...] [--data DIR] [--script FILE]
        [--batch-size 32] [--n-bands 6] [--n-images 8] [--json FILE] [--quick]

For every model: seconds of bare forward passes, of `spectral_importance` as it is, with faster
forwards and ``batch_size="auto"``, and, where the authors' released script is given by its path, of
that script on the same images and bands (its zero mask-out, all images in one batch of at most
``--batch-size``; imported from the file, with the scipy import it lacks). On a
CPU times are CPU time of the process on one thread, on a GPU wall-clock time. Settling on faster
forwards is a cost of once: it is timed apart, and said in images.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_importance import NETWORKS, forwards
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, spectral_importance

Choices = argparse.Namespace


def seconds(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its CPU seconds."""
    start = time.process_time()
    found = run()
    return found, time.process_time() - start


def open_model(spec: str, data: str | None, n: int, side: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of standard shape with random weights and noise, or a real one and photographs."""
    if spec in NETWORKS:
        torch.manual_seed(0)
        return NETWORKS[spec](), torch.rand(n, 3, side, side), torch.zeros(n, dtype=torch.long)
    from iaside_plugins.workflows.source import DataSource, open_images
    from iaside_plugins.workflows.source import open_model as load

    if data is None:
        raise SystemExit(f"{spec} needs --data: a folder of class folders")
    net = load(spec, device="cpu")
    images = open_images(DataSource(Path(data), n_images=n), net)
    parts = list(images)
    return net, torch.cat([p[0] for p in parts]), torch.cat([torch.as_tensor(p[1]) for p in parts])


def script_run(
    path: Path,
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    n_bands: int,
    batch_size: int,
    device: torch.device,
) -> Callable[[], Any]:
    """The released script's own entry point on images and labels, with its zero mask-out."""
    import scipy.special

    where = importlib.util.spec_from_file_location("released_script", path)
    if where is None or where.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    module.scipy = scipy  # type: ignore[attr-defined]  # the import that it lacks
    return partial(
        module.IASIDE_compute_spectral_importance_dist,
        model,
        criterion=None,
        dataset=torch.utils.data.TensorDataset(*data),
        K=len(data[0]),
        M=n_bands,
        batch_size=batch_size,
        maskout="zero",
        progressbar=False,
        device=device,
    )


def measure(spec: str, options: Choices) -> dict[str, Any]:
    """Seconds an image of every way, medians of rounds that take turns."""
    n = options.n_images
    model, images, labels = open_model(spec, options.data, n, 48 if options.quick else 224)
    rows = 2**options.n_bands
    ready = torch.rand(options.batch_size, *images.shape[1:])

    def ours(name: str, some: slice = slice(None)) -> tuple[Any, float]:
        kind, _, precision = name.partition(", ")
        protocol = Protocol(options.n_bands, forwards=kind)
        return seconds(
            lambda: spectral_importance(
                model,
                (images[some], labels[some]),
                protocol,
                batch_size=options.batch_size if kind == "plain" else "auto",
                precision=precision or "float32",
            )
        )

    def bare() -> float:
        return seconds(lambda: forwards(model, ready, rows * n))[1]

    bare()  # warm
    found: dict[str, list[float]] = {}
    first = slice(0, 1)
    results: dict[str, Any] = {}
    refused: dict[str, str] = {}
    kinds = [*options.kinds, *([f"{options.kinds[0]}, bfloat16"] if options.half else [])]
    for _ in range(options.rounds):
        found.setdefault("bare", []).append(bare())
        results["plain"], took = ours("plain")
        found.setdefault("plain", []).append(took)
        for kind in list(kinds):
            try:
                alone = ours(kind, first)[1]
            except InputError as error:  # half precision is too coarse for this model
                refused[kind] = str(error)
                kinds.remove(kind)
                continue
            results[kind], took = ours(kind)
            steady = (took - alone) * n / (n - 1)  # without what is paid once
            found.setdefault(kind, []).append(steady)
            found.setdefault(f"{kind}, paid once", []).append(took - steady)
    report: dict[str, Any] = {
        "model": spec,
        "input": list(images.shape[1:]),
        "n_images": n,
        "seconds": found,
        "steps": {kind: list(result.forwards) for kind, result in results.items()},
        "refused": refused,
        "signed_score": {kind: result.signed_score for kind, result in results.items()},
        "greatest_difference_nats": {
            kind: float(np.abs(result.values - results["plain"].values).max())
            for kind, result in results.items()
            if kind != "plain"
        },
    }
    if options.script is not None:
        batch_size, cpu = min(n, options.batch_size), torch.device("cpu")
        run = script_run(options.script, model, (images, labels), options.n_bands, batch_size, cpu)
        found["script"] = [seconds(run)[1]]
        with torch.no_grad():
            found["script, no_grad"] = [seconds(run)[1]]
    return report


def markdown(report: dict[str, Any]) -> str:
    """The report as a table of ratios against bare forward passes of the same round."""
    names = list(dict.fromkeys(name for row in report["models"] for name in row["seconds"]))
    shown = [name for name in names if name != "bare" and "paid once" not in name]
    lines = [
        f"{report['device']}, batch {report['batch_size']}, {report['n_bands']} bands, "
        f"{report['rounds']} rounds, torch {report['torch']}. Seconds over those of bare float32 "
        "forward passes of the same rows.",
        "",
        "| model | bare, ms/row | " + " | ".join(shown) + " | settling, in images |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for row in report["models"]:
        took = {name: median(values) for name, values in row["seconds"].items()}
        n_rows = row["n_images"] * 2 ** report["n_bands"]
        cells = [f"{took[name] / took['bare']:.2f}" if name in took else "-" for name in shown]
        once = [
            took[name] / (took["bare"] / row["n_images"]) for name in took if "paid once" in name
        ]
        cells += [f"{once[0]:.1f}" if once else "-"]
        lines.append(
            f"| {row['model']} | {1e3 * took['bare'] / n_rows:.2f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", default=",".join(NETWORKS), help="specifications, or the default"
    )
    parser.add_argument("--data", help="class folders, for real models")
    parser.add_argument("--script", type=Path, help="the authors' released script")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--n-bands", type=int, default=6)
    parser.add_argument("--n-images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="fast", type=lambda text: text.split(","))
    parser.add_argument("--half", action="store_true", help="faster passes in bfloat16 as well")
    parser.add_argument("--quick", action="store_true", help="only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.quick:
        options.n_bands, options.n_images, options.rounds, options.batch_size = 2, 2, 1, 4
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "device": processor(),
        "torch": torch.__version__,
        "threads": 1,
        "n_bands": options.n_bands,
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "models": [measure(spec, options) for spec in options.models.split(",")],
    }
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def processor() -> str:
    """The CPU's name where the system tells, else its kind."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
