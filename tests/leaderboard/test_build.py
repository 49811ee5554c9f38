"""The board's files: built from entries alone, and an entry is added only when it is valid."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from board_entries import Make

from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.leaderboard.build import (
    BOARD,
    HOW_TO_ADD,
    add,
    add_all,
    board_files,
    build,
    validate,
)

Board = Callable[..., Path]
BUILT = list(board_files([]))  # beside the files of single tables, in folders


def fixed(names: Iterable[str]) -> list[str]:
    return [name for name in names if "/" not in name]


def test_rebuild_is_deterministic(make_entry: Make, board: Board) -> None:
    folder = board(make_entry("a"), make_entry("b", 1), make_entry("c", 2, dataset="imagenet"))
    assert fixed(build(folder)) == BUILT
    first = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert set(first) == {*BUILT, HOW_TO_ADD}
    for name in first:
        (folder / name).unlink()
    assert fixed(build(folder)) == BUILT
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == first
    assert build(folder) == []


def test_check_names_stale_files_and_writes_nothing(make_entry: Make, board: Board) -> None:
    folder = board()
    assert build(folder, check=True) == BUILT
    assert not (folder / "README.md").exists()
    build(folder)
    assert build(folder, check=True) == []
    (folder / "README.md").write_text("edited by hand")
    assert build(folder, check=True) == ["README.md"]
    assert (folder / "README.md").read_text() == "edited by hand"
    build(folder)
    board(make_entry())
    stale = build(folder, check=True)  # all but what no entry decides
    never = {"entry.schema.json", "stats.schema.json", "data-dictionary.md"}
    no_imagenet = {"results-imagenet-c.csv"}
    assert fixed(stale) == [name for name in BUILT if name not in never | no_imagenet]


def test_build_refuses_a_bad_board(make_entry: Make, board: Board, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder of entries"):
        build(tmp_path / "empty")
    folder = board(make_entry())
    file = next(folder.rglob("*.json"))
    (folder / "entries" / "imagenet").mkdir()
    moved = file.rename(folder / "entries" / "imagenet" / file.name)
    with pytest.raises(InputError, match="expected it in entries/cifar10/"):
        build(folder)
    moved.write_text(moved.read_text().replace('"score": 0', '"score": 1', 1))
    with pytest.raises(InputError, match="/spectral/score: expected"):
        build(folder)
    assert not (folder / "README.md").exists()


def write(path: Path, raw: dict[str, Any]) -> Path:
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def test_add_copies_a_valid_entry(make_entry: Make, board: Board, tmp_path: Path) -> None:
    folder, raw = board(), make_entry()
    file = write(tmp_path / "any name.json", raw)
    target = add(file, folder)
    assert target == folder / "entries" / "cifar10" / f"{raw['entry_id']}.json"
    assert target.read_bytes() == file.read_bytes()
    assert add(file, folder) == target  # the same again is no conflict
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert fixed(build(folder)) == BUILT


def test_the_same_entry_written_otherwise_is_no_conflict(
    make_entry: Make, board: Board, tmp_path: Path
) -> None:
    raw = make_entry()
    folder = board(raw)
    (there,) = (folder / "entries").rglob("*.json")
    before, file = there.read_bytes(), tmp_path / "new.json"
    file.write_text(json.dumps(raw, indent=3, sort_keys=True))
    assert add(file, folder) == there
    assert there.read_bytes() == before


def test_a_date_that_has_not_been_is_refused(
    make_entry: Make, board: Board, tmp_path: Path
) -> None:
    raw = make_entry("new")
    raw["provenance"]["date"] = "2999-01-01T00:00:00Z"
    with pytest.raises(InputError, match="/provenance/date: expected a date that has been, got 29"):
        add(write(tmp_path / "new.json", raw), board(make_entry()))


def test_add_refuses_and_writes_nothing(make_entry: Make, board: Board, tmp_path: Path) -> None:
    raw = make_entry()
    folder = board(raw)
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    other = make_entry(seed=1)
    same_run = make_entry("renamed", 1)
    same_run["model"]["weights_sha256"] = raw["model"]["weights_sha256"]
    wrong = make_entry("wrong", 2)
    wrong["spectral"]["score"] += 0.1
    for entry, message in [
        (other, "is on the board with other content"),
        (same_run, r"new.json: /model/weights_sha256: expected one entry"),
        (wrong, r"new.json: /spectral/score: expected"),
    ]:
        with pytest.raises(InputError, match=message):
            add(write(tmp_path / "new.json", entry), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


def test_several_are_added_or_none(
    make_entry: Make, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = board(make_entry("old"))
    files = [
        write(tmp_path / f"{name}.json", make_entry(name, 1 + k)) for k, name in enumerate("ab")
    ]
    bad = make_entry("bad", 3)
    bad["spectral"]["score"] += 0.1
    copy = make_entry("copy", 1)
    copy["model"]["weights_sha256"] = make_entry("a", 1)["model"]["weights_sha256"]
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    for last, message in (
        (bad, r"last.json: /spectral/score: expected"),
        (copy, "last.json: /mod"),
    ):
        with pytest.raises(InputError, match=message):
            add_all([*files, write(tmp_path / "last.json", last)], folder)
    with pytest.raises(InputError, match="supersedes=ID with one entry, not with 2"):
        add_all(files, folder, supersedes="x", reason="y")

    def full(path: Path, data: bytes) -> None:
        if path.name.startswith("cifar10--b"):
            raise InputError("no space left")
        path.write_bytes(data)

    replacing = write(tmp_path / "new.json", make_entry("old", 9))
    with monkeypatch.context() as patched:
        patched.setattr("iaside_plugins.leaderboard.build.write_atomic", full)
        with pytest.raises(InputError, match="no space"):
            add_all([replacing, *files], folder, reason="measured again")
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before
    places = add_all([replacing, *files], folder, reason="measured again")
    assert [path.name.split("--")[1] for path in places] == ["old", "a", "b"]
    assert (
        json.loads(places[0].read_text())["submission"]["supersedes"]["reason"] == "measured again"
    )
    assert len(list(folder.rglob("*.json"))) == 3


def test_an_entry_that_stricter_checks_refuse_can_be_replaced(
    make_entry: Make, board: Board, tmp_path: Path
) -> None:
    old, other = make_entry("old"), make_entry("other", 2)
    for raw in (old, other):
        raw["spectral"]["score"] += 0.1
    folder = board(old)
    new = write(tmp_path / "new.json", make_entry("old", 9))
    with pytest.raises(InputError, match=r"old--.*: /spectral/score: expected"):
        add(write(tmp_path / "third.json", make_entry("third", 3)), folder)
    assert validate([add(new, folder, reason="measured again")]) == []
    with_two = board(old, other)
    with pytest.raises(InputError, match=r"other--.*: /spectral/score: expected"):
        add(new, with_two, reason="measured again")


def test_what_a_former_table_left_is_removed(make_entry: Make, board: Board) -> None:
    folder = board(make_entry())
    build(folder)
    (folder / "latex").mkdir(exist_ok=True)
    (folder / "latex" / "gone.tex").write_text("old")
    (folder / HOW_TO_ADD).write_text("ours")
    assert build(folder, check=True) == ["latex/gone.tex"]
    assert build(folder) == ["latex/gone.tex"]
    assert not (folder / "latex" / "gone.tex").exists()
    assert (folder / HOW_TO_ADD).read_text() == "ours"


def test_validate_lists_problems(make_entry: Make, board: Board, tmp_path: Path) -> None:
    good = write(tmp_path / "entry.json", make_entry())
    assert validate([good]) == []
    assert validate([]) == []
    bad = make_entry("bad", 1)
    bad["clean_accuracy"]["value"] = 0.123
    problems = validate([good, write(tmp_path / "bad.json", bad), tmp_path / "absent.json"])
    assert any(p.startswith("bad.json: /clean_accuracy/value: expected a mult") for p in problems)
    assert any("cannot read" in p and "absent.json" in p for p in problems)
    assert validate([good, good])[0].startswith(
        "entry.json: /entry_id: expected unique ids, got 'c"
    )


def test_validate_checks_names_on_a_board(make_entry: Make, board: Board) -> None:
    file = next(board(make_entry()).rglob("*.json"))
    assert validate([file]) == []
    moved = file.rename(file.with_name("other.json"))
    assert "/entry_id: expected the file's name 'other'" in validate([moved])[0]


def test_default_board_is_the_packages() -> None:
    assert (BOARD / "entry.schema.json").is_file()


PYDANTIC_USERS = ("iaside_plugins.leaderboard.", "iaside_plugins.entry.")


def test_missing_pydantic_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [m for m in sys.modules if m.startswith(PYDANTIC_USERS)]:
        if name != "iaside_plugins.leaderboard.build":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    for call in (lambda: validate([]), lambda: build(tmp_path), lambda: add("x", tmp_path)):
        with pytest.raises(MissingExtraError, match=r"-e '\.\[leaderboard\]'"):
            call()
