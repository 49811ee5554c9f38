"""The criteria on simulated networks: what is there is shown, what is not is not."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import oracles
import pytest

from iaside_plugins import InputError, Protocol, error_decomposition, spectral_importance
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.leaderboard.studies import criteria, evidence, verdicts
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


def of(rows: list, **wanted: str) -> criteria.CriterionOutcome:
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


def test_a_repair_must_be_near_and_in_order():
    known, rows = families(), filtered("bands")
    for one in rows.values():
        for cell in one["corruptions"].values():
            cell["low_pass_of_perturbation"] += 0.05  # six points off, the rival still more
    near = criteria.repairs(known, rows)[0]
    assert near.value == pytest.approx(0.06)
    assert near.verdict == criteria.NOT_SHOWN
    rng = np.random.default_rng(5)
    for one in rows.values():
        for cell in one["corruptions"].values():
            cell["low_pass"] = cell["error"] - 0.2 * (cell["error"] - cell["without_upper"])
            cell["low_pass"] -= 0.12 * rng.normal()
    order = criteria.repairs(known, rows)[1]
    assert 0 < order.interval[0] < order.value < criteria.REPAIR_ORDER
    assert order.verdict == criteria.NOT_SHOWN


def test_halves_of_the_images_may_differ_by_more():
    known, some = families(), choices(1e-4)
    for one in some.values():
        for column, step in (("added_upper", 0.05), ("signed_score", 0.0)):
            one[column]["second"] += step
            one[column]["seed1"] = one[column]["8"] + step
    found = criteria.other_choices(known, some)
    assert of(found, what="other half of the images: points").verdict == criteria.HOLDS
    assert of(found, what="another seed: points").verdict == criteria.DOES_NOT_HOLD
    for one in some.values():
        one["groups"]["4"] = {k: [-v, lo, hi] for k, (v, lo, hi) in one["groups"]["8"].items()}
    assert of(criteria.other_choices(known, some), what="4 bands: same half").value == 0


def forecast_nets(error: float, n_nets: int = N_NETS) -> dict:
    """Networks whose forecasts are off by so much; the clean error is off by 0.2 to 0.4."""
    rng = np.random.default_rng(3)
    out = {}
    for k in range(n_nets):
        clean = rng.uniform(0.05, 0.3)
        measured = clean + rng.uniform(0.2, 0.4, size=6)
        own = measured + error * rng.choice([-1, 1], size=6)
        out[f"net {k}"] = {
            "clean": clean,
            "measured": measured.tolist(),
            "forecast": own.tolist(),
        }
    return out


def test_forecasts_are_shown_where_they_are_nearer():
    rows = criteria.forecasts(families(), forecast_nets(0.1), "all")
    assert [row.verdict for row in rows] == [criteria.SHOWN] + [criteria.BESIDE] * 5
    some = forecast_nets(0.1)
    rival = np.mean([abs(x - one["clean"]) for one in some.values() for x in one["measured"]])
    assert rows[0].value == pytest.approx(rival - 0.1)
    assert rows[0].interval[0] < rows[0].value < rows[0].interval[1]
    far = criteria.forecasts(families(), forecast_nets(0.5), "all")[0]
    assert (far.verdict, far.value < 0) == (criteria.NOT_SHOWN, True)
    few = criteria.forecasts(families(), forecast_nets(0.1, 4), "few")[0]
    assert (few.interval, few.verdict) == (None, criteria.TOO_FEW)
    assert criteria.forecasts({}, {}, "none")[0].verdict == criteria.TOO_FEW


def test_one_network_has_errors_and_no_correlation_over_networks():
    rows = criteria.forecasts(families(), forecast_nets(0.1, 1), "one")
    values = {row.what: row.value for row in rows}
    assert values[criteria.FIGURES["forecast: mean absolute error"]] == pytest.approx(0.1)
    assert np.isnan(values[criteria.FIGURES["forecast: rank correlation, double-centred"]])


@pytest.mark.parametrize(
    ("interval", "p", "least", "verdict"),
    [
        ((0.1, 0.9), 0.04, 0.1, criteria.SHOWN),
        ((-0.1, 0.9), 0.04, 0.1, criteria.NOT_SHOWN),
        ((0.1, 0.9), 0.06, 0.1, criteria.NOT_SHOWN),
        ((0.1, 0.9), 0.04, -0.1, criteria.NOT_SHOWN),
        ((0.1, 0.9), 0.04, None, criteria.NOT_SHOWN),
        ((-0.9, -0.1), 0.9, 0.1, criteria.CONTRADICTED),
    ],
)
def test_each_part_of_the_first_rule_decides(interval, p, least, verdict):
    beside = {"least_without_a_family": least}
    row = criteria.CriterionOutcome("a", "", "", 24, 15, 0.5, interval, criteria.TOO_FEW, p, beside)
    assert criteria._judged(row).verdict == verdict


def test_p_is_corrected_for_the_outcomes_of_a_predictor():
    rows = criteria.beyond_accuracy(nets(0.35, seed=1))
    some = [row.p for row in rows[:3]]
    bare = [
        criteria._partial("signed_score", o, "", nets(0.35, seed=1)).p for o in criteria.OUTCOMES
    ]
    assert min(some) == pytest.approx(min(3 * min(bare), 1.0))


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
    whole = ErrorDecomposition.load(tmp_path / "explained" / "tiny--8.npz")
    bands = whole.error.bands[:, :, 4:].sum(axis=2).mean(axis=0)  # of each image
    assert found["added_upper"]["first"] == pytest.approx(bands[:3].mean())
    assert found["added_upper"]["second"] == pytest.approx(bands[3:].mean())
    value, low, high = found["groups"]["4"]["noise"]
    noise = split.error.over([n for n in CORRUPTIONS if n.endswith("noise")]).bands.value
    assert value == pytest.approx(noise[2:].sum() - noise[:2].sum())
    assert low <= value <= high
    assert found["signed_score"]["4"] == own.signed_score
    part = spectral_importance(net, (images[:3], labels[:3]), Protocol(8))
    assert found["signed_score"]["first"] == pytest.approx(part.signed_score)
    other = oracles.sample(6, (16, 16), seed=9)
    spectral_importance(net, other, Protocol(4)).save(tmp_path / "profiles" / "tiny--12.npz")
    with pytest.raises(InputError, match="expected the images of tiny--8"):
        evidence._choices(tmp_path)


def test_evidence_is_condensed_and_judged_from_entries(make_entry, tmp_path):
    names = [f"c10_net{k}" for k in range(6)]
    raw = {name: make_entry(name, seed=k) for k, name in enumerate(names)}
    for name, one in raw.items():
        one["adversarial"]["worst_case"][0]["epsilon"] = evidence.BUDGET
        for attack in one["adversarial"]["attacks"][:2]:
            attack["epsilon"] = evidence.BUDGET
        write_json(tmp_path / "cifar10" / f"{name}.json", one)
    agreement = [[1.0, 0.5, None, 0.25]] * 4
    view_names = [
        "contribution per energy",
        "attack inside the band",
        "importance",
        "Fourier heat map",
    ]
    views = {
        "n_images": 100,
        "views": [{"name": name, "value": [0.0] * 8} for name in view_names],
        "agreement": agreement,
    }
    write_json(tmp_path / "views" / f"{names[0]}.json", {"views": views})
    lines = [
        f"{tmp_path}/views/a.json 3",
        f"{tmp_path}/views/a.json 4",
        f"{tmp_path}/forecast.json 9",
    ]
    (tmp_path / "seconds.txt").write_text("\n".join(lines))
    known = dict.fromkeys([*names, "c10_other"], "one")
    found = evidence.condense(tmp_path, known)
    assert found["seconds"] == {"views/a": 7, "forecast": 9}
    net, entry = found["nets"]["c10_net1"], raw["c10_net1"]
    psi = entry["spectral"]["shapley_values"]
    assert net["upper_nats"] == pytest.approx(sum(psi[2:]), rel=1e-5)
    assert net["robust"] == entry["adversarial"]["worst_case"][0]["accuracy"]["value"]
    assert net["autoattack"] is None
    assert found["views"][names[0]]["band-restricted attack"] == 0.5
    assert found["views"][names[0]]["importance"] is None
    assert found["missing"]["entries"] == ["c10_other"]
    assert found["missing"]["views"] == sorted([*names[1:], "c10_other"])
    rows = criteria.outcomes(found)
    assert {row.criterion for row in rows} == set("abcde")
    assert "Too few (12 of 12)." in verdicts.summary([asdict(row) for row in rows])
    with pytest.raises(InputError, match=r"families\.json: expected a family of c10_net0"):
        evidence.condense(tmp_path, {})


def test_evidence_of_other_folders_stays(make_entry, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    families = {"c10_a": "one", "c10_b": "two"}
    attacked = make_entry("c10_a")
    for one in (attacked["adversarial"][key] for key in ("attacks", "worst_case")):
        one[0]["epsilon"] = evidence.BUDGET
    write_json(first / "autoattack" / "c10_a.json", attacked)
    for folder, name in ((first, "c10_a"), (second, "c10_b")):
        write_json(folder / "cifar10" / f"{name}.json", make_entry(name))
        (folder / "seconds.txt").write_text(f"{folder}/cifar10/{name}.json 3\n")
    known = evidence.condense(first, families)
    assert known["missing"]["entries"] == ["c10_b"]
    both = evidence.condense(second, families, known)
    assert both["nets"]["c10_a"] == known["nets"]["c10_a"]
    assert both["nets"]["c10_a"]["autoattack"] is not None
    assert both["seconds"] == {"cifar10/c10_a": 3, "cifar10/c10_b": 3}
    assert "entries" not in both["missing"]
    assert evidence.condense(second, families, both) == both


def forecast_report(name: str, n_images: int = 20) -> dict:
    own = {"name": name, "n_images": n_images, "n_bands": 8, "conditions": [["fog", 1]]}
    return {"nets": [own | {"clean": 0.1, "measured": [0.3], "forecast": [0.2]}]}


def test_a_forecast_of_one_network_leaves_those_of_others(tmp_path):
    families = {"c10_a": "one", "c10_b": "two"}
    known = None
    for name in families:
        write_json(tmp_path / name / "forecast-cifar10.json", forecast_report(name))
        known = evidence.condense(tmp_path / name, families, known)
    assert list(known["forecast"]) == ["c10_a", "c10_b"]
    assert "forecast" not in known["missing"]
    write_json(tmp_path / "c10_a" / "forecast-cifar10.json", forecast_report("c10_a", 30))
    with pytest.raises(InputError, match="same images by one protocol, got c10_a: 30 images"):
        evidence.condense(tmp_path / "c10_a", families, known)


def test_photographs_that_are_missing_are_named(tmp_path):
    write_json(tmp_path / "forecast-photos.json", forecast_report("a"))
    some = {name: {"family": name, "pixels": 224} for name in "ab"}
    some["c"] = {"family": "c", "pixels": 192}
    found = evidence.condense(tmp_path, {}, None, some)
    assert found["missing"]["photographs"] == ["a", "b", "c"]
    assert found["missing"]["forecast on photographs"] == ["b"]


def test_entries_of_other_images_or_of_one_network_twice_are_refused(make_entry, tmp_path):
    families = dict.fromkeys(["c10_a", "c10_b"], "one")
    known = None
    for folder, name in (("first", "c10_a"), ("second", "c10_b")):
        raw = make_entry(name)
        if folder == "second":
            raw["data"]["image_ids_sha256"] = "0" * 64
        write_json(tmp_path / folder / "cifar10" / f"{name}.json", raw)
    known = evidence.condense(tmp_path / "first", families)
    with pytest.raises(InputError, match="nets: expected all networks on the same images"):
        evidence.condense(tmp_path / "second", families, known)
    write_json(tmp_path / "first" / "cifar10" / "again.json", make_entry("c10_a"))
    with pytest.raises(InputError, match="expected one entry of c10_a, there are two"):
        evidence.condense(tmp_path / "first", families)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected what leaderboard/entries\.mk wrote"):
        evidence.condense(tmp_path, {})


def test_halves_of_the_score_are_those_of_the_default_decomposition_alone(tmp_path):
    images, labels = oracles.sample(6, (16, 16))
    own = spectral_importance(oracles.TinyNet(), (images, labels), Protocol(8))
    (tmp_path / "profiles").mkdir()
    own.save(tmp_path / "profiles" / "tiny--8.npz")
    assert list(evidence._choices(tmp_path)["tiny"]["signed_score"]) == ["8"]


def test_choices_of_few_families_are_not_judged():
    few = {name: f"family {k % 4}" for k, name in enumerate(families())}
    rows = criteria.other_choices(few, choices(1e-4))
    assert {row.verdict for row in rows} == {criteria.TOO_FEW}


def test_outcomes_are_json(tmp_path):
    rows = criteria.beyond_accuracy(nets(1.0))
    write_json(tmp_path / "rows.json", evidence.jsonable([asdict(row) for row in rows]))
    again = json.loads((tmp_path / "rows.json").read_text())
    assert again[0]["interval"] == list(rows[0].interval)


def test_a_few_rows_of_one_verdict_are_named_with_their_values():
    def row(what, value, verdict, among="all networks"):
        ends = None if value is None else [value - 0.01, value + 0.01]
        found = {"criterion": "d", "what": what, "value": value, "interval": ends}
        return found | {"verdict": verdict, "among": among}

    rows = [
        row("absolute error of it", 0.02, criteria.SHOWN),
        row("b", None, criteria.TOO_FEW, "some"),
    ]
    rows += [row(f"order {k}, given x (+: as expected)", 0.2, criteria.NOT_SHOWN) for k in range(2)]

    def said(rows):
        question, asked = verdicts.QUESTIONS["d"]
        (found,) = (one for one in verdicts.verdicts(rows) if one.question == question)
        assert found.asked == asked
        return found.outcome

    assert said(rows) == (
        "Shown (1 of 4): absolute error of it +2.0 points [+1.0, +3.0]. Not shown (2 of 4): "
        "order 0 +0.20 [+0.19, +0.21]; order 1 +0.20 [+0.19, +0.21]. Too few (1 of 4): b, some."
    )
    many = [row(f"order {k}, given x (+: as expected)", k / 10, criteria.SHOWN) for k in range(4)]
    assert said(many) == "Shown (4 of 4): all networks, +0.00 to +0.30."
    unlike = [*many[1:], row("absolute error of it", 0.02, criteria.SHOWN)]
    assert said(unlike) == "Shown (4 of 4)."
    prefixed = row("order of corruptions: predicted repair and a filter", 0.2, criteria.SHOWN)
    assert said([prefixed]) == "Shown (1 of 1): a filter +0.20 [+0.19, +0.21]."
