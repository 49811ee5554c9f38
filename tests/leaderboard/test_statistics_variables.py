"""What statistics are made from: families, scales, columns, ranks, reliability."""

from __future__ import annotations

import math

import numpy as np
import pytest
from board_entries import Make, parsed

from iaside_plugins.leaderboard.statistics.variables import (
    Measured,
    Variable,
    clean_accuracy,
    corruption_errors,
    family,
    logit,
    outcomes,
    predictors,
    rank_intervals,
    reliability,
)
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.stats.intervals import Z95


@pytest.mark.parametrize(
    ("architecture", "training", "expected"),
    [
        ("resnet50", "standard", "resnet, standard"),
        ("ResNet-18", "Standard", "resnet, standard"),
        ("Wide ResNet-50-2", "adversarial, L-inf 2/255", "wide resnet, adversarial"),
        ("seq_cnn", "certified (convex relaxation)", "seq cnn, certified"),
        ("DeiT Base", None, "deit, unknown"),
        ("vit_base_patch16_224", "", "vit, unknown"),
        ("tf_efficientnet_b0", "augmix", "efficientnet, augmix"),
        ("mobilenetv1", "standard", "mobilenet, standard"),
        ("mobilenet_v2", "standard", "mobilenet, standard"),
        ("R50", "(x)", "r50, unknown"),
        ("50", "standard", "50, standard"),
    ],
)
def test_families(architecture: str, training: str | None, expected: str) -> None:
    assert family(architecture, training) == expected


def test_logit_is_finite_at_both_ends_and_symmetric() -> None:
    assert logit(0.5, 10) == 0
    assert logit(0.0, 10) == pytest.approx(-math.log(21))
    assert logit(1.0, 10) == pytest.approx(math.log(21))
    assert logit(0.3, 10**9) == pytest.approx(math.log(3 / 7), abs=1e-8)


def test_columns_hold_what_entries_state(make_entry: Make) -> None:
    entries = parsed(make_entry("a"), make_entry("b", 1))
    table = tables(entries)[0]
    by_id = {entry.entry_id: entry for entry in table.entries}
    clean = clean_accuracy(table)
    assert {k: m.value for k, m in clean.measured.items()} == {
        k: e.clean_accuracy.value for k, e in by_id.items()
    }
    signed, score = predictors(table)
    assert (signed.id, score.id) == ("signed_score", "score")
    found = {column.id: column for column in outcomes(table)}
    one = table.entries[0]
    assert one.corruption is not None
    assert one.adversarial is not None
    error = found["mean_corruption_error_unnormalised"].measured[one.entry_id]
    mean, n = one.corruption.unnormalised_mean_error, 20
    assert error.value == mean.value
    assert error.interval == mean.interval
    assert error.scaled == pytest.approx(
        math.log((mean.value * n + 0.5) / ((1 - mean.value) * n + 0.5))
    )
    assert found["mce"].measured[one.entry_id].scaled == math.log(one.corruption.mce.value)  # type: ignore[union-attr]
    kept = found["retained_accuracy_corruption"].measured[one.entry_id]
    assert kept.value == (1 - mean.value) / one.corruption.uncorrupted_accuracy.value
    threat = table.attack_columns[1]
    robust = found[threat.column].measured[one.entry_id]
    assert robust.value == one.adversarial.worst_case[1].accuracy.value
    share = found[threat.column.replace("robust", "retained")].measured[one.entry_id]
    assert share.value == robust.value / one.clean_accuracy.value
    assert found[threat.column].label.endswith("at Linf 8/255 (FGSM, PGD-10)")
    assert all(math.isfinite(m.scaled) for c in found.values() for m in c.measured.values())


def test_corruption_errors_are_means_over_severities(make_entry: Make) -> None:
    raw = make_entry()
    columns = corruption_errors(tables(parsed(raw))[0])
    assert [group for group, _ in columns] == ["noise"] * 3 + ["blur"] * 4 + ["weather"] * 4 + [
        "digital"
    ] * 4
    for _, column in columns:
        rates = [
            cell["error"]["value"]
            for cell in raw["corruption"]["conditions"]
            if cell["corruption"] == column.id
        ]
        assert column.measured[raw["entry_id"]].value == pytest.approx(np.mean(rates), abs=1e-15)


def test_missing_numbers_are_left_out_with_their_reason(make_entry: Make) -> None:
    raw = make_entry("a")
    raw["corruption"]["mce"] = None
    raw["adversarial"]["worst_case"] = []
    table = tables(parsed(raw, make_entry("b", 1)))[0]
    found = {column.id: column for column in outcomes(table)}
    assert list(found["mce"].missing.items()) == [
        (raw["entry_id"], "no mCE: no reference model on the same images")
    ]
    assert found[table.attack_columns[0].column].missing == {
        raw["entry_id"]: "not attacked in this way"
    }
    assert outcomes(tables(parsed(make_entry(perturbed=False)))[0]) == []
    raw = make_entry("zero")
    for cell in (raw["clean_accuracy"], raw["corruption"]["uncorrupted_accuracy"]):
        cell["value"] = 0.0
    shares = [c for c in outcomes(tables(parsed(raw))[0]) if c.id.startswith("retained")]
    assert shares == []


def column(better: str | None, *rows: tuple[float, float, float]) -> Variable:
    measured = {f"m{k}": Measured(v, v, (low, high)) for k, (v, low, high) in enumerate(rows)}
    return Variable("c", "c", better, "raw", measured, {})


def test_ranks_are_left_open_where_intervals_meet() -> None:
    rows = [(0.9, 0.85, 0.95), (0.8, 0.7, 0.86), (0.8, 0.79, 0.81), (0.1, 0.0, 0.2)]
    best_first = rank_intervals(column("higher", *rows))
    assert best_first["first"] == "highest"
    assert [tuple(m.values()) for m in best_first["models"]] == [
        ("m0", 0.9, 1, 1, 2, False),
        ("m1", 0.8, 2, 1, 3, True),
        ("m2", 0.8, 2, 2, 3, True),
        ("m3", 0.1, 4, 4, 4, False),
    ]
    least_first = rank_intervals(column("lower", *rows))
    assert [(m["entry_id"], m["rank"], m["low"], m["high"]) for m in least_first["models"]] == [
        ("m3", 1, 1, 1),
        ("m1", 2, 2, 4),
        ("m2", 2, 2, 3),
        ("m0", 4, 3, 4),
    ]
    assert rank_intervals(column(None))["models"] == []
    without = Variable("c", "c", None, "raw", {"a": Measured(1, 1)}, {})
    assert rank_intervals(without)["models"] == []


def test_reliability_is_what_noise_leaves_of_the_spread() -> None:
    rng = np.random.default_rng(0)
    truth, se = rng.normal(0, 1, 4000), 0.5
    rows = [(v, v - Z95 * se, v + Z95 * se) for v in truth + se * rng.normal(size=4000)]
    found = reliability(column(None, *rows))
    assert found["value"] == pytest.approx(1 / (1 + se**2), abs=0.02)
    assert found["standard_error"] == pytest.approx(se)
    assert reliability(column(None, (1, 0, 2), (1, 0, 2), (1, 0, 2)))["value"] is None
    assert "needs 3" in reliability(column(None, (1, 0, 2)))["reason"]
