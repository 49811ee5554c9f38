"""Killed without warning at a random moment, a run goes on with at most one batch repeated."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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

    def to_the_end(self) -> dict[str, Any]:
        done = subprocess.run(self.command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def killed_after(self, n: int) -> None:
        """Start, and kill once so many forward passes have begun."""
        with subprocess.Popen(self.command, stdout=subprocess.PIPE) as process:
            deadline = time.monotonic() + 120
            while len(self.passes()) < n and time.monotonic() < deadline:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL

    def batches(self) -> dict[str, int]:
        """Attacked batches on disk, with when they were written."""
        files = self.kept.glob("attacks/*/*.npz")
        return {str(file): file.stat().st_mtime_ns for file in files}


@pytest.mark.skipif(importlib.util.find_spec("robustbench") is None, reason="needs RobustBench")
def test_killed_in_autoattack(data: Path, tmp_path: Path) -> None:
    whole = Run("attack", data, tmp_path / "whole")
    expected = whole.to_the_end()
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
    expected = whole.to_the_end()
    n_passes, rng = len(whole.passes()), random.Random()
    moments = sorted(rng.sample(range(20, int(0.8 * n_passes)), 2))
    print(f"killed after {moments} of {n_passes} passes")  # shown where the test fails
    run = Run("corruptions", data, tmp_path / "killed")
    for moment in moments:
        run.killed_after(moment)
    assert run.to_the_end() == expected
    # Each kill costs the batch under way; each start the probe, two passes of a batch, and the
    # black images of two importances.
    once, again = sum(whole.passes()), sum(run.passes())
    assert again <= once + 2 * BATCH + 2 * (2 * BATCH + 2)
