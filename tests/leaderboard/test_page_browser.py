"""The page in headless Chromium, opened from disk and offline; skipped where there is none."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from board_entries import HOSTILE, parsed

from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import board_files
from iaside_plugins.leaderboard.render.page import short_id, to_html
from iaside_plugins.leaderboard.statistics import estimates
from iaside_plugins.leaderboard.statistics.report import table_id
from iaside_plugins.leaderboard.table.frame import tables

FORMULA = "=1+1"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def board(make_entry: Open, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Six models of one table and one of another, built; names that must be escaped."""
    names = ["alpha", "beta", HOSTILE, FORMULA, "gamma10", "gamma9"]
    raws = [make_entry(name, k) for k, name in enumerate(names)]
    for raw in raws[:2]:
        raw["model"]["training"] = "adversarial"
    raws.append(make_entry("photo", 9, dataset="imagenet"))
    entries = [parsed(raw)[0] for raw in raws]
    folder = tmp_path_factory.mktemp("page")
    files = board_files(entries)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    table = tables(entries)[0]
    return {
        "file": folder / "index.html",
        "id": short_id(table_id(table)),
        "table": table,
        "csv": files["leaderboard.csv"],
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: extra dev")
    with playwright.sync_playwright() as host:
        own = Path(host.chromium.executable_path)
        found = str(own) if own.exists() else next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            pytest.skip(
                "no Chromium: install chromium, or run python -m playwright install chromium"
            )
        opened = host.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, board: dict[str, Any]) -> Iterator[Open]:
    """Opens the page at an address; at the end no error and no request but of the file itself."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def go(fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(offline=True, reduced_motion="reduce", **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(board["file"].as_uri() + fragment)
        return tab

    yield go
    for context in contexts:
        context.close()
    assert said == []
    assert all(url.startswith(("file://", "data:", "blob:")) for url in asked)
    assert {url.split("#")[0] for url in asked if url.startswith("file:")} == {
        board["file"].as_uri()
    }


def shown(tab: Any) -> list[str]:
    return tab.eval_on_selector_all(
        "section.board:not([hidden]) .models tbody tr:not(.detail) > th button",
        "all => all.map((one) => one.textContent)",
    )


def names_by(board: dict[str, Any], column: str, *, down: bool) -> list[str]:
    frame = board["table"].frame.sort_values(column, ascending=not down, kind="stable")
    return list(frame["model"])


def test_sort_by_click_and_its_announcement(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    own = list(board["table"].frame["model"])
    assert shown(tab) == own
    button = tab.locator("th[data-column=signed_score] button").first
    for order in ("descending", "ascending"):
        button.click()
        assert shown(tab) == names_by(board, "signed_score", down=order == "descending")
        sorts = tab.eval_on_selector_all(
            "[aria-sort]", "a => a.map(h => h.getAttribute('aria-sort'))"
        )
        assert sorts == [order]
        assert order in tab.locator(".live").first.inner_text()
    button.click()
    assert shown(tab) == own
    assert tab.locator("[aria-sort]").count() == 0


def test_every_column_sorts_by_its_raw_numbers(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    frame = board["table"].frame
    heads = tab.locator("section.board:not([hidden]) .models thead th")
    for k in range(heads.count()):
        column = heads.nth(k).get_attribute("data-column")
        tab.goto(board["file"].as_uri() + f"#{board['id']}?sort={quote(f'-{column}')}")
        if frame[column].dtype != object:
            values = dict(zip(frame["model"], frame[column], strict=True))
            found = [round(float(values[name]), 6) for name in shown(tab)]
            assert found == sorted(found, reverse=True), column
    tab.goto(board["file"].as_uri() + f"#{board['id']}?sort=model")
    order = shown(tab)
    assert order.index("gamma9") < order.index("gamma10")  # as a person counts


def test_filter_and_facets(page: Open) -> None:
    tab = page()
    tab.locator("input.find").first.fill("gamma")
    assert set(shown(tab)) == {"gamma9", "gamma10"}
    assert tab.locator(".live").first.inner_text() == "2 of 6 models"
    assert (
        tab.locator(".points a.off").count()
        == 4 * tab.locator("section.board:not([hidden]) .plot").count()
    )
    tab.locator("input.find").first.fill("")
    tab.locator("select[data-facet=training]").first.select_option("adversarial")
    assert set(shown(tab)) == {"alpha", "beta"}
    tab.locator("input.find").first.fill("no such model")
    assert shown(tab) == []
    tab.locator("button.reset").first.click()
    assert len(shown(tab)) == 6
    assert tab.url.endswith(
        tab.evaluate("'#' + document.querySelector('section.board:not([hidden])').id")
    )


def test_state_lives_in_the_address(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    tab.locator("th[data-column=clean_accuracy] button").first.click()
    tab.locator("select[data-facet=training]").first.select_option("adversarial")
    tab.locator("input.find").first.fill("a &b=#c")
    tab.locator("input.find").first.fill("a")
    tab.get_by_role("button", name="alpha", exact=True).first.click()
    for name in ("alpha", "beta"):
        tab.get_by_label(f"compare {name}").first.check()
    address, rows = tab.url, shown(tab)
    other = page(address.removeprefix(board["file"].as_uri()))
    assert (
        shown(other)
        == rows
        == [n for n in names_by(board, "clean_accuracy", down=True) if n in ("alpha", "beta")]
    )
    assert other.locator("input.find").first.input_value() == "a"
    assert other.locator("tr.detail").count() == 1
    assert other.locator(".compare:not([hidden]) thead th").count() == 3
    assert (
        other.locator("th[data-column=clean_accuracy]").first.get_attribute("aria-sort")
        == "descending"
    )
    assert other.url == address


def test_an_address_that_means_nothing_shows_the_board(page: Open) -> None:
    for fragment in (
        "#nothing",
        "#nothing/x?sort=y&open=z&compare=p,q",
        "#?%E0=1&sort=-nothing",
        "#/",
        "#%E0%",
    ):
        assert len(shown(page(fragment))) == 6


def test_tables_are_chosen_by_link(page: Open) -> None:
    tab = page()
    assert tab.locator("section.board:not([hidden])").count() == 1
    tab.locator("nav a").nth(1).click()
    assert shown(tab) == ["photo"]
    assert tab.locator("nav a[aria-current]").count() == 1
    tab.go_back()
    assert len(shown(tab)) == 6


def test_details_hold_everything_of_the_row(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    toggle = tab.get_by_role("button", name="alpha", exact=True).first
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "true"
    detail = tab.locator("tr.detail")
    assert toggle.get_attribute("aria-controls") == detail.get_attribute("id")
    text = detail.inner_text()
    entry = next(e for e in board["table"].entries if e.model.name == "alpha")
    for part in (
        "gaussian noise",
        entry.model.weights_sha256[:12],
        f"{entry.spectral.shapley_values[0]:+.3f} [",
    ):
        assert part in text
    told = Evidence.of(entry.spectral.shapley_values, entry.spectral.shapley_se)
    assert detail.locator("svg.chart rect").count() == len([*told.above, *told.below])
    toggle.click()
    assert tab.locator("tr.detail").count() == 0


def test_keyboard_alone(page: Open) -> None:
    tab = page()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    head = tab.locator("th[data-column=signed_score] button").first
    head.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("th[aria-sort=descending]").count() == 1
    assert tab.evaluate("document.activeElement.closest('th').dataset.column") == "signed_score"
    tab.get_by_role("button", name="alpha", exact=True).first.focus()
    tab.keyboard.press("Space")
    assert tab.locator("tr.detail").count() == 1
    assert tab.evaluate("document.activeElement.textContent") == "alpha"  # focus stays
    plot = tab.locator("section.board:not([hidden]) .plot").first
    assert plot.locator("a[tabindex='0']").count() == 1
    plot.locator("a[tabindex='0']").focus()
    tip = tab.locator("#tip")
    assert tip.is_visible()
    first = tip.locator("b").inner_text()
    tab.keyboard.press("ArrowRight")
    second = tip.locator("b").inner_text()
    assert first != second
    assert plot.locator("a[tabindex='0']").count() == 1
    tab.keyboard.press("Escape")
    assert not tip.is_visible()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.textContent") == second


def test_point_shows_its_numbers_and_selects_the_row(page: Open) -> None:
    tab = page()
    tab.locator("input.find").first.fill("alpha")
    point = tab.locator("section.board:not([hidden]) .plot").first.locator(
        "a[aria-label^='gamma9']"
    )
    point.locator("use").hover()
    tip = tab.locator("#tip")
    assert tip.is_visible()
    assert "clean accuracy ↑:" in tip.inner_text()
    point.locator("use").click()
    assert "gamma9" in shown(tab)  # it was filtered out
    assert tab.locator("tr.chosen th button").inner_text() == "gamma9"
    assert tab.locator("input.find").first.input_value() == ""


def test_compare(page: Open) -> None:
    tab = page()
    tab.get_by_label("compare alpha").first.check()
    assert tab.locator(".compare:not([hidden])").count() == 0
    tab.get_by_label(f"compare {HOSTILE}").first.check()
    panel = tab.locator(".compare:not([hidden])")
    assert HOSTILE in panel.locator("h3").inner_text()
    assert panel.locator("svg.chart g").count() == 2
    row = panel.locator("tbody tr", has_text="clean accuracy").first
    assert row.locator("td").all_inner_texts()[0] == " ".join(
        tab.locator("tr[id$='/alpha'] td").nth(2).inner_text().split()
    )
    panel.get_by_role("button").click()
    assert tab.locator(".compare:not([hidden])").count() == 0


def test_saved_view_is_the_files_rows(page: Open, board: dict[str, Any]) -> None:
    tab = page(f"#{board['id']}?sort=-signed_score")
    with tab.expect_download() as waiting:
        tab.locator("button.save-csv").first.click()
    saved = list(
        csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8")))
    )
    whole = {row["model"]: row for row in csv.DictReader(io.StringIO(board["csv"]))}
    assert waiting.value.suggested_filename == f"{board['id']}.csv"
    assert [row["model"].removeprefix("'") for row in saved] == names_by(
        board, "signed_score", down=True
    )
    for row in saved:
        assert set(row) <= set(whole[row["model"]])
        for name, text in row.items():
            exact = whole[row["model"]][name]
            same = text == exact or abs(float(text) - float(exact)) <= 5e-7
            assert same, name
    with tab.expect_download() as waiting:
        tab.locator("button.save-json").first.click()
    rows = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    assert [row["model"] for row in rows] == names_by(board, "signed_score", down=True)


def test_hostile_names_are_text(page: Open) -> None:
    tab = page()
    assert HOSTILE in shown(tab)
    assert tab.locator("table b").count() == 0
    tab.get_by_role("button", name=HOSTILE, exact=True).first.click()
    assert tab.locator("tr.detail").count() == 1


def test_phone(page: Open) -> None:
    tab = page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    scroller = tab.locator("section.board:not([hidden]) .scroller").first
    scroller.evaluate("one => { one.scrollLeft = 400; }")
    left = tab.locator("section.board:not([hidden]) .models tbody th").first.bounding_box()["x"]
    assert left <= scroller.bounding_box()["x"] + 2  # the first column stays
    tab.get_by_role("button", name="alpha", exact=True).first.tap()
    box = tab.locator("tr.detail .inside").bounding_box()
    assert box["width"] <= 390


def test_without_a_script(page: Open, board: dict[str, Any]) -> None:
    tab = page(java_script_enabled=False)
    rows = tab.locator(".models").first.locator("tbody tr")
    assert rows.count() == 6
    assert rows.first.locator("th").inner_text() == board["table"].frame["model"].iloc[0]
    assert tab.locator(".controls").first.is_hidden()
    point = tab.locator(".plot a").first
    target = point.get_attribute("href")
    assert tab.locator(f"[id='{target[1:]}']").count() == 1
    assert tab.locator(".models button").count() == 0


def test_dark_scheme(page: Open) -> None:
    colours = [
        page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert colours == ["rgb(255, 255, 255)", "rgb(22, 23, 26)"]


WATCH = """() => {
  window.touched = new Set();
  const place = (node) => {
    const one = node.nodeType === 1 ? node : node.parentElement;
    if (one.closest(".compare")) return "compare";
    const row = one.closest("tr[id]"); // of the table, or its details, taken away or not
    return row ? row.id.split("/")[1] : one.closest("[data-key]")?.dataset.key ?? one.tagName;
  };
  new MutationObserver((all) => {
    for (const one of all) {
      for (const node of [...one.addedNodes, ...one.removedNodes]) touched.add(place(node));
      if (one.type !== "childList" || !one.target.matches("tbody")) touched.add(place(one.target));
    }
  }).observe(document.body, {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
}"""


def test_only_the_row_that_is_opened_or_chosen_changes(page: Open) -> None:
    tab = page()
    section = "section.board:not([hidden]) "
    key = tab.eval_on_selector_all(
        section + ".models tbody tr", "all => all.map((one) => one.id.split('/')[1])"
    )
    buttons, boxes = (tab.locator(f"{section}.models tbody tr th {x}") for x in ("button", "input"))
    tab.evaluate(WATCH)

    def touched() -> list[str]:
        found = tab.evaluate("() => new Promise((r) => setTimeout(() => r([...touched]), 0))")
        tab.evaluate("touched.clear()")
        return sorted(found)

    buttons.nth(2).click()
    assert touched() == [key[2]]
    boxes.nth(0).click()
    assert touched() in ([], ["compare"])  # a tick is no change of the document
    boxes.nth(3).click()
    assert touched() == ["compare"]
    buttons.nth(2).click()
    assert touched() == [key[2]]
    assert buttons.nth(2).get_attribute("aria-expanded") == "false"


def test_a_long_table_fills_as_it_is_scrolled_and_when_it_is_printed(
    make_entry: Open, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("N_RESAMPLES", "N_PERMUTATIONS", "N_PERMUTATIONS_KENDALL"):
        monkeypatch.setattr(estimates, name, 20)
    raws = [make_entry(f"net{k}", k) for k in range(58)]
    file = tmp_path / "index.html"
    file.write_text(to_html(Board.of([parsed(raw)[0] for raw in raws])), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 900, "height": 400})
    tab.goto(file.as_uri())
    assert len(shown(tab)) == 50
    assert len(set(shown(tab))) == 50
    tab.eval_on_selector(".scroller", "one => { one.scrollTop = one.scrollHeight; }")
    tab.wait_for_function("document.querySelectorAll('.models tbody tr').length === 58")
    first = shown(tab)
    assert len(set(first)) == 58
    tab.locator("th[data-column=signed_score] button").first.click()
    assert len(shown(tab)) == 50
    last = tab.evaluate("document.querySelector('.points a').getAttribute('href')")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert set(shown(tab)) == set(first)
    tab.goto(f"{file.as_uri()}{last}")
    assert tab.locator("tr.detail").count() == 1
    tab.close()
