"""The examples of README and docs run, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from iaside_plugins.adapters.robustbench_adapter.__main__ import parser as robustbench_parser
from iaside_plugins.cli import command as cli

ROOT = Path(__file__).resolve().parent.parent
MADE = ("_build", "generated", "cli")  # folders that `make docs` writes
FOUND = [page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md")]
GUIDE = (
    "README.md",
    *sorted(
        page.as_posix() for page in FOUND if not {*MADE, "performance"}.intersection(page.parts)
    ),
)
PAGES = (*GUIDE, "leaderboard/CONTRIBUTING.md")
MEASURED = sorted(f"docs/performance/{page.name}" for page in ROOT.glob("docs/performance/*.md"))
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
# Blocks that need files of the reader's: compiled, not run. A new one must be named here.
NOT_RUN = (
    "# mymodels.py, used as: iaside profile",
    "from iaside_plugins.adapters.robustbench_adapter import",
    "from iaside_plugins import Protocol\nfrom iaside_plugins.adapters.imagenet",
)


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """(info string, code) of every fenced block in one of the languages."""
    found = FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    return [(info, code) for info, code in found if info.split(" ")[0] in languages]


PYTHON = [(page, info, code) for page in GUIDE for info, code in blocks(page, "python")]


def test_there_are_examples():
    assert len([info for _, info, _ in PYTHON if info == "python"]) >= 3
    assert {info for _, info, _ in PYTHON} <= {"python", "python no-run"}


@pytest.mark.parametrize(
    ("page", "code"), [(page, code) for page, info, code in PYTHON if info == "python"]
)
def test_example_runs(page, code, tmp_path, monkeypatch, capsys):
    """And prints what the block of text right after it says, where there is one."""
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "readme"})
    after = (ROOT / page).read_text(encoding="utf-8").partition(f"{code}```\n\n```text\n")[2]
    if after:
        assert capsys.readouterr().out == after.partition("```")[0]


def test_examples_that_are_not_run_are_these():
    found = [code for _, info, code in PYTHON if info == "python no-run"]
    for code in found:
        compile(code, "docs", "exec")
    starts = [next(start for start in NOT_RUN if code.startswith(start)) for code in found]
    assert sorted(starts) == sorted(NOT_RUN)


def command_lines() -> list[tuple[str, bool]]:
    """Every `iaside` command of the pages, and whether it is whole: in a block, not in the text."""
    found = []
    for page in PAGES:
        lines = [
            (line.split("  #")[0].strip().removeprefix("$ "), True)
            for _, code in blocks(page, "sh", "console", "bash")
            for line in code.replace("\\\n", " ").splitlines()
        ]
        text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
        lines += [(line, False) for line in re.findall(r"`(iaside [^`]+)`", text)]
        found += [(line, whole) for line, whole in lines if line.startswith("iaside ")]
    return found


COMMANDS = command_lines()


def test_every_command_is_shown():
    shown = {" ".join(line.split()[1:3]) for line, _ in COMMANDS}
    first = {line.split()[0] for line in shown}
    assert {"profile", "evaluate"} <= first
    assert {"leaderboard validate", "leaderboard add", "leaderboard build"} <= shown


def _command(words: list[str]):
    """The command that the words name, and the words after its name."""
    command = typer.main.get_command(cli.app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_the_commands_of_the_robustbench_adapter_parse():
    start = "python -m iaside_plugins.adapters.robustbench_adapter "
    lines = [
        line for page in GUIDE for _, code in blocks(page, "console") for line in code.splitlines()
    ]
    found = [line.removeprefix(start) for line in lines if line.startswith(start)]
    assert found
    for line in found:
        robustbench_parser().parse_args(shlex.split(line))


@pytest.mark.parametrize(("line", "whole"), COMMANDS)
def test_command_parses(line, whole):
    command, words = _command(shlex.split(line)[1:])
    options = {name for parameter in command.params for name in parameter.opts}
    options |= {name for parameter in command.params for name in parameter.secondary_opts}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= options | {"--help"}
    if whole and "..." not in words:  # in the text a command may be cut short
        command.make_context("iaside", words)  # usage errors are raised


def test_options_named_in_the_text_exist():
    root = typer.main.get_command(cli.app)
    commands = [*root.commands.values(), *root.commands["leaderboard"].commands.values()]
    known = {"--help", "--version", "--no-deps"}
    known |= {"--published", "--run", "--models", "--rounds", "--half", "--script"}  # tests/bench
    known |= {"--head", "--address"}  # of ray
    known |= {name for action in robustbench_parser()._actions for name in action.option_strings}
    for command in commands:
        for parameter in getattr(command, "params", ()):
            known |= {*parameter.opts, *parameter.secondary_opts}
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", re.sub(r"<!--.*?-->", "", text)))
        assert used <= known, used - known


def test_every_command_has_what_is_promised():
    """A page lists options that every command takes."""
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    sentence = re.search(r"Every command takes (.*?);", text, re.S)
    assert sentence is not None
    promised = re.findall(r"--[a-z-]+", sentence[1])
    assert len(promised) == 10
    root = typer.main.get_command(cli.app)
    for name in ("demo", "profile", "evaluate"):
        options = {opt for parameter in root.commands[name].params for opt in parameter.opts}
        assert set(promised) <= options, name


@pytest.mark.parametrize("page", [*PAGES, *MEASURED])
def test_links_and_named_files_exist(page):
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|md|json|toml))`", text)
    folder = (ROOT / page).parent
    for target in [link for link in links if link and "://" not in link]:
        assert (folder / target).exists(), target
    for target in named:
        assert (ROOT / target).exists(), target


def test_make_targets_exist():
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in (*GUIDE, *MEASURED))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)\b(?=`|  )", text)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_readme_is_one_page_without_a_placeholder():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert not re.findall(r"^[A-Z_]{4,}$", FENCE.sub("", text), re.M)
