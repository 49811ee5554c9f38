"""One score against one outcome, beside clean accuracy: all numbers, a verdict and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from iaside_plugins.display.text import interval, plural
from iaside_plugins.leaderboard.statistics.estimates import (
    CORRELATIONS,
    MIN_INTERVAL,
    MIN_MODELS,
    Sample,
    added_rank_correlation,
    correlation,
    partial_pearson,
    partial_spearman,
    undefined,
)
from iaside_plugins.stats import permutation as draw
from iaside_plugins.stats.correlation import NEARLY_ONE, Array, partial, spearman
from iaside_plugins.storage.files import jsonable

EXPLORATORY = 30  # models, below which a comparison is exploratory
SIGNIFICANCE = 0.05
SHOWN, NOT_SHOWN, NOT_TESTABLE = "shown", "tested, not shown", "not testable"
TOO_SMALL = "too small"
Comparison = dict[str, Any]
Raw = tuple[Array, Array, Array]  # score, outcome, clean accuracy, each (n,)


def compare(raw: Raw, scaled: Raw, sample: Sample) -> dict[str, Any]:
    """Return all numbers of a comparison, by the names of stats.json.

    Args:
        raw: Score, outcome and clean accuracy as entries state them: for ranks and plain
            correlations.
        scaled: The same on scales on which a straight line is plausible (logit of proportions,
            logarithm of ratios): for what a line in clean accuracy leaves.
        sample: The models.
    """
    score, outcome, clean = raw

    def three(a: Array, b: Array) -> dict[str, Any]:
        return {name: correlation(name, a, b, sample) for name in CORRELATIONS}

    partials = {
        "partial_spearman": partial_spearman(score, outcome, clean, sample),
        "partial_pearson": partial_pearson(*scaled, sample),
    }
    return {
        "n_models": sample.n,
        "n_families": sample.n_families,
        "clean_accuracy_range": [clean.min(), clean.max()],
        **three(score, outcome),
        "clean": three(clean, outcome),
        "score_and_clean": three(score, clean),
        **partials,
        "partial_p": _greatest([part["p"] for part in partials.values()]),
        "added": {
            "spearman": added_rank_correlation(score, outcome, clean, sample),
            "r2": unseen_families(*scaled, sample),
        },
        "left_out": left_out(score, outcome, clean, sample),
    }


def _greatest(values: Sequence[float | None]) -> float | None:
    """Return the greatest p, None if one is None: a claim must survive every test."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def unseen_families(x: Array, y: Array, z: Array, sample: Sample) -> dict[str, Any]:
    """Return leave-one-family-out R2 of y on a line in z, without and with x, and the gain."""
    least = min((sample.n - sample.families.count(f) for f in set(sample.families)), default=0)
    reason = undefined(sample, x, y, z)
    if sample.n_families < MIN_MODELS or least < MIN_INTERVAL:
        reason = (
            f"{sample.n_families} families and at least {least} models to fit, needs {MIN_MODELS} "
            f"and {MIN_INTERVAL}"
        )
    if reason is not None:
        return {"clean": None, "clean_and_score": None, "gain": None, "reason": reason}
    without = draw.leave_one_family_out([z], y, sample.families)
    with_score = draw.leave_one_family_out([z, x], y, sample.families)
    return {
        "clean": without,
        "clean_and_score": with_score,
        "gain": with_score - without,
        "reason": None,
    }


def left_out(x: Array, y: Array, z: Array, sample: Sample) -> list[dict[str, Any]]:
    """Return the rank correlation, plain and given z, without each family in turn.

    Args:
        x: Predictor (n,).
        y: Outcome (n,).
        z: Clean accuracy (n,).
        sample: The models.
    """
    names, member = np.unique(np.array(sample.families, dtype=object), return_inverse=True)
    keep = (member != np.arange(len(names))[:, None]).astype(np.float64)
    plain = spearman(x, y, keep)
    given = partial(plain, spearman(x, z, keep), spearman(y, z, keep))
    out = []
    for family, kept, one, rest in zip(names, keep > 0, plain, given, strict=True):
        n = int(kept.sum())
        few = n < MIN_MODELS or any(np.ptp(v[kept]) == 0 for v in (x, y, z))
        out.append(
            {
                "family": family,
                "n_models": n,
                "spearman": None if few else float(one),
                "partial_spearman": None if few or n == MIN_MODELS else jsonable(rest),
            }
        )
    return out


def residual(y: Sequence[float], z: Sequence[float]) -> list[float] | None:
    """Return the residuals of y on a line in z (effective robustness); None below 3 models.

    Source: Taori et al., Measuring Robustness to Natural Distribution Shifts, NeurIPS 2020.
    """
    if len(y) < MIN_MODELS or np.ptp(z) == 0:
        return None
    return [float(v) for v in draw.residuals(np.array(y), np.array(z))]


