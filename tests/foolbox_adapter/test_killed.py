"""Killed without warning, small attack and corruption runs lose one batch, not everything."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from foolbox_kill_target import BATCH, N, run

pytest.importorskip("foolbox", reason="needs the extra foolbox")
TARGET = Path(__file__).resolve().parent.parent / "foolbox_kill_target.py"


def passes(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


@pytest.mark.parametrize("kind", ["attacks", "corruptions"])
def test_a_killed_run_goes_on(kind: str, tmp_path: Path) -> None:
    expected = run(kind, None, tmp_path / "whole")
    whole = len(passes(tmp_path / "whole"))
    kept, log = tmp_path / "kept", tmp_path / "killed"
    command = [sys.executable, str(TARGET), kind, str(kept), str(log)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        # Of the corruptions' passes only the last few are not of the importance.
        while len(passes(log)) < whole - 6 and time.monotonic() < deadline:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    done = len(passes(log))
    folder = kept / "corruptions" if kind == "corruptions" else kept
    assert list(folder.glob("rows-*.npz")), "nothing was kept"
    again = tmp_path / "again"
    assert run(kind, kept, again) == expected
    # The clean images, the probe and what attacks see of them are run again, or the importance's
    # black image; of the finished batches none, so that at most the one under way is repeated.
    start, batch = (3 * N // BATCH + 2, 6) if kind == "attacks" else (1, 1)
    assert len(passes(again)) <= whole - done + start + batch
