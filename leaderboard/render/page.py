"""The board as one page that needs no other file, no network and no script to be read."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from iaside_plugins.entry.schema import Entry
from iaside_plugins.errors import MissingExtraError
from iaside_plugins.leaderboard.render import charts
from iaside_plugins.leaderboard.render.scatter import panels
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.columns import Column, columns, shares, top_share
from iaside_plugins.leaderboard.table.facts import conclusions, facts, heading
from iaside_plugins.leaderboard.table.frame import Row, Table, records, tables
from iaside_plugins.leaderboard.table.grids import Grid, grids

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
)  # in the order of their use
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
            (
                charts.sparkline([row[n] for n in names], top),
                " ".join(f"{100 * row[n]:.0f}" for n in names),
            )
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
    }


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


DECIMALS = 6  # as in stats.json


ENDS = ("", "_low", "_high")


def raw_rows(shown: Sequence[Column], rows: Sequence[Row], families: Sequence[str]) -> Row:
    """Columns of the frame behind the shown ones, and each row's family.

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
