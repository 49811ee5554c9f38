"""The pages without a browser: what they may load, what they say without a script, their size."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from pathlib import Path

import bench.bench_board as bench
import pytest
from board_entries import HOSTILE, Make, parsed
from markupsafe import escape

from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD, board_files, is_built
from iaside_plugins.leaderboard.render import evidence, model_page, page
from iaside_plugins.leaderboard.render.html import FOLDER
from iaside_plugins.leaderboard.render.page import short_id, to_html
from iaside_plugins.leaderboard.render.site import FILES, pages
from iaside_plugins.leaderboard.statistics.report import statistics

Site = dict[str, str]


@pytest.fixture(scope="module")
def board() -> Board:
    """The committed CIFAR-10 models."""
    return Board.of(bench.models(8))


@pytest.fixture(scope="module")
def site(board: Board) -> Site:
    return pages(board)


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    for name, text in site.items():
        for tag, attributes in re.findall(
            r"<(script|link|img|iframe|object|embed|form|base)\b([^>]*)>", text
        ):
            for attribute, value in re.findall(r'(\w+)="([^"]*)"', attributes):
                if attribute in ("src", "href", "action"):
                    assert value.startswith("data:"), (name, tag, value)
        assert not re.search(r"url\(|@import|@font-face", text)
        assert not re.search(r"\bfetch\(|XMLHttpRequest|innerHTML|eval\(|new Function", text)


def test_a_model_at_chance_is_named_on_its_own_page(make_entry: Make) -> None:
    raw = make_entry("guesses")
    raw["clean_accuracy"] |= {"value": 0.1, "interval": [0.02, 0.3]}
    found = model_page.model_pages(Board.of(parsed(raw, make_entry("works", 1))))
    said = {
        file: "At chance: the clean accuracy is not above" in text for file, text in found.items()
    }
    assert [("guesses" in file) for file in said] == list(said.values())
    assert len(set(said.values())) == 2


def test_every_link_leads_somewhere() -> None:
    """On the committed board: to a page, a file, an entry, or a place on a page."""
    ids = {file: set(re.findall(r'\bid="?([^"\s>]+)', file.read_text())) for file in _html()}
    for file in _html():
        for link in map(unescape, re.findall(r'<a [^>]*href="([^"]+)"', file.read_text())):
            if link.startswith("https://"):
                continue
            path, _, place = link.partition("#")
            target = (file.parent / path).resolve() if path else file
            assert target.is_file(), (file.name, link)
            assert not place or place in ids[target], (file.name, link)


def _html() -> list[Path]:
    return sorted(p.resolve() for p in [*BOARD.glob("*.html"), *BOARD.glob("models/*.html")])


def test_every_file_of_the_board_is_a_download(site: Site, make_entry: Make) -> None:
    built = {name for name in board_files(parsed(make_entry())) if "/" not in name}
    assert set(FILES) == {name for name in built if not name.endswith(".html")}
    assert all(map(is_built, site))


def test_policy_allows_the_pages_own_style_and_script_alone(site: Site) -> None:
    for text in site.values():
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
        for tag, directive in (("style", "style-src"), ("script", "script-src")):
            (part,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
            digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
            assert f"{directive} 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(
            r"\son\w+=|\sstyle=", re.sub(r"<script>.*?</script>", "", text, flags=re.S)
        )


def test_every_script_is_used() -> None:
    used = {*page.SCRIPTS, *model_page.SCRIPTS}
    assert {path.name for path in FOLDER.glob("*.js")} == used


def test_evidence_says_what_the_statistics_say(board: Board, site: Site) -> None:
    text = site["evidence.html"]
    (table,) = board.statistics["tables"]
    for one in table["comparisons"]:
        if one["predictor"] == "signed_score":
            assert escape(one["sentence"]) in text
    assert "exploratory: fewer than 30 models" in text
    assert text.count('class="exploratory"') == 4
    for caution in board.statistics["method"]["cautions"]:
        assert escape(caution) in text
    shown = re.findall(r"<p>(\d+ models within.*?)</p>", text)
    assert len(shown) == 2  # under corruption and under attack
    assert set(map(unescape, shown)) <= {one["in_words"] for one in table["equal_accuracy"]}


def test_enough_models_are_not_called_exploratory(make_entry: Make) -> None:
    entry = parsed(make_entry())[0]
    found = statistics([entry])
    found["tables"][0]["status"] = "sufficient"
    text = evidence.to_html(Board.of([entry], found))
    assert "exploratory:" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)


def test_numbers_are_there_without_a_script(make_entry: Make) -> None:
    entry = parsed(make_entry(explained=True))[0]
    found = model_page.model_pages(Board.of([entry]))
    (text,) = (re.sub(r"<script.*?</script>", "", page, flags=re.S) for page in found.values())
    spectral = entry.spectral
    for value, error in zip(spectral.shapley_values, spectral.shapley_se, strict=True):
        assert error is not None
        half = 1.959963984540054 * error
        assert f"<td>{value:+.3f} [{value - half:+.3f}, {value + half:+.3f}]" in text
    assert entry.adversarial is not None
    for case in entry.adversarial.worst_case:
        assert f"<td>{100 * case.accuracy.value:.1f} % [" in text
    for part in ("gaussian noise", entry.model.weights_sha256[:12], "a" * 12, "torch 2.13.0"):
        assert part in text


def test_rows_of_the_heat_map_add_up(make_entry: Make) -> None:
    (text,) = model_page.model_pages(Board.of(parsed(make_entry(explained=True)))).values()
    (table,) = re.findall(r'aria-label="Error by band:.*?</table>', text, re.S)
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", table)
    assert [name for name, _ in rows][:2] == ["mean over the corruptions", "gaussian noise"]
    assert len(rows) == 16
    for _, cells in rows:
        clean, *bands, error = map(float, re.findall(r">([-\d.]+)</td>", cells))
        assert len(bands) == 4
        assert clean + sum(bands) == pytest.approx(error, abs=1e-9)


def test_structure_is_accessible(site: Site) -> None:
    for text in site.values():
        assert '<html lang="en">' in text
        assert 'content="width=device-width, initial-scale=1"' in text
        assert text.count("<h1") == 1
        for table in re.findall(r"<table.*?</table>", text, re.S):
            assert "<caption" in table
            assert not re.search(r"<th(?![^>]*scope)(?!ead)", table)
    assert len(re.findall(r"<svg class=spark[^>]*role=img aria-label", site["index.html"])) == 8
    for plot in re.findall(r'<figure class="plot">.*?</figure>', site["evidence.html"], re.S):
        assert plot.count("<a href=") == plot.count("<title>") == 8


def test_hostile_words_are_text_on_every_page(make_entry: Make) -> None:
    raw = make_entry(HOSTILE, explained=True)
    raw["model"] |= {"training": HOSTILE, "architecture": HOSTILE, "spec": f"python:{HOSTILE}"}
    raw["data"]["note"] = HOSTILE
    for name, text in pages(Board.of(parsed(raw))).items():
        body = re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.S)
        assert "<b>|" not in body, name


def test_a_family_looks_the_same_in_every_build(make_entry: Make) -> None:
    def looks(*names: str) -> dict[str, str]:
        raws = [make_entry(name, k) for k, name in enumerate(names)]
        for raw, name in zip(raws, names, strict=True):
            raw["model"]["architecture"] = name
        text = evidence.to_html(Board.of(parsed(*raws)))
        rows = re.findall(r'<span>(<svg class="mark.*?</svg>)(\w+), standard</span>', text)
        return {name: mark for mark, name in rows}

    few, many = looks("alpha", "beta"), looks("gamma", "beta", "delta", "alpha", "omega")
    assert len(many) == 5
    assert few.items() <= many.items()


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
    css = (FOLDER / "site.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    for ground in ("paper", "soft"):
        for ink in ("ink", "quiet", "link", "flag"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        bands = [f"b{k}" for k in range(8)]
        for mark in ("edge", "up", "down", "clean", *bands, *(f"f{k}" for k in range(8))):
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
    assert len(to_html(Board.of(entries, found)).encode()) < 350_000  # as docs/board.md says


def test_a_thousand_rows_are_rendered(make_entry: Make) -> None:
    entry = parsed(make_entry(perturbed=False))[0]
    entries = [entry.model_copy(update={"entry_id": f"cifar10--m{k}--x"}) for k in range(1000)]
    found = statistics([entry])
    found["tables"][0]["models"] *= 1000
    text = to_html(Board.of(entries, found))
    assert text.count("<tr id=") == 1000


def test_short_id() -> None:
    assert short_id("cifar10--m8--robustbench-Linf--fc44b507") == "cifar10-fc44b507"


def test_rebuild_is_the_same(make_entry: Make) -> None:
    entries = parsed(*(make_entry(f"m{k}", k) for k in range(3)))
    assert board_files(entries) == board_files(entries[::-1])


def test_labels_of_an_axis_do_not_lie_on_one_another() -> None:
    places = (52, 68, 83, 176, 520, 548)
    shown = [text for _, text in model_page._apart([(place, str(place)) for place in places])]
    assert shown == ["52", "176", "548"]
