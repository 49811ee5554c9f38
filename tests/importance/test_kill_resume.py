"""SIGKILL at twenty random moments, each followed by the same command: every bit as in one go."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

import importance_kill_run
import numpy as np
import pytest

from iaside_plugins import SpectralImportance
from iaside_plugins.importance.run import read_run

KILLS = 20
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def _start(*paths: Path) -> ForkProcess:
    """Start a fork, which has imported everything and keeps its settings to itself."""
    process = multiprocessing.get_context("fork").Process(
        target=importance_kill_run.main, args=tuple(map(str, paths))
    )
    process.start()
    return process


def _end(process: ForkProcess) -> int | None:
    process.join(120)
    return process.exitcode


def _wait_for(path: Path, process: ForkProcess) -> None:
    while not path.exists():
        assert process.is_alive(), "the run ended before it could be killed"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    """Every attempt is a fork of one process that has imported everything: it starts at once."""
    whole = tmp_path / "whole.npz"
    assert _end(_start(tmp_path / "whole", whole)) == 0
    moments = random.Random(0)
    out, folder = tmp_path / "killed.npz", tmp_path / "killed"
    ready, pids = tmp_path / "ready", []
    kept, span = [], 0.07
    server = _start(folder, out, ready)
    try:
        for _ in range(KILLS):
            _wait_for(ready, server)
            pid = int(ready.read_text())
            pids.append(pid)
            time.sleep(moments.uniform(0.0, span))
            os.kill(pid, signal.SIGKILL)
            ready.unlink()
            kept.append(len(_rows(folder)))
            span *= 1 if kept[-1] else 1.5  # a busy machine has not finished an image yet
        _wait_for(ready, server)  # the last attempt is left alone
        assert _end(server) == 0
    finally:
        server.kill()
    assert len(set(pids)) == KILLS
    assert kept == sorted(kept)  # nothing that was kept is ever lost
    assert 0 < kept[-1] < 120, f"the kills did not fall into the middle: {kept}"
    found, expected = SpectralImportance.load(out), SpectralImportance.load(whole)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.ids == expected.ids
    assert {**found.to_dict(), "n_forward": 0} == {**expected.to_dict(), "n_forward": 0}
    assert found.n_forward < expected.n_forward
    np.testing.assert_array_equal(read_run(folder).values, expected.values)


def _rows(folder: Path) -> list[str]:
    keys = []
    for chunk in sorted(folder.glob("rows-*.npz")):
        with np.load(chunk) as data:
            keys += data["keys"].tolist()
    assert len(keys) == len(set(keys))
    return keys
