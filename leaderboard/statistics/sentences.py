"""One plain sentence a comparison, made from its numbers: flattering or not."""

from __future__ import annotations

from typing import Any

from iaside_plugins.display.text import interval
from iaside_plugins.leaderboard.statistics.estimates import MIN_INTERVAL
from iaside_plugins.stats.correlation import NEARLY_ONE

EXPLORATORY = 30  # models, below which a comparison settles nothing
SIGNIFICANCE = 0.05
ADDS, NOTHING, TOO_SMALL = "adds", "nothing shown", "too small"

Comparison = dict[str, Any]


def verdict(comparison: Comparison) -> str:
    """Whether a score says more than clean accuracy does, by rules fixed in advance.

    "adds" if all of these hold, else "nothing shown"; "too small" where one has no value:

    - the partial correlations given clean accuracy, of ranks and on the scales of a straight
      line, both differ from 0 by permutation after Holm's correction for the comparisons of the
      table (a line leaves some of clean accuracy behind where the truth is bent, ranks where it
      is straight);
    - the intervals of both over families leave 0 out (variants of a model are not independent).
    """
    parts = [comparison["partial_spearman"], comparison["partial_pearson"]]
    if min(comparison["n_models"], comparison["n_families"]) < MIN_INTERVAL:
        return TOO_SMALL
    rival = comparison["clean"]["spearman"]["value"]
    if rival is not None and abs(rival) >= NEARLY_ONE:
        return NOTHING  # clean accuracy orders the models in full
    p = comparison["partial_p_holm"]
    if p is None or any(part["family_interval"] is None for part in parts):
        return TOO_SMALL
    clear = all(part["family_interval"][0] * part["family_interval"][1] > 0 for part in parts)
    same = parts[0]["value"] * parts[1]["value"] > 0
    return ADDS if p < SIGNIFICANCE and clear and same else NOTHING


def status(n_models: int, least: int) -> str:
    """How far a comparison of so many models goes."""
    if n_models < least:
        return TOO_SMALL
    return "exploratory" if n_models < EXPLORATORY else "sufficient"


def sentence(comparison: Comparison) -> str:
    """What the numbers of a comparison say: n, the intervals, the rival and the partial."""
    n, families = comparison["n_models"], comparison["n_families"]
    head = f"{_upper(comparison['predictor_label'])} against {comparison['outcome_label']}, n = {n}"
    head += f" model{'s' * (n != 1)} in {families} famil{'y' if families == 1 else 'ies'}"
    plain, rival = comparison["spearman"], comparison["clean"]["spearman"]
    if plain["value"] is None:
        return f"{head}: no correlation ({plain['reason']})."
    given = comparison["partial_spearman"]
    text = (
        f"{head}: Spearman {estimate(plain)}; clean accuracy alone: {estimate(rival)}; "
        f"the score given clean accuracy: {estimate(given)}."
    )
    return f"{text} {_judgement(comparison)}"


def estimate(found: dict[str, Any]) -> str:
    """A correlation with both intervals and p, or why there is none."""
    if found["value"] is None:
        return f"none ({found['reason']})"
    parts = []
    for name, of in (("interval", "models"), ("family_interval", "families")):
        if found[name] is not None:
            parts.append(f"95 % CI over {of} {interval(*found[name])}")
    if found["p"] is not None:
        parts.append(f"permutation p = {found['p']:.2g}")
    if found["reason"]:
        parts.append(found["reason"])
    return f"{found['value']:+.2f} ({', '.join(parts)})"


def _judgement(comparison: Comparison) -> str:
    p = comparison["partial_p_holm"]
    corrected = (
        ""
        if p is None
        else f" (p = {p:.2g} after Holm's correction for {comparison['n_comparisons']} comparisons)"
    )
    words = {
        ADDS: f"The score says more than clean accuracy does{corrected}.",
        NOTHING: f"Nothing beyond clean accuracy is shown{corrected}.",
        TOO_SMALL: "Too few models or families to tell whether it says more than clean accuracy.",
    }
    few = comparison["status"] == "exploratory"
    return words[comparison["verdict"]] + (f" Exploratory: n below {EXPLORATORY}." if few else "")


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
