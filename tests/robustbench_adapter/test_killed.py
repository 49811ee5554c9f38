"""Killed without warning at a random moment, a run goes on with at most one batch repeated."""

from __future__ import annotations

import importlib.util
import io
import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import kill_target
import pytest
from kill_target import BATCH, N
from robustbench_layout import make_cifar

TARGET = Path(__file__).resolve().parent.parent / "kill_target.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cifar(tmp_path_factory.mktemp("cifar"), N)


class Run:
    """One folder of unfinished work and the processes that worked in it."""

    def __init__(self, kind: str, data: Path, folder: Path) -> None:
        folder.mkdir()
        self.kept, self.log = folder / "kept", folder / "log"
        self.command = [sys.executable, str(TARGET), kind, *map(str, (data, self.kept, self.log))]

    def passes(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    def here(self) -> dict[str, Any]:
        """Run in this process, so that the forks find everything imported."""
        with redirect_stdout(io.StringIO()) as out:
            kill_target.main(*self.command[2:])
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def to_the_end(self) -> dict[str, Any]:
        done = subprocess.run(self.command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def killed_after(self, n: int) -> None:
        """Start as a fork, which has imported everything; kill after so many forward passes."""
        process = multiprocessing.get_context("fork").Process(
            target=kill_target.main, args=self.command[2:]
        )
        process.start()
        deadline = time.monotonic() + 120
        while len(self.passes()) < n and time.monotonic() < deadline:
            assert process.is_alive(), "it ended before it could be killed"
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL

    def batches(self) -> dict[str, int]:
        """Attacked batches on disk, with when they were written."""
        files = self.kept.glob("attacks/*/*.npz")
        return {str(file): file.stat().st_mtime_ns for file in files}


@pytest.mark.skipif(importlib.util.find_spec("robustbench") is None, reason="needs RobustBench")
def test_killed_in_autoattack(data: Path, tmp_path: Path) -> None:
    whole = Run("attack", data, tmp_path / "whole")
    expected = whole.here()
    n_passes, rng = len(whole.passes()), random.Random()
    moments = sorted(rng.sample(range(20, int(0.8 * n_passes)), 2))
    print(f"killed after {moments} of {n_passes} passes")  # shown where the test fails
    run = Run("attack", data, tmp_path / "killed")
    for k, moment in enumerate(moments):
        before = run.batches()
        run.killed_after(moment)
        # Nothing finished is done again, so that only the batch under way was lost.
        assert before.items() <= run.batches().items(), k
    before = run.batches()
    assert run.to_the_end() == expected
    after = run.batches()
    assert before.items() <= after.items()
    assert {Path(name).name for name in after} == {Path(name).name for name in whole.batches()}


def test_killed_in_the_corruption_cells(data: Path, tmp_path: Path) -> None:
    whole = Run("corruptions", data, tmp_path / "whole")
    expected = whole.here()
    n_passes, rng = len(whole.passes()), random.Random()
    moments = sorted(rng.sample(range(20, int(0.8 * n_passes)), 2))
    print(f"killed after {moments} of {n_passes} passes")  # shown where the test fails
    run = Run("corruptions", data, tmp_path / "killed")
    for moment in moments:
        run.killed_after(moment)
    assert run.to_the_end() == expected
    # Each kill costs the batch under way; each start a pass of the first, and the black
    # images of two importances.
    once, again = sum(whole.passes()), sum(run.passes())
    assert again <= once + 2 * BATCH + 2 * (BATCH + 2)
