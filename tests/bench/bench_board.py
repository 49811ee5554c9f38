"""Time and size of the board's files by number of models: python tests/bench/bench_board.py.

The entries are the committed CIFAR-10 ones, renamed, with jittered scores and accuracies: all 15
corruptions, two attacks at four budgets, provenance.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.render import latex, page, scatter, text

COUNTS = (0, 1, 2, 100, 1000)
RENDERERS: dict[str, Callable[[Board], str]] = {
    "index.html": page.to_html,
    "README.md": text.to_markdown,
    "leaderboard.csv": text.to_csv,
    "leaderboard.json": text.to_json,
    "leaderboard.tex": latex.to_latex,
    "scatter.vl.json": scatter.to_vega,
}


def models(n: int) -> list[Entry]:
    """So many entries of one table."""
    bases = [e for e in load_entries(BOARD / "entries" / "cifar10") if e.benchmark is None]
    rng = np.random.default_rng(0)
    return [_renamed(bases[k % len(bases)], k, rng) for k in range(n)]


def _renamed(base: Entry, k: int, rng: np.random.Generator) -> Entry:
    name = f"{base.model.name}_{k}"
    clean, spectral = base.clean_accuracy, base.spectral
    accuracy = float(np.clip(clean.value + rng.normal(0, 0.03), 0, 1))
    score = spectral.signed_score + rng.normal(0, 0.05)
    return base.model_copy(
        update={
            "entry_id": base.entry_id.replace(base.model.name, name),
            "model": base.model.model_copy(update={"name": name}),
            "clean_accuracy": clean.model_copy(update={"value": accuracy}),
            "spectral": spectral.model_copy(update={"signed_score": score, "score": abs(score)}),
        }
    )


def measure(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """One record a count: seconds of the board and of each renderer, bytes of each file."""
    records = []
    for n in counts:
        entries = models(n)
        start = time.perf_counter()
        board = Board.of(entries)
        seconds = {"board": time.perf_counter() - start}
        size = {}
        for name, render in RENDERERS.items():
            start = time.perf_counter()
            size[name] = len(render(board).encode())
            seconds[name] = time.perf_counter() - start
        records.append({"models": n, "seconds": seconds, "bytes": size})
    return records


def markdown(records: list[dict[str, Any]]) -> str:
    """The records as a Markdown table."""
    names = list(records[0]["bytes"])
    lines = [
        "| models | board, s | " + " | ".join(f"{name}, s / kB" for name in names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for record in records:
        seconds, size = record["seconds"], record["bytes"]
        cells = [f"{seconds[name]:.2f} / {size[name] / 1000:.0f}" for name in names]
        lines.append(
            f"| {record['models']:,} | {seconds['board']:.2f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the records here")
    options = parser.parse_args(arguments)
    records = measure(COUNTS[:3] if options.quick else COUNTS)
    print(markdown(records))
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
