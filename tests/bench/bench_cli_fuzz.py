"""Fuzz of the command line: python tests/bench/bench_cli_fuzz.py [--n 2000] [--seed 0].

Calls every command with sound options, odd models and folders, and junk, each in a fresh folder.
Each must end with exit 0, or 2 and one line on stderr (warnings before it begin with the command's
name too): no traceback, no number that is none, no minute. `--processes` repeats so many of the
calls as processes of their own.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from cli_fuzz import drawn, make_inputs, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    codes: Counter[tuple[str, object]] = Counter()
    wrong, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder) / "inputs")
        for k in range(args.n + args.processes):
            draw = random.Random(f"{args.seed} {k % args.n}")
            found = run(drawn(draw), inputs, process=k >= args.n)
            codes[found.arguments[0], found.code if found.code in (0, 2) else "other"] += 1
            slowest = max(slowest, found.seconds)
            if faults := found.faults():
                wrong += 1
                words = [w if len(w) < 60 else f"{w[:40]}...({len(w)})" for w in found.arguments]
                print(
                    f"call {k}: {'; '.join(faults)}\n  {words!r}\n  {found.err[-600:]!r}",
                    flush=True,
                )
    for (command, code), n in sorted(codes.items(), key=str):
        print(f"{command}: exit {code}: {n}")
    print(f"{args.n} calls and {args.processes} processes, seed {args.seed}: {wrong} wrong")
    print(f"slowest {slowest:.1f} s")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
