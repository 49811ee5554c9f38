"""Time to an answer: whole commands, from a folder of images to the printed result.

    python tests/bench/bench_answer.py [--models SPEC,...] [--data DIR] [--commands NAME,...]
        [--script FILE] [--quick] [--json FILE]

Each command runs as a user types it, in a process of its own on one thread: `profile` until the
signed score is known to 0.02, `explain` until every band's part of the mean error is known to half
a point, `evaluate` with the 15 corruptions, `compare`. CPU seconds and peak memory are of that
process. Beside them stand bare forward passes, as many as the command reports, of the same model
in batches of 32 (timed on some, and multiplied).

With FILE, the authors' released script, imported from there with the scipy import that it lacks:
CPU seconds of an image under all coalitions, in batches of its own default of 10, and how many
images it needs for the same width. It draws other images for every coalition, so that is the number
at which 1.96 standard deviations of its signed score are 0.02, found by drawing as it does from the
model's own value table. It also says how far the script's distribution is from that of
`Protocol.reference()` on the same images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_forwards import processor, script_run, seconds
from bench_importance import forwards
from value_tables import KIT

from iaside_plugins import Protocol, SpectralImportance, spectral_importance
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.workflows.source import DataSource, open_images, open_model

WIDTH = 0.02  # half-width of the signed score
BATCH, SCRIPT_BATCH = 32, 10
DRAWS = 400  # of the script's images
COMMANDS: dict[str, list[str]] = {
    "profile": [],
    "explain": ["--corruptions", "gaussian_noise,defocus_blur,fog,jpeg_compression"],
    "evaluate": ["--attacks", "none", "--n-images", "50"],
    "compare": ["--n-images", "10"],
}
FULL = {
    "models": "kit:mobilenet_v2_100_qat,kit:resnet18_pqf,kit:mcunet_5fps",
    "commands": ",".join(COMMANDS),
    "n_table": 150,
    "n_timed": SCRIPT_BATCH,
    "n_bare": 512,  # rows that are timed
    "more": [],
}
QUICK = {
    **FULL,
    "models": "kit:c10_resnet2b_adv",
    "commands": "profile,explain",
    "n_table": 8,
    "n_timed": 2,
    "n_bare": 64,
    "more": ["--n-images", "4", "--n-bands", "3"],
}
Array = np.ndarray


def run_command(name: str, spec: str, data: Path, more: list[str], folder: Path) -> dict[str, Any]:
    """CPU seconds, peak memory and passes of a command, and what it reports."""
    file = folder / f"{name}.json"
    output = ["--out", str(file)] if name == "evaluate" else ["--json", str(file)]
    arguments = [name, spec, "--data", str(data), *COMMANDS[name], *more, *output]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "iaside_plugins.cli", *arguments]
    start = time.perf_counter()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "log").read_text()[-2000:])
    found = json.loads(file.read_text())
    return {
        # As a reader types it: where the images lie on this machine is nobody's business.
        "command": " ".join(["iaside", name, spec, "--data", data.name, *COMMANDS[name], *more]),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - start,
        "peak_mb": usage.ru_maxrss / 1024,
        "n_passes": n_passes(found),
        "n_images": found.get("n_images"),
        "estimator": found.get("protocol", {}).get("estimator"),
        "signed_score": found.get("signed_score"),
        "interval": found.get("signed_score_interval"),
    }


def n_passes(found: dict[str, Any]) -> int:
    """Forward passes that a result reports; of an entry those of all its parts."""
    if "spectral" in found:
        cells = [found["clean_accuracy"], *(c["error"] for c in found["corruption"]["conditions"])]
        plain = found["corruption"]["uncorrupted_accuracy"]["n"]
        return int(found["spectral"]["n_forward"] + plain + sum(cell["n"] for cell in cells))
    return int(found["n_forward"])


def bare_seconds(spec: str, data: Path, n: int) -> float:
    """CPU seconds of a bare forward pass of one row, of n."""
    net = open_model(spec, device="cpu")
    images, _, _ = next(iter(open_images(DataSource(data, n_images=BATCH, batch_size=BATCH), net)))
    rows = images.repeat(-(-BATCH // len(images)), 1, 1, 1)[:BATCH]
    forwards(net, rows, BATCH)
    return seconds(lambda: forwards(net, rows, n))[1] / n


def script_seconds(spec: str, data: Path, script: Path, n: int, m: int) -> dict[str, float]:
    """CPU seconds of the script an image, and how far its distribution is from ours."""
    net = open_model(spec, device="cpu")
    parts = list(open_images(DataSource(data, n_images=n), net))
    images = torch.cat([x for x, _, _ in parts])
    labels = torch.cat([y for _, y, _ in parts])
    run = script_run(script, net, (images, labels), m, n, torch.device("cpu"))
    theirs, took = seconds(run)
    protocol = Protocol.reference(m, image_batch=n)
    ours = spectral_importance(net, (images, labels), protocol).distribution
    return {"s_an_image": took / n, "difference": float(np.abs(theirs - ours).max())}


def script_images(table: Array, rng: np.random.Generator) -> int:
    """Images with which the script knows the signed score to `WIDTH`.

    Args:
        table: Value table (K, 2**M) of images, of which each coalition gets others.
        rng: Draws them.
    """
    n, n_coalitions = table.shape
    scores = []
    for _ in range(DRAWS):
        drawn = rng.integers(0, n, (n, n_coalitions))
        psi = shapley_values(np.take_along_axis(table, drawn, axis=0).mean(axis=0))
        scores.append(float(signed_score(importance_distribution(psi))))
    return int(np.ceil(n * (1.96 * np.std(scores) / WIDTH) ** 2))  # a variance falls with 1/n


def measure(spec: str, options: argparse.Namespace, choices: dict[str, Any]) -> dict[str, Any]:
    """Everything about one model."""
    data = options.data or KIT / ("cifar10" if ":c10_" in spec else "images")
    more, bare = list(choices["more"]), bare_seconds(spec, data, choices["n_bare"])
    found: dict[str, Any] = {"model": spec, "bare_s_a_pass": bare, "commands": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in (options.commands or choices["commands"]).split(","):
            row = run_command(name, spec, data, more, folder)
            row["over_bare"] = row["cpu_s"] / (row["n_passes"] * bare)
            found["commands"][name] = row
            print(f"{spec} {name}: {row['cpu_s']:.0f} CPU s", file=sys.stderr, flush=True)
        if options.script is not None:
            few = [
                "--protocol",
                "exact",
                "--target-error",
                "0",
                "--save",
                str(folder / "table.npz"),
            ]
            run_command(
                "profile", spec, data, ["--n-images", str(choices["n_table"]), *few], folder
            )
            table = SpectralImportance.load(folder / "table.npz").values
            script = script_seconds(spec, data, options.script, choices["n_timed"], 8)
            n = script_images(table, np.random.default_rng(0))
            found["script"] = {**script, "n_images": n, "cpu_s": n * script["s_an_image"]}
    return found


def markdown(report: dict[str, Any]) -> str:
    """The report as two tables."""
    lines = [
        f"{report['processor']}, one thread, torch {report['torch']}. CPU seconds of the whole "
        "command; bare: forward passes of the same number alone, in batches of 32.",
        "",
        "| model | command | images | passes | CPU s | over bare | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["models"]:
        for name, one in row["commands"].items():
            images = "" if one["n_images"] is None else one["n_images"]
            lines.append(
                f"| {row['model']} | {name} | {images} | {one['n_passes']:,} | {one['cpu_s']:.0f} "
                f"| {one['over_bare']:.2f} | {one['peak_mb']:.0f} |"
            )
    with_script = [r for r in report["models"] if "script" in r and "profile" in r["commands"]]
    if with_script:
        lines += [
            "",
            f"The authors' script for a signed score known to {WIDTH}, and how far its "
            "distribution is from `Protocol.reference()` on the same images:",
            "",
            "| model | script: images | CPU s | `iaside profile`: CPU s | times | difference |",
            "|---|---|---|---|---|---|",
        ]
    for row in with_script:
        ours, script = row["commands"]["profile"]["cpu_s"], row["script"]
        lines.append(
            f"| {row['model']} | {script['n_images']} | {script['cpu_s']:.0f} | {ours:.0f} | "
            f"{script['cpu_s'] / ours:.1f} | {script['difference']:.0e} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", help="specifications")
    parser.add_argument("--data", type=Path, help="class folders; the kit's by default")
    parser.add_argument("--commands", help=", ".join(COMMANDS))
    parser.add_argument("--script", type=Path, help="the authors' released script")
    parser.add_argument("--quick", action="store_true", help="only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    choices = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "processor": processor(),
        "torch": torch.__version__,
        "models": [],
    }
    for spec in (options.models or choices["models"]).split(","):
        report["models"].append(measure(spec, options, choices))
        if options.json is not None:  # after each: a long run may be stopped
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
