"""Killed without warning, commands go on to the same JSON, bit by bit; `bench_kill.py` has more."""

from __future__ import annotations

import json
import multiprocessing
import signal
from contextlib import redirect_stdout
from pathlib import Path

import kill_commands
import pytest

pytest.importorskip("foolbox", reason="needs the extra foolbox")
pytest.importorskip("captum", reason="needs the extra captum")
NAMES = ("compare",)


def kill(home: str, out: Path) -> None:
    with out.open("w") as file, redirect_stdout(file):
        kill_commands.main(home, "1", "3", *NAMES)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_and_finished(tmp_path):
    """In a fork, which has imported almost everything."""
    out = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(
        target=kill, args=(str(tmp_path / "home"), out)
    )
    process.start()
    process.join(280)
    process.kill()
    process.join()
    assert process.exitcode == 0
    lines = out.read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"run"')]
    assert [one["run"] for one in found] == list(NAMES)
    assert all(one["same"] for one in found), found
