"""The raw numbers that the page's script sorts by and saves, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iaside_plugins.leaderboard.table.columns import Column
from iaside_plugins.leaderboard.table.frame import Row

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
