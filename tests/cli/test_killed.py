"""Killed without warning, commands go on to the same JSON, bit by bit; `bench_kill.py` has more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("foolbox", reason="needs the extra foolbox")
pytest.importorskip("captum", reason="needs the extra captum")
TARGET = Path(__file__).resolve().parent.parent / "kill_commands.py"
NAMES = ("compare",)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_and_finished(tmp_path):
    command = [sys.executable, str(TARGET), str(tmp_path / "home"), "1", "3", *NAMES]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"run"')]
    assert [one["run"] for one in found] == list(NAMES)
    assert all(one["same"] for one in found), found
