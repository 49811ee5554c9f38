"""All that needs a GPU to be seen, in one command: checks of numbers, then a table of speed.

    python tests/bench/gpu_check.py [--device cuda] [--out DIR] [--script FILE] [--weights FILE]
        [--minutes 8] [--quick]

Works from a copy of the working tree, without a network, with torch, torchvision, timm, numpy,
pandas, tqdm and typer; what needs another library is reported as not run. First the checks of
`device_checks` (the tests marked `cuda` are the same functions; pytest is not needed), then a part
for every network of `gpu_table`. Each part is a process with its share of the minutes: what does
not fit is left out and said, and a part that dies or hangs stops no other. Writes
``gpu-CARD.json`` and ``gpu-CARD.md``; the exit code is 1 if a check failed. `--quick` only shows
that everything runs. ``docs/performance/gpu.md`` says how to read the table.
"""

from __future__ import annotations

import argparse
import datetime
import faulthandler
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATHS = [str(ROOT), str(HERE.parent), str(HERE)]
sys.path[:0] = PATHS
NETWORKS = ("ResNet-50", "ViT-B/16", "EfficientNet-Lite0")
DOORS = ("profile", "bare")
TARGET = 0.95  # rows a second of a door over those of bare passes
CHECKS_SHARE = 0.25  # of the minutes; the networks share the rest
OUT_OF_TIME = "out of time"
LIMIT = 60.0  # seconds of one check, after which its process ends, and the others go on in the next
GRACE = 15.0  # seconds beyond its share, after which a part is ended
Line = dict[str, Any]


# ---- in the process of a part --------------------------------------------------------------
def lines_of(part: str, options: argparse.Namespace, done: list[str]) -> Iterator[Line]:
    """Yield what a part finds, as JSON values.

    Args:
        part: "checks", or the name of a network.
        options: Of the command.
        done: Checks that are not to be run again.
    """
    import torch

    deadline = time.monotonic() + options.seconds
    yield {"kind": "environment", **environment(options.device)}
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(device)
    if part != "checks":
        from gpu_table import Bench

        try:
            bench = Bench(part, options, deadline)
        except ImportError as error:
            yield {"kind": "part", "part": part, "status": "not run", "reason": str(error)}
            return
        yield {
            "kind": "network",
            "network": part,
            "weights": bench.weights,
            "batch_size": bench.batch_size,
            "flops_a_row": bench.flops,
        }
        yield from bench.rows()
        return
    from device_checks import CHECKS, run_check

    for name, one in CHECKS.items():
        if name in done:
            continue
        row = {"kind": "check", "name": name, "status": "not run", "seconds": 0.0, "measured": []}
        if options.quick and one.slow:
            yield {**row, "reason": "left out by --quick"}
        elif time.monotonic() > deadline:
            yield {**row, "reason": OUT_OF_TIME}
        else:
            yield {"kind": "begun", "name": name}
            faulthandler.dump_traceback_later(LIMIT, exit=True)
            found = run_check(name, device)
            faulthandler.cancel_dump_traceback_later()
            yield {"kind": "check", **found}
            if found["status"] == "error" and device.type == "cuda":
                torch.cuda.synchronize()  # ends this process if the device is of no more use to it


