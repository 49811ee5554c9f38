"""What the command line prints: every figure in the text is a figure of the result."""

from __future__ import annotations

import re

import numpy as np
import pytest

from iaside_plugins import SpectralImportance
from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.display.report import BAR, entry_report, spectral_report
from iaside_plugins.display.text import proportion
from iaside_plugins.protocol import Protocol


def result(per_image, side=64):
    """A result with given Shapley values, the rest as it falls."""
    psi = np.asarray(per_image, dtype=float)
    n, m = psi.shape
    ends = np.stack([np.full(n, -2.0), -2.0 + psi.sum(axis=1)], axis=1)
    return SpectralImportance(
        protocol=Protocol(n_bands=m, estimator="permutation"),
        per_image=psi,
        ends=ends,
        values=None,
        labels=np.zeros(n, dtype=np.int64),
        ids=tuple(map(str, range(n))),
        correct=np.ones(n, dtype=bool),
        n_classes=3,
        n_forward=0,
        image_size=(side, side + 8),
        precision="float32",
    )


PSI = np.array([[0.8, -0.4, 0.1, 0.0], [1.2, -0.2, 0.3, 0.0], [1.0, -0.3, 0.2, 0.0]])


def test_rows():
    lines = spectral_report(result(PSI)).splitlines()
    assert "3 images of 64 x 72" in lines[0]
    rows = lines[2:6]
    assert [line.split()[0] for line in rows] == ["0", "1", "2", "3"]
    assert [re.search(r"([\d.]+)-([\d.]+)", line).groups() for line in rows] == [
        ("0.0", "8.0"),
        ("8.0", "16.0"),
        ("16.0", "24.0"),
        ("24.0", "32.0"),
    ]
    assert "+1.000 [+0.774, +1.226]" in rows[0]  # 0.2 / sqrt(3), times 1.96
    # bars from a zero line, below it to its left
    assert [line.count("█") for line in rows] == [BAR, round(0.3 * BAR), round(0.2 * BAR), 0]
    assert [line.index("|") for line in rows] == [rows[0].index("|")] * 4
    assert [line.endswith("█") for line in rows] == [True, False, True, False]
    assert "█|" in rows[1]
    assert lines[6].strip() == (
        "evidence in bands 0, 2; evidence against the true class in band 1; "
        "interval includes 0 in band 3"
    )


def test_bands_whose_interval_includes_zero_are_no_evidence():
    """The importance distribution of ten such bands is not 0, and shows nothing."""
    rng = np.random.default_rng(0)
    one = result(np.concatenate([x := rng.normal(size=(30, 10)), -x]))
    assert one.distribution.max() > 0 or one.distribution.sum() == 0
    text = spectral_report(one)
    assert "█" not in text
    assert "evidence in no band; interval includes 0 in bands 0-9" in text


def test_scores_and_ties():
    one = result(PSI)
    text = spectral_report(one)
    low, high = one.signed_score_interval
    assert f"signed score {one.signed_score:+.3f}  [{low:+.3f}, {high:+.3f}]" in text
    assert "tie for the least" not in text
    tied = result(PSI[:, [0, 1, 2, 1]])
    assert "bands 1, 3 tie for the least" in spectral_report(tied)


def test_one_image_and_nothing_at_all():
    assert "1 images" in spectral_report(result(PSI[:1]))
    flat = spectral_report(result(np.zeros((2, 3))))
    assert "█" not in flat


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"),
        (0.5 / 255, "0.5/255"),
        (0.25 / 255, "0.25/255"),
        (0.1, "0.1"),
        (0.03, "0.03"),
        (0.2, "0.2"),
        (1.0, "1"),
        (0.0, "0"),
        (16 / 255, "16/255"),
        (0.125, "0.125"),
        (0.5, "0.5"),
        (100.5 / 255, "100.5/255"),
        (1 / 765, "0.001307"),
    ],
)
def test_budgets(value, text):
    assert format_budget(value) == text


