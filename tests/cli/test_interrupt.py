"""Ctrl-C: exit code 2, a message, and the same command goes on where it was."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_model import WATCH

from iaside_plugins.inference.output_checks import AGAIN_ROWS
from iaside_plugins.interrupts import INTERRUPTED

MODEL = "python:tiny_model:network"


def _without_run(found):
    """A result without what belongs to the run and not to the numbers."""
    found.get("provenance", {}).pop("date", None)
    for group in (found, found.get("spectral", {})):
        group.pop("n_forward", None)
    return found


def _commands(images, frost, tmp_path):
    options = ("--data", images, "--n-bands", 4, "--batch-size", 2, "--json", "-")
    profile = ("profile", MODEL, *options)
    evaluate = ("evaluate", MODEL, *options, "--frost", frost, "--attack-steps", 2)
    return {"profile": profile, "evaluate": (*evaluate, "--out", tmp_path / "e.json")}


# Rows of `profile`, image by image in batches of 2: 15 an image, and once the black image.
# `evaluate` has 6 clean, 450 corrupted, and, attacked, gradients too.
@pytest.mark.parametrize(
    ("command", "stop"), [("profile", 40), ("evaluate", 60), ("evaluate", 201)]
)
def test_the_same_command_goes_on(
    iaside, images, frost, tmp_path, monkeypatch, caplog, command, stop
):
    command = _commands(images, frost, tmp_path)[command]
    monkeypatch.setattr(WATCH, "_interrupt_after", stop)
    stopped = iaside(*command)
    stopped.refused("interrupted", "same command")
    kept = re.search(r"; (\d+) finished images are kept", stopped.err)[1]
    assert stopped.out == ""
    rows = WATCH.rows
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    WATCH.rows = 0
    resumed = json.loads(iaside(*command).out)
    assert f"holds {kept} finished images" in caplog.text
    again = WATCH.rows
    assert not list((tmp_path / "cache").rglob("*.npz"))  # finished: nothing is kept
    WATCH.rows = 0
    whole = json.loads(iaside(*command).out)
    assert _without_run(resumed) == _without_run(whole)
    # All that is computed twice: the image or batch that was under way, and the black image.
    assert WATCH.rows <= rows + again <= WATCH.rows + 16
    assert again < WATCH.rows


def test_an_interrupted_run_with_its_own_folder(iaside, images, frost, tmp_path, monkeypatch):
    command = (*_commands(images, frost, tmp_path)["profile"], "--resume", tmp_path / "mine")
    monkeypatch.setattr(WATCH, "_interrupt_after", 40)
    iaside(*command).refused("interrupted; 2 finished images are kept")
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    WATCH.rows = 0
    found = json.loads(iaside(*command).out)
    assert found["n_forward"] == 4 * 15 + 1  # two of six images were kept
    assert WATCH.rows == found["n_forward"] + AGAIN_ROWS
    assert list((tmp_path / "mine").glob("rows-*.npz"))  # the user's folder stays


def test_another_seed_of_the_protocol_is_another_run(iaside, images, frost, tmp_path, monkeypatch):
    command = _commands(images, frost, tmp_path)["profile"]
    monkeypatch.setattr(WATCH, "_interrupt_after", 40)
    iaside(*command, "--protocol", "seed=1").refused("interrupted")
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    # The zero absence uses no seed: the protocol id is the same, and so is the cache's folder.
    run = iaside(*command)
    assert run.code == 0, run.err


RAISES = """
import os, sys, signal, time
import iaside_plugins.interrupts as interrupts
from iaside_plugins.display.errors import exit_on_bad_input
class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
with exit_on_bad_input("iaside", dict):
    if sys.argv[1] == "converted":
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("the library failed") from None
    if sys.argv[1] == "lost":
        Lost()
        time.sleep(60)
os.kill(os.getpid(), signal.SIGINT)
sys.exit(7)
"""


def _started(*command, **options):
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C reaches all processes of a command
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize(("how", "code"), [("converted", 2), ("lost", 2), ("at the end", 7)])
def test_an_interrupt_is_never_lost_or_shown_as_an_error(tmp_path, how, code):
    script = tmp_path / "iaside"  # by its name, as the command is installed
    script.write_text(RAISES)
    process = _started(sys.executable, str(script), how)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == code, error
    assert error == ("" if code == 7 else f"iaside: {INTERRUPTED}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("moment", ["import", "work"])
def test_ctrl_c_of_a_terminal_is_one_line(images, frost, tmp_path, moment):
    command = ("evaluate", "python:tiny_model:network", "--data", images, "--n-bands", 3)
    options = ("--workers", 2, "--attacks", "none", "--frost", frost, "--quiet")
    process = _started(
        *(sys.executable, "-X", "importtime" if moment == "import" else "utf8"),
        *("-m", "iaside_plugins.cli", *map(str, command), *map(str, options)),
        *("--out", str(tmp_path / "e.json"), "--resume", str(tmp_path / "run")),
        cwd=Path(__file__).parent.parent,
    )
    said = ""
    if moment == "import":  # of what this command imports, by the interpreter's own account
        while "iaside_plugins.interrupts" not in said:
            said = process.stderr.readline()
    while moment == "work" and not (tmp_path / "run" / "conditions").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    lines = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 2, lines
    (line,) = (line for line in lines if "import time:" not in line)
    assert re.sub(r"\d+ finished", "finished", line) == f"iaside: {INTERRUPTED}"
