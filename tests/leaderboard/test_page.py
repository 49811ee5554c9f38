"""The page without a browser: what it may load, what it says without a script, how large it is."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import bench.bench_board as bench
import pytest
from board_entries import Make, parsed
from markupsafe import escape

from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import board_files
from iaside_plugins.leaderboard.render.page import FOLDER, SCRIPTS, short_id, to_html
from iaside_plugins.leaderboard.statistics.report import statistics


@pytest.fixture(scope="module")
def eight() -> tuple[str, dict[str, Any]]:
    """The page of the committed CIFAR-10 models, and their statistics."""
    board = Board.of(bench.models(8))
    return to_html(board), board.statistics


def test_nothing_is_loaded_from_elsewhere(eight: tuple[str, dict[str, Any]]) -> None:
    page = eight[0]
    tags = re.findall(r"<(script|link|img|iframe|use|object|embed|form|base)\b([^>]*)>", page)
    for tag, attributes in tags:
        for name, value in re.findall(r'(\w+)="([^"]*)"', attributes):
            if name in ("src", "href", "action"):
                assert value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"url\(|@import|@font-face", page)
    assert not re.search(r"\bfetch\(|XMLHttpRequest|innerHTML|eval\(|new Function", page)
    links = set(re.findall(r'<a [^>]*href="([^"#]+)"', page))
    assert links == {
        "CONTRIBUTING.md",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.tex",
        "README.md",
        "stats.json",
        "scatter.vl.json",
    }


def test_policy_allows_the_pages_own_style_and_script_alone(
    eight: tuple[str, dict[str, Any]],
) -> None:
    page = eight[0]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(
        r"\son\w+=|\sstyle=", re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    )


def test_every_script_is_used() -> None:
    assert {path.name for path in FOLDER.glob("*.js")} == set(SCRIPTS)


def test_page_says_what_the_statistics_say(eight: tuple[str, dict[str, Any]]) -> None:
    page, found = eight
    (table,) = found["tables"]
    for one in table["comparisons"]:
        if one["predictor"] == "signed_score":
            assert escape(one["sentence"]) in page
    assert "clean accuracy alone:" in page
    assert "exploratory: fewer than 30 models" in page
    assert page.count('class="exploratory"') == 4
    for caution in found["method"]["cautions"]:
        assert escape(caution) in page
    for name in {row["family"] for row in table["families"]}:
        assert f"<option>{name}</option>" in page


def test_enough_models_are_not_called_exploratory(make_entry: Make) -> None:
    entry = parsed(make_entry())[0]
    found = statistics([entry])
    found["tables"][0]["status"] = "sufficient"
    assert "exploratory" not in re.sub(
        r"<style>.*?</style>", "", to_html(Board.of([entry], found)), flags=re.S
    )


def test_numbers_are_there_without_a_script(make_entry: Make) -> None:
    raw = make_entry()
    entry = parsed(raw)[0]
    page = to_html(Board.of([entry]))
    page = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    spectral = entry.spectral
    for value, error in zip(spectral.shapley_values, spectral.shapley_se, strict=True):
        assert error is not None
        half = 1.959963984540054 * error
        assert f"<td>{value:+.3f} [{value - half:+.3f}, {value + half:+.3f}]" in page
    assert entry.adversarial is not None
    for attack in entry.adversarial.attacks:
        assert f"<td>{100 * attack.accuracy.value:.1f} % [" in page
    for part in ("gaussian noise", entry.model.weights_sha256[:12], "a" * 12, "torch 2.13.0"):
        assert part in page


def test_structure_is_accessible(eight: tuple[str, dict[str, Any]]) -> None:
    page = eight[0]
    assert '<html lang="en">' in page
    assert 'content="width=device-width, initial-scale=1"' in page
    tables = re.findall(r"<table.*?</table>", page, re.S)
    assert len(tables) >= 6
    for table in tables:
        assert "<caption" in table
        assert not re.search(r"<th(?![^>]*scope)(?!ead)", table)
    assert len(re.findall(r"<svg[^>]*role=img aria-label", page)) == 8  # one sparkline a model
    for plot in re.findall(r'<figure class="plot">.*?</figure>', page, re.S):
        assert plot.count("<a href=#") == plot.count("<title>") == 8


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2 of "#rrggbb"."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def blend(top: list[float], share: float, below: str) -> str:
    under = [int(below[k : k + 2], 16) for k in (1, 3, 5)]
    return "#" + "".join(
        f"{round(share * t + (1 - share) * u):02x}" for t, u in zip(top, under, strict=True)
    )


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    css = (FOLDER / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    for ground in ("paper", "soft"):
        for ink in ("ink", "quiet", "link", "flag"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for mark in ("edge", *(f"f{k}" for k in range(8))):
            assert contrast(colours[mark], colours[ground]) >= 3, (mark, ground)
    for name in ("hot", "cold"):
        (parts,) = re.findall(rf"--{name}: (\d+ \d+ \d+)", blocks[scheme])
        shares = [float(s) for s in re.findall(rf"var\(--{name}\) / (\.\d+)\)", css)]
        darkest = blend([float(p) for p in parts.split()], max(shares), colours["paper"])
        assert contrast(colours["ink"], darkest) >= 4.5, name


@pytest.mark.slow
def test_size_at_a_hundred_models() -> None:
    entries = bench.models(100)
    found = statistics(entries[:3])  # what it says takes some kilobytes, whatever the number
    table = found["tables"][0]
    families = [
        table["models"][0] | {"entry_id": e.entry_id, "model": e.model.name} for e in entries
    ]
    found["tables"][0] |= {"models": families}
    assert len(to_html(Board.of(entries, found)).encode()) < 300_000


def test_a_thousand_rows_are_rendered(make_entry: Make) -> None:
    entry = parsed(make_entry(perturbed=False))[0]
    entries = [entry.model_copy(update={"entry_id": f"cifar10--m{k}--x"}) for k in range(1000)]
    found = statistics([entry])
    found["tables"][0]["models"] *= 1000
    page = to_html(Board.of(entries, found))
    assert page.count("<tr id=") == 1000


def test_short_id() -> None:
    assert short_id("cifar10--m8--robustbench-Linf--fc44b507") == "cifar10-fc44b507"


def test_rebuild_is_the_same(make_entry: Make) -> None:
    entries = parsed(*(make_entry(f"m{k}", k) for k in range(3)))
    assert board_files(entries) == board_files(entries[::-1])
