"""The command beside an entry is one that the command line takes, with what the entry says."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from board_entries import Make, parsed
from typer.main import get_command

from iaside_plugins.cli import app
from iaside_plugins.entry.command import command
from iaside_plugins.entry.read import load_entries
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.protocol import Protocol


def options(text: str) -> dict[str, Any]:
    """What the command line reads, without running it."""
    words = shlex.split(text)
    assert words[:2] == ["iaside", "evaluate"]
    evaluate = get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    return dict(evaluate.make_context("evaluate", words[2:]).params)


def test_every_part_is_there(make_entry: Make) -> None:
    protocol = Protocol(n_bands=4, beta=0.5)
    entry = parsed(make_entry("a", protocol=protocol, explained=True))[0]
    found = options(command(entry))
    assert (found["spec"], found["n_images"], found["seed"]) == ("kit:resnet20", 20, 0)
    assert (found["attacks"], found["epsilons"]) == ("fgsm,pgd", "1/255,8/255")
    assert found["attack_steps"] == 10
    assert found["explain"]
    assert found["n_explain"] == 20
    assert found["reference"] == "AlexNet.json"  # the file of its entry
    assert dict(part.split("=") for part in found["protocol"].split(",")) == {
        "n_bands": "4",
        "beta": "0.5",
    }


def test_an_entry_without_perturbations(make_entry: Make) -> None:
    found = options(command(parsed(make_entry(perturbed=False))[0]))
    assert (found["corruptions"], found["attacks"]) == ("none", "none")


def test_words_of_a_model_are_no_command(make_entry: Make) -> None:
    raw = make_entry()
    raw["model"]["spec"] = "kit:x; echo pwned"
    assert shlex.split(command(parsed(raw)[0]))[2] == "kit:x; echo pwned"


@pytest.mark.parametrize("host", [False, True])
def test_commands_of_the_committed_entries(host: bool) -> None:
    entries = [e for e in load_entries(BOARD / "entries") if (e.benchmark is not None) == host]
    assert entries
    for entry in entries:
        text = command(entry)
        if host:
            compile(text, "entry", "exec")
            assert ('corruptions_data_dir="generate"' in text) == (entry.corruption is not None)
        else:
            assert options(text)["spec"] == entry.model.spec
