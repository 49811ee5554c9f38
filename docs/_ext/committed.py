"""The JSON files of the studies that are committed below `leaderboard/`, and how they are shown."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

BOARD = Path(__file__).resolve().parents[2] / "leaderboard"


@cache
def study(name: str) -> Any:
    """Return a committed JSON file below `leaderboard/`, as ``decomposition/decomposition``."""
    return json.loads((BOARD / f"{name}.json").read_text(encoding="utf-8"))


def points(estimate: list[float]) -> str:
    """Return a share of images and the ends of its interval, in points."""
    value, low, high = (100 * x for x in estimate)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
