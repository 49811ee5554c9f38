"""The criteria of `docs/studies/criteria.md`, applied to what `studies.evidence` collected.

Each function answers one criterion with rows of the table of outcomes. Intervals are 95 %
percentile intervals of a bootstrap over families, all networks of a family drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.leaderboard.statistics.comparison import left_out
from iaside_plugins.leaderboard.statistics.estimates import (
    MIN_INTERVAL,
    N_RESAMPLES,
    SEED,
    Sample,
    correlation,
    partial_spearman,
)
from iaside_plugins.leaderboard.studies.forecast import RIVAL_LESS_OWN, figures, with_intervals
from iaside_plugins.stats.correlation import partial_correlation, rank_correlation, spearman
from iaside_plugins.stats.intervals import percentile_interval
from iaside_plugins.stats.permutation import family_counts, holm

Array = npt.NDArray[np.float64]
SHOWN, NOT_SHOWN, CONTRADICTED, IN_PART = "shown", "not shown", "contradicted", "in part"
HOLDS, DOES_NOT_HOLD = "holds", "does not hold"
TOO_FEW = "too few"
VERDICTS = (SHOWN, HOLDS, IN_PART, NOT_SHOWN, DOES_NOT_HOLD, CONTRADICTED, TOO_FEW)  # that judge
BESIDE = "beside"  # a number that no rule judges
LEVEL = 0.05  # of p after Holm's correction
EQUAL = (0.80, 0.95)  # clean accuracies that count as equal
AGREEING = 0.5  # least mean rank correlation of two views
SAME_ORDER, SAME_ORDER_HALVES = 0.9, 0.8  # least rank correlation over networks of two choices
SAME_POINTS, SAME_POINTS_HALVES = 0.03, 0.06  # most mean absolute difference, in shares
SAME_HALF = 0.9  # least share of groups of corruptions of which a choice names the same half
REPAIR_POINTS = 0.05  # most mean absolute error of a predicted repair
REPAIR_ORDER = 0.3  # least rank correlation of predicted and measured repair
PREDICTORS = {"signed_score": 1, "upper_nats": -1}  # the sign that goes with a better outcome
OUTCOMES = {"robust": 1, "autoattack": 1, "noise_error": -1}  # the sign of a better one
LABELS = {
    "signed_score": "signed score",
    "upper_nats": "nats in the upper half",
    "added_upper": "points added in the upper half",
    "robust": "accuracy under PGD at 2/255",
    "autoattack": "accuracy under AutoAttack at 2/255",
    "noise_error": "error under noise",
    "low_pass": "a low-pass",
    "median": "a median filter",
}
VIEWS = ("band-restricted attack", "Fourier heat map", "importance")
CHOICES = {
    "4": "4 bands",
    "12": "12 bands",
    "round": "round bands",
    "seed1": "another seed",
    "halves": "the other half of the images",
}
FIGURES = {  # of `studies.forecast`; the first is judged
    RIVAL_LESS_OWN: "mean absolute error: of the clean error less that of the forecast",
    "forecast: mean absolute error": "mean absolute error of the forecast",
    "clean error: mean absolute error": "mean absolute error of the clean error",
    "forecast: rank correlation, nets x cells": "rank correlation over networks and corruptions",
    "forecast: rank correlation within nets": "rank correlation within networks",
    "forecast: rank correlation, double-centred": "rank correlation, double-centred",
}


@dataclass(frozen=True)
class CriterionOutcome:
    """One row of the table of outcomes.

    Attributes:
        criterion: "a" to "e".
        what: What was compared.
        among: Which networks.
        n_networks: Their number, of those that have what is compared.
        n_families: Number of their families.
        value: The statistic; None where it cannot be had.
        interval: Over families; None where they are too few.
        verdict: By the rule of the criterion.
        p: After Holm's correction, where the rule has one.
        beside: Other numbers of the rule, by name.
    """

    criterion: str
    what: str
    among: str
    n_networks: int
    n_families: int
    value: float | None = None
    interval: tuple[float, float] | None = None
    verdict: str = TOO_FEW
    p: float | None = None
    beside: Mapping[str, Any] | None = None


# ---- a. beyond clean accuracy -----------------------------------------------------------------
def beyond_accuracy(nets: Mapping[str, Mapping[str, Any]]) -> list[CriterionOutcome]:
    """Return whether scores say more of outcomes than clean accuracy does.

    Args:
        nets: Network -> family, clean, and the columns of `PREDICTORS` and `OUTCOMES` (or None).
    """
    low, high = EQUAL
    equal = {name: one for name, one in nets.items() if low <= one["clean"] <= high}
    found = []
    for among, some in (("all networks", nets), ("of equal accuracy", equal)):
        for predictor in PREDICTORS:
            rows = [_partial(predictor, outcome, among, some) for outcome in OUTCOMES]
            corrected = holm([row.p for row in rows])
            found += [_judged(replace(row, p=p)) for row, p in zip(rows, corrected, strict=True)]
    return found


def _partial(
    predictor: str, outcome: str, among: str, nets: Mapping[str, Mapping[str, Any]]
) -> CriterionOutcome:
    """Return a partial rank correlation, positive where it is on the expected side."""
    some = [one for one in nets.values() if one[outcome] is not None]
    families = tuple(one["family"] for one in some)
    sign = PREDICTORS[predictor] * OUTCOMES[outcome]
    x, y, z = (np.array([one[key] for one in some], float) for key in (predictor, outcome, "clean"))
    sample = Sample(families)
    what = f"{LABELS[predictor]} and {LABELS[outcome]}, given clean accuracy (+: as expected)"
    row = CriterionOutcome("a", what, among, len(some), len(set(families)))
    found = partial_spearman(sign * x, y, z, sample)
    if found["value"] is None or found["family_interval"] is None:
        return replace(row, value=found["value"], beside={"reason": found["reason"]})
    without = [part["partial_spearman"] for part in left_out(sign * x, y, z, sample)]
    known = [value for value in without if value is not None]
    least = min(known) if len(known) == len(without) else None
    ends = tuple(map(float, found["family_interval"]))
    anew = partial_correlation(spearman, sign * x, y, z, sample.by_family)
    new_ranks = tuple(map(float, percentile_interval(anew)))
    beside = {"least_without_a_family": least, "interval_of_new_ranks": new_ranks}
    return replace(
        row, value=found["value"], interval=(ends[0], ends[1]), p=found["p"], beside=beside
    )


def _judged(row: CriterionOutcome) -> CriterionOutcome:
    if row.interval is None or row.p is None:
        return row
    least = (row.beside or {})["least_without_a_family"]
    if row.interval[1] < 0:
        return replace(row, verdict=CONTRADICTED)
    clear = row.interval[0] > 0 and row.p < LEVEL and least is not None and least > 0
    return replace(row, verdict=SHOWN if clear else NOT_SHOWN)


# ---- b. views of a band -----------------------------------------------------------------------
def agreeing_views(
    families: Mapping[str, str], views: Mapping[str, Mapping[str, Any]]
) -> list[CriterionOutcome]:
    """Return whether other views rank the bands as contributions per energy do.

    Args:
        families: Network -> its family.
        views: Network -> rank correlation over bands with each of `VIEWS`; None where a view does
            not tell bands apart.
    """
    found = []
    for view in VIEWS:
        each = {name: one[view] for name, one in views.items() if one[view] is not None}
        row = _mean_over_families("b", f"contribution per energy and {view}", families, each)
        if row.interval is not None and row.value is not None:
            above = row.interval[0] > 0
            verdict = (SHOWN if row.value >= AGREEING else IN_PART) if above else NOT_SHOWN
            row = replace(row, verdict=verdict)
        found.append(row)
    return found


def _mean_over_families(
    criterion: str,
    what: str,
    families: Mapping[str, str],
    each: Mapping[str, float],
) -> CriterionOutcome:
    """Return the mean of families' means of a number of each network."""
    of: dict[str, list[float]] = {}
    for name, value in each.items():
        of.setdefault(families[name], []).append(value)
    means = np.array([np.mean(values) for values in of.values()])
    row = CriterionOutcome(criterion, what, "all networks", len(each), len(of))
    if not len(means):
        return row
    row = replace(row, value=float(means.mean()))
    if len(means) < MIN_INTERVAL:
        return row
    counts = family_counts(list(of), N_RESAMPLES, SEED)
    low, high = percentile_interval(counts @ means / len(means))
    return replace(row, interval=(float(low), float(high)))