def environment(device: str) -> Line:
    """What the numbers depend on: card, driver, libraries."""
    import numpy as np
    import torch
    from bench_forwards import processor

    found: Line = {
        "card": processor(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": processor(),
    }
    if torch.device(device).type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "memory_gb": card.total_memory / 1e9,
            "n_gpus": torch.cuda.device_count(),
            "cudnn": torch.backends.cudnn.version(),
            "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    return found


def _said(*command: str) -> str | None:
    """The first line that a command prints, None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def run_part(options: argparse.Namespace) -> None:
    """Write a part's lines to a file, each as soon as it is known."""
    with options.lines.open("a") as file:
        for line in lines_of(options.part, options, options.done):
            file.write(json.dumps(line) + "\n")
            file.flush()


# ---- in the process of the command ---------------------------------------------------------
def part_lines(
    part: str, seconds: float, options: argparse.Namespace, done: list[str]
) -> tuple[list[Line], str]:
    """Run a part in a process of its own; its lines, and why it ended early ("" if it did not).

    What was known before the end is kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, said = Path(folder, "lines"), Path(folder, "said")
        command = [sys.executable, __file__, "--part", part, "--lines", str(file)]
        command += ["--seconds", str(seconds), "--device", options.device, "--done", *done]
        for name in ("script", "weights"):
            if (given := getattr(options, name)) is not None:
                command += [f"--{name}", str(given)]
        command += ["--quick"] if options.quick else []
        ended = ""
        with said.open("w") as output:
            paths = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])
            environment = {**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep)}
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            try:
                code = process.wait(seconds + GRACE)
                ended = "" if code == 0 else f"exit code {code}: {_tail(said)}"
            except subprocess.TimeoutExpired:
                ended = f"{OUT_OF_TIME}, ended after {seconds + GRACE:.0f} s"
            finally:
                process.kill()
                process.wait()
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")], ended


def _tail(file: Path) -> str:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"


def all_checks(seconds: float, options: argparse.Namespace) -> Iterator[Line]:
    """Yield the lines of all checks; where one ends the process, the others run in the next."""
    end, done = time.monotonic() + seconds, list[str]()
    while True:
        lines, ended = part_lines("checks", max(1.0, end - time.monotonic()), options, done)
        finished = {line["name"] for line in lines if line["kind"] == "check"}
        begun = {line["name"] for line in lines if line["kind"] == "begun"} - finished
        yield from (line for line in lines if line["kind"] != "begun")
        for name in begun:
            yield {"kind": "check", "name": name, "status": "error", "reason": ended}
        done += [*finished, *begun]
        if not ended:
            return
        if not (finished or begun) or time.monotonic() > end:
            yield {"kind": "part", "part": "checks", "status": "error", "reason": ended}
            return


def measured(options: argparse.Namespace) -> Iterator[Line]:
    """Yield the lines of all parts; time that one leaves goes to the next."""
    end = time.monotonic() + 60 * options.minutes - GRACE
    networks = ("small",) if options.quick else NETWORKS
    print(f"checks: at most {CHECKS_SHARE * 60 * options.minutes:.0f} s", flush=True)
    yield from all_checks(CHECKS_SHARE * (end - time.monotonic()), options)
    for k, name in enumerate(networks):
        seconds = (end - time.monotonic()) / (len(networks) - k)
        print(f"{name}: at most {seconds:.0f} s", flush=True)
        lines, ended = part_lines(name, seconds, options, [])
        yield from lines
        if ended:
            status = "not run" if ended.startswith(OUT_OF_TIME) else "error"
            yield {"kind": "part", "part": f"rest of {name}", "status": status, "reason": ended}


def report_of(options: argparse.Namespace) -> Line:
    """Run everything; the report."""
    start = time.monotonic()
    report: Line = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _said("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "device": options.device,
        "quick": options.quick,
        "minutes": options.minutes,
    }
    kinds = ("check", "network", "speed", "script", "settling", "earns", "part")
    report |= {kind: [] for kind in kinds}
    for line in measured(options):
        kind = line.pop("kind")
        if kind == "environment":
            report["environment"] = line
        else:
            report[kind].append(line)
    report["seconds"] = time.monotonic() - start
    states = [row["status"] for row in (*report["check"], *report["part"])]
    report["passed"] = "passed" in states and not {"failed", "error"} & set(states)
    return report


# ---- the table -----------------------------------------------------------------------------
def markdown(report: Line) -> str:
    """The report for people."""
    where = report.get("environment", {})
    card = where.get("card", report["device"])
    facts = {
        "driver": where.get("driver"),
        "torch": where.get("torch"),
        "CUDA": where.get("cuda"),
        "cuDNN": where.get("cudnn"),
        "processor": where.get("processor"),
        "commit": report["commit"],
        "date": report["date"],
    }
    known = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    kind = " A quick run: its figures say nothing." if report["quick"] else ""
    sections = [
        f"# {card}",
        f"{known}. {report['seconds']:.0f} s of {report['minutes']:g} minutes.{kind}",
        *_checks_text(report["check"]),
        *_speed_text(report),
        *_earns_text(report["earns"]),
        *_missing_text(report),
    ]
    return "\n\n".join(sections) + "\n"


def _checks_text(checks: list[Line]) -> list[str]:
    counts = Counter(check["status"] for check in checks)
    worst = [
        (entry["deviation"] / entry["bound"], check["name"], entry)
        for check in checks
        for entry in check.get("measured", ())
        if entry["bound"] > 0 and entry["deviation"] is not None
    ]
    text = ", ".join(f"{n} {status}" for status, n in counts.items()) or "none ran"
    found = ["## Checks", f"{text}."]
    off = [check for check in checks if check["status"] in ("failed", "error")]
    if worst:
        share, name, entry = max(worst, key=lambda one: one[0])
        found[-1] += (
            f" The greatest deviation, as a share of its bound: {share:.2g} ({name}: "
            f"{entry['what']}, {entry['deviation']:.2g} of {entry['bound']:g})."
        )
    table = [
        (check["name"], *cells)
        for check in off
        for cells in [
            (e["what"], _size(e), f"{e['bound']:g}")
            for e in check.get("measured", ())
            if not e["ok"]
        ]
        or [(_cell(check["reason"]), "", "")]
    ]
    if table:
        found.append(_table(("check", "what", "deviation", "bound"), table))
    return found


def _speed_text(report: Line) -> list[str]:
    rows = [row for row in report["speed"] if row["status"] == "measured"]
    if not rows:
        return []
    table = [
        (
            row["network"],
            row["way"],
            row["precision"],
            row["batch_size"],
            f"{row['rows_a_second']['bare']:.0f}",
            *(f"{row['steady'][door]:.3f} ({row['whole'][door]:.3f})" for door in row["steady"]),
            f"{row['share_of_peak']:.1%}",
            f"{row['host_ms_a_batch']['bare']:.2f}, {row['host_ms_a_batch']['engine']:.2f}",
            _memory(row["memory"]),
        )
        for row in rows
    ]
    head = (
        *("network", "way", "precision", "batch", "bare, rows/s", "profile / bare"),
        *("explain / bare", "share of peak", "host, ms a batch: bare, engine"),
        "MB beyond a bare pass / bound",
    )
    nets = [f"{net['network']}: {net['weights']}" for net in report["network"]]
    found = ["## Speed", f"{'; '.join(nets)}.", _table(head, table)]
    if not report["quick"]:
        found.append(_short_of(rows))
    scripts = [row for row in report["script"] if row["status"] == "measured"]
    if scripts:
        found.append("The authors' script, float32:")
        head = ("network", "batch", "rows/s as released", "rows/s under `no_grad`")
        rates = [(row, row["rows_a_second"].values()) for row in scripts]
        found.append(
            _table(
                head, [(r["network"], r["batch_size"], *(f"{x:.0f}" for x in v)) for r, v in rates]
            )
        )
    settled = [row for row in report["settling"] if row["status"] == "measured"]
    if settled:
        found.append('What `forwards="fast"` takes by itself:')
        found.append("\n".join(_settling(row) for row in settled))
    return found


def _short_of(rows: list[Line]) -> str:
    """What falls short of the target, or takes more memory than is said."""
    slow = [
        f"{door} of {row['network']}, {row['way']}, {row['precision']}: {share:.3f}"
        for row in rows
        for door, share in row["steady"].items()
        if share < TARGET
    ]
    large = [
        f"{row['network']}, {row['way']}, {row['precision']}"
        for row in rows
        if row["memory"].get("within") is False
    ]
    return (
        f"Below {TARGET:g} of bare passes: {'; '.join(slow) or 'none'}. "
        f"More memory than the bound: {'; '.join(large) or 'none'}."
    )


def _memory(memory: Line) -> str:
    beyond = memory["MB beyond a bare pass"]
    return "-" if beyond is None else f"{beyond:.0f} / {memory['MB bound']:.0f}"


def _settling(row: Line) -> str:
    parts = []
    for precision, found in row["precisions"].items():
        steps = [f"{s['name']} {s['speedup']:.2f}x" for s in found["steps"] if s["used"]]
        taken = ", ".join(steps) or found.get("refused") or "no step"
        parts.append(f"{precision}: {taken} ({found['seconds']:.1f} s)")
    return f"- {row['network']}: {'; '.join(parts)}"


def _earns_text(rows: list[Line]) -> list[str]:
    table = [
        (
            row["network"],
            row["what"],
            row["batch_size"],
            *(f"{row[side]['profile']:.0f}" for side in ("with", "without")),
            *(f"{row['gain'][door]:.3f}" if door in row["gain"] else "-" for door in DOORS),
        )
        for row in rows
        if row["status"] == "measured"
    ]
    head = ("network", "what", "batch", "profile, rows/s with", "without", "gain", "of bare passes")
    return ["## What each part of the engine earns", _table(head, table)] if table else []


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _missing_text(report: Line) -> list[str]:
    """Whatever was not measured, and why."""
    lines = []
    for kind in ("check", "speed", "script", "settling", "earns", "part"):
        for row in report[kind]:
            if row["status"] in ("not run", "error"):
                names = ("name", "network", "what", "way", "precision", "batch_size", "part")
                what = ", ".join(str(row[name]) for name in names if name in row)
                lines.append(f"- {kind} {what}: {row['status']}, {row['reason']}")
    return ["## Not measured", "\n".join(lines)] if lines else []


def _size(entry: Line) -> str:
    return "no number" if entry["deviation"] is None else f"{entry['deviation']:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    """Run it and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR")
    parser.add_argument("--script", type=Path, help="the authors' released script")
    parser.add_argument("--weights", type=Path, help="the weights of EfficientNet-Lite0")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--quick", action="store_true", help="only shows that everything runs")
    for name, choices in {
        "part": {},
        "lines": {"type": Path},
        "seconds": {"type": float},
        "done": {"nargs": "*", "default": []},
    }.items():  # of the process of a part
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **choices)
    options = parser.parse_args()
    if options.part:
        run_part(options)
        return 0
    for name in ("script", "weights"):
        if (file := getattr(options, name)) is not None and not file.is_file():
            parser.error(f"--{name} {file}: there is no such file")
    options.device = "cuda:0" if options.device == "cuda" else options.device
    if options.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            parser.error("there is no GPU here; --device cpu runs the same on the CPU")
    report = report_of(options)
    text = markdown(report)
    card = report.get("environment", {}).get("card", options.device)
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / f"{name}.md").write_text(text)
    print(text)
    print(f"written: {options.out / name}.json and .md")
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
