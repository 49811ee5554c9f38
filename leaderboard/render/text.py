"""The board as text: Markdown for people, CSV and JSON with raw numbers; same rows, same order."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import (
    TEXTS,
    Row,
    Table,
    concatenated,
    is_missing,
    records,
)
from iaside_plugins.leaderboard.table.presentation import (
    Column,
    conclusions,
    facts,
    heading,
)

INTRODUCTION = """\
Built from `entries/` by `iaside leaderboard build`; do not edit. As a page to sort and filter:
`index.html`. Every number in one row: `results.csv`, with `models.csv`, both described in
`data-dictionary.md`; by column: `leaderboard.csv` and `leaderboard.json`; in timm's form:
`results-imagenet-c.csv`. For papers: `latex/`, all in `leaderboard.tex`. How to add a model:
`CONTRIBUTING.md`.

- One table holds one data set, one protocol and the same images. Numbers of different tables are
  not comparable, nor with published numbers on other images.
- Rows stand by clean accuracy, highest first, then by name. The order ranks nothing else.
- Brackets are 95 % intervals over images (Wilson for proportions, jackknife for scores). They say
  nothing about other training runs of a model. ↑ more is better, ↓ less is better.
- The signed score is above 0 where importance leans to low frequencies, below 0 where it leans to
  high ones. The score is its absolute value (Luo et al., TMLR 2024), which cannot tell the two
  apart. Compare neither across numbers of bands.
- Evidence by band: Shapley values in nats, lowest frequency first, one scale a table; ▽ is below 0,
  · has a 95 % interval that includes 0. All values with intervals are in `models/`.
- Robust accuracy is the worst case: an image counts where it survives every attack named, at that
  budget and at smaller ones. Gradient attacks of fixed steps bound robustness from above.
"""
NO_ENTRIES = "\nThere are no entries yet.\n"


def to_csv(board: Board) -> str:
    """Return all entries, one row each, at full precision, by the keys of the table."""
    frame = concatenated([section.table for section in board.sections])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([fmt.csv_text(name) for name in frame.columns])
    for row in records(frame):
        writer.writerow([_raw(name, value) for name, value in row.items()])
    return file.getvalue()


def _raw(name: Any, value: Any) -> str:
    """Return a cell of the CSV file: safe text, full-precision numbers, empty if missing."""
    if is_missing(value):
        return ""
    return fmt.csv_text(str(value)) if name in TEXTS else repr(value)


def to_json(board: Board) -> str:
    """Return all tables at full precision, with errors by corruption and each attack."""
    parts = [_json_table(section.table) for section in board.sections]
    return json.dumps({"tables": parts}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _json_table(table: Table) -> Row:
    rows = []
    for model, row in zip(table.models, table.rows, strict=True):
        entry = model.entry
        spectral, adversarial = entry.spectral, entry.adversarial
        attacks = [a for e in model.entries if e.adversarial for a in e.adversarial.attacks]
        rows.append(
            {name: None if is_missing(value) else value for name, value in row.items()}
            | {
                "distribution_interval": spectral.distribution_interval,
                "shapley_se": spectral.shapley_se,
                "corruption_errors": None if entry.corruption is None else entry.corruption.errors,
                "error_by_band": entry.decomposition and entry.decomposition.model_dump(),
                "attacks": [a.model_dump(exclude={"accuracy": {"images"}}) for a in attacks]
                or None,
                "masking": None
                if adversarial is None or adversarial.masking is None
                else adversarial.masking.model_dump(),
                "provenance": entry.provenance.model_dump(),
            }
        )
    return {"heading": heading(table), "facts": facts(table), "rows": rows}


def to_markdown(board: Board) -> str:
    """Return the board's README: what its numbers mean, then one section a table."""
    sections = [_section(section) for section in board.sections]
    said = [fmt.markdown(text) for text in (board.settings.title, board.settings.introduction)]
    head = f"# {said[0]}\n\n{said[1]}\n\n"
    return head + INTRODUCTION + ("".join(sections) or NO_ENTRIES)


def _section(section: Section) -> str:
    table, shown = section.table, section.columns
    lines = [
        "",
        f"## {heading(table, fmt.markdown)}",
        "",
        *(f"- {line}" for line in facts(table, fmt.markdown)),
        *(f"- {fmt.markdown(line)}" for line in conclusions(section.statistics)),
        "",
        _line([column.header for column in shown]),
        _line(["---"] * len(shown)),
        *(_line([_cell(column, row) for column in shown]) for row in table.rows),
    ]
    return "\n".join(lines) + "\n"


def _cell(column: Column, row: Row) -> str:
    text = column.cell(row)
    return fmt.markdown(text) if column.kind in ("text", "ratio") else text


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
