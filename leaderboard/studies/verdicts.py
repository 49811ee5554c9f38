"""The outcomes of the criteria in words: what a row says, and all rows of a criterion in a line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from iaside_plugins.display.text import markdown_table, number
from iaside_plugins.leaderboard.studies.criteria import (
    AGREEING,
    BESIDE,
    REPAIR_ORDER,
    REPAIR_POINTS,
    SAME_ORDER,
    SAME_ORDER_HALVES,
    VERDICTS,
)

QUESTIONS = {  # what is asked, and what the criterion calls a yes
    "a": (
        "Clean accuracy accounted for, do networks that read lower bands keep more accuracy under "
        "attack and err less under noise?",
        "partial rank correlation with its interval above 0",
    ),
    "b": (
        "Do other views rank the bands of a network as the error decomposition does, in points per "
        "energy of the perturbation?",
        f"rank correlation of at least {AGREEING:+.1f}; in part: its interval above 0",
    ),
    "c": (
        "Do other bands, seeds and images say the same of the networks?",
        f"rank correlation of at least {SAME_ORDER:+.1f}, of halves of the images "
        f"{SAME_ORDER_HALVES:+.1f}",
    ),
    "d": (
        "Do filters repair what the decomposition says they would?",
        f"predicted repair at most {100 * REPAIR_POINTS:.0f} points off, its rank correlation at "
        f"least {REPAIR_ORDER:+.1f}",
    ),
    "e": (
        "Are errors nearer to their forecast from clean images than to the clean error?",
        "nearer, with an interval above 0 points",
    ),
}
NAMED = 3  # rows of one verdict, above which they are counted only
SAID = re.compile(  # of a row, what its question says already
    "contribution per energy and |absolute error of the predicted repair, "
    "|order of corruptions: predicted repair and |mean absolute error: .* of the forecast, "
    r"|, given [^,(]*| ?\([^)]*\)"
)


class Verdicts(NamedTuple):
    """A question, what counts as yes, and its verdicts: how many rows, a few by name."""

    question: str
    asked: str
    outcome: str


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[Verdicts]:
    """Return the verdicts of every criterion.

    Args:
        rows: Of outcomes.json.
    """
    found = []
    for criterion, (question, asked) in QUESTIONS.items():
        judged = [r for r in rows if r["criterion"] == criterion and r["verdict"] != BESIDE]
        each = [(v, [row for row in judged if row["verdict"] == v]) for v in VERDICTS]
        outcome = " ".join(
            f"{verdict.capitalize()} ({len(some)} of {len(judged)}){_named(some)}."
            for verdict, some in each
            if some
        )
        found.append(Verdicts(question, asked, outcome))
    return found


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of one verdict with their values; of many, the range if they are alike."""
    if len(rows) > NAMED:
        alike = {(row["what"].rpartition(", ")[2], row["among"]) for row in rows}
        values = [row["value"] for row in rows]
        if len(alike) > 1 or None in values:
            return ""
        return f": {rows[0]['among']}, {min(values):+.2f} to {max(values):+.2f}"
    said = []
    for row in rows:
        among = "" if row["among"] == "all networks" else f", {row['among']}"
        value = "" if row["value"] is None else f" {value_text(row)}"
        said.append(SAID.sub("", row["what"] + among) + value)
    return ": " + "; ".join(said)


def side(ends: Sequence[float]) -> int:
    """Return on which side of 0 an interval (value, low, high) lies; 0 if it includes 0."""
    return int(ends[1] > 0) - int(ends[2] < 0)


def value_text(row: Mapping[str, Any]) -> str:
    """Return the value of a row of outcomes.json with its interval; of errors, in points."""
    in_points = "absolute error" in row["what"]
    return estimate_text(row["value"], row["interval"], in_points=in_points)


def estimate_text(
    value: float | None, ends: Sequence[float] | None, *, in_points: bool = False
) -> str:
    """Return a number with its interval; of shares, in points."""
    found = [value, *(ends or (None, None))]
    if not in_points:
        return number(*found)
    scaled = [None if one is None else 100 * one for one in found]
    return number(*scaled, spec="+.1f", unit=" points")


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the `verdicts` as a Markdown table."""
    return markdown_table([["question", "a yes is", "outcome"], *map(list, verdicts(rows))])
