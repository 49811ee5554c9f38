"""The outcomes of the criteria in words: what a row says, and all rows of a criterion in a line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from iaside_plugins.display.text import markdown_table, number
from iaside_plugins.leaderboard.studies.criteria import BESIDE, VERDICTS

QUESTIONS = {
    "a": "Do networks that read lower bands keep more accuracy under attack and err less under "
    "noise, beyond what clean accuracy says (partial rank correlations; above 0: yes)?",
    "b": "Do other views of a band agree with contributions per energy?",
    "c": "Do other bands, seeds and images say the same of the networks?",
    "d": "Do filters repair what the decomposition says they would?",
    "e": "Is the forecast from clean images nearer to errors than the clean error?",
}
NAMED = 3  # rows of one verdict, above which they are counted only


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the question of every criterion, with its verdicts: how many rows, a few by name.

    Args:
        rows: Of outcomes.json.
    """
    found = {}
    for criterion, question in QUESTIONS.items():
        judged = [r for r in rows if r["criterion"] == criterion and r["verdict"] != BESIDE]
        each = [(v, [row for row in judged if row["verdict"] == v]) for v in VERDICTS]
        found[question] = " ".join(
            f"{verdict.capitalize()} ({len(some)} of {len(judged)}){_named(some)}."
            for verdict, some in each
            if some
        )
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
        what = re.split(r" \(|, given", row["what"])[0]
        among = "" if row["among"] == "all networks" else f", {row['among']}"
        said.append(what + among + ("" if row["value"] is None else f" ({value_text(row)})"))
    return ": " + "; ".join(said)


def side(ends: Sequence[float]) -> int:
    """Return on which side of 0 an interval (value, low, high) lies; 0 if it holds 0."""
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
    return markdown_table([["question", "outcome"], *map(list, verdicts(rows).items())])
