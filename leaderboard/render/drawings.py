"""Small drawings of a row: paths in whole units of a viewBox, which the templates place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.table.splits import MeanSplit

WIDTH, HEIGHT = 100, 14  # of a bar or an axis
SPARK_HEIGHT = 20
SPARK_BAR = 8
SPLIT_SCALE = 120  # units of an error of 100 %
TINTS = 8  # colours from the lowest to the highest band


@dataclass(frozen=True)
class Bar:
    """A share from 0 to 1 as a bar with its interval: paths."""

    bar: str
    interval: str


@dataclass(frozen=True)
class Lean:
    """A signed score on an axis that all models of a protocol share.

    Attributes:
        zero, at: Positions on the axis.
        interval: Path.
    """

    zero: int
    at: int
    interval: str


@dataclass(frozen=True)
class Stack:
    """An error decomposition as one bar.

    Attributes:
        clean: Path of the clean error.
        bands: (number of a colour, path) of every band that adds error.
        error: Position of the error itself, left of the bar's end where bands take error away.
    """

    clean: str
    bands: tuple[tuple[int, str], ...]
    error: int


def bar(value: float, low: float, high: float) -> Bar | None:
    """Return a share's bar; None without a value."""
    if math.isnan(value):
        return None
    ends = "" if math.isnan(low + high) else _across(low, high)
    return Bar(f"M0 3h{round(WIDTH * value)}v8H0z", ends)


def lean(value: float, low: float, high: float, span: tuple[float, float]) -> Lean:
    """Return a signed score's point.

    Args:
        value: The score.
        low: Of its interval.
        high: Of its interval.
        span: The least and the greatest score that a protocol allows.
    """
    start, end = span

    def share(score: float) -> float:
        return (score - start) / (end - start)

    ends = "" if math.isnan(low + high) else _across(share(low), share(high))
    return Lean(round(WIDTH * share(0)), round(WIDTH * share(value)), ends)


def _across(low: float, high: float) -> str:
    return f"M{round(WIDTH * low)} {HEIGHT // 2}H{round(WIDTH * high)}"


def stack(mean: MeanSplit) -> Stack:
    """Return a decomposition's bar: the clean error, then what every band adds, lowest first."""
    at = mean.clean
    parts = []
    for k, value in enumerate(mean.bands):
        if value > 0:
            if round(SPLIT_SCALE * at) < round(SPLIT_SCALE * (at + value)):
                parts.append((TINTS * k // len(mean.bands), _block(at, at + value)))
            at += value
    return Stack(_block(0, mean.clean), tuple(parts), round(SPLIT_SCALE * mean.error))


def _block(start: float, end: float) -> str:
    left, right = round(SPLIT_SCALE * start), round(SPLIT_SCALE * end)
    return f"M{left} 2h{right - left}v10H{left}z"


@dataclass(frozen=True)
class Spark:
    """A profile: paths of the zero line and of the bars above and below it."""

    zero: str
    above: str
    below: str


def sparkline(evidence: Evidence, span: tuple[float, float]) -> Spark:
    """Return the zero line and a bar for each band whose interval excludes 0.

    Args:
        evidence: Of a row; lowest band at the left.
        span: The least and the greatest value of the table, in nats.
    """
    low, high = span

    def y(value: float) -> int:
        return round((SPARK_HEIGHT - 1) * (high - value) / (high - low or 1))

    zero = y(0)

    def bars(bands: Sequence[int]) -> str:
        return "".join(
            f"M{SPARK_BAR * k} {zero}V{y(float(evidence.nats[k]))}h{SPARK_BAR - 1}V{zero}z"
            for k in bands
        )

    line = f"M0 {zero}h{SPARK_BAR * len(evidence.nats)}v1H0z"
    return Spark(line, bars(evidence.above), bars(evidence.below))
