"""What is committed of the evidence: outcomes, README and figures follow from it."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import pytest

from iaside_plugins.leaderboard.settings import BoardSettings
from iaside_plugins.leaderboard.studies import (
    adversarial,
    equal_accuracy,
    evidence,
    verdicts,
    views,
)
from iaside_plugins.leaderboard.studies.criteria import outcomes
from iaside_plugins.leaderboard.studies.page import short_name
from iaside_plugins.storage.files import jsonable, rounded

FOLDER = evidence.FOLDER


@pytest.fixture(scope="module")
def data() -> dict:
    return json.loads((FOLDER / "evidence.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pairs() -> dict:
    return json.loads((adversarial.FOLDER / "adversarial.json").read_text(encoding="utf-8"))


def test_the_table_of_outcomes_follows_from_the_evidence(data):
    known = json.loads((FOLDER / "outcomes.json").read_text(encoding="utf-8"))
    rows = rounded(jsonable([asdict(row) for row in outcomes(data)]), evidence.DIGITS)
    assert rows == known
    text = evidence.README.read_text(encoding="utf-8")
    assert verdicts.summary(known) in text
    assert {row["criterion"] for row in known} == set(verdicts.QUESTIONS)


def test_families_are_those_of_the_board(data):
    known = BoardSettings.read(evidence.BOARD).families
    named = json.loads((FOLDER / "families.json").read_text(encoding="utf-8"))
    assert data["families"] == named
    assert {name: known[name] for name in data["nets"]} == {n: named[n] for n in data["nets"]}
    assert len(set(data["families"].values())) == 15  # as the criteria say
    assert len(data["families"]) == 24


def test_the_figures_are_drawn_from_the_files(data, pairs):
    for figure in (
        views.views_figure(data),
        equal_accuracy.equal_accuracy_figure(data),
        adversarial.adversarial_figure(pairs),
    ):
        figure.draw_without_rendering()
    labels = [text.get_text() for text in equal_accuracy.equal_accuracy_figure(data).axes[0].texts]
    equal = [name for name, one in data["nets"].items() if equal_accuracy.is_equal(one)]
    assert sorted(labels) == sorted(map(short_name, equal))


def test_a_network_without_an_entry_or_an_attack_is_no_error(data):
    other = copy.deepcopy(data)
    first, second = list(other["nets"])[:2]
    other["nets"].pop(first)
    other["nets"][second]["robust"] = None
    views.views_figure(other).draw_without_rendering()
    equal_accuracy.equal_accuracy_figure(other).draw_without_rendering()


def test_differences_of_pairs_add_up(pairs):
    for pair in pairs["pairs"]:
        for one in pair["conditions"].values():
            assert sum(one["bands"]) == pytest.approx(one["added"][0], abs=1e-4)
            assert one["lower"][0] + one["upper"][0] == pytest.approx(one["added"][0], abs=1e-4)
            assert sum(one["bands"][4:]) == pytest.approx(one["upper"][0], abs=1e-4)
    told = {(pair["first"], pair["second"]) for pair in pairs["pairs"]}
    missing = set(pairs["missing"])
    for first, second, _ in adversarial.PAIRS:
        assert ((first, second) in told) != bool({first, second} & missing)


def test_pairs_of_other_folders_stay(pairs, tmp_path):
    assert adversarial.condense(tmp_path, pairs)["pairs"] == pairs["pairs"]
    assert adversarial.condense(tmp_path)["pairs"] == []
