"""`iaside leaderboard`: validate, add, build and its check, by exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

BOARD = Path(__file__).resolve().parents[2] / "leaderboard"


@pytest.fixture
def entry(iaside, images, tmp_path):
    path = tmp_path / "entry.json"
    run = iaside(
        "evaluate",
        "python:tiny_model:network",
        "--data",
        images,
        "--n-bands",
        2,
        "--corruptions",
        "none",
        "--attacks",
        "none",
        "--out",
        path,
        "--quiet",
    )
    assert (run.code, run.out, run.err) == (0, "", "")
    return path


def test_add_build_check(iaside, entry, tmp_path):
    folder = ("--folder", tmp_path / "board")
    name = json.loads(entry.read_text())["entry_id"]
    added = iaside("leaderboard", "add", entry, *folder)
    assert added.code == 0
    assert name in added.out
    assert (tmp_path / "board" / "entries" / "cifar10" / f"{name}.json").is_file()
    iaside("leaderboard", "build", "--check", *folder).refused("stale", "README.md", "build")
    assert iaside("leaderboard", "build", *folder).code == 0
    checked = iaside("leaderboard", "build", "--check", *folder)
    assert (checked.code, checked.out, checked.err) == (0, "up to date\n", "")
    table = tmp_path / "board" / "leaderboard.csv"
    assert "network" in table.read_text()
    table.write_text(table.read_text() + "x\n")
    iaside("leaderboard", "build", "--check", *folder).refused("stale: leaderboard.csv")


def test_the_packaged_board_is_up_to_date(iaside):
    run = iaside("leaderboard", "build", "--check")
    assert (run.code, run.err) == (0, "")


def test_validate_names_every_problem(iaside, entry, tmp_path):
    good = iaside("leaderboard", "validate", entry)
    assert (good.code, good.out) == (0, "1 valid\n")
    data = json.loads(entry.read_text())
    data["spectral"]["score"] += 0.1
    data["entry_id"] = "another"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(data))
    run = iaside("leaderboard", "validate", entry, wrong, tmp_path / "absent.json")
    assert run.code == 2
    assert run.out == ""
    for part in ("/spectral/score", "/entry_id", "absent.json"):
        assert part in run.err
    assert "Traceback" not in run.err
    assert "in 3 files" in run.err.splitlines()[-1]


def test_schema_prints_the_committed_one(iaside):
    run = iaside("leaderboard", "schema")
    assert (run.code, run.err) == (0, "")
    assert run.out == (BOARD / "entry.schema.json").read_text()
    assert json.loads(run.out)["title"] == "Leaderboard entry"


def test_submission_of_a_commit(iaside, entry, tmp_path):
    board = tmp_path / "leaderboard"
    (board / "entries").mkdir(parents=True)
    (board / "entries" / ".gitkeep").touch()
    git = ("git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run([*git, "init", "-q"], check=True)
    commands = [["add", "leaderboard"], ["commit", "-qm", "board"], ["tag", "before"]]
    for command in commands:
        subprocess.run([*git, *command], check=True)
    shutil.copytree(board, tmp_path / "base" / "leaderboard")
    iaside("leaderboard", "add", entry, "--folder", board)
    for command in commands[:2]:
        subprocess.run([*git, *command], check=True)
    where = ("--repository", tmp_path, "--folder", tmp_path / "base" / "leaderboard")
    run = iaside("leaderboard", "submission", "HEAD", *where, "--out", tmp_path / "candidate")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("1 added (cifar10/cifar10--network--")
    assert (tmp_path / "candidate" / "stats.json").is_file()
    assert iaside("leaderboard", "submission", "before", *where).out.startswith("no entry is")
    iaside("leaderboard", "submission", "gone", *where).refused("git rev-parse")
    data = json.loads(entry.read_text())
    data["submission"]["status"] = "reproduced"
    next((board / "entries").rglob("*.json")).write_text(json.dumps(data))
    for command in commands[:2]:
        subprocess.run([*git, *command], check=True)
    refused = iaside("leaderboard", "submission", "HEAD", *where)
    assert refused.code == 2
    assert "/submission/status: expected 'self-reported'" in refused.err
    assert refused.err.splitlines()[-1].endswith(")")
    assert iaside("leaderboard", "submission", "HEAD", *where, "--maintainer").code == 0


def test_export_to_screen_and_file(iaside, entry, tmp_path):
    run = iaside("leaderboard", "export", entry, "--to", "bibtex")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("@misc{cifar10--network--")
    file = tmp_path / "card.yaml"
    run = iaside("leaderboard", "export", entry, "--to", "model-card", "--out", file)
    assert (run.code, run.out, run.err) == (0, "", "")
    assert file.read_text().startswith("model-index:\n")
    iaside("leaderboard", "export", entry, "--to", "csv").refused("model-card, bibtex, or hf")
    iaside("leaderboard", "export", entry, "--to", "robustbench").refused("not made inside")
    entry.write_text("{}")
    iaside("leaderboard", "export", entry, "--to", "bibtex").refused("Field required")


def test_replacing_needs_a_reason(iaside, entry, tmp_path):
    folder = ("--folder", tmp_path / "board")
    iaside("leaderboard", "add", entry, *folder)
    data = json.loads(entry.read_text())
    data["submission"]["submitter"] = "someone"
    entry.write_text(json.dumps(data))
    iaside("leaderboard", "add", entry, *folder).refused("--reason")
    assert iaside("leaderboard", "add", entry, *folder, "--reason", "names its author").code == 0


def test_nothing_wrong_gets_onto_the_board(iaside, entry, tmp_path):
    data = json.loads(entry.read_text())
    data["clean_accuracy"]["value"] = 0.123
    entry.write_text(json.dumps(data))
    board = tmp_path / "board"
    iaside("leaderboard", "add", entry, "--folder", board).refused("/clean_accuracy")
    assert not board.exists()
    iaside("leaderboard", "add", tmp_path / "absent.json", "--folder", board).refused("absent.json")
    iaside("leaderboard", "build", "--folder", board).refused("board")


def test_export_for_the_hub_writes_a_folder(iaside, entry, tmp_path):
    where = ("--out", tmp_path / "hub", "--benchmark", "owner/images")
    run = iaside("leaderboard", "export", entry, "--to", "hf", *where)
    assert (run.code, run.err) == (0, "")
    names = {p.relative_to(tmp_path / "hub").as_posix() for p in (tmp_path / "hub").rglob("*.yaml")}
    assert names == {
        "dataset/eval.yaml",
        "model/.eval_results/images.yaml",
        "model/model-index.yaml",
    }
    assert len(run.out.splitlines()) == 3
    iaside("leaderboard", "export", entry, "--to", "hf").refused("--out DIR", "--benchmark")
    iaside("leaderboard", "export", entry, "--to", "x").refused("robustbench, model-card")


def test_rename_and_several_added(iaside, entry, tmp_path):
    folder = ("--folder", tmp_path / "board")
    other = tmp_path / "other.json"
    other.write_text(entry.read_text())
    iaside("leaderboard", "add", entry, other, *folder).refused("expected unique ids")
    assert not (tmp_path / "board").exists()
    assert iaside("leaderboard", "add", entry, *folder).code == 0
    run = iaside("leaderboard", "rename", "network", "Tiny net", *folder)
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("shown as Tiny net: cifar10--network--")
    iaside("leaderboard", "rename", "network", " ", *folder).refused("expected a name")
    iaside("leaderboard", "rename", "netwrok", "x", *folder).refused("did you mean 'network'")
    assert iaside("leaderboard", "build", *folder).code == 0
    assert "Tiny net" in (tmp_path / "board" / "README.md").read_text()


def test_space_and_pages(iaside, entry, tmp_path):
    folder = ("--folder", tmp_path / "board")
    iaside("leaderboard", "space", tmp_path / "site", *folder).refused("not a folder of entries")
    assert iaside("leaderboard", "add", entry, *folder).code == 0
    (tmp_path / ".git").mkdir()
    run = iaside("leaderboard", "space", tmp_path / "site", "--pages", *folder)
    assert (run.code, run.err) == (0, "")
    assert (tmp_path / "site" / "index.html").is_file()
    assert ".github/workflows/board-pages.yml publishes it" in run.out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    iaside("leaderboard", "space", tmp_path / "mine", *folder).refused("holds other files")