# ---- c. other choices -------------------------------------------------------------------------
def other_choices(
    families: Mapping[str, str], choices: Mapping[str, Mapping[str, Any]]
) -> list[CriterionOutcome]:
    """Return whether other bands, seeds and images say the same of the networks.

    Args:
        families: Network -> its family.
        choices: Network -> "added_upper" and "signed_score" (choice -> number, "8" the default;
            "first" and "second" the halves of its images), and "groups" (choice -> group of
            corruptions -> what its upper half costs more than its lower one, low, high).
    """
    found = []
    for choice in CHOICES:
        keys = ("first", "second") if choice == "halves" else ("8", choice)
        order = SAME_ORDER_HALVES if choice == "halves" else SAME_ORDER
        points = SAME_POINTS_HALVES if choice == "halves" else SAME_POINTS
        row, gap = _same_order("added_upper", choice, keys, families, choices)
        if row.value is not None:
            holds = row.value >= order and gap <= points
            row = replace(row, verdict=HOLDS if holds else DOES_NOT_HOLD)
        found.append(row)
        if choice != "seed1":
            row, _ = _same_order("signed_score", choice, keys, families, choices)
            if row.value is not None:
                row = replace(row, verdict=HOLDS if row.value >= order else DOES_NOT_HOLD)
            found.append(row)
    return found + [_same_half(choice, families, choices) for choice in CHOICES]


