"""A scatter plot's parts in units of its viewBox."""

from __future__ import annotations

import math
from dataclasses import dataclass

from iaside_plugins.leaderboard.render.scatter import Panel, Span

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