def verdict(comparison: Comparison) -> str:
    """Return whether a score says more than clean accuracy does, by rules fixed in advance.

    "shown" if all of these hold, else "tested, not shown"; "not testable" where one has no value:

    - the partial correlations given clean accuracy, of ranks and on the scales of a straight
      line, both differ from 0 by permutation after Holm's correction for the score's comparisons
      in the table (a line leaves some of clean accuracy behind where the truth is bent, ranks
      where it is straight);
    - the intervals of both over families leave 0 out (variants of a model are not independent).
    """
    parts = [comparison["partial_spearman"], comparison["partial_pearson"]]
    if min(comparison["n_models"], comparison["n_families"]) < MIN_INTERVAL:
        return NOT_TESTABLE
    if clean_accuracy_decides(comparison):
        return NOT_TESTABLE
    p = comparison["partial_p_holm"]
    if p is None or any(part["family_interval"] is None for part in parts):
        return NOT_TESTABLE
    clear = all(part["family_interval"][0] * part["family_interval"][1] > 0 for part in parts)
    same = parts[0]["value"] * parts[1]["value"] > 0
    return SHOWN if p < SIGNIFICANCE and clear and same else NOT_SHOWN


def clean_accuracy_decides(comparison: Comparison) -> bool:
    """Return whether clean accuracy orders the models as the outcome does, or the other way."""
    rival = comparison["clean"]["spearman"]["value"]
    return rival is not None and abs(rival) >= NEARLY_ONE


def status(n_models: int, least: int) -> str:
    """Return how much a comparison of so many models can show."""
    if n_models < least:
        return TOO_SMALL
    return "exploratory" if n_models < EXPLORATORY else "sufficient"


def in_words(comparison: Comparison) -> str:
    """State in plain words whether the score says more than clean accuracy does, or why not."""
    n, found = comparison["n_models"], comparison["verdict"]
    score, outcome = comparison["predictor_label"], comparison["outcome_label"]
    models = f"With {_models(comparison)}"
    if found == SHOWN:
        text = f"{models} the {score} says more of {outcome} than clean accuracy does: {SHOWN}."
    else:
        why = found
        if found == NOT_TESTABLE and clean_accuracy_decides(comparison):
            why += ", as clean accuracy alone puts the models in that order"
        elif found == NOT_TESTABLE:
            why += ", as there are too few models or families, or too few different values"
        text = (
            f"{models} we cannot tell whether the {score} says more of {outcome} than clean "
            f"accuracy does: {why}."
        )
    few = comparison["status"] != TOO_SMALL and n < EXPLORATORY
    return text + (f" Exploratory: n below {EXPLORATORY}." if few else "")


def _models(comparison: Comparison) -> str:
    n, families = comparison["n_models"], comparison["n_families"]
    return f"{plural(n, 'model')} in {families} famil{'y' if families == 1 else 'ies'}"


def sentence(comparison: Comparison) -> str:
    """State a comparison's numbers: n, correlation, clean accuracy alone, partial correlation."""
    score = comparison["predictor_label"].capitalize()
    head = f"{score} against {comparison['outcome_label']}, n = {_models(comparison)}"
    plain, rival = comparison["spearman"], comparison["clean"]["spearman"]
    if plain["value"] is None:
        return f"{head}: no correlation ({plain['reason']})."
    given = comparison["partial_spearman"]
    text = (
        f"{head}: Spearman {estimate(plain)}; clean accuracy alone: {estimate(rival)}; "
        f"the score given clean accuracy: {estimate(given)}"
    )
    line = comparison["partial_pearson"]
    if given["value"] is not None and line["value"] is not None:
        text += f", after a straight line in it: {estimate(line)}"
    return f"{text}. Verdict: {comparison['verdict']}."


def estimate(found: dict[str, Any]) -> str:
    """Format a correlation with both intervals, its p and the corrected p; or why there is none."""
    if found["value"] is None:
        return f"none ({found['reason']})"
    parts = []
    for name, of in (("interval", "models"), ("family_interval", "families")):
        if found[name] is not None:
            parts.append(f"95 % CI over {of} {interval(*found[name])}")
    if found["p"] is not None:
        parts.append(f"permutation p = {found['p']:.2g}")
    if found.get("p_holm") is not None:
        n = found["n_corrected"]
        corrected = f"{found['p_holm']:.2g} after Holm's correction for {plural(n, 'outcome')}"
        parts[-1] += f", {corrected}"
    if found["reason"]:
        parts.append(found["reason"])
    return f"{found['value']:+.2f} ({', '.join(parts)})"
