"""The board's first page: tables of models, one data set in view at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from iaside_plugins.entry.schema import Entry
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.board import Board, Section, largest_first
from iaside_plugins.leaderboard.findings import findings
from iaside_plugins.leaderboard.render import drawings
from iaside_plugins.leaderboard.render.html import render
from iaside_plugins.leaderboard.statistics.pairs import paired_columns
from iaside_plugins.leaderboard.statistics.report import DECIMALS, Record
from iaside_plugins.leaderboard.statistics.variables import ENDS
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import GROUPS, Row, Table, is_missing
from iaside_plugins.leaderboard.table.presentation import (
    MARK,
    Column,
    facts,
    heading,
    main_attacks,
    some_corruptions,
)
from iaside_plugins.leaderboard.table.rows import AttackColumn
from iaside_plugins.leaderboard.table.splits import corruption_split
from iaside_plugins.shapley.score import score_range
from iaside_plugins.stats.intervals import Z95

SCRIPTS = (
    "dom.js",
    "state.js",
    "rows.js",
    "profile_chart.js",
    "compare.js",
    "downloads.js",
    "board.js",
)  # in the order of their use
COLOURS, SHAPES = 8, 8  # of families
GROUP_ERRORS = {f"error_{group}": group for group in GROUPS}
SMALL = 1000  # images, below which a table says that they are few


def to_html(board: Board) -> str:
    """Return the page."""
    return render(
        "board.html",
        board,
        here="index.html",
        scripts=SCRIPTS,
        tabs=_tabs(board.sections),
        sections=[_section(board, section) for section in board.sections],
        spark_height=drawings.SPARK_HEIGHT,
        split_scale=drawings.SPLIT_SCALE,
    )


def short_id(table_id: str) -> str:
    """Return a table's name in the page and in links: data set and digest of its keys."""
    parts = table_id.split("--")
    return f"{parts[0]}-{parts[-1]}"


def model_file(entry: Entry) -> str:
    """Return the name of a model's own page, which its data set, name and weights fix."""
    data, name = entry.entry_id.split("--")[:2]
    return f"models/{data}--{name}--{entry.model.weights_sha256[:8]}.html"


