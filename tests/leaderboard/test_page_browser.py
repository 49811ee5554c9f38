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

from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import board_files
from iaside_plugins.leaderboard.render.page import short_id, to_html
from iaside_plugins.leaderboard.statistics import estimates
from iaside_plugins.leaderboard.statistics.report import table_id
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.leaderboard.table.presentation import columns, main_attacks

FORMULA = "=1+1"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def board(make_entry: Open, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Six models of one table and one of another, built; names that must be escaped."""
    names = ["alpha", "beta", HOSTILE, FORMULA, "gamma10", "gamma9"]
    raws = [make_entry(name, k, explained=True) for k, name in enumerate(names)]
    for raw in raws[:2]:
        raw["model"]["training"] = "adversarial"
    raws.append(make_entry("photo", 9, dataset="imagenet"))
    entries = [parsed(raw)[0] for raw in raws]
    folder = tmp_path_factory.mktemp("page")
    files = board_files(entries)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    table = tables(entries)[0]
    return {
        "file": folder / "index.html",
        "id": short_id(table_id(table)),
        "table": table,
        "csv": files["leaderboard.csv"],
        "statistics": json.loads(files["stats.json"])["tables"][0],
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

    def go(fragment: str = "", file: str = "index.html", **options: Any) -> Any:
        context = browser.new_context(offline=True, reduced_motion="reduce", **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((board["file"].parent / file).as_uri() + fragment)
        return tab

    yield go
    for context in contexts:
        context.close()
    assert said == []
    assert all(url.startswith(("file://", "data:", "blob:")) for url in asked)
    assert all(url.split("#")[0].endswith(".html") for url in asked if url.startswith("file:"))


SPLIT = "error_by_band_clean"
VIEW = "section.board:not([hidden]) "


def shown(tab: Any) -> list[str]:
    return tab.eval_on_selector_all(
        VIEW + ".models tbody th a", "all => all.map((one) => one.textContent)"
    )


def heads(tab: Any) -> list[str]:
    """Columns in view."""
    return tab.eval_on_selector_all(
        VIEW + ".models thead th",
        "all => all.filter((one) => one.offsetWidth).map((one) => one.dataset.column)",
    )


def names_by(board: dict[str, Any], column: str, *, down: bool) -> list[str]:
    frame = board["table"].frame.sort_values(column, ascending=not down, kind="stable")
    return list(frame["model"])


def main_column(board: dict[str, Any]) -> str:
    return main_attacks(board["table"])[0].column


def test_sort_by_click_and_its_announcement(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    own = shown(tab)
    values = dict(
        zip(board["table"].frame["model"], board["table"].frame[main_column(board)], strict=True)
    )
    assert [values[name] for name in own] == sorted(values.values(), reverse=True)
    button = tab.locator("th[data-column=signed_score] button").first
    for order in ("descending", "ascending"):
        button.click()
        assert shown(tab) == names_by(board, "signed_score", down=order == "descending")
        sorts = tab.eval_on_selector_all(
            VIEW + "[aria-sort]", "a => a.map(h => h.getAttribute('aria-sort'))"
        )
        assert sorts == [order]
        assert order in tab.locator(".live").first.inner_text()
    button.click()
    assert shown(tab) == own
    column = f"th[data-column='{main_column(board)}'][aria-sort=descending]"
    assert tab.locator(VIEW + column).count() == 1


def test_every_column_sorts_by_its_raw_numbers(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    frame = board["table"].frame
    names = tab.eval_on_selector_all(
        VIEW + ".models thead th", "all => all.map((one) => one.dataset.column)"
    )
    for column in names:
        tab.goto(board["file"].as_uri() + f"#{board['id']}?sort={quote(f'-{column}')}")
        if frame[column].dtype != object:
            values = dict(zip(frame["model"], frame[column], strict=True))
            found = [round(float(values[name]), 6) for name in shown(tab)]
            assert found == sorted(found, reverse=True), column
    tab.goto(board["file"].as_uri() + f"#{board['id']}?sort=model")
    order = shown(tab)
    assert order.index("gamma9") < order.index("gamma10")  # as a person counts


def test_ranks_are_those_of_the_statistics(page: Open, board: dict[str, Any]) -> None:
    """The script computes them anew for the column that is sorted by."""
    tab = page()
    for one in board["statistics"]["ranks"]:
        if tab.locator(f"{VIEW}th[data-column='{one['column']}']").count() == 0:
            continue
        tab.goto(board["file"].as_uri() + f"#{board['id']}?sort={quote(one['column'])}")
        found = dict(
            tab.eval_on_selector_all(
                VIEW + ".models tbody th",
                "all => all.map((h) => ['a', 'i'].map((x) => h.querySelector(x).textContent))",
            )
        )
        by_id = {row["entry_id"]: row["model"] for row in board["table"].rows}
        for place in one["models"]:
            low, high = place["low"], place["high"]
            expected = f"rank {low}" if low == high else f"rank {low}–{high}"
            assert found[by_id[place["entry_id"]]] == expected, one["column"]


def test_views_show_their_columns(page: Open, board: dict[str, Any]) -> None:
    tab = page(viewport={"width": 1280, "height": 800})
    known = columns(board["table"])
    for view in ("overview", "robustbench", "spectrum"):
        tab.locator(VIEW + "select.view").select_option(view)
        assert heads(tab) == [column.name for column in known if view in column.views]
    tab.locator(VIEW + "select.view").select_option("all")
    assert heads(tab) == [column.name for column in known]


def test_the_first_row_and_every_default_column_are_in_view(page: Open) -> None:
    for width, height in ((1440, 900), (1280, 800)):
        tab = page(viewport={"width": width, "height": height})
        assert tab.locator(VIEW + ".models tbody tr").first.bounding_box()["y"] < 560
        last = tab.locator(VIEW + ".models thead th").last
        boxes = [head.bounding_box() for head in tab.locator(VIEW + ".models thead th").all()]
        right = max(box["x"] + box["width"] for box in boxes if box)
        assert right <= width, last
        assert len(heads(tab)) >= 8


def test_another_threat(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    frame = board["table"].frame
    select = tab.locator(VIEW + "select.threat")
    choices = select.locator("option").evaluate_all("all => all.map((one) => one.value)")
    assert choices[0].split(" ")[0] == main_column(board)
    assert choices[-4:] == ["error_noise", "error_blur", "error_weather", "error_digital"]
    for value in choices:
        select.select_option(value)
        first = value.split(" ")[0]
        threats = [n for n in heads(tab) if n.startswith(("robust_", "error_")) and n != SPLIT]
        assert sorted(threats) == sorted(value.split(" "))
        values = dict(zip(frame["model"], frame[first], strict=True))
        better_first = sorted(values.values(), reverse=first.startswith("robust_"))
        assert [values[name] for name in shown(tab)] == better_first


def test_filters(page: Open) -> None:
    tab = page()
    tab.locator("input.find").first.fill("gamma")
    assert set(shown(tab)) == {"gamma9", "gamma10"}
    assert tab.locator(".live").first.inner_text().startswith("2 of 6 models")
    tab.locator("input.find").first.fill("")
    tab.locator("select.training").first.select_option("adversarial")
    assert set(shown(tab)) == {"alpha", "beta"}
    tab.locator("input.find").first.fill("no such model")
    assert shown(tab) == []
    assert "No model matches" in tab.locator(VIEW + ".models tbody").inner_text()
    tab.locator("button.reset").first.click()
    assert len(shown(tab)) == 6
    assert tab.url.endswith(
        tab.evaluate("'#' + document.querySelector('section.board:not([hidden])').id")
    )


def test_state_lives_in_the_address(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    tab.locator("th[data-column=clean_accuracy] button").first.click()
    tab.locator("select.training").first.select_option("adversarial")
    tab.locator("select.view").first.select_option("spectrum")
    tab.locator("input.find").first.fill("a &b=#c")
    tab.locator("input.find").first.fill("a")
    for name in ("alpha", "beta"):
        tab.get_by_label(f"compare {name}").first.check()
    address, rows = tab.url, shown(tab)
    other = page(address.removeprefix(board["file"].as_uri()))
    assert shown(other) == rows
    assert set(rows) == {"alpha", "beta"}
    assert other.locator("input.find").first.input_value() == "a"
    assert other.locator("select.view").first.input_value() == "spectrum"
    assert other.locator(".compare:not([hidden]) thead").last.locator("th").count() == 3
    head = other.locator("th[data-column=clean_accuracy]").first
    assert head.get_attribute("aria-sort") == "descending"
    assert other.url == address


def test_an_address_that_means_nothing_shows_the_board(page: Open) -> None:
    for fragment in (
        "#nothing",
        "#nothing/x?sort=y&open=z&compare=p,q",
        "#?%E0=1&sort=-nothing&view=x&threat=y",
        "#/",
        "#%E0%",
    ):
        assert len(shown(page(fragment))) == 6


def test_data_sets_are_tabs(page: Open) -> None:
    tab = page()
    assert tab.locator("section.board:not([hidden])").count() == 1
    tab.locator(".tabs a").nth(1).click()
    assert shown(tab) == ["photo"]
    assert tab.locator(".tabs a[aria-current]").count() == 1
    tab.go_back()
    assert len(shown(tab)) == 6


def test_the_skip_link_leaves_the_view_as_it_is(page: Open) -> None:
    tab = page()
    tab.locator(".tabs a").nth(1).click()
    tab.locator(".skip").focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    assert shown(tab) == ["photo"]


def test_a_model_has_a_page(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    tab.get_by_role("link", name="alpha", exact=True).first.click()
    assert tab.locator("h1").inner_text() == "alpha"
    entry = next(e for e in board["table"].entries if e.model.name == "alpha")
    text = tab.locator("main").inner_text()
    for part in ("gaussian noise", entry.model.weights_sha256[:12], "iaside evaluate"):
        assert part in text
    assert tab.locator("svg.chart g").count() >= 2  # the profile, and accuracy against budget
    tab.get_by_role("link", name="Beside the other models").first.click()
    assert len(shown(tab)) == 6


def test_keyboard_alone(page: Open) -> None:
    tab = page()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    head = tab.locator("th[data-column=signed_score] button").first
    head.focus()
    tab.keyboard.press("Enter")
    assert tab.locator(VIEW + "th[aria-sort=descending]").count() == 1
    assert tab.evaluate("document.activeElement.closest('th').dataset.column") == "signed_score"
    box = tab.get_by_label("compare alpha").first
    box.focus()
    tab.keyboard.press("Space")
    assert "choose another" in tab.locator(".live").first.inner_text()
    assert tab.evaluate("document.activeElement.ariaLabel") == "compare alpha"  # focus stays
    tab.get_by_role("link", name="beta", exact=True).first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("h1").inner_text() == "beta"


def test_compare(page: Open, board: dict[str, Any]) -> None:
    tab = page()
    tab.get_by_label("compare alpha").first.check()
    assert tab.locator(".compare:not([hidden])").count() == 0
    tab.get_by_label(f"compare {HOSTILE}").first.check()
    panel = tab.locator(".compare:not([hidden])")
    assert HOSTILE in panel.locator("h2").inner_text()
    assert panel.locator("svg.chart g").count() == 2
    row = panel.locator("tbody tr", has_text="clean accuracy").last
    place = tab.locator(VIEW + "thead th").evaluate_all(
        "all => all.findIndex((one) => one.dataset.column === 'clean_accuracy')"
    )
    cell = tab.locator("tr[id$='/alpha'] > *").nth(place).text_content()
    assert row.locator("td").all_inner_texts()[0] == " ".join(cell.split())
    assert panel.get_by_text("gaussian noise").count() == 1
    by_name = {e.model.name: e.clean_accuracy.value for e in board["table"].entries}
    points = 100 * (by_name[HOSTILE] - by_name["alpha"])
    paired = panel.locator("[aria-label='Paired differences']")
    assert paired.locator("thead th").last.inner_text() == f"{HOSTILE} less alpha"
    row = paired.locator("tbody tr").first.inner_text()
    assert row.startswith(f"clean accuracy\t{points:+.1f} [")
    tab.get_by_label("compare alpha").first.uncheck()  # the other way round, with the other sign
    tab.get_by_label("compare alpha").first.check()
    row = paired.locator("tbody tr").first.inner_text()
    assert row.startswith(f"clean accuracy\t{-points:+.1f} [")
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
    assert tab.locator(".models tbody a", has_text=HOSTILE).count() == 1
    tab.get_by_role("link", name=HOSTILE, exact=True).first.click()
    assert tab.locator("h1").inner_text() == HOSTILE


@pytest.mark.parametrize("file", ["index.html", "evidence.html", "downloads.html"])
def test_phone(page: Open, file: str) -> None:
    tab = page(file=file, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if file == "index.html":
        scroller = tab.locator(VIEW + ".scroller").first
        scroller.evaluate("one => { one.scrollLeft = 400; }")
        left = tab.locator(VIEW + ".models tbody th").first.bounding_box()["x"]
        assert left <= scroller.bounding_box()["x"] + 2  # the first column stays
        tab.get_by_role("link", name="alpha", exact=True).first.tap()
        tab.locator("h1", has_text="alpha").wait_for()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_a_script(page: Open, board: dict[str, Any]) -> None:
    tab = page(java_script_enabled=False)
    rows = tab.locator(".models").first.locator("tbody tr")
    assert rows.count() == 6
    best = board["table"].frame.sort_values(main_column(board), ascending=False, kind="stable")
    assert rows.first.locator("th a").inner_text() == best["model"].iloc[0]
    assert tab.locator(".scripted").first.is_hidden()
    assert tab.locator(".models button").count() == 0
    point = page(java_script_enabled=False, file="evidence.html").locator(".plot a").first
    assert (board["file"].parent / point.get_attribute("href")).is_file()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Open, board: dict[str, Any], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="extra dev").Axe()
    model = next((board["file"].parent / "models").iterdir()).name
    for file in ("index.html", "evidence.html", "downloads.html", f"models/{model}"):
        tab = page(file=file, color_scheme=scheme, bypass_csp=True)
        if file == "index.html":
            for name in ("alpha", "beta"):
                tab.get_by_label(f"compare {name}").first.check()
        for part in tab.locator("details").all():
            part.evaluate("one => { one.open = true; }")
        found = axe.run(tab).response["violations"]
        assert found == [], (file, [(v["id"], v["nodes"][0]["html"]) for v in found])


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
    if (!one) return "SPAN"; // a text that was taken away
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


def test_a_choice_changes_only_its_row(page: Open) -> None:
    tab = page()
    boxes = tab.locator(f"{VIEW}.models tbody tr th input")
    tab.evaluate(WATCH)

    def touched() -> list[str]:
        found = tab.evaluate("() => new Promise((r) => setTimeout(() => r([...touched]), 0))")
        tab.evaluate("touched.clear()")
        return sorted(set(found) - {"SPAN", "P", "BUTTON"})  # what is said of it

    boxes.nth(0).click()
    assert touched() in ([], ["compare"])  # a tick is no change of the document
    boxes.nth(3).click()
    assert touched() == ["compare"]


def test_a_long_table_fills_as_it_is_scrolled_and_when_it_is_printed(
    make_entry: Open, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("N_RESAMPLES", "N_PERMUTATIONS", "N_PERMUTATIONS_KENDALL"):
        monkeypatch.setattr(estimates, name, 20)
    raws = [make_entry(f"net{k}", k) for k in range(58)]
    file = tmp_path / "index.html"
    file.write_text(to_html(Board.of([parsed(raw)[0] for raw in raws])), encoding="utf-8")
    from playwright.sync_api import expect

    tab = browser.new_page(viewport={"width": 900, "height": 400})
    tab.goto(file.as_uri())
    assert len(shown(tab)) == 30
    assert len(set(shown(tab))) == 30
    tab.eval_on_selector(".scroller", "one => { one.scrollTop = one.scrollHeight; }")
    # The page's policy forbids eval, so what polls inside the page cannot be used here.
    expect(tab.locator(".models tbody tr")).to_have_count(58)
    first = shown(tab)
    assert len(set(first)) == 58
    tab.locator("th[data-column=signed_score] button").first.click()
    assert len(shown(tab)) == 30
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert set(shown(tab)) == set(first)
    tab.close()
