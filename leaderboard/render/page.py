"""The board as one page that needs no other file, no network and no script to be read."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iaside_plugins.errors import MissingExtraError
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.render.grids import (
    correlation_rows,
    grids,
    heat_map,
    rank_grid,
)
from iaside_plugins.leaderboard.render.scatter import Panel, Span, panels
from iaside_plugins.leaderboard.statistics.report import DECIMALS
from iaside_plugins.leaderboard.statistics.variables import ENDS
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import Row, Table
from iaside_plugins.leaderboard.table.presentation import (
    Column,
    conclusions,
    facts,
    heading,
)

try:
    import jinja2
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtraError.of("the board's page needs jinja2", "leaderboard") from error

FOLDER = Path(__file__).resolve().parent / "templates"
SCRIPTS = (
    "dom.js",
    "state.js",
    "rows.js",
    "profile_chart.js",
    "details.js",
    "compare.js",
    "plots.js",
    "downloads.js",
    "board.js",
)  # in the order of their use
WIDTH, HEIGHT = 480, 350  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 26, 58  # margins around its data
AREA = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": RIGHT,
    "top": TOP,
    "bottom": BOTTOM,
}  # for the templates
SPARK_HEIGHT = 20
SPARK_BAR = 8
MARKS = 8  # colours and shapes of families; the last is for all others


def to_html(board: Board) -> str:
    """Return the page; its Content-Security-Policy allows only its own style and script."""
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style, script = _spare(style), f'"use strict";(()=>{{\n{_spare(script)}\n}})();'
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("page.html").render(
        sections=[_section(section) for section in board.sections],
        method=board.statistics["method"],
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        area=AREA,
        fmt=fmt,
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(section: Section) -> dict[str, Any]:
    """Return what the template shows of one table, as plain text that the template escapes."""
    table, found = section.table, section.statistics
    families = [model["family"] for model in found["models"]]
    marks = _marks(families)
    shown, rows = section.columns, table.rows
    return {
        "id": short_id(found["id"]),
        "keys": [entry.entry_id.split("--")[1] for entry in table.entries],
        "heading": heading(table),
        "facts": facts(table),
        "columns": shown,
        "cells": [[column.cell(row) for column in shown] for row in rows],
        "sparklines": [
            (sparkline(one, table.span), " ".join(f"{value:+.2f}" for value in one.nats))
            for one in table.evidence
        ],
        "spark_width": SPARK_BAR * len(table.evidence[0].nats),
        "models": [fmt.plain(entry.model.name) for entry in table.entries],
        "families": families,
        "facets": _facets(table, families),
        "marks": marks,
        "legend": _legend(families, marks),
        "grids": [rank_grid(found), *grids(table)],
        "panels": [(panel, drawing(panel)) for panel in panels(section)],
        "conclusions": conclusions(found),
        "correlations": correlation_rows(found),
        "heat": heat_map(found),
        "found": found,
        "raw": raw_rows(shown, rows, families),
    }


def short_id(table_id: str) -> str:
    """Return a table's name in the page and in links: data set and digest of its keys."""
    parts = table_id.split("--")
    return f"{parts[0]}-{parts[-1]}"


def _spare(text: str) -> str:
    """Return a style or script without indentation, blank lines and comment lines."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _marks(families: Sequence[str]) -> list[int]:
    """Return each model's number of colour and shape, by family, the largest family first."""
    common = sorted(Counter(families).items(), key=lambda item: (-item[1], item[0]))
    number = {family: min(k, MARKS - 1) for k, (family, _) in enumerate(common)}
    return [number[family] for family in families]


def _legend(families: Sequence[str], marks: Sequence[int]) -> list[tuple[int, str]]:
    named: dict[int, list[str]] = {}
    for family, mark in sorted(zip(families, marks, strict=True), key=lambda item: item[::-1]):
        if family not in named.setdefault(mark, []):
            named[mark].append(family)
    return [
        (mark, names[0] if len(names) == 1 else f"{len(names)} other families")
        for mark, names in sorted(named.items())
    ]


def _facets(table: Table, families: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Return what rows can be filtered by, if they differ in it: name, label, values."""
    values = {
        "family": list(families),
        "training": [fmt.plain(entry.model.training) for entry in table.entries],
        "status": [fmt.plain(entry.submission.status) for entry in table.entries],
    }
    return [
        (name, name, sorted(set(found))) for name, found in values.items() if len(set(found)) > 1
    ]


def raw_rows(shown: Sequence[Column], rows: Sequence[Row], families: Sequence[str]) -> Row:
    """Return the columns of the frame behind the shown ones, and each row's family.

    Args:
        shown: Columns of the table, in order.
        rows: Of its frame, in order.
        families: Of the models.
    """
    kinds = sorted(set(families))
    names = [
        name for c in shown for name in ([c.name + e for e in ENDS] if c.has_interval else [c.name])
    ]
    return {
        "families": kinds,
        "family": [kinds.index(family) for family in families],
        "names": names,
        "rows": [[_json(row.get(name)) for name in names] for row in rows],
    }


def _json(value: Any) -> Any:
    if value is None or value != value or str(value) == "<NA>":
        return None
    return round(value, DECIMALS) if isinstance(value, float) else value


@dataclass(frozen=True)
class Mark:
    """One model's mark: row of the table, centre, and the path of its error bars."""

    row: int
    x: int
    y: int
    bars: str


@dataclass(frozen=True)
class Drawing:
    """Positions of a panel's parts, in units of the viewBox."""

    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[int, str], ...]
    y_ticks: tuple[tuple[int, str], ...]
    zero_x: int | None
    zero_y: int | None


def sparkline(evidence: Evidence, span: tuple[float, float]) -> str:
    """Return the path of the zero line and of a bar for each band that is told from 0.

    Args:
        evidence: Of a row; lowest band at the left.
        span: The least and the greatest value of the table, in nats.
    """
    low, high = span

    def y(value: float) -> int:
        return round((SPARK_HEIGHT - 1) * (high - value) / (high - low or 1))

    zero = y(0)
    path = f"M0 {zero}H{SPARK_BAR * len(evidence.nats)}v1H0z"
    for band in evidence.told:
        x = SPARK_BAR * band
        path += f"M{x} {zero}V{y(float(evidence.nats[band]))}h{SPARK_BAR}V{zero}z"
    return path


def drawing(panel: Panel) -> Drawing:
    """Return a panel's coordinates."""

    def x(value: float) -> int:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * panel.x.share(value))

    def y(value: float) -> int:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * panel.y.share(value))

    def bars(across: Span, up: Span) -> str:
        path = ""
        if not math.isnan(across[1] + across[2]):
            path += f"M{x(across[1])} {y(up[0])}H{x(across[2])}"
        if not math.isnan(up[1] + up[2]):
            path += f"M{x(across[0])} {y(up[1])}V{y(up[2])}"
        return path

    return Drawing(
        tuple(Mark(p.row, x(p.x[0]), y(p.y[0]), bars(p.x, p.y)) for p in panel.points),
        tuple((x(value), text) for value, text in panel.x.ticks),
        tuple((y(value), text) for value, text in panel.y.ticks),
        x(0) if panel.x.low < 0 < panel.x.high else None,
        y(0) if panel.zero and panel.y.low < 0 < panel.y.high else None,
    )