def _tabs(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return a tab a data set, with the tables of its images, the largest first."""
    by_data = groupby(sections, key=lambda section: section.table.entries[0].data.name)
    return [
        {"name": fmt.plain(name), "tables": [_choice(section) for section in largest_first(held)]}
        for name, held in by_data
    ]


def _choice(section: Section) -> dict[str, Any]:
    first = section.table.entries[0]
    through = "" if first.benchmark is None else f", RobustBench {first.benchmark.threat_model}"
    return {
        "id": short_id(section.statistics["id"]),
        "n_models": len(section.table.models),
        "label": f"{first.data.n_images} images{some_corruptions(first)}{through}",
    }


def _section(board: Board, section: Section) -> dict[str, Any]:
    """Return what the template shows of one table, as plain text that the template escapes."""
    table, found = section.table, section.statistics
    families = [model["family"] for model in found["models"]]
    shown, rows = section.columns, table.rows
    first = table.entries[0]
    sort = next((attack.column for attack in main_attacks(table)), "clean_accuracy")
    cells = [[_cell(table, column, k) for column in shown] for k in range(len(rows))]
    return {
        "id": short_id(found["id"]),
        "data": fmt.plain(first.data.name),
        "heading": heading(table),
        "facts": facts(table),
        "badges": _badges(table),
        "findings": findings(section),
        "columns": shown,
        "views": [" ".join(column.views) for column in shown],
        "sort": sort,
        "order": _order(table, sort),
        "ranks": _ranks(found, sort),
        "heads": [_head(column) for column in shown],
        "cells": cells,
        "keys": [entry.entry_id.split("--")[1] for entry in table.entries],
        "links": [model_file(entry) for entry in table.entries],
        "sources": [board.settings.links(entry.model.name) for entry in table.entries],
        "doubtful": any(MARK in cell["text"] + cell["interval"] for row in cells for cell in row),
        "threats": _threats(table, shown),
        "trainings": sorted({fmt.plain(entry.model.training) for entry in table.entries}),
        "n_bands": first.protocol.n_bands,
        "raw": raw_rows(table, shown, families),
    }


def _order(table: Table, column: str) -> list[int]:
    """Return the rows by a column, the greatest first, those without a value last."""
    values = table.frame[column].fillna(-1.0).tolist()
    return sorted(range(len(values)), key=lambda k: -values[k])


def _ranks(found: Record, column: str) -> list[str]:
    """Return each row's rank by a column, as a range where intervals overlap: "2-5"."""
    by_id = {
        place["entry_id"]: place
        for one in found["ranks"]
        if one["column"] == column
        for place in one["models"]
    }
    return [_range(by_id.get(model["entry_id"])) for model in found["models"]]


def _range(place: Record | None) -> str:
    if place is None:
        return ""
    low, high = place["low"], place["high"]
    return f"rank {low}" if low == high else f"rank {low}–{high}"


def _head(column: Column) -> tuple[str, str]:
    """Return a header's first line, with its arrow, and what stands below it."""
    arrow = column.header[-2:] if column.header[-1] in "↑↓" else ""
    name, _, rest = column.header.removesuffix(arrow).partition(" (")
    return name + arrow, rest.removesuffix(")")


def _badges(table: Table) -> list[tuple[str, str]]:
    """Return (badge, what it means) of images that limit what the numbers say."""
    first = table.entries[0]
    n = first.data.n_images
    found = []
    if n < SMALL:
        half = 100 * Z95 * (0.25 / n) ** 0.5
        found.append(
            ("few images", f"{n} images: a proportion is known to about {half:.0f} points at worst")
        )
    if any("training set" in (entry.data.note or "") for entry in table.entries):
        found.append(("training images", "accuracies run above those on held-out images"))
    return found


def _threats(table: Table, shown: Sequence[Column]) -> list[tuple[str, str]]:
    """Return choices of what models are held against: label, names of the columns to show.

    An attack at a budget, with its next greater budget; a group of corruptions. The main attack
    comes first: the page opens with it.
    """
    leading = [attack.column for attack in main_attacks(table)]
    found = [(f"{attack.budget} ({attack.words})", alike) for attack, alike in _budgets(table)]
    found.sort(key=lambda choice: choice[1][0] not in leading[:1])
    if found and leading:
        found[0] = (found[0][0], leading)
    groups = [column for column in shown if column.name in GROUP_ERRORS]
    found += [(f"{GROUP_ERRORS[column.name]} corruptions", [column.name]) for column in groups]
    return [(label, " ".join(columns)) for label, columns in found]


def _budgets(table: Table) -> Iterator[tuple[AttackColumn, list[str]]]:
    """Yield every attack column with itself and the next greater budget of the same attacks."""
    for attack in table.attack_columns:
        alike = [
            other.column
            for other in table.attack_columns
            if (other.norm, other.attacks) == (attack.norm, attack.attacks)
            and other.epsilon >= attack.epsilon
        ]
        yield attack, alike[:2]


def _cell(table: Table, column: Column, k: int) -> dict[str, Any]:
    """Return a cell's text, number and interval apart, and its drawing."""
    row, entry = table.rows[k], table.entries[k]
    text = column.cell(row)
    value, _, interval = text.partition(" [") if column.has_interval else (text, "", "")
    found = {"kind": column.kind, "text": value, "interval": interval and f"[{interval}"}
    at, low, high = (row.get(column.name + end, float("nan")) for end in ENDS)
    drawn: Any = None
    if column.kind == "share":
        drawn = drawings.bar(at, low, high)
    elif column.kind == "lean":
        protocol = entry.protocol
        drawn = drawings.lean(at, low, high, score_range(protocol.n_bands, protocol.beta))
    elif column.kind == "split" and (split := corruption_split(entry.decomposition)):
        drawn = drawings.stack(split)
    elif column.kind == "profile":
        evidence = table.evidence[k]
        drawn = drawings.sparkline(evidence, table.span)
        found["text"] = " ".join(f"{value:+.2f}" for value in evidence.nats)
    return found | {"drawn": drawn}


def family_mark(family: str) -> tuple[int, int]:
    """Return the numbers of a family's colour and shape.

    They depend on its name alone: a family looks the same on every board and after every build.
    """
    number = int(hashlib.sha256(family.encode()).hexdigest(), 16)
    return number % COLOURS, number // COLOURS % SHAPES


def raw_rows(table: Table, shown: Sequence[Column], families: Sequence[str]) -> Row:
    """Return the numbers behind the shown columns, and what a comparison of models shows.

    Args:
        table: Of the board.
        shown: Its columns, in order.
        families: Of its models.
    """
    names = [
        name for c in shown for name in ([c.name + e for e in ENDS] if c.has_interval else [c.name])
    ]
    errors = [
        {} if e.corruption is None else _mean_errors(e.corruption.errors) for e in table.entries
    ]
    corruptions = list(dict.fromkeys(name for mean in errors for name in mean))
    return {
        "families": list(families),
        "names": names,
        "rows": [[_json(row.get(name)) for name in names] for row in table.rows],
        "bands": [band_values(evidence) for evidence in table.evidence],
        "pairs": [
            {
                "label": column.label,
                "differences": {
                    f"{i},{j}": [round(v, 4) for v in (one.value, one.low, one.high)]
                    for (i, j), one in column.differences.items()
                },
            }
            for column in paired_columns(table, main_attacks(table))
        ],
        "corruptions": corruptions,
        "errors": [[mean.get(name) for name in corruptions] for mean in errors],
    }


def band_values(evidence: Evidence) -> list[list[float]]:
    """Return the Shapley value of every band with the ends of its interval, rounded, in nats."""
    found = np.column_stack([evidence.nats, evidence.intervals]).tolist()
    return [[round(value, 4) for value in row] for row in found]


def _mean_errors(errors: dict[str, dict[int, float]]) -> dict[str, float]:
    return {name: round(sum(by.values()) / len(by), 4) for name, by in errors.items() if by}


def _json(value: Any) -> Any:
    if is_missing(value):
        return None
    return round(value, DECIMALS) if isinstance(value, float) else value
