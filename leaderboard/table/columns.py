"""The columns of a table as plain text: header, cell, and the number that a cell is sorted by.

Every renderer shows these, in this order, and escapes what it must; none rounds or names anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.check_perturbed import GROUPS
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import AttackColumn, Row, Table


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        header: Plain text, with an arrow where more (↑) or less (↓) is better.
        name: Column of the frame that it shows; it sorts by it, and is left out without a value.
        cell: Plain text of a row.
        kind: "text" and "ratio" (a number, then a name) hold words of an entry, to be escaped;
            "number" does not; a "profile" is one share a band, which may also be drawn.
    """

    header: str
    name: str
    cell: Callable[[Row], str]
    kind: Literal["text", "number", "ratio", "profile"] = "number"

    @property
    def has_interval(self) -> bool:
        """Whether the frame has an interval beside the number."""
        return self.name.startswith(_WITH_INTERVAL)


_WITH_INTERVAL = ("clean_accuracy", "signed_score", "score", "mean_corruption_error", "robust_")


def columns(table: Table) -> list[Column]:
    """The columns that have a value in any row of the table."""
    return [c for c in _all(table) if bool(table.frame[c.name].notna().any())]


def shares(table: Table) -> list[str]:
    """Columns of the frame that hold the importance of each band, lowest first."""
    return [f"share_{k}" for k in range(table.entries[0].protocol.n_bands)]


def top_share(table: Table) -> float:
    """The greatest share of any band: all profiles of a table are drawn on one scale."""
    return float(table.frame[shares(table)].to_numpy().max())


def _all(table: Table) -> list[Column]:
    names, top = shares(table), top_share(table)
    return [
        Column("model", "model", lambda row: fmt.plain(row["model"]), "text"),
        Column("training", "training", lambda row: fmt.plain(row["training"]), "text"),
        Column("parameters", "n_parameters", lambda row: fmt.count(row["n_parameters"])),
        _estimate("clean accuracy ↑", "clean_accuracy", fmt.percent_interval),
        _estimate("signed score (+ low, - high bands)", "signed_score", fmt.signed_interval),
        _estimate("score", "score", fmt.number_interval),
        Column(
            "importance, low to high",
            "share_0",
            lambda row: fmt.sparkline([row[name] for name in names], top),
            "profile",
        ),
        *_corruption_columns(table),
        *(_threat_column(threat) for threat in table.threats),
        Column("status", "status", lambda row: fmt.plain(row["status"]), "text"),
    ]


def _estimate(header: str, name: str, show: Callable[[float, float, float], str]) -> Column:
    return Column(
        header, name, lambda row: show(row[name], row[f"{name}_low"], row[f"{name}_high"])
    )


def _corruption_columns(table: Table) -> list[Column]:
    corruption = table.entries[0].corruption
    if corruption is None:
        return []
    k = corruption.unnormalised_mean_error.n_corruptions
    found = [
        _estimate(
            f"mean corruption error (unnormalised, {k} of 15) ↓",
            "mean_corruption_error_unnormalised",
            fmt.percent_interval,
        ),
        Column("mCE ↓", "mce", lambda row: fmt.ratio(row["mce"], row["mce_reference"]), "ratio"),
    ]
    for group, members in GROUPS.items():
        present = len(set(members) - set(corruption.missing))
        part = "" if present == len(members) else f" ({present} of {len(members)})"
        found.append(_share(f"{group}{part} ↓", f"error_{group}"))
    return [*found, _share("mean change of p(true) ↓", "mean_probability_change")]


def _share(header: str, name: str) -> Column:
    return Column(header, name, lambda row: fmt.percent(row[name]))


def _threat_column(threat: AttackColumn) -> Column:
    header = f"robust accuracy {threat.norm} {format_budget(threat.epsilon)} ↑"
    return _estimate(header, threat.column, fmt.percent_interval)
