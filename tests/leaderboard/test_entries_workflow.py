"""The pull-request workflow holds no logic and gives a pull request no power."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
FILE = Path(__file__).resolve().parents[2] / ".github" / "workflows" / "entries.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(FILE.read_text())
    return found


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    (job,) = workflow["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_it_is_the_base_branchs_own_with_a_token_that_only_reads(
    workflow: dict[Any, Any],
) -> None:
    # with `pull_request` a pull request would bring the workflow that judges it
    assert list(workflow[True]) == ["pull_request_target"]  # YAML 1.1 reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["check"]
    assert "secrets" not in re.findall(r"\${{\s*(\w+)", FILE.read_text())


def test_what_runs_is_the_base_branch(workflow: dict[Any, Any]) -> None:
    checkout = next(s for s in steps(workflow) if s.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"] == {
        "ref": "${{ github.event.pull_request.base.ref }}",
        "persist-credentials": False,
    }
    text = FILE.read_text()
    assert "head.sha" not in text
    assert "head.ref" not in text
    assert re.findall(r"git checkout .*", text) == ['git checkout --detach "submission^1"']


def test_nothing_of_a_pull_request_is_pasted_into_a_script(workflow: dict[Any, Any]) -> None:
    for step in steps(workflow):
        assert "${{" not in step.get("run", "")


def test_actions_are_pinned_by_commit(workflow: dict[Any, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert len(used) == 3
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name) for name in used)


def test_its_command_is_one_that_there_is(workflow: dict[Any, Any], iaside_help: str) -> None:
    run = " ".join(step.get("run", "") for step in steps(workflow))
    command = re.search(r"iaside leaderboard submission (.*)", run)
    assert command is not None
    for option in (*re.findall(r"--\w+", command[1]), "--maintainer"):
        assert option in iaside_help


@pytest.fixture
def iaside_help() -> str:
    from typer.testing import CliRunner

    from iaside_plugins.cli.leaderboard import board

    return CliRunner().invoke(board, ["submission", "--help"]).output
