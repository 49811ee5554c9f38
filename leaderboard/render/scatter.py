"""The scatter plots of the board: points, error bars and axes, and the same as Vega-Lite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from iaside_plugins.leaderboard.board import Board, Section
from iaside_plugins.leaderboard.statistics.comparison import residual
from iaside_plugins.leaderboard.statistics.report import Record
from iaside_plugins.leaderboard.statistics.variables import clean_accuracy
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import CORRUPTION_ERROR, Row, Table
from iaside_plugins.leaderboard.table.presentation import heading, main_attacks
from iaside_plugins.storage.files import jsonable

Specification = dict[str, Any]

PREDICTOR = "signed_score"
SCORE_TITLE = "signed score: high bands (-) to low bands (+)"
NAN = float("nan")
Span = tuple[float, float, float]  # value, low, high; NaN without an interval


@dataclass(frozen=True)
class Point:
    """One model in a panel: its row in the table, and its position."""

    row: int
    x: Span
    y: Span


@dataclass(frozen=True)
class Axis:
    """A number's axis.

    Attributes:
        title: What it shows, with the direction that is good.
        low, high: Ends, in the number's own unit.
        ticks: (position, text).
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Panel:
    """One plot.

    Attributes:
        name: Short and fixed, of the renderer's use.
        title: One line.
        x, y: Axes.
        points: In the order of the table's rows; models without either number are left out.
        zero: Whether the zero lines mean something: no difference from what accuracy predicts.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    zero: bool = False


def _axis(title: str, spans: list[Span], show: Callable[[float], str]) -> Axis:
    """Return an axis that holds all values and intervals, with about five round ticks.

    Args:
        title: Of the axis.
        spans: At least one.
        show: A tick's text.
    """
    from matplotlib.ticker import MaxNLocator

    ends = [end for span in spans for end in span if not math.isnan(end)]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = low - pad, high + pad
    ticks = [float(t) for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    return Axis(title, low, high, tuple((t, show(t)) for t in ticks))


def panels(section: Section) -> list[Panel]:
    """Return a table's plots: score against each outcome of `plotted`, also without accuracy."""
    table, found, rows = section.table, section.statistics, section.table.rows
    outcomes = {outcome["id"]: outcome for outcome in found["outcomes"]}
    found_panels = []
    for name in plotted(section):
        outcome = outcomes[name]
        found_panels += [_raw(rows, outcome), *_without_clean(table, rows, outcome)]
    return found_panels


def plotted(section: Section) -> list[str]:
    """Return the outcomes to plot: error under corruption, and the main attack's accuracy."""
    ids = [outcome["id"] for outcome in section.statistics["outcomes"]]
    errors = [name for name in ("mce", CORRUPTION_ERROR) if name in ids][:1]
    attacks = [attack.column for attack in main_attacks(section.table)[:1]]
    return errors + [name for name in attacks if name in ids]


def _raw(rows: list[Row], outcome: Record) -> Panel:
    name = outcome["id"]
    points = [
        Point(k, _span(row, PREDICTOR), _span(row, name))
        for k, row in enumerate(rows)
        if not math.isnan(row[name])
    ]
    show = fmt.ratio_tick if name == "mce" else fmt.percent_tick
    arrow = "↓" if outcome["better"] == "lower" else "↑"
    return _panel(
        name,
        f"signed score and {_brief(outcome['label'])}",
        points,
        SCORE_TITLE,
        f"{_brief(outcome['label'])} {arrow}",
        (fmt.signed_tick, show),
    )


def _without_clean(table: Table, rows: list[Row], outcome: Record) -> list[Panel]:
    """Plot both residuals of lines in the logit of clean accuracy; none below 3 models."""
    rests = {p["entry_id"]: p["residual"] for p in outcome["points"] if p["residual"] is not None}
    if not rests:
        return []
    clean = clean_accuracy(table).measured
    scores = {row["entry_id"]: row[PREDICTOR] for row in rows}
    x = residual([scores[key] for key in rests], [clean[key].scaled for key in rests])
    if x is None:
        return []
    place = {row["entry_id"]: k for k, row in enumerate(rows)}
    points = [
        Point(place[key], (score, NAN, NAN), (rests[key], NAN, NAN))
        for key, score in zip(rests, x, strict=True)
    ]
    label = _brief(outcome["label"])
    return [
        _panel(
            f"{outcome['id']}--without-clean",
            f"{label}, clean accuracy removed",
            sorted(points, key=lambda point: point.row),
            "signed score, clean accuracy removed",
            f"{outcome['scale']}, clean accuracy removed",
            (fmt.signed_tick, fmt.signed_tick),
            zero=True,
        )
    ]


def _brief(label: str) -> str:
    """Return an outcome's label without the text in its last brackets."""
    return label.split(" (")[0]


def _panel(
    name: str,
    title: str,
    points: list[Point],
    x: str,
    y: str,
    show: tuple[Callable[[float], str], Callable[[float], str]],
    *,
    zero: bool = False,
) -> Panel:
    return Panel(
        name,
        title,
        _axis(x, [p.x for p in points], show[0]),
        _axis(y, [p.y for p in points], show[1]),
        tuple(points),
        zero,
    )


def _span(row: Row, name: str) -> Span:
    return row[name], row.get(f"{name}_low", NAN), row.get(f"{name}_high", NAN)


def to_vega(board: Board) -> str:
    """Return all panels of all tables below one another, as one Vega-Lite 5 specification."""
    charts = [_chart(section, panel) for section in board.sections for panel in panels(section)]
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": "Spectral score against error and accuracy under attack; lines are 95 % "
        "intervals over images",
        "vconcat": charts,
    }
    return json.dumps(spec, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _chart(section: Section, panel: Panel) -> Specification:
    x, y = (_encoding(axis, name) for axis, name in ((panel.x, "x"), (panel.y, "y")))
    across = {"x": x | {"field": "x_low"}, "x2": {"field": "x_high"}, "y": y}
    up = {"x": x, "y": y | {"field": "y_low"}, "y2": {"field": "y_high"}}
    lines = [{"mark": "rule", "encoding": ends} for ends in (across, up)]
    group = {"field": "family", "type": "nominal"}
    tooltip = [{"field": name} for name in ("model", "family", "x", "y")]
    points = {
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {"x": x, "y": y, "color": group, "shape": group, "tooltip": tooltip},
    }
    return {
        "title": [panel.title, heading(section.table)],
        "data": {"values": _values(section.statistics, panel)},
        "layer": [*lines, points],
    }


def _encoding(axis: Axis, field: str) -> Specification:
    return {
        "field": field,
        "type": "quantitative",
        "title": axis.title,
        "scale": {"domain": [axis.low, axis.high], "nice": False, "zero": False},
    }


def _values(found: Record, panel: Panel) -> list[Specification]:
    values = []
    for point in panel.points:
        model = found["models"][point.row]
        row: Specification = {"model": model["model"], "family": model["family"]}
        for name, span in (("x", point.x), ("y", point.y)):
            for end, value in zip(("", "_low", "_high"), span, strict=True):
                row[name + end] = jsonable(value)
        values.append(row)
    return values
