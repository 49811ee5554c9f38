"""The plots of the board as Vega-Lite specifications with their data, for those who re-plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.render.scatter import Axis, Panel, panels
from iaside_plugins.leaderboard.table.facts import heading
from iaside_plugins.leaderboard.table.frame import Table, tables

Record = dict[str, Any]


def to_vega(entries: Sequence[Entry], statistics: Mapping[str, Any]) -> str:
    """All panels of all tables below one another, as one Vega-Lite 5 specification."""
    charts = [
        _chart(table, found, panel)
        for table, found in zip(tables(entries), statistics["tables"], strict=True)
        for panel in panels(table, found)
    ]
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": "Spectral score against error and accuracy under attack; lines are 95 % "
        "intervals over images",
        "vconcat": charts,
    }
    return json.dumps(spec, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _chart(table: Table, found: Mapping[str, Any], panel: Panel) -> Record:
    x, y = (_encoding(axis, name) for axis, name in ((panel.x, "x"), (panel.y, "y")))
    lines = [
        {"mark": "rule", "encoding": {"x": x, "x2": {"field": "x_high"}, "y": y}
         | {"x": x | {"field": "x_low"}}},
        {"mark": "rule", "encoding": {"x": x, "y": y | {"field": "y_low"},
                                      "y2": {"field": "y_high"}}},
    ]  # fmt: skip
    group = {"field": "family", "type": "nominal"}
    tooltip = [{"field": name} for name in ("model", "family", "x", "y")]
    points = {
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {"x": x, "y": y, "color": group, "shape": group, "tooltip": tooltip},
    }
    return {
        "title": [panel.title, heading(table)],
        "data": {"values": _values(found, panel)},
        "layer": [*lines, points],
    }


def _encoding(axis: Axis, field: str) -> Record:
    return {
        "field": field, "type": "quantitative", "title": axis.title,
        "scale": {"domain": [axis.low, axis.high], "nice": False, "zero": False},
    }  # fmt: skip


def _values(found: Mapping[str, Any], panel: Panel) -> list[Record]:
    values = []
    for point in panel.points:
        model = found["models"][point.row]
        row: Record = {"model": model["model"], "family": model["family"]}
        for name, span in (("x", point.x), ("y", point.y)):
            for end, value in zip(("", "_low", "_high"), span, strict=True):
                row[name + end] = None if math.isnan(value) else value
        values.append(row)
    return values
