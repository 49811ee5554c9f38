"""The board as one page that needs no other file, no network and no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import MissingExtraError
from iaside_plugins.leaderboard.render import charts
from iaside_plugins.leaderboard.render.page_data import raw_rows
from iaside_plugins.leaderboard.render.page_statistics import correlation_rows, heat_map, rank_grid
from iaside_plugins.leaderboard.render.scatter import panels
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.columns import columns, shares, top_share
from iaside_plugins.leaderboard.table.facts import conclusions, facts, heading
from iaside_plugins.leaderboard.table.frame import Table, records, tables
from iaside_plugins.leaderboard.table.grids import grids

try:
    import jinja2
except ImportError as error:
    raise MissingExtraError(
        "the board's page needs jinja2: pip install 'iaside-plugins[leaderboard]'"
    ) from error

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
)  # fmt: skip  in the order of their use
MARKS = 8  # colours and shapes of families; the last is for all others


def to_html(entries: Sequence[Entry], statistics: Mapping[str, Any]) -> str:
    """The page, with a Content-Security-Policy that allows its own style and script alone."""
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style, script = _spare(style), f'"use strict";(()=>{{\n{_spare(script)}\n}})();'
    parts = zip(tables(entries), statistics["tables"], strict=True)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("page.html").render(
        sections=[_section(*part) for part in parts],
        method=statistics["method"],
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        charts=charts,
        fmt=fmt,
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(table: Table, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of one table; text is plain, the template escapes it."""
    families = [model["family"] for model in found["models"]]
    marks = _marks(families)
    shown, rows = columns(table), records(table.frame)
    names, top = shares(table), top_share(table)
    return {
        "id": short_id(found["id"]),
        "keys": [entry.entry_id.split("--")[1] for entry in table.entries],
        "heading": heading(table),
        "facts": facts(table),
        "columns": shown,
        "cells": [[column.cell(row) for column in shown] for row in rows],
        "sparklines": [
            (charts.sparkline([row[n] for n in names], top),
             " ".join(f"{100 * row[n]:.0f}" for n in names))
            for row in rows
        ],
        "spark_width": charts.SPARK_BAR * len(names),
        "models": [fmt.plain(entry.model.name) for entry in table.entries],
        "families": families,
        "facets": _facets(table, families),
        "marks": marks,
        "legend": _legend(families, marks),
        "grids": [rank_grid(found), *grids(table)],
        "panels": [(panel, charts.drawing(panel)) for panel in panels(table, found)],
        "conclusions": conclusions(found),
        "correlations": correlation_rows(found),
        "heat": heat_map(found),
        "found": found,
        "raw": raw_rows(shown, rows, families),
    }  # fmt: skip


def short_id(table_id: str) -> str:
    """A table's name in the page and in links: data set and digest of what its rows share."""
    parts = table_id.split("--")
    return f"{parts[0]}-{parts[-1]}"


def _spare(text: str) -> str:
    """A style or script without indentation, blank lines and lines that are comments."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _marks(families: Sequence[str]) -> list[int]:
    """Number of the colour and shape of each model, by family, the largest first."""
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
    """What rows can be filtered by, where they differ in it: name, label, values."""
    values = {
        "family": list(families),
        "training": [fmt.plain(entry.model.training) for entry in table.entries],
        "status": [fmt.plain(entry.submission.status) for entry in table.entries],
    }
    return [
        (name, name, sorted(set(found))) for name, found in values.items() if len(set(found)) > 1
    ]
