"""The criteria on simulated networks: what is there is shown, what is not is not."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import oracles
import pytest

from iaside_plugins import Protocol, error_decomposition, spectral_importance
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.leaderboard.studies import criteria, evidence
from iaside_plugins.storage.files import write_json

N_NETS = 24
FAMILIES = [f"family {k % 15}" for k in range(N_NETS)]


def nets(effect: float, seed: int = 0) -> dict:
    """Networks whose outcomes depend on clean accuracy, and by `effect` on the signed score."""
    rng = np.random.default_rng(seed)
    clean = rng.uniform(0.4, 0.96, N_NETS)
    own = rng.normal(size=N_NETS)  # what a score knows besides clean accuracy
    noise = rng.normal(size=(3, N_NETS)) * 0.3
    score = own - 4 * clean
    robust = effect * own + 2 * clean + noise[0]
    error = -effect * own - 2 * clean + noise[1]
    columns = {
        "clean": clean,
        "signed_score": score,
        "upper_nats": -score + noise[2],
        "robust": robust,
        "autoattack": robust,
        "noise_error": error,
    }
    return {
        f"net {k}": {"family": FAMILIES[k], **{n: float(c[k]) for n, c in columns.items()}}
        for k in range(N_NETS)
    }


def families() -> dict:
    return {f"net {k}": FAMILIES[k] for k in range(N_NETS)}


def of(rows: list, **wanted: str) -> criteria.Outcome:
    return next(r for r in rows if all(v in getattr(r, n) for n, v in wanted.items()))


def test_a_score_that_knows_more_is_shown_and_its_opposite_contradicted():
    for effect, verdict in ((1.0, criteria.SHOWN), (-1.0, criteria.CONTRADICTED)):
        rows = criteria.beyond_accuracy(nets(effect))
        assert len(rows) == 12
        for outcome in criteria.OUTCOMES:
            row = of(
                rows, what=f"signed score and {criteria.LABELS[outcome]}", among="all networks"
            )
            assert row.verdict == verdict
            assert row.interval[0] <= row.value <= row.interval[1]
            assert (row.n_networks, row.n_families) == (N_NETS, 15)


def test_a_score_that_knows_clean_accuracy_alone_is_rarely_shown():
    draws = [criteria.beyond_accuracy(nets(0.0, seed)) for seed in range(12)]
    shown = [row.verdict == criteria.SHOWN for rows in draws for row in rows]
    assert np.mean(shown) < 0.05
    plain = [
        np.corrcoef(
            [[n["signed_score"], n["robust"]] for n in nets(0.0, s).values()], rowvar=False
        )[0, 1]
        for s in range(12)
    ]
    assert np.mean(plain) < -0.2  # although it goes with the outcome, by clean accuracy


def test_one_family_alone_shows_nothing():
    some = nets(1.0)
    for one in some.values():
        if one["family"] != "family 0":
            one["robust"] = 2 * one["clean"]
        else:
            one["robust"] += 5 * (one["signed_score"] + 4 * one["clean"])
    row = of(criteria.beyond_accuracy(some), what="signed score and accuracy under PGD")
    assert row.verdict != criteria.SHOWN


def test_networks_without_an_outcome_are_left_out_and_too_few_are_not_judged():
    some = nets(1.0)
    for name in list(some)[:21]:
        some[name]["autoattack"] = None
    rows = criteria.beyond_accuracy(some)
    row = of(rows, what="signed score and accuracy under AutoAttack")
    assert (row.n_networks, row.verdict) == (3, criteria.TOO_FEW)
    assert of(rows, what="signed score and accuracy under PGD").n_networks == N_NETS
    equal = of(rows, what="signed score and accuracy under PGD", among="equal")
    assert equal.n_networks == sum(0.8 <= one["clean"] <= 0.95 for one in some.values())


def test_views_that_agree_in_every_family():
    known = families()
    rng = np.random.default_rng(0)
    views = {
        name: {
            "band-restricted attack": 0.8,
            "Fourier heat map": 0.3 + 0.1 * rng.random(),
            "importance": float(rng.uniform(-1, 1)),
        }
        for name in known
    }
    views["net 3"]["importance"] = None
    rows = criteria.agreeing_views(known, views)
    assert [row.verdict for row in rows] == [criteria.SHOWN, criteria.IN_PART, criteria.NOT_SHOWN]
    assert rows[0].value == pytest.approx(0.8)
    assert rows[2].n_networks == N_NETS - 1


def test_families_count_once():
    known = {f"net {k}": f"family {min(k, 5)}" for k in range(20)}
    views = {
        name: dict.fromkeys(criteria.VIEWS, 1.0 if family == "family 5" else 0.0)
        for name, family in known.items()
    }
    assert criteria.agreeing_views(known, views)[0].value == pytest.approx(1 / 6)


def choices(noise: float) -> dict:
    rng = np.random.default_rng(1)
    out = {}
    for name in nets(0.0):
        upper, score = rng.uniform(0, 0.3), rng.normal()
        keys = ("8", "4", "12", "round", "seed1", "first", "second")
        values = upper + noise * rng.normal(size=len(keys))
        scores = score + 10 * noise * rng.normal(size=len(keys))
        sides = np.where(values - 0.15 > 0, 1.0, -1.0)
        out[name] = {
            "added_upper": dict(zip(keys, values.tolist(), strict=True)),
            "signed_score": dict(zip(keys, scores.tolist(), strict=True)),
            "groups": {
                key: {"noise": [s, s - 0.5, s + 0.5], "blur": [s, -2.0, 2.0]}
                for key, s in zip(keys, sides.tolist(), strict=True)
            },
        }
    return out


def test_choices_that_change_nothing_hold_and_others_do_not():
    known = families()
    same = criteria.other_choices(known, choices(1e-4))
    assert {row.verdict for row in same} == {criteria.HOLDS}
    assert len(same) == 5 + 4 + 5
    other = criteria.other_choices(known, choices(0.2))
    assert criteria.HOLDS not in {row.verdict for row in other}
    shifted = choices(1e-4)
    for one in shifted.values():
        one["added_upper"]["4"] += 0.04  # the same order, four points off
    assert of(criteria.other_choices(known, shifted), what="4 bands: points").verdict == (
        criteria.DOES_NOT_HOLD
    )
    half = of(same, what="4 bands: same half")
    assert half.beside["n_groups"] == N_NETS  # blur is clear for none


def filtered(kind: str) -> dict:
    """Filters that repair what the upper bands cost ("bands") or half of all ("rival")."""
    rng = np.random.default_rng(2)
    out = {}
    for name in nets(0.0):
        clean = 0.1
        rows = {}
        for corruption in CORRUPTIONS:
            added, share = rng.uniform(0, 0.5), rng.uniform(0, 1)
            repaired = added * share if kind == "bands" else added / 2
            error = clean + added
            left = error - repaired
            rows[corruption] = {
                "error": error,
                "without_upper": error - added * share,
                "low_pass_of_perturbation": left + 0.01,
                "low_pass": left + 0.1,
                "median": left + 0.2,
            }
        cost = {"error": clean, "low_pass": clean + 0.1, "median": clean + 0.2}
        out[name] = {"n_images": 100, "clean": cost, "corruptions": rows}
    return out


def test_filters_that_repair_the_upper_bands_are_told_from_those_that_do_not():
    known = families()
    rows = criteria.repairs(known, filtered("bands"))
    assert [row.verdict for row in rows] == [criteria.SHOWN] * 3
    assert rows[0].value == pytest.approx(0.01)
    assert rows[1].value == pytest.approx(1.0)
    assert rows[1].beside["mean_cost_on_clean_images"] == pytest.approx(0.1)
    rows = criteria.repairs(known, filtered("rival"))
    assert [row.verdict for row in rows] == [criteria.NOT_SHOWN] * 3


def test_forecasts_are_shown_where_they_are_nearer():
    rng = np.random.default_rng(3)
    rows = []
    for k in range(N_NETS):
        measured = rng.uniform(0.1, 0.8, 75)
        near = (measured + 0.02 * rng.normal(size=75)).tolist()
        rows.append(
            {"family": FAMILIES[k], "clean": 0.1, "measured": measured.tolist(), "forecast": near}
        )
    found = criteria.forecasts(rows, "all")
    assert found[0].verdict == criteria.SHOWN
    assert found[0].value == pytest.approx(found[2].value - found[1].value)
    for row in rows:
        row["forecast"], row["clean"] = [0.9] * 75, 0.45
    assert criteria.forecasts(rows, "all")[0].verdict == criteria.NOT_SHOWN
    few = criteria.forecasts(rows[:3], "few")
    assert few[0].interval is None
    assert few[0].verdict == criteria.TOO_FEW


# ---- what they are applied to ------------------------------------------------------------------
def test_evidence_is_read_from_the_files(tmp_path):
    images, labels = oracles.sample(6, (16, 16))
    noisy = {(n, 3): (images + 0.1 * k).clamp(0, 1) for k, n in enumerate(CORRUPTIONS)}
    net = oracles.TinyNet()
    for choice, n_bands in (("8", 8), ("4", 4)):
        protocol = Protocol(n_bands, estimator="permutation")
        split = error_decomposition(net, (images, noisy, labels), protocol)
        (tmp_path / "explained").mkdir(exist_ok=True)
        split.save(tmp_path / "explained" / f"tiny--{choice}.npz")
        own = spectral_importance(net, (images, labels), Protocol(n_bands))
        (tmp_path / "profiles").mkdir(exist_ok=True)
        own.save(tmp_path / "profiles" / f"tiny--{choice}.npz")
    found = evidence._choices(tmp_path)["tiny"]
    assert set(found["added_upper"]) == {"8", "4", "first", "second"}
    bands = split.error.over().bands.value  # of four bands
    assert found["added_upper"]["4"] == pytest.approx(bands[2:].sum())
    halves = [found["added_upper"][key] for key in ("first", "second")]
    assert np.mean(halves) == pytest.approx(found["added_upper"]["8"])
    value, low, high = found["groups"]["4"]["noise"]
    noise = split.error.over([n for n in CORRUPTIONS if n.endswith("noise")]).bands.value
    assert value == pytest.approx(noise[2:].sum() - noise[:2].sum())
    assert low <= value <= high
    assert found["signed_score"]["4"] == own.signed_score


def test_outcomes_are_json(tmp_path):
    rows = criteria.beyond_accuracy(nets(1.0))
    write_json(tmp_path / "rows.json", evidence.jsonable([asdict(row) for row in rows]))
    assert len(json.loads((tmp_path / "rows.json").read_text())) == 12
