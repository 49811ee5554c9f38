"""Rounding, and text that must show as itself in Markdown and not run in a spreadsheet."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iaside_plugins.budgets import format_budget
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.table import formatting as fmt

NAN = float("nan")


def shown(markdown: str) -> str:
    """What a Markdown renderer shows of a cell without markup: escapes and entities undone."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown))


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_markdown_shows_any_text_as_itself(text: str) -> None:
    cell = fmt.markdown(text)
    assert shown(cell) == text
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_<>\[\]]|[<>\n]", cell)  # all of them escaped
    assert not re.search(r"&(?!amp;|lt;|gt;|#\d+;)", cell)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('<b>|_&"=1+1', r'&lt;b&gt;\|\_&amp;"=1+1'),
        ("a\nb\r\n\tc\u202ed\u2028e\x00", "a b c d e"),
        ("https://x.org", "https:/&#47;x.org"),
        ("www.x.org me@x.org", "www&#46;x.org me&#64;x.org"),
        ("![x](y)", r"\!\[x\]\(y\)"),
        (None, "–"),
        ("", "–"),
    ],
)
def test_markdown_escapes(text: str | None, cell: str) -> None:
    assert fmt.markdown(text) == cell


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "＝", "\t=", " =", "\n+", "\x00@"])
def test_formulas_get_an_apostrophe(sign: str) -> None:
    assert re.fullmatch(r"'.1\+1", fmt.csv_text(f"{sign}1+1"))


def test_other_text_stays_in_csv() -> None:
    assert fmt.csv_text('<b>|_&"=1+1') == '<b>|_&"=1+1'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fmt.percent(0.9333), "93.3 %"),
        (fmt.percent(NAN), "–"),
        (fmt.percent_interval(0.9333, 0.8824, 0.963), "93.3 % [88.2, 96.3]"),
        (fmt.percent_interval(0.5, NAN, NAN), "50.0 %"),
        (fmt.percent_interval(NAN, NAN, NAN), "–"),
        (fmt.signed_interval(-0.1421, -0.18, 0.0104), "-0.142 [-0.180, +0.010]"),
        (fmt.number_interval(0.1421, 0.0, 0.18), "0.142 [0.000, 0.180]"),
        (fmt.ratio(0.76449, "Alex_Net"), "0.764 of Alex_Net"),
        (fmt.correlation({"value": 0.6, "interval": [-0.24, 0.97]}), "+0.60 [-0.24, +0.97]"),
        (fmt.correlation({"value": -1.0, "interval": None}), "-1.00"),
        (fmt.correlation({"value": None}), "–"),
        (fmt.p_value(0.4206), "0.42"),
        (fmt.p_value(None), "–"),
        (fmt.latex_number("-0.142 [-0.180, +0.010]"), "$-$0.142 [$-$0.180, $+$0.010]"),
        (fmt.latex_number("93.3 %"), r"93.3 \%"),
        (fmt.latex('<b>|_&"=1+1'), r"\textless{}b\textgreater{}\textbar{}\_\&\textquotedbl{}=1+1"),
        (fmt.latex("é--ß中"), r"\'{e}-{}-\texttt{U+00DF}\texttt{U+4E2D}"),
        (fmt.count(272474), "272 k"),
        (fmt.count(11689512), "11.7 M"),
        (fmt.count(999), "999"),
        (format_budget(8 / 255), "8/255"),
        (format_budget(0.25 / 255), "0.25/255"),
        (format_budget(0.002), "0.002"),
        (format_budget(0.5), "0.5"),
        (format_budget(0.0), "0"),
        (fmt.sparkline(Evidence.of([0.3, 0.25, 0.5, -0.2], [0.3, 0.1, 0.1, 0.01]), 0.5), "·▅█▽"),
        (fmt.sparkline(Evidence.of([0.5, 0.0], [None, None]), 0.5), "··"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected
