"""All renderers of the board: the same values in the same order, and any text comes through."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from board_entries import HOSTILE, Make, parsed
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import board_files
from iaside_plugins.leaderboard.render.latex import fragments
from iaside_plugins.leaderboard.render.page import to_html
from iaside_plugins.leaderboard.render.text import to_csv, to_json, to_markdown
from iaside_plugins.leaderboard.statistics.report import statistics
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.leaderboard.table.presentation import columns
from iaside_plugins.protocol import Protocol

LATEX = {v: k for k, v in fmt._LATEX.items() if v}
COMMANDS = re.compile("|".join(re.escape(v) for v in sorted(LATEX, key=len, reverse=True)))


class Tables(HTMLParser):
    """Cells of every <table class=models> as a browser reads them, head rows among them.

    Without ranks, and with a head's second line in brackets before its arrow, as elsewhere.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.inside = self.open = self.in_row_head = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.inside = dict(attrs).get("class") == "models"
        if self.inside and tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "caption"):
            self.open = self.inside and tag != "caption"
        if self.open and tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_row_head = dict(attrs).get("scope") == "row"
        if self.open and tag == "i" and self.in_row_head:
            self.open = False
        if self.open and tag == "small":
            head, arrow = re.fullmatch(r"(.*?)( [↑↓])?", self.rows[-1][-1]).groups()  # type: ignore[union-attr]
            self.rows[-1][-1], self.after = f"{head} (", f"){arrow or ''}"

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.inside = self.open = False
        if self.open and tag == "small":
            self.rows[-1][-1] += self.after

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


def html_rows(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in Tables(page).rows]


