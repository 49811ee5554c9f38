"""Findings follow their rules: each card is said where the numbers say so, and not elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from board_entries import Make, parsed

from iaside_plugins.entry.build import proportion
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.findings import Finding, _upper, findings
from iaside_plugins.leaderboard.statistics.comparison import NOT_SHOWN, SHOWN
from iaside_plugins.leaderboard.table.presentation import main_attacks

N = 20


def found(make_entry: Make, models: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """The findings by title, of models with the numbers that are given."""
    raws = []
    for k, numbers in enumerate(models):
        raw = make_entry(f"m{k}", k, **options)
        raw["clean_accuracy"]["value"] = numbers.get("clean", 0.9)
        low, high = sorted((numbers.get("lean", 0.2) * 0.5, numbers.get("lean", 0.2)))
        raw["spectral"] |= {"signed_score": high, "signed_score_interval": [low, high]}
        for case in raw["adversarial"]["worst_case"]:
            value = numbers.get("robust", 0.5)
            ends = [max(0.0, value - 0.1), min(1.0, value + 0.1)]
            case["accuracy"] |= {"value": value, "interval": ends}
        raws.append(raw)
    board = Board.of(parsed(*raws))
    return {finding.title: finding for finding in findings(board.sections[0])}


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_most_accurate_may_be_the_least_robust(make_entry: Make) -> None:
    models = [
        {"clean": 0.95, "robust": 0.05, "lean": -0.2},
        {"clean": 0.7, "robust": 0.6},
        {"clean": 0.6, "robust": 0.5},
    ]
    one = found(make_entry, models)["The most accurate is not the most robust"]
    assert plain(one.text) == (
        "At Linf 1/255 (FGSM, PGD-10): m0 95 % clean and 5 % attacked. m1 70 % clean and 60 % "
        "attacked."
    )


def test_intervals_that_overlap_tell_nothing_apart(make_entry: Make) -> None:
    models = [{"clean": 0.9, "robust": 0.5}, {"clean": 0.8, "robust": 0.55}, {"clean": 0.7}]
    one = found(make_entry, models)["The most accurate may be the most robust"]
    assert not one.holds


def test_one_model_may_be_both(make_entry: Make) -> None:
    models = [{"clean": 0.9, "robust": 0.8}, {"clean": 0.8, "robust": 0.1}, {"clean": 0.7}]
    assert "The most accurate is the most robust" in found(make_entry, models)
    models[1]["robust"] = 0.7
    one = found(make_entry, models)["No model is shown to be the most robust"]
    assert not one.holds


def test_who_leans_low_and_the_counter_example(make_entry: Make) -> None:
    robust = [{"robust": 0.8}, {"robust": 0.7}]
    one = found(make_entry, [*robust, {"robust": 0.1, "lean": -0.3}, {"robust": 0.2}])
    card = one["Robust models here lean low"]
    assert card.text.endswith("2 lean to low bands; of the other 2, 1.")
    assert plain(card.counter) == "Low is not enough: m3 leans low (+0.200) and keeps 20 %."
    other = found(make_entry, [{"robust": 0.8, "lean": -0.3}, {"robust": 0.1}, {"robust": 0.1}])
    card = other["Robust models here lean no lower"]
    assert card.counter == "m0 is robust and does not lean low."
    assert not card.holds


def test_noise(make_entry: Make) -> None:
    """Synthetic errors differ by chance alone, so the best is not distinguishable."""
    raws = [make_entry(f"m{k}", k) for k in range(3)]
    for raw, clean in zip(raws, (0.5, 0.9, 0.6), strict=True):
        raw["clean_accuracy"]["value"] = clean

    def card() -> Finding:
        (section,) = Board.of(parsed(*raws)).sections
        errors = [row["error_noise"] for row in section.table.rows]
        assert section.table.rows[0]["model"] == "m1"
        (one,) = [f for f in findings(section) if "noise" in f.title]
        assert f"errs on {100 * min(errors):.0f}" in one.text
        return one

    def errors(raw: dict[str, Any], wrong: int) -> None:
        for cell in raw["corruption"]["conditions"]:
            if cell["corruption"].endswith("noise"):
                cell["error"] = proportion(np.arange(N) < wrong, by_image=True)

    errors(raws[1], 10)
    errors(raws[0], 9)
    assert card().title == "Who errs least under noise"
    errors(raws[0], 1)
    assert card().title == "Under noise the most accurate errs more"
    for cell in raws[0]["corruption"]["conditions"]:
        del cell["error"]["images"]
    assert card().text.endswith("These entries give no intervals.")
    errors(raws[1], 0)
    assert card().title == "Under noise the most accurate errs least"


def test_nothing_is_said_of_two_models(make_entry: Make) -> None:
    assert list(found(make_entry, [{}, {}], explained=True)) == [
        "Too few to tell from clean accuracy"
    ]


def split(raw: dict[str, Any], upper: float) -> None:
    """Give an entry errors of which a share comes from the upper half of the bands."""
    for one in [*raw["decomposition"]["conditions"], raw["decomposition"]["mean"]]:
        added = one["perturbed"] - one["clean"]
        one["bands"] = [added * (1 - upper), 0.0, 0.0, added * upper]


@pytest.mark.parametrize(("shares", "apart"), [((0.1, 0.4, 0.8), True), ((0.4, 0.5, 0.55), False)])
def test_where_errors_come_from(make_entry: Make, shares: tuple[float, ...], apart: bool) -> None:
    raws = [make_entry(f"m{k}", k, explained=True) for k in range(3)]
    for raw, share in zip(raws, shares, strict=True):
        split(raw, share)
    cards = {one.title: one for one in findings(Board.of(parsed(*raws)).sections[0])}
    card = cards[f"Errors come from {'different' if apart else 'the same'} bands"]
    least, most = (f"{100 * share:.0f}\N{NO-BREAK SPACE}%" for share in (shares[0], shares[-1]))
    assert f"{most} lies in the upper half of the bands for m2, {least} for m0" in card.text
    assert bool(card.counter) == apart


def test_shares_of_next_to_nothing_are_not_compared(make_entry: Make) -> None:
    raws = [make_entry(f"m{k}", k, explained=True) for k in range(3)]
    for raw, share in zip(raws, (0.1, 0.4, 0.8), strict=True):
        split(raw, share)
    for one in [*raws[0]["decomposition"]["conditions"], raws[0]["decomposition"]["mean"]]:
        one["perturbed"] = one["clean"] + 0.01
        one["bands"] = [0.02, 0.0, 0.0, -0.01]
    titles = [one.title for one in findings(Board.of(parsed(*raws)).sections[0])]
    assert not any(title.startswith("Errors come from") for title in titles)  # two are left


def test_the_name_of_the_mce_keeps_its_letters() -> None:
    assert _upper("mCE, 20 models") == "mCE, 20 models"
    assert _upper("mean error") == "Mean error"


def test_the_verdict_is_that_of_the_statistics(make_entry: Make) -> None:
    board = Board.of(parsed(*(make_entry(f"m{k}", k) for k in range(3))))
    (section,) = board.sections
    for verdict, title in (
        (SHOWN, "The score says more than clean accuracy"),
        (NOT_SHOWN, "Not shown to beat clean accuracy"),
    ):
        for one in section.statistics["comparisons"]:
            one["verdict"] = verdict
        last = findings(section)[-1]
        assert last.title == title
        assert last.holds == (verdict == SHOWN)


def test_the_main_attack_is_the_strongest_at_the_budget_that_tells_most(make_entry: Make) -> None:
    raws = [make_entry(f"m{k}", k) for k in range(3)]
    for k, raw in enumerate(raws):
        for case in raw["adversarial"]["worst_case"]:
            near = case["epsilon"] < 2 / 255
            value = 0.5 if near else 0.3 * k
            case["accuracy"] |= {"value": value, "interval": [value - 0.0, min(1.0, value + 0.1)]}
    (section,) = Board.of(parsed(*raws)).sections
    assert [attack.budget for attack in main_attacks(section.table)] == ["Linf 8/255", "Linf 1/255"]
    for raw in raws:  # a stronger attack goes first, however little it tells apart
        for attack in raw["adversarial"]["attacks"]:
            if attack["name"] == "pgd" and attack["epsilon"] < 2 / 255:
                attack |= {"name": "autoattack_standard", "steps": None, "rel_stepsize": None}
    (section,) = Board.of(parsed(*raws)).sections
    assert [attack.words for attack in main_attacks(section.table)] == ["AutoAttack, FGSM"]
