"""Reasons to doubt an accuracy under attack, in words."""

from __future__ import annotations

import pytest

from iaside_plugins.display.masking import masking_reasons


def attack(name, steps, value, epsilon=8 / 255):
    accuracy = {"value": value}
    cell = {"name": name, "norm": "Linf", "steps": steps, "epsilon": epsilon}
    return {**cell, "accuracy": accuracy}


ATTACKS = [attack("fgsm", None, 0.5), attack("pgd", 40, 0.6), attack("pgd", 40, 0.3, 0.1)]
COUNTS = {"n_images": 9, "n_zero": 0, "n_non_finite": 0, "n_varying": 0, "weaker": []}


PAIR = {"attack": "pgd", "other": "apgd_advlib", "norm": "Linf", "epsilon": 8 / 255}


@pytest.mark.parametrize(
    ("masking", "said"),
    [
        ({"n_zero": 4}, "the gradient is zero on 4 of 9 images"),
        ({"n_non_finite": 2}, "NaN or infinite on 2 of 9"),
        ({"n_varying": 9}, "from call to call on 9 of 9"),
        ({"apart": [PAIR | {"difference": -0.03}]}, "are 3.0 points apart at Linf 8/255"),
    ],
)
def test_what_was_seen(masking, said):
    (reason,) = masking_reasons({"attacks": ATTACKS[:1], "masking": COUNTS | masking})
    assert said in reason


def test_many_steps_that_do_worse_than_one_also_of_older_entries():
    (reason,) = masking_reasons({"attacks": ATTACKS}, "Linf", 8 / 255)
    assert "pgd at Linf 8/255 does worse than the single step of fgsm (60.0% against" in reason
    weaker = [{"attack": "pgd", "single": "fgsm", "norm": "Linf", "epsilon": 8 / 255}]
    masking = COUNTS | {"weaker": [weaker[0] | {"n_missed": 3}]}
    (reason,) = masking_reasons({"attacks": ATTACKS, "masking": masking})
    assert "missed of those it fools: 3" in reason
    assert masking_reasons({"attacks": ATTACKS}, "Linf", 0.1) == []  # another budget
    assert masking_reasons({"attacks": [ATTACKS[0], attack("pgd", 40, 0.5)]}) == []


@pytest.mark.parametrize(("name", "steps"), [("pgd", 40), ("autoattack_standard", None)])
def test_a_larger_budget_never_helps_a_model(name, steps):
    cells = [attack(name, steps, 0.6, 0.1), attack(name, steps, 0.5, 0.02)]
    said = f"{name} leaves more images at Linf 0.1 than at Linf 0.02 (60.0% against 50.0%)"
    for epsilon in (0.1, 0.02):
        (reason,) = masking_reasons({"attacks": cells}, "Linf", epsilon)
        assert said in reason
    assert len(masking_reasons({"attacks": cells})) == 1
    assert masking_reasons({"attacks": cells}, "Linf", 0.3) == []
    assert masking_reasons({"attacks": [cells[0], attack(name, steps, 0.6, 0.02)]}) == []
    assert masking_reasons({"attacks": [cells[0], cells[1] | {"norm": "L2"}]}) == []
    assert masking_reasons({"attacks": [cells[0], cells[1] | {"restarts": 5}]}) == []


def test_a_single_step_may_overshoot():
    cells = [attack("fgsm", None, 0.6, 0.1), attack("fgsm", None, 0.5, 0.02)]
    assert masking_reasons({"attacks": cells}) == []


def test_two_programs_within_two_points_are_no_reason():
    masking = COUNTS | {"apart": [PAIR | {"difference": 0.02}]}
    assert masking_reasons({"attacks": ATTACKS[:1], "masking": masking}) == []