def test_percent():
    assert proportion({"value": 0.5, "interval": [0.25, 0.75], "n": 12}) == (
        " 50.0%  [25.0%, 75.0%], n = 12"
    )


def share(value):
    return {"value": value, "interval": [0.0, 1.0], "n": 10}


def entry(names, **more):
    conditions = [
        {
            "corruption": name,
            "severity": severity,
            "error": share(0.1 * severity),
            "probability_change": share(0.01 * severity),
        }
        for name in names
        for severity in range(1, 6)
    ]
    corruption = {
        "source": "generated",
        "n_images": 10,
        "conditions": conditions,
        "missing": [],
        "mce": None,
        "error_over_published": None,
        "unnormalised_mean_error": {
            "value": 0.3,
            "interval": [0.2, 0.4],
            "n": 10,
            "n_corruptions": len(names),
        },
        **more,
    }
    return {"clean_accuracy": share(0.9), "corruption": corruption, "adversarial": None}


def test_corruption_lines():
    text = entry_report(entry(CORRUPTIONS), result(PSI))
    assert re.search(r"fog +10\.0% +20\.0% +30\.0% +40\.0% +50\.0% +0\.030\n", text)
    assert "15 of 15 corruptions (unnormalised, not an mCE) 30.0% [20.0%, 40.0%]" in text
    assert " mCE 8" not in text


def test_mce_and_ratio_have_their_own_names():
    over = {"value": 0.7, "reference": "alexnet_hendrycks_50k"}
    mce = {"value": 0.8, "reference": "alexnet"}
    text = entry_report(entry(CORRUPTIONS, mce=mce, error_over_published=over), result(PSI))
    assert "mCE 80.0% (reference alexnet, same images)" in text
    assert "alexnet_hendrycks_50k (other images, not an mCE): 70.0%" in text


def test_missing_corruptions_are_named():
    text = entry_report(entry(CORRUPTIONS[:3], missing=["frost", "fog"]), result(PSI))
    assert "3 of 15" in text
    assert "not evaluated: frost, fog" in text


def test_one_image_has_no_interval_of_the_mean():
    lonely = entry(CORRUPTIONS)
    lonely["corruption"]["unnormalised_mean_error"]["interval"] = [None, None]
    assert "not an mCE) 30.0%\n" in entry_report(lonely, result(PSI)) + "\n"


def test_attacks():
    cells = [
        {"name": name, "norm": "Linf", "epsilon": 8 / 255, "accuracy": share(value)}
        for name, value in (("fgsm", 0.4), ("pgd", 0.3))
    ]
    worst = [
        {"norm": "Linf", "epsilon": 8 / 255, "attacks": ["fgsm", "pgd"], "accuracy": share(0.2)}
    ]
    one = {**entry(CORRUPTIONS), "corruption": None}
    one["adversarial"] = {"n_images": 10, "attacks": cells, "worst_case": worst}
    text = entry_report(one, result(PSI))
    assert "under corruption" not in text
    assert re.search(r"fgsm +Linf eps 8/255 +40\.0%", text)
    assert re.search(r"worst case Linf eps 8/255 +20\.0%", text)
    worst[0]["attacks"] = ["pgd"]
    assert "worst case" not in entry_report(one, result(PSI))  # one attack: nothing to add


@pytest.mark.parametrize("width", [60, 65, 80, 200])
def test_bars_and_rows_of_errors_take_the_room_that_is_left(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    both = result(PSI * [1, 2, 1, 1])  # bars to both sides of 0
    rows = spectral_report(both).splitlines()[2:6]
    assert max(map(len, rows)) <= width
    lengths = [row.count("█") for row in rows]
    assert lengths[0] == BAR if width == 200 else 0 < lengths[0] < BAR
    assert lengths[1] == pytest.approx(0.6 * lengths[0], abs=1)
    errors = [x for x in entry_report(entry(CORRUPTIONS), both).splitlines() if "50.0%" in x]
    assert len(errors) == 15
    assert max(map(len, errors)) <= width
