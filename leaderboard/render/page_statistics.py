"""What the statistics say, as rows of plain text for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.grids import Grid

Record = Mapping[str, Any]
RIVAL = "clean_accuracy"


@dataclass(frozen=True)
class Heat:
    """One corruption: correlations of the signed score, of its rival, and given the rival.

    `cells` are text and a step from -4 to 4 (None: no number).
    """

    corruption: str
    group: str
    n_models: int
    cells: tuple[tuple[str, int | None], ...]


def correlation_rows(found: Record) -> list[dict[str, Any]]:
    """Every comparison of the signed score: score, rival, given the rival, p, what it shows."""
    return [
        {
            "outcome": one["outcome_label"],
            "n": f"{one['n_models']} in {one['n_families']}",
            "cells": [
                fmt.correlation(one["spearman"]),
                fmt.correlation(one["clean"]["spearman"]),
                fmt.correlation(one["partial_spearman"]),
                fmt.p_value(one["partial_p_holm"]),
                one["verdict"],
            ],
            "sentence": one["sentence"],
        }
        for one in found["comparisons"]
        if one["predictor"] == "signed_score"
    ]


def heat_map(found: Record) -> list[Heat]:
    """Spearman's correlations of the signed score with the error under each corruption."""
    return [
        Heat(
            row["corruption"].replace("_", " "),
            row["group"],
            row["n_models"],
            tuple(
                (fmt.correlation(row[name]), _step(row[name]["value"]))
                for name in ("spearman", "clean", "partial_spearman")
            ),
        )
        for one in found["per_corruption"]
        if one["predictor"] == "signed_score"
        for row in one["corruptions"]
    ]


def rank_grid(found: Record) -> Grid:
    """Ranks with their 95 % intervals over images, of the scores and their first outcome."""
    wanted = [RIVAL, *(one.split("--")[1] for one in [found["primary"]] if one), "signed_score"]
    ranked = [one for one in found["ranks"] if one["column"] in wanted]
    places = [{place["entry_id"]: _rank(place) for place in one["models"]} for one in ranked]
    return Grid(
        "ranks",
        "Ranks",
        "Rank with its 95 % interval over images; 1 is the highest, for errors the lowest.",
        tuple(one["label"] for one in ranked),
        tuple(
            tuple(place.get(model["entry_id"], fmt.NOTHING) for place in places)
            for model in found["models"]
        ),
    )


def _rank(place: Record) -> str:
    low, high = place["low"], place["high"]
    return f"{place['rank']}" + ("" if low is None else f" [{low}, {high}]")


def _step(value: float | None) -> int | None:
    return None if value is None else round(4 * value)