def by_table(rows: list[list[str]]) -> list[list[list[str]]]:
    """Rows of every table, its head first, the others in an order that all renderers share."""
    found: list[list[list[str]]] = []
    for row in rows:
        if row[:2] == ["model", "training"]:
            found.append([row])
        else:
            found[-1].append(row)
    return [[head, *sorted(others)] for head, *others in found]


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    undone = [[html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", c)) for c in r] for r in rows]
    return [row for row in undone if row[0] != "---"]


def latex_rows(files: dict[str, str], heads: list[list[str]]) -> list[list[str]]:
    """Rows of the tables of models, from their fragments, with columns as in `heads`."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, text in files.items():
        if name.startswith("latex/") and "-bands-" not in name:
            columns = found.setdefault(re.sub(r"-(main|more-\d+)\.tex$", "", name), {})
            lines = re.findall(r"^(.* & .*) \\tabularnewline$", text, re.M)
            cells = [re.split(r"(?<!\\) & ", line) for line in lines]
            for head, *column in zip(*cells, strict=True):
                shown, unit = latex_head(head)
                columns[shown] = [latex_text(cell, unit) for cell in column]
    rows = []
    for head, columns in zip(heads, found.values(), strict=True):
        names = [name.replace("unnormalised, ", "") for name in head]
        rows += [head, *map(list, zip(*(columns[name] for name in names), strict=True))]
    return rows


def latex_head(head: str) -> tuple[str, str]:
    lines = re.sub(r"^\\shortstack\[r\]\{(.*)\}$", r"\1", head).split(r"\\")
    unit = " %" if lines[-1] == r"(\%)" else ""
    return latex_text(" ".join(lines[: -1 if unit else None])), unit


def latex_text(cell: str, unit: str = "") -> str:
    text = cell.removeprefix(r"\raggedright ").replace(r"\hspace{0pt}", "{}")
    text = re.sub(r"\$([-+.\d]+)_\{(.*?)\}\^\{(.*?)\}\$", rf"\1{unit} [\2, \3]", text)
    text = re.sub(r"^([\d.]+)$", rf"\1{unit}", text)
    signs = re.sub(r"\$([-+])\$", r"\1", text)
    return COMMANDS.sub(lambda found: LATEX[found[0]], signs).replace("\N{ZERO WIDTH SPACE}", "")


SAMPLES: dict[int, tuple[list[Entry], dict[str, Any]]] = {}


def sample(make_entry: Make, seed: int) -> tuple[list[Entry], dict[str, Any]]:
    """Entries of two tables, and the statistics of a board that they are a part of."""
    if seed not in SAMPLES:
        plain = parsed(make_entry("plain", seed), make_entry("other", 5, perturbed=False))
        SAMPLES[seed] = plain, statistics(parsed(make_entry("odd", seed)) + plain)
    return SAMPLES[seed]


def render_all(entries: list[Entry], found: dict[str, Any]) -> dict[str, str]:
    board = Board.of(entries, found)
    return {
        "README.md": to_markdown(board),
        "leaderboard.csv": to_csv(board),
        "leaderboard.json": to_json(board),
        "index.html": to_html(board),
        **fragments(board),
    }


NAMES = st.text(
    alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=NAMES, accuracy=st.floats(0, 1), score=st.floats(-1, 1), seed=st.integers(0, 3))
@example(name="--protocol", accuracy=0.5, score=0.0, seed=0)  # a line may end between the dashes
def test_all_renderers_show_the_same(
    make_entry: Make, name: str, accuracy: float, score: float, seed: int
) -> None:
    plain, found = sample(make_entry, seed)
    clean, spectral = plain[0].clean_accuracy, plain[0].spectral
    odd = plain[0].model_copy(
        update={
            "entry_id": "cifar10--odd--x",
            "model": plain[0].model.model_copy(update={"name": name}),
            "clean_accuracy": clean.model_copy(update={"value": accuracy}),
            "spectral": spectral.model_copy(update={"signed_score": score}),
        }
    )
    entries = [odd, *plain]
    expected = []
    for table in tables(entries):
        shown = columns(table)
        rows = [[c.cell(row) for c in shown] for row in table.frame.to_dict("records")]
        expected += [[c.header for c in shown], *rows]
    files = render_all(entries, found)

    def without(rows: list[list[str]]) -> list[list[str]]:
        """All but the profiles, which are drawn."""
        found, at = [], 0
        for row in rows:
            if row[0] == "model":
                at = next(k for k, head in enumerate(row) if head.startswith("evidence by band"))
            found.append(row[:at] + row[at + 1 :])
        return found

    assert markdown_rows(files["README.md"]) == expected
    shown_html = by_table(without(html_rows(files["index.html"])))  # by robust accuracy
    assert shown_html == by_table(without(expected))
    heads = [row for row in expected if row[0] == "model"]
    assert without(latex_rows(files, heads)) == without(expected)
    raw = list(csv.DictReader(io.StringIO(files["leaderboard.csv"])))
    cells = [dict(zip(head, row, strict=False)) for head, row in _paired(expected)]
    assert len(raw) == len(cells) == 3
    full = [
        row for table in json.loads(files["leaderboard.json"])["tables"] for row in table["rows"]
    ]
    for text, row, exact in zip(cells, raw, full, strict=True):
        assert row["model"] == fmt.csv_text(exact["model"])
        for header, column, show in [
            ("clean accuracy ↑", "clean_accuracy", fmt.percent_interval),
            ("signed score (+ low, - high bands)", "signed_score", fmt.signed_interval),
        ]:
            ends = [column + end for end in ("", "_low", "_high")]
            assert text[header] == show(*(float(row[end]) for end in ends))
            assert [float(row[end]) for end in ends] == [exact[end] for end in ends]


def _paired(rows: list[list[str]]) -> list[tuple[list[str], list[str]]]:
    head: list[str] = []
    found = []
    for row in rows:
        if row[0] == "model":
            head = row
        else:
            found.append((head, row))
    return found


def test_hostile_name_survives_every_file(make_entry: Make) -> None:
    files = board_files(parsed(make_entry(HOSTILE), make_entry("plain", 1), make_entry("c", 2)))
    assert HOSTILE in {row[0] for row in markdown_rows(files["README.md"])}
    assert HOSTILE in {row[0] for row in html_rows(files["index.html"])}
    assert HOSTILE in {row[0] for row in latex_rows(files, [["model"]])}
    assert HOSTILE in {r["model"] for r in csv.DictReader(io.StringIO(files["leaderboard.csv"]))}
    full = json.loads(files["leaderboard.json"])["tables"][0]["rows"]
    assert HOSTILE in {row["model"] for row in full}
    spec = json.loads(files["scatter.vl.json"])
    values = spec["vconcat"][0]["data"]["values"]
    assert HOSTILE in {row["model"] for row in values}
    assert "<b>|" not in files["index.html"]
    assert "<b>" not in files["README.md"]
    (raw,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', files["index.html"])
    data = json.loads(raw)
    assert HOSTILE in {row[data["names"].index("model")] for row in data["rows"]}


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_entries_build_without_an_undefined_number(make_entry: Make, n: int) -> None:
    files = board_files(parsed(*(make_entry(f"m{k}", k) for k in range(n))))
    assert len(html_rows(files["index.html"])) == (n + 1 if n else 0)
    texts = [name for name in files if name.endswith((".tex", ".csv"))]
    for name in ("index.html", "README.md", "scatter.vl.json", *texts):
        assert not re.search(r"\bnan\b|NaN|Infinity|>None<|<NA>", files[name]), name
    assert ("There are no entries yet" in files["index.html"]) == (n == 0)


def test_json_has_every_number_at_full_precision(make_entry: Make) -> None:
    entry = parsed(make_entry())[0]
    row = json.loads(board_files([entry])["leaderboard.json"])["tables"][0]["rows"][0]
    assert row["distribution_interval"] == [
        list(ends) for ends in entry.spectral.distribution_interval
    ]
    assert row["share_0"] == entry.spectral.distribution[0]
    assert entry.corruption is not None
    for condition in entry.corruption.conditions:
        stored = row["corruption_errors"][condition.corruption][str(condition.severity)]
        assert stored == condition.error.value


def test_vega_lite_holds_the_points_of_the_frame(make_entry: Make) -> None:
    entries = parsed(*(make_entry(f"m{k}", k) for k in range(4)))
    spec = json.loads(board_files(entries)["scatter.vl.json"])
    assert spec["$schema"].endswith("vega-lite/v5.json")
    values = {row["model"]: row for row in spec["vconcat"][0]["data"]["values"]}
    for entry in entries:
        row = values[entry.model.name]
        assert row["x"] == entry.spectral.signed_score
        assert (row["x_low"], row["x_high"]) == entry.spectral.signed_score_interval
        assert entry.corruption is not None
        assert entry.corruption.mce is not None
        assert row["y"] == entry.corruption.mce.value
    for chart in spec["vconcat"]:
        fields = set(chart["data"]["values"][0])
        used = {
            part["field"]
            for layer in chart["layer"]
            for part in layer["encoding"].values()
            if isinstance(part, dict)
        }
        assert used <= fields
        rest = [row for row in chart["data"]["values"] if "removed" in chart["title"][0]]
        assert math.fsum(row["x"] for row in rest) == pytest.approx(0, abs=1e-9)


def test_latex_structure(make_entry: Make) -> None:
    files = board_files(parsed(make_entry(HOSTILE), make_entry("b", 1)))
    document = files["leaderboard.tex"]
    tables = {name: text for name, text in files.items() if name.startswith("latex/")}
    assert re.findall(r"\\input\{(.*?)\}", document) == list(tables)
    assert [name.rpartition("-main")[1] for name in tables] == ["-main", *[""] * (len(tables) - 1)]
    for text in tables.values():
        for rule in ("toprule", "midrule", "bottomrule"):
            assert text.count(f"\\{rule}") == 1
        widths = {len(re.split(r"(?<!\\) & ", row)) for row in text.splitlines() if " & " in row}
        ((kinds,),) = [re.findall(r"\\begin\{tabular\}\{@\{\}p\{90pt\}(.*)@\{\}\}", text)]
        assert widths == {1 + len(re.sub(r"p\{.*?\}", "p", kinds))}
        assert text.isascii()
    assert document.isascii()


def test_main_table_has_the_columns_of_a_paper(make_entry: Make) -> None:
    files = board_files(parsed(make_entry("a"), make_entry("b", 1)))
    (text,) = [text for name, text in files.items() if name.endswith("-main.tex")]
    (row,) = [line for line in text.splitlines() if line.startswith("model & ")]
    heads = [latex_head(head)[0] for head in row.removesuffix(r" \tabularnewline").split(" & ")]
    assert heads == [
        "model",
        "clean accuracy ↑",
        "mCE ↓",
        "robust accuracy (Linf 1/255, FGSM, PGD-10) ↑",
        "robust accuracy (Linf 8/255, FGSM, PGD-10) ↑",
        "signed score (+ low, - high bands)",
    ]


@pytest.fixture
def latex(tmp_path: Path) -> Callable[[str], str]:
    """Compile a document in the test's folder and give what the engine says."""
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no LaTeX: install pdflatex or tectonic")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else ["-p"]

    def run(name: str) -> str:
        done = subprocess.run(
            [engine, *options, name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout + done.stderr

    return run


def written(files: dict[str, str], folder: Path) -> list[str]:
    """Write the LaTeX files and give the names of the fragments."""
    (folder / "latex").mkdir()
    names = [name for name in files if name.endswith(".tex")]
    for name in names:
        (folder / name).write_text(files[name], encoding="utf-8")
    return [name for name in names if "/" in name]


def test_latex_compiles(make_entry: Make, tmp_path: Path, latex: Callable[[str], str]) -> None:
    odd = "[é*--\\{}$#%~^,,`'ß中"
    entries = parsed(make_entry(HOSTILE), make_entry("b", 1), make_entry("c", 2))
    entries[1] = entries[1].model_copy(
        update={"model": entries[1].model.model_copy(update={"name": odd})}
    )
    written(board_files(entries), tmp_path)
    assert "Overfull" not in latex("leaderboard.tex")
    if shutil.which("pdftotext") is None:
        return
    text = subprocess.run(
        ["pdftotext", "-raw", "leaderboard.pdf", "-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert HOSTILE in text
    assert "[é*--\\{}$#%~^,,`'" in text


@pytest.mark.parametrize("n_bands", [4, 12])
def test_no_fragment_is_wider_than_15_cm(
    make_entry: Make, tmp_path: Path, latex: Callable[[str], str], n_bands: int
) -> None:
    raws = [
        make_entry(name, k, protocol=Protocol(n_bands=n_bands, estimator="permutation"))
        for k, name in enumerate(("W" * 200, "a_" * 90, HOSTILE, "plain"))
    ]
    for k, raw in enumerate(raws):
        raw["entry_id"] = f"cifar10--entry{k}--x"
        raw["model"]["training"] = "adversarially trained " * 9
        if raw["corruption"]["mce"]:
            raw["corruption"]["mce"] |= {"reference": "AlexNet" * 20, "value": 123.456}
        raw["spectral"] |= {"signed_score": -12.345, "signed_score_interval": [-13.456, -11.234]}
    names = written(board_files(parsed(*raws)), tmp_path)
    boxes = "".join(
        f"\\setbox0\\hbox{{\\input{{{name}}}}}\\typeout{{WIDTH \\the\\wd0}}\n" for name in names
    )
    (tmp_path / "widths.tex").write_text(
        "\\documentclass[10pt]{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\n"
        f"\\begin{{document}}\n{boxes}x\\end{{document}}\n"
    )
    widths = [float(found) for found in re.findall(r"WIDTH ([\d.]+)pt", latex("widths.tex"))]
    assert len(widths) == len(names)
    assert max(widths) <= 15 / 2.54 * 72.27
