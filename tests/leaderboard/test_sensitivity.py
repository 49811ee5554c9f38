"""The page of the sensitivity study: its tables come from its JSON file, and from nothing else."""

from __future__ import annotations

import copy
import json
import re

import pytest

from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.studies import sensitivity
from iaside_plugins.leaderboard.studies.page import fill_blocks

FOLDER = sensitivity.FOLDER


@pytest.fixture(scope="module")
def data():
    return json.loads((FOLDER / "sensitivity.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text():
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_page_holds_the_tables_of_its_json(data, text):
    found = sensitivity.tables(data)
    assert fill_blocks(text, found) == text
    for name in re.findall(r"<!-- (\w[\w-]*) -->", text):
        assert name == "end" or name in found


def test_a_changed_number_changes_the_page(data, text):
    other = copy.deepcopy(data)
    other["cifar10"]["effects"][0]["association"] = 0.4321
    assert "+0.43" in fill_blocks(text, sensitivity.tables(other))
    assert fill_blocks(text, sensitivity.tables(other)) != text


def test_figures_in_the_prose_are_those_of_the_tables(text):
    """Every "-0.NN" and "N.NN" of the reading stands in a table of the page as well."""
    blocks = re.findall(r"<!-- \w+ -->\n(.*?)<!-- end -->", text, re.S)
    prose = re.sub(r"<!-- \w+ -->\n.*?<!-- end -->|```.*?```", "", text, flags=re.S)
    figures = re.findall(r"[+-]?\d\.\d\d+", prose)
    assert len(figures) >= 10
    cells = set(re.findall(r"[+-]?\d\.\d\d+", "".join(blocks)))
    assert set(figures) <= cells


def test_the_verdict_follows_the_rule(data):
    """The default stays on these numbers; with a better level it would not."""
    assert "The default stays" in sensitivity.tables(data)["verdict"]
    other = copy.deepcopy(data)
    good = {"association": 0.4, "association_left_out": [0.2, 0.5], "association_at_base": 0.3}
    other["cifar10"]["effects"][0].update(good)
    other["cifar10-8"]["effects"][0].update(good)
    assert other["cifar10"]["effects"][0]["level"] == "clip"
    assert (
        "Passes the rule on the kit: range handling clip" in (sensitivity.tables(other)["verdict"])
    )


def test_studies_are_of_the_models_and_images_that_the_criterion_names(data):
    for name in ("cifar10", "cifar10-8"):
        assert len(data[name]["models"]) == 8
        assert data[name]["n_images"] == 152
        assert all(m["name"].startswith("c10_") for m in data[name]["models"])
    crossed = data["cifar10"]
    assert len(crossed["variants"]) == 3 * 3 * 2 * 2 * 3
    assert len(crossed["ranked"]) == 18


def test_condensing_keeps_the_numbers():
    levels = {"n_bands": 8, "range_handling": "none", "absence": "zero", "band_norm": "chebyshev"}
    variants = [
        {
            "name": f"T={t} beta={b}",
            "temperature": t,
            "beta": b,
            **levels,
            "models": [{"model": "a", "signed_score": b, "score": b}],
        }
        for t in (1.0, "fitted")
        for b in (0.75, 0.9)
    ]
    names = [v["name"] for v in variants]
    study = {
        "base": names[0],
        "variants": variants,
        "associations": [{"variant": name} for name in names],
        "movements": [{"variant": name} for name in names],
        "spearman": [[i + j / 10 for j in range(4)] for i in range(4)],
        "kendall": [[-i - j / 10 for j in range(4)] for i in range(4)],
    }
    kept = sensitivity.condense({"some": study})["some"]
    assert kept["ranked"] == names[:1]
    assert kept["spearman"] == [[0.0]]
    assert {one["variant"] for one in kept["movements"]} == set(names[:3])
    assert kept["variants"][:3] == variants[:3]
    assert kept["variants"][3]["models"] == [{"model": "a", "signed_score": 0.9}]
    with pytest.raises(InputError, match="some is not a study"):
        sensitivity.condense({"some": {"variants": []}})


def test_names_cannot_break_the_tables(data):
    other = copy.deepcopy(data)
    other["cifar10"]["models"][0]["name"] = "<b>|_x"
    table = sensitivity.tables(other)["scores"]
    assert "<b>" not in table
    assert {line.count("|") - line.count(r"\|") for line in table.splitlines()} == {10}
