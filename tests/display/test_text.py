"""Tables and prose that fit a terminal, and emphasis where it can be shown."""

from __future__ import annotations

import io

import pytest

from iaside_plugins.display.colour import has_colour, painted
from iaside_plugins.display.text import aligned, fitted

ROWS = [
    ["a long heading of names", "one", "a heading of two", "three"],
    ["  first", "+1.0 [-2.0, +3.0]", "12", ""],
    ["  second one", "–", "7", "0.5"],
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No settings of the terminal in which the tests run."""
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_table_that_fits_is_one_row_a_line():
    assert aligned(ROWS) == [
        "a long heading of names  one                a heading of two  three",
        "  first                  +1.0 [-2.0, +3.0]  12",
        "  second one             –                  7                 0.5",
    ]
    assert aligned(ROWS, indent="> ")[2].startswith(">   second one")


def test_headings_are_wrapped_and_columns_follow_below():
    assert aligned(ROWS, width=50) == [
        "a long                           a",
        "heading of                       heading",
        "names         one                of two   three",
        "  first       +1.0 [-2.0, +3.0]  12",
        "  second one  –                  7        0.5",
    ]
    assert aligned(ROWS, width=32) == [
        "a long",
        "heading of",
        "names         one",
        "  first       +1.0 [-2.0, +3.0]",
        "  second one  –",
        "",
        "a long        a",
        "heading of    heading",
        "names         of two   three",
        "  first       12",
        "  second one  7        0.5",
    ]
    both = aligned(ROWS, n_names=2, width=45)
    assert sum("+1.0 [-2.0, +3.0]" in line for line in both) == 2


def test_prose_and_rows_are_wrapped_under_their_indent():
    assert fitted("  some words here", 12) == "  some words\n    here"
    assert fitted("  name   1.0   2.0   3.0", 17) == "  name   1.0\n    2.0   3.0"
    assert fitted("/a/path/that/is/longer", 10) == "/a/path/that/is/longer"
    assert fitted("x " * 50, None) == "x " * 50


TEXT = "WARNING: chance\n  0  +0.5  |██\nevidence in band\n  0\n\nverdict: it falls.\nIt rises."
PAINTED = (
    "\x1b[33mWARNING:\x1b[0m chance\n  0  +0.5  |\x1b[36m██\x1b[0m\n"
    "\x1b[1mevidence in band\n  0\x1b[0m\n\n\x1b[1mverdict: it falls.\nIt rises.\x1b[0m"
)


def test_warnings_bars_and_verdicts_stand_out_in_a_terminal():
    assert painted(TEXT, Terminal(), ["evidence in band 0"]) == PAINTED


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_nothing_is_coloured_where_it_is_not_wanted(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert painted(TEXT, Terminal(), ["evidence in band 0"]) == TEXT


def test_nothing_is_coloured_in_a_file():
    assert painted(TEXT, io.StringIO()) == TEXT
    assert not has_colour(None)
