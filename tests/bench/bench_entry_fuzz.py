"""Fuzz of the entry validator: python tests/bench/bench_entry_fuzz.py [--n 20000] [--seed 0].

Mutates the committed entries, and says how many were refused, the slowest answer, the longest
line, and which places a change of passed. A traceback ends it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from entry_fuzz import judged, mutated, places

from iaside_plugins.leaderboard.build import BOARD


def at(raw: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        raw = raw[key]
    return raw


def passed_places(text: str, data: bytes) -> set[str]:
    """Return the places of an accepted entry that differ from the original."""
    old, new = json.loads(text), json.loads(data)
    paths = {p for p in places(new) if not isinstance(at(new, p), (dict, list))}
    known = {p for p in places(old) if not isinstance(at(old, p), (dict, list))}
    differ = {p for p in paths & known if at(old, p) != at(new, p)} | paths ^ known
    return {"/".join(str(k) for k in path if not isinstance(k, int)) for path in differ}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    texts = [file.read_text() for file in sorted((BOARD / "entries").rglob("*.json"))]
    draw = random.Random(args.seed)
    refused, slowest, longest, passed = 0, 0.0, 0, Counter[str]()
    for k in range(args.n):
        text = texts[k % len(texts)]
        data = mutated(text, draw)
        try:
            problems, seconds = judged(data)
        except Exception:
            print(f"mutation {k} of seed {args.seed}: {data[:200]!r}")
            raise
        refused += bool(problems)
        slowest = max(slowest, seconds)
        longest = max([longest, *map(len, problems)])
        if not problems:
            passed.update(passed_places(text, data))
    print(f"{args.n} entries, seed {args.seed}: {refused} refused, no traceback")
    print(f"slowest {slowest:.3f} s, longest line {longest} characters")
    print("changes that passed:", ", ".join(f"{k} {n}" for k, n in passed.most_common(60)))


if __name__ == "__main__":
    main()
