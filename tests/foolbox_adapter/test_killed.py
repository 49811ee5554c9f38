"""Killed without warning, small attack and corruption runs lose one batch, not everything."""

from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path

import pytest
from foolbox_kill_target import BATCH, N, run

pytest.importorskip("foolbox", reason="needs the extra foolbox")


def passes(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


@pytest.mark.parametrize("kind", ["attacks", "corruptions"])
def test_a_killed_run_goes_on(kind: str, tmp_path: Path) -> None:
    expected = run(kind, None, tmp_path / "whole")
    whole = len(passes(tmp_path / "whole"))
    kept, log = tmp_path / "kept", tmp_path / "killed"
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(kind, kept, log), kwargs={"pause": 0.02}
    )
    process.start()
    deadline = time.monotonic() + 60
    # Of the corruptions' passes only the last few are not of the importance.
    while len(passes(log)) < whole - 6 and time.monotonic() < deadline:
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    done = len(passes(log))
    folder = kept / "corruptions" if kind == "corruptions" else kept
    assert list(folder.glob("rows-*.npz")), "nothing was kept"
    again = tmp_path / "again"
    assert run(kind, kept, again) == expected
    # The clean images, the probe and what attacks see of them are run again, or the importance's
    # black image; of the finished batches none, so that at most the one under way is repeated.
    start, batch = (3 * N // BATCH + 2, 6) if kind == "attacks" else (1, 1)
    assert len(passes(again)) <= whole - done + start + batch
