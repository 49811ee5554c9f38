"""The page that asks whether a score says more than clean accuracy does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iaside_plugins.leaderboard.board import Board, Section, largest_first
from iaside_plugins.leaderboard.render.html import render
from iaside_plugins.leaderboard.render.page import family_mark, model_file, short_id
from iaside_plugins.leaderboard.render.scatter import panels, plotted
from iaside_plugins.leaderboard.render.scatter_drawing import AREA, drawing
from iaside_plugins.leaderboard.statistics.report import Record
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.presentation import conclusions, heading

WIDTH = 200  # of the axis from -1 to +1


def to_html(board: Board) -> str:
    """Return the page, the largest tables first."""
    return render(
        "evidence.html",
        board,
        here="evidence.html",
        sections=[_section(section) for section in largest_first(board.sections)],
        method=board.statistics["method"],
        area=AREA,
    )


def _section(section: Section) -> dict[str, Any]:
    table, found = section.table, section.statistics
    families = [model["family"] for model in found["models"]]
    return {
        "id": short_id(found["id"]),
        "heading": heading(table),
        "found": found,
        "conclusions": conclusions(found),
        "rivals": _rivals(found),
        "equal": [
            _equal(section, one)
            for one in found["equal_accuracy"]
            if one["outcome"] in plotted(section)
        ],
        "marks": [family_mark(family) for family in families],
        "legend": [(family_mark(family), family) for family in sorted(set(families))],
        "links": [model_file(entry) for entry in table.entries],
        "models": [fmt.plain(entry.model.name) for entry in table.entries],
        "panels": [(panel, drawing(panel)) for panel in panels(section)],
        "correlations": _correlations(found),
        "heat": _heat_map(found),
    }


def _rivals(found: Record) -> list[dict[str, Any]]:
    """Return, for every outcome, the correlations of the score and of its rival on one axis."""
    return [
        {
            "outcome": one["outcome_label"],
            "verdict": one["verdict"],
            "lines": [
                _line(estimate)
                for estimate in (one["spearman"], one["clean"]["spearman"], one["partial_spearman"])
            ],
        }
        for one in found["comparisons"]
        if one["predictor"] == "signed_score"
    ]


def _line(estimate: Record) -> tuple[int | None, str, str]:
    """Return a correlation's position, the path of its interval, and its text."""
    value, ends = estimate["value"], estimate.get("interval")
    if value is None:
        return None, "", estimate["reason"] or fmt.NOTHING
    path = "" if ends is None else f"M{_x(ends[0])} 8H{_x(ends[1])}"
    return _x(value), path, fmt.correlation(estimate)


def _x(value: float) -> int:
    return round(WIDTH * (value + 1) / 2)


def _equal(section: Section, found: Record) -> dict[str, Any]:
    """Return the models of equal accuracy, by their outcome."""
    table = section.table
    by_id = {
        entry.entry_id: (entry, row) for entry, row in zip(table.entries, table.rows, strict=True)
    }
    shown = {column.name: column for column in section.columns}
    names = [n for n in ("clean_accuracy", found["outcome"], "signed_score") if n in shown]
    return {
        "label": found["outcome_label"],
        "in_words": found["in_words"],
        "headers": [shown[name].header for name in names],
        "rows": [
            (
                fmt.plain(entry.model.name),
                model_file(entry),
                [shown[name].cell(row) for name in names],
            )
            for entry, row in (by_id[key] for key in found["models"])
        ],
    }


def _correlations(found: Record) -> list[dict[str, Any]]:
    """Return a row for every comparison of the signed score with an outcome."""
    return [
        {
            "outcome": one["outcome_label"],
            "n": f"{one['n_models']} in {one['n_families']}",
            "cells": [
                fmt.correlation(one["spearman"]),
                fmt.correlation(one["clean"]["spearman"]),
                fmt.correlation(one["partial_spearman"]),
                fmt.p_value(one["partial_spearman"]["p"]),
                fmt.p_value(one["partial_spearman"]["p_holm"]),
                one["verdict"],
            ],
            "sentence": one["sentence"],
        }
        for one in found["comparisons"]
        if one["predictor"] == "signed_score"
    ]


@dataclass(frozen=True)
class Heat:
    """One corruption: correlations of the signed score, of its rival, and given the rival.

    `cells` are text and a step from -4 to 4 (None: no number).
    """

    corruption: str
    group: str
    n_models: int
    cells: tuple[tuple[str, int | None], ...]


def _heat_map(found: Record) -> list[Heat]:
    """Return Spearman's correlations of the signed score with the error by corruption."""
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


def _step(value: float | None) -> int | None:
    return None if value is None else round(4 * value)
