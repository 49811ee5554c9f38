"""Texts that hide something or look like others are refused; messages stay short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.texts import faults
from iaside_plugins.errors import InputError, shown
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.table.formatting import csv_text

FILE = BOARD / "entries/cifar10/cifar10--c10_resnet20--m8-chebyshev-zero-exact-1254609b.json"


def entry() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def problems(raw: dict[str, Any]) -> list[str]:
    try:
        return check_entry(parse_entry(json.dumps(raw), "x"), raw["entry_id"])
    except InputError as error:
        return [str(error)]


@pytest.mark.parametrize(
    "code",
    [
        *(0xAD, 0x200B, 0x200D, 0x200E, 0x180E, 0x2060, 0xFEFF, 0xFE0F, 0xE0041, 0xE0101, 0x3164),
        *(0x2800, 0x034F, 0x115F, 0xE000, 0x0378, 0x00, 0x7F),
    ],
)
def test_letters_that_are_drawn_as_nothing(code: int) -> None:
    assert faults(f"resnet{chr(code)}20") == ["no control or invisible character"]


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\u3000", "\u2028"])
def test_blanks_that_look_like_a_space(blank: str) -> None:
    assert "no control or invisible character" in faults(f"resnet{blank}20")


@pytest.mark.parametrize(
    ("text", "lines", "said"),
    [
        (" ", True, "not blank"),
        ("\n\t", True, "not blank"),
        ("resnet20 ", False, "no blank at an end"),
        ("resnet  20", False, "two in a row"),
        ("resnet\n20", False, "invisible"),
        ("re\u0301seau", True, "NFC"),
        ("resn\u0435t20", False, "looks like a Latin one"),
        ("\u039desNet", False, "looks like a Latin one"),
        (
            "Two lines,\nand a\ttab: μ = 0, ε8/255, Сеть, Ακρίβεια, 残差网络, é, ResNet-β.",
            True,
            None,
        ),
    ],
)
def test_texts(text: str, lines: bool, said: str | None) -> None:
    found = faults(text, lines=lines)
    assert (found == []) if said is None else any(said in wanted for wanted in found)


@pytest.mark.parametrize("place", ["model/name", "model/dataset", "model/training", "data/note"])
def test_every_text_of_an_entry_is_looked_at(place: str) -> None:
    raw = entry()
    group, name = place.split("/")
    raw[group][name] = "cifar\u200d10"
    assert any(problem.startswith(f"/{place}: expected no control") for problem in problems(raw))


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "aux.v2", "cifar10.", "cifar\u00ad10"])
def test_names_of_data_sets_that_no_disk_takes(name: str) -> None:
    raw = entry()
    raw["data"]["name"] = name
    assert any("/data/name: " in problem for problem in problems(raw))


@pytest.mark.parametrize("value", [True, 1.0, "1", 2, None])
def test_the_version_of_the_schema_is_the_whole_number_one(value: object) -> None:
    raw = entry() | {"schema_version": value}
    assert problems(raw)[0].startswith("x: /schema_version: ")


def test_messages_are_short_whatever_came() -> None:
    long = "x" * 100_000
    raw = entry()
    raw["protocol"]["absence"] = long
    raw["model"]["name"] = "\u200b" * 200
    assert all(len(problem) <= 600 for problem in problems(raw))
    assert max(map(len, problems(entry() | {long: long}))) < 600
    with pytest.raises(InputError) as found:
        parse_entry(f'{{"{long}": 1, "{long}": 2}}', "x")
    assert len(str(found.value)) < 200
    assert len(shown(long)) == 79
    for text, said in ((f'{{"a": {"9" * 5000}}}', "digits"), ("[" * 100_000, "nested too deeply")):
        with pytest.raises(InputError, match=said):
            parse_entry(text, "x")


def test_no_cell_is_a_formula_whatever_separates_cells() -> None:
    for text in ('a;=HYPERLINK("x")', "=1", "a,+1", 'a;"=1', 'a; "" @x', "a|-1", "a =1+1", "a:=1"):
        assert "'" in csv_text(text)
        for separator in ";,|:\t ":
            for cell in csv_text(text).split(separator):
                assert not cell.strip("\"' ").startswith("=") or cell.startswith("'")
    for text in ("c10--x", "a, b - c", "http://x", "ResNet-18 (L2, 0.5)", "eps = 8/255"):
        assert csv_text(text) == text


def test_a_file_that_says_it_is_empty_is_not_read_without_end(tmp_path: Path) -> None:
    from iaside_plugins.entry.read import read_bytes

    with pytest.raises(InputError, match="cannot read"):
        read_bytes(tmp_path / ("x" * 300))
