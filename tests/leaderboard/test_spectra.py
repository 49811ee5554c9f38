"""The page of spectra: its tables and its figure come from its JSON file, and from nothing else."""

from __future__ import annotations

import copy
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from iaside_plugins import InputError
from iaside_plugins.display import plots
from iaside_plugins.leaderboard.studies import sensitivity, spectra
from iaside_plugins.leaderboard.studies.spectra import BUDGET, spectra_figure
from iaside_plugins.storage import files

FOLDER = spectra.FOLDER
README = FOLDER / "README.md"


@pytest.fixture(scope="module")
def data() -> dict:
    return json.loads((FOLDER / "spectra.json").read_text(encoding="utf-8"))


def test_the_page_holds_the_tables_of_its_json(data):
    text = README.read_text(encoding="utf-8")
    assert spectra.page(text, data) == text
    for name, table in spectra.tables(data).items():
        assert f"<!-- {name} -->\n{table}\n<!-- end -->" in text
        assert table.count("\n") >= 2, name


@pytest.mark.parametrize("study", [spectra, sensitivity], ids=["spectra", "sensitivity"])
def test_the_command_without_files_makes_the_same_page_and_a_figure(study, monkeypatch):
    written = {}
    monkeypatch.setattr(files, "write_atomic", written.__setitem__)
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: written.update({path: b""}))
    monkeypatch.setattr(sys, "argv", ["study"])
    runpy.run_path(study.__file__, run_name="__main__")
    page, figure = written
    assert written[page] == (study.FOLDER / "README.md").read_bytes()
    assert (page.name, Path(figure).suffix) == ("README.md", ".png")


def test_a_changed_number_changes_the_page(data):
    other = copy.deepcopy(data)
    other["c10_resnet20"]["conditions"][0]["slope"] = -9.87
    assert "-9.87" in spectra.page(README.read_text(encoding="utf-8"), other)


def test_every_corruption_and_every_kind_of_attack_is_there(data):
    assert {"c10_resnet20", "images-8", "images-28"} <= set(data)
    assert len(data) >= 3  # a standard model, a robust one, photographs
    for one in data.values():
        if one["model"] is not None and not one["attacks"]:
            assert one["conditions"] == []
            continue
        corruptions = [row for row in one["conditions"] if row["kind"] == "corruption"]
        assert len(corruptions) == 15
        for row in one["conditions"]:
            if row["kind"] != "band attack" and row["n_images"] > 1:
                assert row["slope_low"] <= row["slope"] <= row["slope_high"]
        if one["model"] is not None:
            names = {row["name"] for row in one["conditions"] if row["kind"] == "attack"}
            assert {"fgsm", "pgd", "deepfool", "ddn", "cw", "l0_fmn"} <= names
            bands = [row["name"] for row in one["conditions"] if row["kind"] == "band attack"]
            assert len(set(bands)) == one["n_bands"]


def test_figures_in_the_text_are_those_of_the_json(data):
    """Every "NN %" and "-N.NN" of the reading stands in a table of the page as well."""
    text = README.read_text(encoding="utf-8")
    reading = text[: text.index("![")]
    tables = "\n".join(spectra.tables(data).values())
    for figure in re.findall(r"[+-]\d\.\d\d", reading):
        assert figure in tables, figure
    for percent in re.findall(r"(\d+) %", reading):
        assert f"{percent}%" in tables, percent


def test_the_verdict_needs_a_falling_and_straight_snr():
    row = {"slope_high": -1.0, "r_squared_low": 0.97}
    assert spectra.follows(row)
    assert not spectra.follows(row | {"slope_high": 0.01})
    assert not spectra.follows(row | {"r_squared_low": 0.94})
    assert not spectra.follows(row | {"r_squared_low": None})


def test_the_figure_shows_the_json(data):
    figure = spectra_figure(data)
    look, broken = figure.axes[1:]
    models = [one for one in data.values() if one["model"] is not None and one["attacks"]]
    heights = [bar.get_height() for bar in look.patches]
    shown = []
    for one in models:
        found = one["importance"]
        for psi, error in zip(found["shapley_values"], found["shapley_se"], strict=True):
            if abs(psi) > 1.959964 * error:  # an interval that includes 0 is no evidence
                shown.append(psi)
    assert heights == pytest.approx(shown)
    drawn = [line.get_ydata()[-1] for line in broken.get_lines() if len(line.get_ydata()) == 8]
    last = [
        row["success"]
        for one in models
        for row in one["conditions"]
        if row["name"] == "band_pgd_7" and row["strength"] == BUDGET
    ]
    assert set(last) <= set(drawn)


def test_building_again_changes_nothing_and_bad_input_is_refused(data, tmp_path):
    for name in ("README.md", "spectra.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    spectra.build(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == README.read_bytes()
    assert (tmp_path / "spectra.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="not a report of iaside spectrum: it lacks 'model'"):
        spectra.condense([{}])
    with pytest.raises(InputError, match="there is no table 'noise'"):
        spectra.page("<!-- noise -->\n\n<!-- end -->", data)


def test_empty_blocks_are_filled_each_by_its_own_table(data):
    text = spectra.page(
        "<!-- models -->\n<!-- end -->\nbetween\n<!-- bands -->\n<!-- end -->", data
    )
    found = spectra.tables(data)
    assert text.split("\nbetween\n") == [
        f"<!-- {name} -->\n{found[name]}\n<!-- end -->" for name in ("models", "bands")
    ]