def _same_order(
    column: str,
    choice: str,
    keys: tuple[str, str],
    families: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Any]],
) -> tuple[CriterionOutcome, float]:
    """Return the rank correlation over networks of two choices, and their mean distance."""
    some = {
        name: [one[column][key] for key in keys]
        for name, one in choices.items()
        if all(key in one[column] for key in keys)
    }
    own = tuple(families[name] for name in some)
    text = f"{CHOICES[choice]}: {LABELS[column]}, order of the networks"
    row = CriterionOutcome("c", text, "all networks", len(some), len(set(own)))
    if row.n_families < MIN_INTERVAL:
        return row, float("nan")
    x, y = np.array(list(some.values()), float).T
    estimate = correlation("spearman", x, y, Sample(own))
    gap = float(np.abs(x - y).mean())
    ends = estimate["family_interval"]
    interval = None if ends is None else (float(ends[0]), float(ends[1]))
    beside = {"mean_absolute_difference": gap} if column == "added_upper" else None
    return replace(row, value=estimate["value"], interval=interval, beside=beside), gap


def _same_half(
    choice: str, families: Mapping[str, str], choices: Mapping[str, Mapping[str, Any]]
) -> CriterionOutcome:
    """Return the share of clear groups of corruptions of which a choice names the same half.

    Of halves of the images, the second is compared with what is clear on the first.
    """
    before, after = ("first", "second") if choice == "halves" else ("8", choice)
    same: dict[str, list[bool]] = {}
    for name, one in choices.items():
        if before not in one["groups"] or after not in one["groups"]:
            continue
        for group, (value, low, high) in one["groups"][before].items():
            if low * high > 0:
                other = one["groups"][after][group][0]
                same.setdefault(name, []).append(bool(value * other > 0))
    text = f"{CHOICES[choice]}: same half costs more, share of clear groups of corruptions"
    n_families = len({families[name] for name in same})
    row = CriterionOutcome("c", text, "all networks", len(same), n_families)
    if n_families < MIN_INTERVAL:
        return row
    agreed, clear = np.array([[sum(found), len(found)] for found in same.values()], float).T
    counts = family_counts([families[name] for name in same], N_RESAMPLES, SEED)
    low, high = percentile_interval(counts @ agreed / (counts @ clear))
    share = float(agreed.sum() / clear.sum())
    return replace(
        row,
        value=share,
        interval=(float(low), float(high)),
        verdict=HOLDS if share >= SAME_HALF else DOES_NOT_HOLD,
        beside={"n_groups": int(clear.sum())},
    )


# ---- d. repair --------------------------------------------------------------------------------
def repairs(
    families: Mapping[str, str], filters: Mapping[str, Mapping[str, Any]]
) -> list[CriterionOutcome]:
    """Return whether what the upper bands would repair is what filters repair.

    Args:
        families: Network -> its family.
        filters: Network -> what `tests/bench/bench_filters.py` writes.
    """
    each = {name: _repairs_of(one) for name, one in filters.items()}
    orders = [_in_order(name, families, each, filters) for name in ("low_pass", "median")]
    return [_near(families, each), *orders]


def _repairs_of(found: Mapping[str, Any]) -> dict[str, Array]:
    """Return the drops of the error by corruption: predicted, rival and behind each filter."""
    rows = list(found["corruptions"].values())
    error = np.array([row["error"] for row in rows])
    drops = {key: error - np.array([row[key] for row in rows]) for key in rows[0] if key != "error"}
    return {
        "predicted": drops.pop("without_upper"),
        "rival": (error - found["clean"]["error"]) / 2,
        **drops,
    }


