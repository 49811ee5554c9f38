"""What a command says before long work, and `--dry-run`, which ends there and writes nothing."""

from __future__ import annotations

import json

import pytest
from tiny_model import WATCH

from iaside_plugins.cli.outputs import Outputs
from iaside_plugins.value_table.progress import _current

MODEL = "python:tiny_model:network"
ONE = ("profile", MODEL)
COMMANDS = {
    "profile": ONE,
    "explain": ("explain", MODEL, "--corruptions", "fog"),
    "heatmap": ("heatmap", MODEL, "--views"),
    "compare": ("compare", MODEL, "--methods", "ig"),
    "evaluate": ("evaluate", MODEL, "--out", "{}/entry.json", "--attacks", "fgsm", "--explain"),
    "sensitivity": ("sensitivity", MODEL, "python:tiny_model:wide"),
    "spectrum": ("spectrum", "--model", MODEL, "--attacks", "fgsm"),
    "spectrum without a model": ("spectrum",),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_dry_run_says_the_plan_and_writes_nothing(iaside, images, tmp_path, command, frost):
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [word.format(empty) for word in command]
    given += ["--data", str(images), "--device", "cpu", "--n-bands", "3", "--dry-run"]
    given += ["--resume", str(empty / "run"), "--plot", str(empty / "plot.png")]
    if command[0] in ("evaluate", "spectrum"):
        given += ["--frost", str(frost)]
    run = iaside(*given)
    assert run.code == 0, run.err
    assert "plan: " in run.out
    assert "cost: " in run.out
    assert "dry run: all was checked, nothing was written" in run.out
    plan = json.loads(iaside(*given, "--json", "-").out)
    assert plan["dry_run"] is True
    assert plan["images"] == 6
    cost = plan["cost"]
    assert f"{cost['n_forward']:,} forward passes" in run.out or cost["n_forward"] == 0
    assert cost["seconds"] > 0
    assert list(empty.iterdir()) == []
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_refuses_what_the_run_would(iaside, images):
    given = ("--data", images, "--device", "cpu", "--dry-run")
    iaside(*ONE, *given, "--n-bands", 20).refused("too small for --n-bands 20")
    exact = iaside(*ONE, *given, "--n-bands", 20, "--protocol", "exact")
    exact.refused("estimator=permutation")
    iaside(*ONE, *given, "--resume", images / "airplane" / "img_0.png").refused("is a file")
    iaside("profile", "python:tiny_model:missing", *given).refused("missing")
    iaside(*ONE, *given, "--plot", "p.txt").refused(".png")
    few = (*ONE, *given, "--labels", "rank")
    iaside(*few).refused("the model has 10 outputs, and the labels are classes of the sorted")


def test_the_passes_that_are_foretold_are_those_that_are_made(iaside, images):
    given = (*ONE, "--data", images, "--device", "cpu", "--n-bands", 4, "--batch-size", 8)
    cost = json.loads(iaside(*given, "--dry-run", "--json", "-").out)["cost"]
    assert WATCH.rows == 0
    found = json.loads(iaside(*given, "--json", "-").out)
    assert cost["n_forward"] == 6 * 15
    assert found["n_forward"] == 6 * 15 + 1  # and the black image


def test_short_work_is_announced_in_one_line(iaside, images):
    run = iaside(*ONE, "--data", images, "--device", "cpu", "--n-bands", 3)
    lines = [line for line in run.out.splitlines() if line.startswith(("cost", "shorter", "plan"))]
    assert len(lines) == 1
    assert lines[0].startswith("cost: 42 forward passes, about 1 s")


def test_prose_fits_the_terminal(iaside, images, monkeypatch):
    given = (*ONE, "--data", images, "--device", "cpu", "--n-bands", 3, "--dry-run")
    wide = iaside(*given).out
    for width in (60, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        out = iaside(*given).out
        assert max(map(len, out.splitlines())) <= width
        assert out.split()[:12] == wide.split()[:12]


NOTHING = ("--corruptions", "none", "--attacks")
IGNORED = {
    "jpeg": (*NOTHING, "fgsm", "--no-jpeg"),
    "frost": (*NOTHING, "fgsm", "--frost", "x"),
    "cache": (*NOTHING, "fgsm", "--cache", "x"),
    "epsilons-l2": (*NOTHING, "fgsm", "--epsilons-l2", "0.5"),
    "epsilons": (*NOTHING, "fgm", "--epsilons", "8/255"),
    "attack-steps": (*NOTHING, "fgsm,fgm", "--attack-steps", "5"),
}


@pytest.mark.parametrize("option", IGNORED)
@pytest.mark.parametrize("command", ["explain", "evaluate"])
def test_an_option_that_would_be_ignored_is_refused(iaside, images, command, option):
    out = ("--out", "e.json") if command == "evaluate" else ()
    run = iaside(command, MODEL, "--data", images, *out, *IGNORED[option], "--dry-run")
    run.refused(f"--{option} needs ")


def test_severities_need_corruptions(iaside, images):
    given = ("--data", images, "--corruptions", "none", "--severities", "1", "--attacks", "fgsm")
    iaside("explain", MODEL, *given).refused("--severities needs --corruptions")
    iaside("spectrum", "--model", MODEL, *given).refused("--severities needs --corruptions")


def test_budgets_in_a_plan_are_fractions(iaside, images):
    given = ("--data", images, "--corruptions", "none", "--attacks", "fgsm", "--n-bands", 3)
    run = iaside("explain", MODEL, *given, "--device", "cpu", "--dry-run")
    assert "fgsm Linf 0.5/255" in run.out


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("sensitivity", "spectrum")]
)
def test_the_bar_is_closed_before_the_report(iaside, images, tmp_path, monkeypatch, command):
    given = [word.format(tmp_path) for word in COMMANDS[command]]
    given += ["--corruptions", "none"] if command == "evaluate" else []
    bars = []
    say = Outputs.say
    monkeypatch.setattr(
        Outputs, "say", lambda self, *said: (bars.append(_current.get()), say(self, *said))[1]
    )
    run = iaside(*given, "--data", str(images), "--device", "cpu", "--n-bands", "3")
    assert run.code == 0, run.err
    assert bars == [None] * len(bars)
    assert len(bars) > 1
