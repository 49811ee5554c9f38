"""Robust accuracies of a table small enough to count by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from iaside_plugins.evaluation.attacks import AttackOutcome, RobustEvaluation

CORRECT = np.array([True, True, True, True, True, True, True, False])
FIRST = AttackOutcome(
    "first",
    "Linf",
    "First()",
    False,
    (0.1, 0.2),
    np.array([[1, 0, 0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 0]], dtype=bool),
    np.array([0.1, 0.2, np.inf, np.inf, np.inf, np.inf, np.inf, 0.1]),
)
SECOND = AttackOutcome(
    "second",
    "Linf",
    "Second()",
    True,
    (0.2,),
    np.array([[0, 0, 1, 0, 0, 0, 0, 1]], dtype=bool),
    np.array([0.5, 0.3, 0.15, 0.4, np.inf, np.inf, np.inf, 0.0]),
)
OTHER = AttackOutcome(
    "other", "L2", "Other()", True, (), np.zeros((0, 8), dtype=bool), np.full(8, np.inf)
)
FOUND = RobustEvaluation(tuple("abcdefgh"), CORRECT, (FIRST, SECOND, OTHER), {"seed": 0})


def test_an_attack_that_mends_a_misclassification_makes_nothing_robust():
    frame = FOUND.to_frame().set_index(["attack", "epsilon"])
    assert frame.loc[("first", 0.1), "n_robust"] == 6
    assert frame.loc[("first", 0.2), "n_robust"] == 5  # h is wrong without the attack
    assert frame.loc[("first", 0.2), "n_adv"] == 2
    assert frame.loc[("first", 0.2), "accuracy"] == 5 / 8
    assert (
        frame.loc[("first", 0.2), "accuracy_low"]
        < 5 / 8
        < frame.loc[("first", 0.2), "accuracy_high"]
    )
    assert FOUND.clean_accuracy == 7 / 8


def test_worst_case_is_image_by_image():
    worst = FOUND.worst_case().set_index(["norm", "epsilon"])
    assert worst.loc[("Linf", 0.1), "n_robust"] == 6
    assert worst.loc[("Linf", 0.2), "n_robust"] == 4  # a, b by the first, c by the second
    assert worst.loc[("Linf", 0.2), "attacks"] == "first, second"
    assert worst.loc[("Linf", 0.1), "attacks"] == "first"  # the second was not run at 0.1


def test_budget_0_is_a_point_of_the_curve_and_no_attack():
    clean = replace(FIRST, name="clean", epsilons=(0.0,), is_adv=~CORRECT[None])
    both = replace(SECOND, epsilons=(0.0, 0.2), is_adv=np.stack([~CORRECT, SECOND.is_adv[0]]))
    found = RobustEvaluation(FOUND.ids, CORRECT, (clean, FIRST, both), {})
    worst = found.worst_case().set_index("epsilon")
    assert worst.loc[0.0, "accuracy"] == found.clean_accuracy
    assert list(worst["attacks"]) == ["clean, second", "first", "first, second"]
    assert found.areas()["area"][0] == FOUND.areas()["area"][0]
    alone = RobustEvaluation(FOUND.ids, CORRECT, (clean,), {})
    assert alone.areas().empty
    assert len(alone.to_frame()) == 1


def test_failures_are_infinite_and_medians_hold_them():
    rows = FOUND.distances().set_index("attack")
    assert rows.loc["second", "median"] == 0.5  # of 0.15 0.3 0.4 0.5 inf inf inf
    assert rows.loc["second", "n_failed"] == 3
    assert rows.loc["second", "median_high"] == np.inf
    assert rows.loc["first", "median"] == np.inf
    assert rows.loc["other", "n_failed"] == 7
    assert not rows.loc["first", "minimal"]


def test_area_is_the_mean_accuracy_over_budgets():
    row = FOUND.areas().iloc[0]
    curve = [7 / 8, 6 / 8, 4 / 8]
    assert row["area"] == pytest.approx((curve[0] / 2 + curve[1] + curve[2] / 2) / 2)
    assert row["area_low"] < row["area"] < row["area_high"]
    assert len(FOUND.areas()) == 1  # an attack without budgets has no curve


def test_json_has_no_infinity():
    data = json.loads(json.dumps(FOUND.to_dict(), allow_nan=False))
    assert data["distances"][0]["median"] is None
    assert data["settings"] == {"first": "First()", "second": "Second()", "other": "Other()"}
