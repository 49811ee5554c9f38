"""`--help` of every command: no line wider than the terminal, defaults, and an example."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from iaside_plugins.adapters.foolbox_adapter import ATTACKS
from iaside_plugins.adapters.robustbench_adapter.__main__ import EXAMPLE, parser
from iaside_plugins.budgets import parse_budgets
from iaside_plugins.cli.command import app
from iaside_plugins.cli.examples import EXAMPLES
from iaside_plugins.protocol import MANY_IMAGES

# Options that name something optional: without them there is none of it.
OPTIONAL = {
    *("json_file", "plot", "save", "note", "cache", "ray", "spectrum", "versus", "versus_weights"),
    *("beside", "entries", "weights", "name", "reference", "perturbed", "model", "reason", "out"),
    *("beta", "by_class", "help"),
}


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the name and the click command of every command."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_help_is_wider_than_the_terminal(iaside, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    for name in ("", "leaderboard", *COMMANDS):
        run = iaside(*name.split(), "--help")
        assert run.code == 0, run.err
        assert max(map(len, run.out.splitlines())) <= width, name
        assert "…" not in run.out, name
    assert max(map(len, parser().format_help().splitlines())) <= width


def test_every_command_ends_with_an_example_that_it_takes(iaside, monkeypatch):
    assert EXAMPLES.keys() == COMMANDS.keys()
    monkeypatch.setenv("COLUMNS", "120")
    for name, example in EXAMPLES.items():
        program, *arguments = shlex.split(example)
        assert (program, arguments[: len(name.split())]) == ("iaside", name.split())
        COMMANDS[name].make_context(name, arguments[len(name.split()) :])
        assert f"Example: {example}" in iaside(*name.split(), "--help").out
    parser().parse_args(shlex.split(EXAMPLE)[4:])


def test_every_option_says_its_default():
    for name, command in COMMANDS.items():
        for one in command.params:
            hidden = one.default is None and not one.required and not one.show_default
            said = one.name in OPTIONAL or "default" in (one.help or "")
            assert not hidden or said, (name, one.name)


def test_every_long_command_has_a_dry_run_and_takes_the_device_that_is_there():
    short = {"doctor", "show", "demo"}
    for name, command in COMMANDS.items():
        if name in short or name.startswith("leaderboard"):
            continue
        found = {one.name: one for one in command.params}
        assert found["dry_run"].default is False, name
        assert found["device"].default == "auto", name
    assert parser().get_default("device") == "auto"


def shown(command: str, name: str) -> str:
    option = next(p for p in COMMANDS[command].params if p.name == name)
    text = option.default if option.show_default is True else option.show_default
    return str(text)


def test_the_defaults_that_are_said_are_the_true_ones():
    for command in ("explain", "evaluate", "spectrum"):
        steps = shown(command, "attack_steps")
        expected = {name: spec.steps for name, spec in ATTACKS.items() if spec.steps}
        found = [part.split(" of ") for part in steps.split(", ")]
        assert {name: int(n) for n, name in found} == expected
        linf = parse_budgets(shown(command, "epsilons"))
        assert linf == pytest.approx(ATTACKS["pgd"].epsilons)
        assert tuple(parse_budgets(shown(command, "epsilons_l2"))) == ATTACKS["fgm"].epsilons
    assert f"from {MANY_IMAGES} images on" in shown("profile", "protocol")
    for command in ("profile", "explain", "spectrum", "heatmap", "demo"):
        assert "permutation" in shown(command, "protocol")
    assert "--out" in shown("demo", "resume")
