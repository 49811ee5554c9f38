"""Numbers to coordinates of the page's drawings; the templates hold the marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iaside_plugins.leaderboard.render.scatter import Panel, Span

WIDTH, HEIGHT = 480, 350  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 26, 58  # margins around the data
SPARK_HEIGHT = 20
SPARK_BAR = 8


@dataclass(frozen=True)
class Mark:
    """One model's mark: row of the table, centre, and the path of its error bars."""

    row: int
    x: int
    y: int
    bars: str


@dataclass(frozen=True)
class Drawing:
    """Where everything of a panel stands, in units of the viewBox."""

    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[int, str], ...]
    y_ticks: tuple[tuple[int, str], ...]
    zero_x: int | None
    zero_y: int | None


def sparkline(shares: Sequence[float], top: float) -> str:
    """Path of one bar a band, lowest at the left, on the scale 0 to `top`."""
    steps = [round(SPARK_HEIGHT * (1 - share / top)) for share in shares]
    return f"M0 {SPARK_HEIGHT}" + "".join(f"V{y}h{SPARK_BAR}" for y in steps) + f"V{SPARK_HEIGHT}z"


def drawing(panel: Panel) -> Drawing:
    """A panel's coordinates."""

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
