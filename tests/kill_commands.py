"""Runs of every command to be killed: each attempt is a fork, so that it starts at once.

`python kill_commands.py HOME KILLS SEED NAME...` prints one JSON line for every kill: the command,
the moment as a share of the whole run, what was kept, and whether the finished result is that of
the run in one go, bit by bit.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import kill_target
import torch
from image_files import make_tree, random_pixels, save
from robustbench_layout import make_cifar
from tiny_model import Counted
from torch import Tensor

from iaside_plugins.cli import command as cli
from iaside_plugins.corruptions.frost import FROST_FILES
from iaside_plugins.storage import row_store

MODEL = "python:kill_commands:slow"
IMAGES = "--data images --n-bands 3 --batch-size 4 --json -"
PGD = "--attacks pgd --attack-steps 2 --epsilons 4/255"
RUNS = {
    "profile": f"profile {MODEL} {IMAGES}",
    "evaluate": f"evaluate {MODEL} {IMAGES} {PGD} --frost frost --out out.json",
    "spectrum": f"spectrum --model {MODEL} {IMAGES} {PGD} --corruptions fog --severities 1,3",
    "sensitivity": f"sensitivity {MODEL} {IMAGES} --range-handling none,clip --absence zero"
    " --band-norm chebyshev",
    "compare": f"compare {MODEL} {IMAGES} --methods ig,saliency --n-sensitivity 2",
    "explain": f"explain {MODEL} {IMAGES} {PGD} --corruptions fog --severities 1,3"
    " --forwards plain",
    "robustbench corruptions": "",
    "robustbench attack": "",
}
NOT_NUMBERS = (
    "date",
    "git_dirty",
    "git_commit",
    "n_forward",
    "seconds",
)  # of a run, not of its result


class Slow(Counted):
    """So slow that a kill falls between two of its passes, or within one."""

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.003)
        return super().forward(x)


def slow() -> Slow:
    """What the commands load."""
    return Slow()


def make_inputs(home: Path) -> None:
    """Make the current folder of the runs."""
    make_tree(home / "images", ("airplane", "bird", "cat"), n=3, height=32, width=32)
    for k, name in enumerate(FROST_FILES):
        save(home / "frost" / name, random_pixels(900 + k, 230, 230))
    make_cifar(home / "cifar", kill_target.N)


def attempt(name: str, kept: Path, out: Path, seconds: float | None = None) -> float:
    """Run a command in a fork and kill it after so many seconds; return how long it took."""
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            sys.stdout = out.open("w")
            _run(name, kept)
            sys.stdout.flush()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        except BaseException:  # noqa: BLE001  of the fork, which must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)  # a child that has ended waits to be asked for
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in ((0,) if seconds is None else (0, -signal.SIGKILL)):
        raise SystemExit(f"{name} ended with {code}: {out.read_text()[-500:]}")
    return time.monotonic() - start


def _run(name: str, kept: Path) -> None:
    if name.startswith("robustbench"):
        kill_target.main(name.split()[1], "cifar", str(kept), f"{kept}.log")
        return
    sys.argv = ["iaside", *RUNS[name].split(), "--resume", str(kept)]
    cli.main()


def numbers(out: Path) -> Any:
    """Return the JSON of a run without what is of the run alone."""

    def without(part: Any) -> Any:
        if isinstance(part, dict):
            return {k: without(v) for k, v in part.items() if k not in NOT_NUMBERS}
        return [without(v) for v in part] if isinstance(part, list) else part

    return without(json.loads(out.read_text()))


def killed(name: str, home: Path, kills: int, draw: random.Random) -> list[dict[str, Any]]:
    """Kill a command again and again in one folder; finish a copy of the folder after each."""
    short = name.replace(" ", "-")
    whole = home / f"{short}.json"
    with contextlib.suppress(SystemExit), whole.open("w") as file, redirect_stdout(file):
        _run(name, home / f"{short}-first")  # here, so that the forks find everything imported
    span = attempt(name, home / f"{short}-whole", whole)
    expected, found = numbers(whole), []
    for k in range(kills):
        share = draw.random()
        kept, copy, out = (home / f"{short}-{part}" for part in ("kept", f"copy-{k}", "again.json"))
        attempt(name, kept, out, share * span)
        if kept.exists():
            shutil.copytree(kept, copy)
        files = sum(1 for path in kept.rglob("*") if path.is_file())
        again = attempt(name, copy, out)
        same = numbers(out) == expected
        found.append({"run": name, "share": share, "files": files, "same": same, "again": again})
        if k % 2:  # some begin anew, some go on from where the kill before left them
            shutil.rmtree(kept, ignore_errors=True)
    return found


def main(home: str, kills: str, seed: str, *names: str) -> None:
    torch.set_num_threads(1)
    row_store.FLUSH_SECONDS = 0.0  # every row at once: as many writes to be killed in
    place = Path(home)
    make_inputs(place)
    os.chdir(place)
    draw = random.Random(int(seed))
    for name in names or RUNS:
        for one in killed(name, place, int(kills), draw):
            print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
