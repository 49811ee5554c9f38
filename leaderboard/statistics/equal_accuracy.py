"""Models of nearly equal clean accuracy: does the signed score order what accuracy cannot?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from iaside_plugins.display.text import plural
from iaside_plugins.leaderboard.statistics import estimates
from iaside_plugins.leaderboard.statistics.comparison import estimate
from iaside_plugins.leaderboard.statistics.variables import Variable

WINDOW = 0.03  # of clean accuracy
Record = dict[str, Any]
LEAST = estimates.MIN_INTERVAL  # models, below which nothing is said


def equal_accuracy(
    x: Variable, y: Variable, clean: Variable, families: Mapping[str, str]
) -> Record:
    """Compare a score with an outcome among the models within three points of clean accuracy.

    The window is the one of `WINDOW` that holds most models with the outcome, of several the most
    accurate one. A pair of models agrees if the one of the greater score has the greater outcome;
    pairs of equal scores or outcomes are not counted. The correlation is Kendall's tau with
    resamples of models and a permutation p.

    Args:
        x: Score.
        y: Outcome.
        clean: Clean accuracy.
        families: Of the models, by entry_id.

    Returns:
        Predictor, outcome, ends of the window, entry_ids by outcome from the greatest, numbers of
        pairs and of those that agree, and the correlation; without enough models its reason.
    """
    window = _window({key: clean.measured[key].value for key in y.measured})
    ids = sorted(window, key=lambda key: (-y.measured[key].value, key))
    scores = np.array([x.measured[key].value for key in ids])
    values = np.array([y.measured[key].value for key in ids])
    signs = [
        np.sign(scores[i] - scores[j]) * np.sign(values[i] - values[j])
        for i, j in combinations(range(len(ids)), 2)
    ]
    sample = estimates.Sample(tuple(families[key] for key in ids))
    kendall = estimates.correlation("kendall", scores, values, sample)
    accuracies = [clean.measured[key].value for key in ids]
    return {
        "predictor": x.id,
        "outcome": y.id,
        "outcome_label": y.label,
        "better": y.better,
        "low": min(accuracies, default=None),
        "high": max(accuracies, default=None),
        "models": ids,
        "n_pairs": sum(sign != 0 for sign in signs),
        "n_agree": sum(sign > 0 for sign in signs),
        "kendall": kendall,
        "in_words": _in_words(x, y, len(ids), signs, kendall),
    }


def _window(accuracies: Mapping[str, float]) -> list[str]:
    """Return the models of the window that holds most of them."""
    best: list[str] = []
    for top in sorted(set(accuracies.values()), reverse=True):
        inside = [key for key, value in accuracies.items() if top - WINDOW <= value <= top]
        if len(inside) > len(best):
            best = inside
    return best


def _in_words(x: Variable, y: Variable, n: int, signs: Sequence[Any], kendall: Record) -> str:
    head = f"{plural(n, 'model')} within {100 * WINDOW:.0f} points of clean accuracy"
    if n < LEAST:
        return f"{head}: too few to tell (at least {LEAST})."
    agree, against = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
    return (
        f"{head}: in {agree} of {agree + against} pairs the one of the greater {x.label} has the "
        f"greater {y.label} (Kendall's tau {estimate(kendall)})."
    )
