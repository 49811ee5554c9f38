"""The board that every renderer shows: its tables and what the statistics say of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.statistics.report import Record, table_statistics
from iaside_plugins.leaderboard.table.frame import Table, tables
from iaside_plugins.leaderboard.table.presentation import Column, columns


@dataclass(frozen=True)
class Section:
    """One table and what is said of it.

    Attributes:
        table: Its entries and their raw numbers.
        columns: The columns that are shown, in order.
        statistics: Its record in stats.json.
    """

    table: Table
    columns: tuple[Column, ...]
    statistics: Record


@dataclass(frozen=True)
class Board:
    """All tables of the board, computed once.

    Attributes:
        sections: One a table, in the board's order.
        statistics: The content of stats.json, which holds the sections' statistics.
    """

    sections: tuple[Section, ...]
    statistics: Record

    @classmethod
    def of(cls, entries: Iterable[Entry], statistics: Record | None = None) -> Board:
        """Return the board of some entries.

        Args:
            entries: Checked entries, any number, in any order.
            statistics: Of the same tables, if they are known already.
        """
        parts = tables(entries)
        found = table_statistics(parts) if statistics is None else statistics
        sections = zip(parts, found["tables"], strict=True)
        return cls(tuple(Section(t, tuple(columns(t)), one) for t, one in sections), found)
