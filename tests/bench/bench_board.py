"""Time, memory and size of the board's files by number of models, and how quick its page is.

    python tests/bench/bench_board.py [--quick] [--json FILE] [--page]

The entries are the committed CIFAR-10 ones, renamed, with jittered scores, errors and accuracies,
eight models a family: all 15 corruptions, two attacks at four budgets, provenance. With --page the
page of the greatest number is opened in headless Chromium and used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from iaside_plugins.entry.read import load_entries, read_entries
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.render import evidence, latex, page, scatter, text, tidy
from iaside_plugins.leaderboard.render.model_page import model_pages
from iaside_plugins.leaderboard.statistics import estimates
from iaside_plugins.leaderboard.statistics.report import table_statistics, to_json
from iaside_plugins.leaderboard.table.frame import tables

COUNTS = (1, 2, 8, 100, 1000)
RENDERERS: dict[str, Callable[[Board], str]] = {
    "index.html": page.to_html,
    "evidence.html": evidence.to_html,
    "models/": lambda board: "".join(model_pages(board).values()),
    "README.md": text.to_markdown,
    "leaderboard.csv": text.to_csv,
    "leaderboard.json": text.to_json,
    "leaderboard.tex": latex.to_latex,
    "latex/": lambda board: "".join(latex.fragments(board).values()),
    "results.csv": tidy.results,
    "models.csv": tidy.models,
    "scatter.vl.json": scatter.to_vega,
    "stats.json": lambda board: to_json(board.statistics),
}
A_FAMILY = 8  # models


def models(n: int) -> list[Entry]:
    """So many entries of one table, eight models a family."""
    bases = committed()
    rng = np.random.default_rng(0)
    return [_renamed(bases[k % len(bases)], k, rng) for k in range(n)]


@cache
def committed() -> list[Entry]:
    """The committed entries of the images that most have."""
    own = [e for e in load_entries(BOARD / "entries" / "cifar10") if e.benchmark is None]
    images = Counter(e.data.image_ids_sha256 for e in own).most_common(1)[0][0]
    return [e for e in own if e.data.image_ids_sha256 == images]


def _renamed(base: Entry, k: int, rng: np.random.Generator) -> Entry:
    name = f"{base.model.name}_{k}"
    net = f"net {''.join(chr(97 + int(digit)) for digit in f'{k // A_FAMILY:03}')}"

    def near(x: float) -> float:
        return float(np.clip(x + rng.normal(0, 0.03), 0.001, 0.999))

    spectral, corruption, adversarial = base.spectral, base.corruption, base.adversarial
    score = spectral.signed_score + rng.normal(0, 0.05)
    changed = {
        "entry_id": base.entry_id.replace(base.model.name, name),
        "model": base.model.model_copy(update={"name": name, "architecture": net}),
        "clean_accuracy": _moved(base.clean_accuracy, near),
        "spectral": spectral.model_copy(update={"signed_score": score, "score": abs(score)}),
    }
    if corruption is not None:
        errors = [_within(cell, "error", near) for cell in corruption.conditions]
        mean = _moved(corruption.unnormalised_mean_error, near)
        changed["corruption"] = corruption.model_copy(
            update={"conditions": tuple(errors), "unnormalised_mean_error": mean}
        )
    if adversarial is not None:
        worst = [_within(cell, "accuracy", near) for cell in adversarial.worst_case]
        changed["adversarial"] = adversarial.model_copy(update={"worst_case": tuple(worst)})
    return base.model_copy(update=changed)


def _within(cell: Any, name: str, near: Callable[[float], float]) -> Any:
    return cell.model_copy(update={name: _moved(getattr(cell, name), near)})


def _moved(number: Any, near: Callable[[float], float]) -> Any:
    return number.model_copy(update={"value": near(number.value)})


def written(n: int, folder: Path) -> None:
    """So many files of valid entries: the committed ones by other names, of other weights."""
    bases = sorted((BOARD / "entries" / "cifar10").glob("*.json"))
    raws = [
        raw for raw in (json.loads(base.read_text()) for base in bases) if not raw.get("benchmark")
    ]
    (folder / "entries" / "cifar10").mkdir(parents=True)
    for k in range(n):
        raw = json.loads(json.dumps(raws[k % len(raws)]))
        name = f"{raw['model']['name']}_{k}"
        raw["entry_id"] = raw["entry_id"].replace(raw["model"]["name"], name)
        raw["model"] |= {"name": name, "weights_sha256": hashlib.sha256(name.encode()).hexdigest()}
        file = folder / "entries" / "cifar10" / f"{raw['entry_id']}.json"
        file.write_text(json.dumps(raw))


def measure(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """One record a count: CPU seconds of each part, bytes of each file, peak memory so far."""
    records = []
    for n in counts:
        seconds, size = {}, {}
        with tempfile.TemporaryDirectory() as place:
            written(n, Path(place))
            start = time.process_time()
            read_entries(Path(place) / "entries")  # which also says that these are copies
            seconds["read and check"] = time.process_time() - start
        entries = models(n)
        start = time.process_time()
        parts = tables(entries)
        seconds["tables"] = time.process_time() - start
        start = time.process_time()
        statistics = table_statistics(parts)
        seconds["statistics"] = time.process_time() - start
        board = Board.of(entries, statistics)
        for name, render in RENDERERS.items():
            start = time.process_time()
            size[name] = len(render(board).encode())
            seconds[name] = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        records.append({"models": n, "seconds": seconds, "bytes": size, "peak_gb": peak})
    return records


def markdown(records: list[dict[str, Any]]) -> str:
    """The records as a Markdown table: a row a part, a column a number of models."""
    counts = " | ".join(f"{record['models']:,} models" for record in records)
    lines = [f"{processor()}; CPU seconds, one run.", "", f"| part | {counts} |"]
    lines.append("|---" * (len(records) + 1) + "|")
    for name in records[0]["seconds"]:
        cells = []
        for record in records:
            size = record["bytes"].get(name)
            file = "" if size is None else f" ({size / 1000:,.0f} kB)"
            cells.append(f"{record['seconds'][name]:.2f}{file}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    totals = [f"{sum(record['seconds'].values()):.1f}" for record in records]
    peaks = [f"{record['peak_gb']:.2f}" for record in records]
    lines.append(f"| all | {' | '.join(totals)} |")
    return "\n".join([*lines, f"| peak memory so far, GB | {' | '.join(peaks)} |"])


def processor() -> str:
    """The processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


