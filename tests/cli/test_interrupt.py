"""Ctrl-C: exit code 2, a message, and the same command goes on where it was."""

from __future__ import annotations

import json

import pytest
from tiny_model import WATCH

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
def test_the_same_command_goes_on(iaside, images, frost, tmp_path, monkeypatch, command, stop):
    command = _commands(images, frost, tmp_path)[command]
    monkeypatch.setattr(WATCH, "interrupt_after", stop)
    stopped = iaside(*command)
    stopped.refused("interrupted", "same command")
    assert stopped.out == ""
    rows = WATCH.rows
    monkeypatch.setattr(WATCH, "interrupt_after", None)
    WATCH.rows = 0
    resumed = json.loads(iaside(*command).out)
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
    monkeypatch.setattr(WATCH, "interrupt_after", 40)
    iaside(*command).refused("interrupted")
    monkeypatch.setattr(WATCH, "interrupt_after", None)
    WATCH.rows = 0
    found = json.loads(iaside(*command).out)
    assert found["n_forward"] == WATCH.rows == 4 * 15 + 1  # two of six images were kept
    assert list((tmp_path / "mine").glob("rows-*.npz"))  # the user's folder stays


def test_another_seed_of_the_protocol_is_another_run(iaside, images, frost, tmp_path, monkeypatch):
    command = _commands(images, frost, tmp_path)["profile"]
    monkeypatch.setattr(WATCH, "interrupt_after", 40)
    iaside(*command, "--protocol", "seed=1").refused("interrupted")
    monkeypatch.setattr(WATCH, "interrupt_after", None)
    # The zero absence uses no seed: the protocol id is the same, and so is the cache's folder.
    run = iaside(*command)
    assert run.code == 0, run.err
