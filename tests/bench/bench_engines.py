"""CPU seconds of a forward pass by other engines beside ours, on one thread, and what they change.

    python tests/bench/bench_engines.py [--models NAME,...] [--slow] [--quick] [--json FILE]

Models of the kit (IASIDE_KIT) and EfficientNet-Lite0. "plain" is the model as it is, "fast" (torch
alone) and "compiled" are what ``forwards=`` makes of it, "bfloat16" is "fast" under autocast; the
last two only with --slow. onnxruntime and OpenVINO run its ONNX export (pip install onnx
onnxruntime openvino); those that are not installed are named. Every round times each engine once,
in turn: medians over rounds of CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from bench_forwards import processor
from torch import Tensor, nn
from value_tables import images_of

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.inference import tuning
from iaside_plugins.inference.forward import Forward
from iaside_plugins.inference.tuning import tune
from iaside_plugins.workflows.source import DataSource, open_images, open_model

Engine = Callable[[Tensor], Tensor]
MODELS = (
    "pip:efficientnet_lite0",
    "kit:c10_resnet20",
    "kit:mcunet_5fps",
    "kit:mobilenet_v2_100_qat",
)
BATCHES = (8, 16, 64)
SLOW = ("bfloat16", "compiled")  # at the first batch size only, without Shapley values
ROUNDS = 5
N_IMAGES, N_BANDS = 2, 5  # of the Shapley values that are compared


def model_and_images(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A model and the images and labels whose Shapley values are compared."""
    net = open_model(name, device="cpu")
    data = list(open_images(DataSource(images_of(name.split(":")[1]), n_images=N_IMAGES), net))
    images = torch.cat([part[0] for part in data])
    labels = torch.cat([torch.as_tensor(part[1]) for part in data])
    return net, images, labels


# ---- engines --------------------------------------------------------------------------------
def ours(net: nn.Module, example: Tensor, slow: bool) -> dict[str, Engine]:
    """The model as it is, and what this package makes of it."""
    plain, labels = Forward(net, torch.device("cpu")), torch.zeros(len(example), dtype=torch.long)
    with patch.object(tuning, "OnnxSession", side_effect=InputError("torch alone here")):
        fast = tune(plain, "fast", example, labels)
    found = {"plain": plain, "fast": fast}
    if slow:
        found["bfloat16"] = replace(fast, precision="bfloat16")
        found["compiled"] = tune(plain, "compiled", example, labels)
    return {name: _prepared(forward) for name, forward in found.items()}


def _prepared(forward: Forward) -> Engine:
    return lambda images: forward(forward.to_memory_format(images)).float()


def others(net: nn.Module, example: Tensor, folder: Path) -> dict[str, Engine]:
    """The engines that are installed, on one thread."""
    if importlib.util.find_spec("onnx") is None:
        return {}
    file = str(folder / "model.onnx")
    axes = {"images": {0: "n"}, "logits": {0: "n"}}
    names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_axes": axes}
    torch.onnx.export(net, (example,), file, dynamo=False, **names)  # type: ignore[arg-type]
    found: dict[str, Engine] = {}
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        found["onnxruntime"] = lambda images: torch.from_numpy(
            session.run(None, {"images": images.numpy()})[0]
        )
    if importlib.util.find_spec("openvino") is not None:
        import openvino

        hints = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(file, "CPU", hints)
        found["OpenVINO"] = lambda images: torch.from_numpy(compiled(images.numpy())[0].copy())
    return found


# ---- what is measured -----------------------------------------------------------------------
def measure(name: str, batches: tuple[int, ...], rounds: int, slow: bool) -> list[dict[str, Any]]:
    """CPU milliseconds of a row, greatest differences of logits and of Shapley values, in nats."""
    net, images, labels = model_and_images(name)
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for batch in batches:
            mixed = torch.rand(batch, 1, 1, 1)  # photographs, faded
            ready = images[torch.arange(batch) % len(images)] * mixed
            engines = {
                **ours(net, ready, slow=slow and batch == batches[0]),
                **others(net, ready, Path(folder)),
            }
            logits = {engine: run(ready.clone()) for engine, run in engines.items()}
            psi = {
                engine: spectral_importance(
                    run, (images, labels), Protocol(N_BANDS), batch_size=batch
                ).per_image
                for engine, run in engines.items()
                if engine not in SLOW and batch == batches[0]
            }
            spent: dict[str, list[float]] = {engine: [] for engine in engines}
            for _ in range(rounds):
                for engine, run in engines.items():
                    spent[engine].append(_seconds(run, ready))
            for engine, seconds in spent.items():
                moved = psi.get(engine)
                rows.append(
                    {
                        "model": name,
                        "batch": batch,
                        "engine": engine,
                        "ms_a_row": 1000 * median(seconds) / batch,
                        "fast_over_it": median(
                            fast / own for fast, own in zip(spent["fast"], seconds, strict=True)
                        ),
                        "logits": float((logits[engine] - logits["plain"]).abs().max()),
                        "shapley": None
                        if moved is None
                        else float(np.abs(moved - psi["plain"]).max()),
                    }
                )
    return rows


def _seconds(run: Engine, images: Tensor) -> float:
    start = time.process_time()
    run(images)
    return time.process_time() - start


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [f"{report['processor']}, {report['versions']}."]
    if report["missing"]:
        lines += ["", f"Not installed: {', '.join(report['missing'])}."]
    heads = ["model", "batch", "engine", "CPU ms a row", "times as quick as fast"]
    heads += ["greatest difference of logits", "of Shapley values, nats"]
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in report["rows"]:
        shapley = "" if row["shapley"] is None else f"{row['shapley']:.1e}"
        lines.append(
            f"| {row['model']} | {row['batch']} | {row['engine']} | {row['ms_a_row']:.2f} "
            f"| {row['fast_over_it']:.2f} | {row['logits']:.1e} | {shapley} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="separated by commas")
    parser.add_argument("--slow", action="store_true", help=f"also {' and '.join(SLOW)}")
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    batches, rounds = ((4,), 2) if options.quick else (BATCHES, ROUNDS)
    known = ("onnx", "onnxruntime", "openvino")
    here = [name for name in known if importlib.util.find_spec(name) is not None]
    report = {
        "processor": processor(),
        "versions": ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", *here)),
        "missing": sorted(set(known) - set(here)),
        "rows": [
            row
            for name in options.models.split(",")
            for row in measure(name, batches, rounds, options.slow)
        ],
    }
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
