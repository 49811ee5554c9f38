"""The rule of the criterion: each condition alone turns a level away."""

from __future__ import annotations

from typing import Any

import pytest

from iaside_plugins.leaderboard.studies.sensitivity import chosen, effects, verdicts

GOOD = {
    "axis": "range_handling",
    "level": "clip",
    "n_pairs": 4,
    "association": 0.2,
    "association_left_out": [0.05, 0.3],
    "association_at_base": 0.1,
    "stability": -0.05,
    "reliability": -0.02,
    "reliability_there": 0.9,
}


def study(*levels: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The crossed study, and one around the default that has none of its levels."""
    return {"effects": list(levels)}, {"effects": []}


def test_a_level_that_meets_every_condition_replaces_the_default():
    (one,) = verdicts(*study(GOOD))
    assert one.qualifies
    assert one.fails == ""
    assert chosen(*study(GOOD)) == [one]


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({"association": 0.14}, "a"),
        ({"association": None}, "a"),
        ({"association_left_out": [0.0, 0.3]}, "b"),
        ({"association_left_out": [None, None]}, "b"),
        ({"association_at_base": -0.01}, "c"),
        ({"association_at_base": None}, "c"),
        ({"stability": -0.11}, "d"),
        ({"association": -0.5, "association_left_out": [-0.7, -0.1], "stability": -0.3}, "abd"),
    ],
)
def test_one_condition_is_enough_to_fail(change, fails):
    (one,) = verdicts(*study({**GOOD, **change}))
    assert one.admissible
    assert one.fails == fails
    assert not one.qualifies
    assert chosen(*study({**GOOD, **change})) == []


@pytest.mark.parametrize(
    "change",
    [
        {"level": "rescale"},
        {"reliability": -0.06},
        {"reliability_there": 0.79},
        {"reliability_there": None},
    ],
)
def test_what_is_not_admissible_never_replaces_it(change):
    (one,) = verdicts(*study({**GOOD, **change}))
    assert not one.admissible
    assert not one.qualifies
    assert one.fails == ""


def test_of_two_levels_of_one_axis_the_greater_effect_is_taken():
    zero, more = (
        {**GOOD, "axis": "absence", "level": f"level {k}", "association": 0.2 + k / 10}
        for k in range(2)
    )
    assert [v.level for v in chosen(*study(zero, GOOD, more))] == ["level 1", "clip"]


def test_main_effects_are_crossed_ones_and_changes_at_the_default_are_the_defaults():
    near = {**GOOD, "association": 0.9, "association_at_base": -0.3}
    bands = {**GOOD, "axis": "n_bands", "level": 6, "association": 0.3}
    crossed = [GOOD, {**GOOD, "axis": "beta", "level": 0.9}]
    found = effects({"effects": crossed}, {"effects": [near, bands]})
    assert [e["association"] for e in found] == [0.2, 0.2, 0.3]
    assert [e["association_at_base"] for e in found] == [-0.3, 0.1, 0.1]
    assert [v.fails for v in verdicts({"effects": crossed}, {"effects": [near, bands]})] == [
        "c",
        "",
        "",
    ]
