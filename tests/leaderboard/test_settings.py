"""`board.toml`: what it may hold and what it changes; that a rename changes no entry."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from board_entries import HOSTILE, Make, parsed
from hypothesis import example, given
from hypothesis import strategies as st

from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD, build, rename
from iaside_plugins.leaderboard.render.site import pages
from iaside_plugins.leaderboard.settings import FILE, BoardSettings, _with_name

if sys.version_info < (3, 11):
    pytest.importorskip("tomli")
WHOLE = """\
title = "Ours"  # with a comment
introduction = '''Two
lines'''
repository = "https://example.org/board"
docs = "https://example.org/docs/"
columns = ["clean_accuracy", "mce"]

[families]
a = "nets"

[papers]
a = "https://example.org/paper"
"""


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    assert BoardSettings.read(tmp_path) == BoardSettings()


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(WHOLE)
    assert BoardSettings.read(tmp_path) == BoardSettings(
        title="Ours",
        introduction="Two\nlines",
        repository="https://example.org/board",
        docs="https://example.org/docs/",
        columns=("clean_accuracy", "mce"),
        families={"a": "nets"},
        papers={"a": "https://example.org/paper"},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tilte = 'x'",
            r"^board.toml: expected one of columns, .*got 'tilte'; did you mean 'title'",
        ),
        ("title = 3", "^board.toml: title: expected a text, got 3$"),
        ("[weights]\na = 'http://example.org'", "weights: expected a table of"),
        ("title = ' '", "title: expected a text"),
        ("columns = 'mce'", "columns: expected a list of names, none twice, got 'mce'"),
        ("columns = ['mce', 'mce']", "columns: expected a list of names, none twice"),
        ("families = ['a']", "families: expected a table"),
        ("[families]\na = 1", "families: expected a table"),
        ("repository = 'http://example.org'", "repository: expected a link https://"),
        ("docs = 'javascript:alert(1)'", "docs: expected a link https://"),
        ("docs = 'https://example.org/\"onclick=x'", "docs: expected a link https://"),
        ("title = ", "^board.toml: expected TOML; "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=message) as found:
        BoardSettings.read(tmp_path)
    assert "\n" not in str(found.value)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"title = '\xff'")
    with pytest.raises(InputError, match="expected TOML in UTF-8"):
        BoardSettings.read(tmp_path)
    (tmp_path / FILE).write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="expected at most 1,000,000 bytes"):
        BoardSettings.read(tmp_path)


def test_the_documented_file_is_one() -> None:
    page = (BOARD / "CONTRIBUTING.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    found = BoardSettings.parse(text)
    assert found.names == {"rn50_v2": "ResNet-50 v2"}


def test_columns_and_families_are_those_of_the_board(make_entry: Make) -> None:
    entries = parsed(make_entry("a"), make_entry("b", 1))
    settings = BoardSettings(columns=("mce", "clean_accuracy"), families={"a": "mine"})
    board = Board.of(entries, settings=settings)
    assert [c.name for c in board.sections[0].columns] == ["model", "mce", "clean_accuracy"]
    families = {row["model"]: row["family"] for row in board.sections[0].statistics["models"]}
    assert families["a"] == "mine"
    assert families["b"] == Board.of(entries).sections[0].statistics["models"][1]["family"]
    assert board.settings == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BoardSettings(columns=("mce", "clean_acuracy")), "did you mean 'clean_accuracy'"),
        (BoardSettings(families={"c": "x"}), "families: expected one of a, b; got 'c'"),
        (BoardSettings(names={"c": "x"}), "names: expected one of a, b; got 'c'"),
        (BoardSettings(names={"a": "b"}), "one model a name, got 'b' for 'a', 'b', whose weights"),
    ],
)
def test_what_the_board_has_not_is_refused(
    make_entry: Make, settings: BoardSettings, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Board.of(parsed(make_entry("a"), make_entry("b", 1)), settings=settings)


def test_an_empty_board_refuses_no_name() -> None:
    assert Board.of([], settings=BoardSettings.parse(WHOLE)).sections == ()


def test_one_model_may_have_one_name(make_entry: Make) -> None:
    other = make_entry("b", dataset="imagenet")
    other["model"]["weights_sha256"] = make_entry("a")["model"]["weights_sha256"]
    board = Board.of(parsed(make_entry("a"), other), settings=BoardSettings(names={"a": "b"}))
    assert {row["model"] for s in board.sections for row in s.table.rows} == {"b"}
    twice = parsed(make_entry("a"), make_entry("a", 1, dataset="imagenet"))  # other weights
    assert BoardSettings(names={"a": "c"}).renamed(twice)[1].model.name == "c"


def test_rename_changes_what_is_shown_and_no_entry(
    make_entry: Make, board: Callable[..., Path]
) -> None:
    folder = board(make_entry("rn"), make_entry("b", 1))
    (folder / FILE).write_text(WHOLE.replace("a = ", "rn = "))
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    (shown,) = rename(folder, "rn", HOSTILE)
    assert "--rn--" in shown
    assert (folder / FILE).read_text().startswith(WHOLE.replace("a = ", "rn = "))
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before
    build(folder)
    rows = json.loads((folder / "leaderboard.json").read_text())["tables"][0]["rows"]
    assert {row["model"] for row in rows} == {HOSTILE, "b"}
    assert (folder / "README.md").read_text().startswith("# Ours\n\nTwo lines\n")
    assert rename(folder, HOSTILE, "again") == [shown]  # by the shown name, too
    assert BoardSettings.read(folder).names == {"rn": "again"}
    assert rename(folder, "again", "rn") == [shown]
    assert BoardSettings.read(folder).names == {}
    with pytest.raises(InputError, match="expected one of b, rn; got 'rnn'; did you mean 'rn'"):
        rename(folder, "rnn", "x")
    text = (folder / FILE).read_text()
    with pytest.raises(InputError, match="expected one model a name, got 'b'"):
        rename(folder, "rn", "b")
    assert (folder / FILE).read_text() == text


def test_a_file_that_cannot_be_changed_safely_is_left(
    make_entry: Make, board: Callable[..., Path]
) -> None:
    folder = board(make_entry("a"))
    (folder / FILE).write_text("names = {a = 'b'}\n")
    with pytest.raises(InputError, match="edit it by hand"):
        rename(folder, "a", "c")
    assert (folder / FILE).read_text() == "names = {a = 'b'}\n"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(TEXT, TEXT, st.sampled_from(["", WHOLE, "[names]\nx = 'y'\n"]))
@example("x", "0", "[names]\nx = 'y'\n")  # a bare key
def test_any_name_is_written_as_it_is(key: str, name: str, text: str) -> None:
    found = BoardSettings.parse(_with_name(text, key, name))
    assert found.names[key] == name
    assert BoardSettings.parse(_with_name(_with_name(text, key, name), key, None)) in (
        BoardSettings.parse(text),
        BoardSettings.parse(text.replace("x = 'y'", "")),
    )


def test_links_of_a_model_stand_on_both_pages(make_entry: Make) -> None:
    settings = BoardSettings(
        names={"a": "Net"}, papers={"a": "https://example.org/a"}, weights={"b": "https://e.org/b"}
    )
    board = Board.of(parsed(make_entry("a"), make_entry("b", 1)), settings=settings)
    assert settings.links("Net") == [("paper", "https://example.org/a")]
    found = pages(board)
    for name in ("index.html", next(name for name in found if "--a--" in name)):
        assert '<a href="https://example.org/a">paper</a>' in found[name]
    assert '<a href="https://e.org/b">weights</a>' in found["index.html"]
    with pytest.raises(InputError, match="papers: expected one of a; got 'x'"):
        Board.of(parsed(make_entry("a")), settings=BoardSettings(papers={"x": "https://e.org"}))
