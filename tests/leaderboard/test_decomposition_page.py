"""The page of decompositions: tables and figure come from its JSON file alone, and add up."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.leaderboard.studies import decomposition

FOLDER = decomposition.FOLDER
README = FOLDER / "README.md"


@pytest.fixture(scope="module")
def data() -> dict:
    return json.loads((FOLDER / "decomposition.json").read_text(encoding="utf-8"))


def test_the_page_holds_the_tables_of_its_json(data):
    text = README.read_text(encoding="utf-8")
    assert decomposition.page(text, data) == text
    other = copy.deepcopy(data)
    other["c10_resnet20"]["mean"]["perturbed"] = 0.9871
    assert "98.7" in decomposition.page(text, other)


def test_every_split_adds_up(data):
    for one in data.values():
        assert set(one["corruptions"]) == set(CORRUPTIONS)
        splits = [one["mean"], *one["corruptions"].values(), *one["groups"].values()]
        for split in (*splits, *one["attacks"]):
            total = split["clean"] + sum(split["bands"])
            assert total == pytest.approx(split["perturbed"], abs=2e-5)  # rounded to 6 digits
        mean = np.mean([each["bands"] for each in one["corruptions"].values()], axis=0)
        np.testing.assert_allclose(one["mean"]["bands"], mean, atol=1e-5)


def test_all_kinds_of_networks_are_there(data):
    assert sum(one["image_size"] == [32, 32] for one in data.values()) >= 20
    assert sum(one["image_size"] != [32, 32] for one in data.values()) >= 3
    assert any(one["attacks"] for one in data.values())


def test_the_figure_is_drawn_from_the_json(data):
    figure = decomposition.decomposition_figure(data)
    figure.draw_without_rendering()
    assert [ax.get_title() for ax in figure.axes[:4]] == list(decomposition.GROUPS)