def _near(families: Mapping[str, str], each: Mapping[str, Mapping[str, Array]]) -> CriterionOutcome:
    """Judge the mean absolute error of the prediction for a low-pass on the perturbation."""

    def off(key: str) -> dict[str, float]:
        return {
            name: float(np.abs(one[key] - one["low_pass_of_perturbation"]).mean())
            for name, one in each.items()
        }

    own, rival = off("predicted"), off("rival")
    what = "absolute error of the predicted repair, low-pass on the perturbation"
    row = _mean_over_families("d", what, families, own)
    gap = _mean_over_families("d", what, families, {name: rival[name] - own[name] for name in own})
    beside = {"rival_less_own": gap.value, "interval": gap.interval}
    row = replace(row, beside=beside)
    if row.value is None or gap.interval is None:
        return row
    shown = row.value <= REPAIR_POINTS and gap.interval[0] > 0
    return replace(row, verdict=SHOWN if shown else NOT_SHOWN)


def _in_order(
    filter_: str,
    families: Mapping[str, str],
    each: Mapping[str, Mapping[str, Array]],
    filters: Mapping[str, Mapping[str, Any]],
) -> CriterionOutcome:
    """Judge whether the prediction orders corruptions by what a filter on the image repairs."""

    def order(key: str) -> dict[str, float]:
        found = {
            name: float(rank_correlation(one[key], one[filter_])) for name, one in each.items()
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}

    own, rival = order("predicted"), order("rival")
    what = f"order of corruptions: predicted repair and {LABELS[filter_]} on the image"
    row = _mean_over_families("d", what, families, own)
    both = {name: own[name] - rival[name] for name in own if name in rival}
    gap = _mean_over_families("d", what, families, both)
    costs = [one["clean"][filter_] - one["clean"]["error"] for one in filters.values()]
    beside = {
        "own_less_rival": gap.value,
        "interval": gap.interval,
        "undefined": len(each) - len(own),
        "mean_cost_on_clean_images": float(np.mean(costs)) if costs else None,
    }
    row = replace(row, beside=beside)
    if row.value is None or row.interval is None or gap.interval is None:
        return row
    shown = row.value >= REPAIR_ORDER and row.interval[0] > 0 and gap.interval[0] > 0
    return replace(row, verdict=SHOWN if shown else NOT_SHOWN)


# ---- e. forecast ------------------------------------------------------------------------------
def forecasts(
    families: Mapping[str, str], nets: Mapping[str, Mapping[str, Any]], among: str
) -> list[CriterionOutcome]:
    """Return whether forecasts from clean images are nearer to errors than the clean error is.

    Args:
        families: Network -> its family.
        nets: Network -> "clean", its error, and by cell the "measured" errors and the "forecast".
        among: Which networks they are.
    """
    own = [families[name] for name in nets]
    n_families = len(set(own))
    if not nets:
        return [CriterionOutcome("e", FIGURES[RIVAL_LESS_OWN], among, 0, 0)]
    tables = {
        key: np.array([one[key] for one in nets.values()]) for key in ("measured", "forecast")
    }
    tables["clean"] = np.array([[one["clean"]] for one in nets.values()])
    known = with_intervals(tables, own, figures)
    found = []
    for figure, what in FIGURES.items():
        value, *ends = known[figure]
        interval = None if n_families < MIN_INTERVAL else (ends[0], ends[1])
        verdict = BESIDE
        if figure == RIVAL_LESS_OWN:
            verdict = TOO_FEW
            if interval is not None:
                verdict = SHOWN if interval[0] > 0 else NOT_SHOWN
        row = CriterionOutcome("e", what, among, len(nets), n_families, value, interval, verdict)
        found.append(row)
    return found


def outcomes(data: Mapping[str, Any]) -> list[CriterionOutcome]:
    """Return the whole table of outcomes.

    Args:
        data: What `studies.evidence.condense` returns.
    """
    families = data["families"]
    photographs = {name: one["family"] for name, one in data["photographs"].items()}
    return [
        *beyond_accuracy(data["nets"]),
        *agreeing_views(families, data["views"]),
        *other_choices(families, data["choices"]),
        *repairs(families, data["filters"]),
        *forecasts(families, data["forecast"], "CIFAR-10 networks"),
        *forecasts(photographs, data["photos_forecast"], "networks of photographs"),
    ]
