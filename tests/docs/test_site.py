"""The site builds without a warning, has every page in its navigation and no dead link."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import iaside_plugins
from iaside_plugins.adapters import captum_adapter, foolbox_adapter, robustbench_adapter
from iaside_plugins.cli.command import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
# Networks that hardly train: what a notebook says of them is not looked at.
QUICK = "from iaside_plugins.workflows import digits\n\ndigits.EPOCHS = 1"
LARGEST_PICTURE = 40_000  # characters of base64


@pytest.mark.slow
def test_the_site_builds_and_is_whole(tmp_path):
    pytest.importorskip("sphinx", reason="pip install '.[docs]' brings Sphinx")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "read", DOCS, site], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # also a page that no table of contents has
    assert (site / "board" / "index.html").is_file()
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS)
        if name.parts[0] not in ("_build", "generated"):
            assert (site / name.with_suffix(".html")).is_file()
    for command in COMMANDS:
        assert (site / "reference" / "cli" / f"{command.__name__}.html").is_file()
    for page in ("demo", "concepts/bands", "studies/spectra", "reference/api", "contribute/code"):
        assert f'href="{page}.html"' in start
    named = (site / "genindex.html").read_text(encoding="utf-8")
    for module in (iaside_plugins, captum_adapter, foolbox_adapter, robustbench_adapter):
        for name in module.__all__:
            assert f'#{module.__name__}.{name}"' in named, name


def test_actions_of_the_workflows_are_pinned_by_commit():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / ".github").rglob("*.yml")]
    used = [line for text in texts for line in text.splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v[\d.]+$", line), line


@pytest.fixture
def extension(monkeypatch):
    """Import a module of the site's extensions by name."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module


def test_dead_links_and_what_is_loaded_from_elsewhere_are_found(tmp_path, extension):
    pytest.importorskip("sphinx", reason="pip install '.[docs]' brings Sphinx")
    problems = extension("site_checks").problems
    text = '<p id="here">{}</p><a href="b.html#there">b</a><img src="a.png">'
    (tmp_path / "a.html").write_text(text + '<a href="https://example.org/x">x</a>')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html#here">a</a>')
    (tmp_path / "a.png").touch()
    assert problems(tmp_path) == []
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.html").write_text('<a href="a.html#gone">a</a><script src="//cdn/x.js">')
    assert problems(tmp_path) == [
        "a.html has a dead link: b.html#there",
        "a.html has a dead link: a.png",
        "b.html loads //cdn/x.js",
        "b.html has a dead link: a.html#gone",
    ]


def test_the_fields_of_an_entry_are_said_in_words(extension):
    kind = extension("entry_page").kind
    assert kind({"$ref": "#/$defs/Mean"}) == "[Mean](#mean)"
    assert kind({"type": "number", "minimum": 0, "maximum": 1}) == "number, 0 to 1"
    assert kind({"type": "integer", "minimum": 1, "maximum": 2**53}) == "whole number from 1 on"
    assert kind({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}) == '`"a"` or `"b"` or null'
    pair = {"type": "array", "prefixItems": [{"type": "number"}, {"type": "boolean"}]}
    assert kind(pair) == "[number, true or false]"
    assert kind({"type": "array", "items": {"type": "string"}}) == "list of: text"


def test_links_lead_to_the_repository_only_where_it_is_known(extension):
    pytest.importorskip("sphinx", reason="pip install '.[docs]' brings Sphinx")
    repository = extension("outside_links").repository
    known = {
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "someone/iaside-plugins",
        "GITHUB_SHA": "0123",
    }
    assert repository(known) == "https://github.com/someone/iaside-plugins/blob/0123"
    assert repository({**known, "GITHUB_SHA": ""}) is None
    assert repository({}) is None


def test_the_studies_tables_hold_every_network_and_band(extension):
    tables = extension("study_tables")
    rows = list(tables.decomposition_rows())
    assert {row["network"] for row in rows} == set(tables.study("decomposition/decomposition"))
    first = [
        row
        for row in rows
        if row["network"] == tables.STANDARD and row["condition"] == "gaussian_noise"
    ]
    assert [row["band"] for row in first] == list(range(8))
    total = first[0]["clean_error"] + sum(row["contribution"] for row in first)
    assert total == pytest.approx(first[0]["error"], abs=1e-5)
    assert len(tables.spectra_short()) == 15
    assert len(tables.attributions_short().columns) == 1 + len(tables.NETS)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, extension):
    pytest.importorskip("nbclient", reason="pip install '.[docs]' brings nbclient")
    ran = extension("notebooks").run(path, QUICK)
    assert all(cell["execution_count"] for cell in ran.cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_small_and_name_no_machine(path):
    nbformat = pytest.importorskip("nbformat", reason="pip install '.[docs]' brings nbformat")
    cells = nbformat.read(path, as_version=4).cells
    assert 6 <= len(cells) <= 12
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    for output in outputs:
        assert output.get("name") != "stderr"
        for kind, data in output.get("data", {}).items():
            assert not kind.startswith("image/") or len(data) <= LARGEST_PICTURE
        assert str(ROOT) not in str(output)
