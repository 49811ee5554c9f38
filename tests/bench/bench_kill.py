"""SIGKILL at random moments: python tests/bench/bench_kill.py [--kills 6] [--seed 0] [NAME...].

Kills profile, evaluate, spectrum, sensitivity, compare and the RobustBench adapter so many times
each, and finishes after each kill: the JSON must be that of a run in one go, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "kill_commands.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TARGET), str(Path(folder) / "home"), str(args.kills)]
        done = subprocess.run(
            [*command, str(args.seed), *args.names], stdout=subprocess.PIPE, text=True, check=True
        )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"run"')]
    for one in found:
        print(
            f"{one['run']:24} killed at {one['share']:4.0%}, {one['files']:3} files kept: "
            + ("the same" if one["same"] else "OTHER NUMBERS")
        )
    wrong = sum(not one["same"] for one in found)
    print(f"{len(found)} kills, seed {args.seed}: {wrong} with other numbers")
    sys.exit(wrong > 0 or not found)


if __name__ == "__main__":
    main()
