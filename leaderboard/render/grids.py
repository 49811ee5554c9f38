"""The detail tables below a table: profiles, errors, attacks, provenance, ranks, correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.statistics.report import Record
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import Table


@dataclass(frozen=True)
class Grid:
    """One row an entry, in the order of its table.

    Attributes:
        name: Short and fixed, of the renderer's use.
        title: What it shows.
        note: How to read a cell.
        headers: Of the columns, without the model's.
        rows: Cells of each entry, plain text.
        common: What all entries share, said once.
    """

    name: str
    title: str
    note: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    common: str = ""


def profiles(table: Table) -> Grid:
    """Return the Shapley values of all bands in nats with their intervals."""
    bands = range(table.entries[0].protocol.n_bands)
    return Grid(
        "profiles",
        "Evidence by band",
        "Shapley value in nats with its 95 % interval. Band 0 is the lowest and holds the mean. "
        "Where the interval includes 0, no evidence is shown.",
        tuple(f"band {k}" for k in bands),
        tuple(
            tuple(fmt.signed_interval(one.nats[k], *one.intervals[k]) for k in bands)
            for one in table.evidence
        ),
    )


def origin(entry: Entry) -> list[tuple[str, str]]:
    """Return where an entry comes from: name and text."""
    provenance = entry.provenance
    commit = fmt.NOTHING if provenance.git_commit is None else provenance.git_commit[:12]
    torch = provenance.versions.get("torch")
    made = [
        *([f"torch {fmt.plain(torch)}"] if torch else []),
        fmt.plain(provenance.device),
        fmt.plain(provenance.machine),
    ]
    return [
        ("date", provenance.date[:10]),
        ("package", fmt.plain(provenance.iaside_plugins)),
        ("commit", commit + (" + changes" if provenance.git_dirty else "")),
        ("made with", ", ".join(made)),
        ("submitter", fmt.plain(entry.submission.submitter)),
    ]


@dataclass(frozen=True)
class Heat:
    """One corruption: correlations of the signed score, of its rival, and given the rival.

    `cells` are text and a step from -4 to 4 (None: no number).
    """

    corruption: str
    group: str
    n_models: int
    cells: tuple[tuple[str, int | None], ...]


def correlation_rows(found: Record) -> list[dict[str, Any]]:
    """Return a row for every comparison of the signed score with an outcome."""
    return [
        {
            "outcome": one["outcome_label"],
            "n": f"{one['n_models']} in {one['n_families']}",
            "cells": [
                fmt.correlation(one["spearman"]),
                fmt.correlation(one["clean"]["spearman"]),
                fmt.correlation(one["partial_spearman"]),
                fmt.p_value(one["partial_spearman"]["p"]),
                fmt.p_value(one["partial_spearman"]["p_holm"]),
                one["verdict"],
            ],
            "sentence": one["sentence"],
        }
        for one in found["comparisons"]
        if one["predictor"] == "signed_score"
    ]


def heat_map(found: Record) -> list[Heat]:
    """Return Spearman's correlations of the signed score with the error by corruption."""
    return [
        Heat(
            row["corruption"].replace("_", " "),
            row["group"],
            row["n_models"],
            tuple(
                (fmt.correlation(row[name]), _step(row[name]["value"]))
                for name in ("spearman", "clean", "partial_spearman")
            ),
        )
        for one in found["per_corruption"]
        if one["predictor"] == "signed_score"
        for row in one["corruptions"]
    ]


def _step(value: float | None) -> int | None:
    return None if value is None else round(4 * value)