USES = {  # name -> what is done in the table in view
    "sort": "section.querySelectorAll('.models thead th button')[3].click()",
    "filter": "type('.find', '_12', 'input')",
    "clear the filter": "type('.find', '', 'input')",
    "another threat": "type('.threat', option(1), 'change')",
    "all columns": "type('.view', 'all', 'change')",
    "choose one": "section.querySelectorAll('.models tbody th > input')[3].click()",
    "compare two": "section.querySelectorAll('.models tbody th > input')[4].click()",
}
USE = """async () => {
  const section = [...document.querySelectorAll('section.board')].find((one) => !one.hidden);
  const type = (where, text, kind) => {
    const field = section.querySelector(where);
    field.value = text;
    field.dispatchEvent(new Event(kind, { bubbles: true }));
  };
  const option = (k) => section.querySelectorAll('.threat option')[k].value;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)));
  const start = performance.now();
  %s;
  section.getBoundingClientRect(); // style and layout are done now
  return performance.now() - start;
}"""
KINDS = ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration")


def used(html: str, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Milliseconds until the page is laid out again after each of `USES`, medians.

    "cpu": of the page's thread, for script, style and layout; "wall": by the page's clock.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place, sync_playwright() as host:
        file = Path(place) / "index.html"
        file.write_text(html, encoding="utf-8")
        own = host.chromium.executable_path
        path = own if Path(own).exists() else shutil.which("chromium")
        browser = host.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(file.as_uri())
        client = tab.context.new_cdp_session(tab)
        client.send("Performance.enable", {"timeDomain": "threadTicks"})

        def cpu() -> float:
            values = client.send("Performance.getMetrics")["metrics"]
            return 1000 * sum(one["value"] for one in values if one["name"] in KINDS)

        found: dict[str, dict[str, list[float]]] = {}
        for _ in range(rounds):
            for name, what in USES.items():
                before = cpu()
                wall = tab.evaluate(USE % what)
                row = found.setdefault(name, {"cpu": [], "wall": []})
                row["cpu"].append(cpu() - before)
                row["wall"].append(wall)
            tab.evaluate(USE % "section.querySelector('.reset').click()")
        browser.close()
    return {name: {k: median(v) for k, v in row.items()} for name, row in found.items()}


def page_markdown(uses: dict[str, dict[str, float]], n: int) -> str:
    """The page's times as a Markdown table."""
    lines = [
        f"{processor()}; the page of {n:,} models in headless Chromium, milliseconds until it is "
        "laid out again, medians of 5.",
        "",
        "| use | CPU: script, style, layout | wall |",
        "|---|---|---|",
    ]
    return "\n".join(
        lines + [f"| {name} | {t['cpu']:.0f} | {t['wall']:.0f} |" for name, t in uses.items()]
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the records here")
    parser.add_argument("--page", action="store_true", help="measure the page alone")
    options = parser.parse_args(arguments)
    counts = COUNTS[:3] if options.quick else COUNTS
    if options.page:
        for name in ("N_RESAMPLES", "N_PERMUTATIONS", "N_PERMUTATIONS_KENDALL"):
            setattr(estimates, name, 20)  # the page is as large with few
        records: Any = used(page.to_html(Board.of(models(counts[-1]))))
        print(page_markdown(records, counts[-1]))
    else:
        records = measure(counts)
        print(markdown(records))
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
