"""Fuzz of image folders: python tests/bench/bench_folder_fuzz.py [--n 500] [--seed 0].

Makes folders with odd files, names and layouts, and says how many were refused and why. A
traceback, an answer of several lines or an image that is lost without a word ends it.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from folder_fuzz import tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    why, n_taken, n_said, slowest = Counter[str](), 0, 0, 0.0
    with tempfile.TemporaryDirectory() as home:
        for k in range(args.n):
            start = time.process_time()
            try:
                outcome = tried(Path(home, "data"), random.Random(f"{args.seed} {k}"))
                outcome.check()
            except Exception:
                print(f"folder {k} of seed {args.seed}")
                raise
            slowest = max(slowest, time.process_time() - start)
            n_taken, n_said = n_taken + outcome.n_taken, n_said + outcome.n_said
            short = re.sub(r"'[^']*'|\S*/\S*|\d+", "*", outcome.refused)
            why[short[:70]] += bool(outcome.refused)
    print(f"{args.n} folders, seed {args.seed}: {sum(why.values())} refused, no traceback")
    print(f"{n_taken} images taken, {n_said} files left out and said; slowest {slowest:.2f} s")
    for reason, n in why.most_common(40):
        print(f"{n:5d}  {reason}")


if __name__ == "__main__":
    main()
