"""The board that every renderer shows: its tables and what the statistics say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.settings import BoardSettings
from iaside_plugins.leaderboard.statistics.report import Record, table_statistics
from iaside_plugins.leaderboard.statistics.variables import family
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


def largest_first(sections: Iterable[Section]) -> list[Section]:
    """Return sections by models, the most first; of as many, by images."""
    return sorted(
        sections, key=lambda one: (-len(one.table.models), -one.table.entries[0].data.n_images)
    )


@dataclass(frozen=True)
class Board:
    """All tables of the board, computed once.

    Attributes:
        sections: One a table, in the board's order.
        statistics: The content of stats.json, which holds the sections' statistics.
        settings: What the board says of itself; its shown names are those of the tables already.
        entries: All of them, with the shown names of their models, by their id.
        families: Family of every entry's model, by the entry's id.
    """

    sections: tuple[Section, ...]
    statistics: Record
    settings: BoardSettings
    entries: tuple[Entry, ...]
    families: Mapping[str, str]

    @classmethod
    def of(
        cls,
        entries: Iterable[Entry],
        statistics: Record | None = None,
        settings: BoardSettings | None = None,
    ) -> Board:
        """Return the board of some entries.

        Args:
            entries: Checked entries, any number, in any order.
            statistics: Of the same tables, if they are known already.
            settings: Of the board's folder; None for the defaults.

        Raises:
            InputError: The settings name a model or a column that the board has not.
        """
        entries, settings = sorted(entries, key=lambda e: e.entry_id), settings or BoardSettings()
        families = {
            entry.entry_id: settings.families.get(entry.model.name)
            or family(entry.model.architecture, entry.model.training)
            for entry in entries
        }
        renamed = settings.renamed(entries)
        parts = tables(renamed)
        shown = [columns(table) for table in parts]
        settings.check(
            {entry.model.name for entry in entries},
            {column.name for table in shown for column in table},
        )
        found = table_statistics(parts, families) if statistics is None else statistics
        sections = (
            Section(table, _chosen(some, settings.columns), one)
            for table, some, one in zip(parts, shown, found["tables"], strict=True)
        )
        return cls(tuple(sections), found, settings, tuple(renamed), families)


def _chosen(shown: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of some names in their order, the model's first; all without names."""
    by_name = {column.name: column for column in shown}
    wanted = dict.fromkeys(["model", *names]) if names else by_name
    return tuple(by_name[name] for name in wanted if name in by_name)
