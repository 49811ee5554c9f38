"""The detail tables below a table: profiles, errors, attacks, provenance, ranks, correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iaside_plugins.budgets import format_budget
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.statistics.report import Record
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import Table
from iaside_plugins.leaderboard.table.rows import ModelRow, attack_label

NAN = float("nan")


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


def grids(table: Table) -> list[Grid]:
    """Return the grids of a table that have a column."""
    found = [profiles(table), _errors(table), _attacks(table), _provenance(table)]
    return [grid for grid in found if grid.headers]


def profiles(table: Table) -> Grid:
    """Return the Shapley values of all bands in nats with their intervals."""
    bands = range(table.entries[0].protocol.n_bands)
    return Grid(
        "profiles",
        "Evidence by band",
        "Shapley value in nats with its 95 % interval. Band 0 is the lowest and holds the mean. "
        "Where the interval holds 0, the value is not told from 0: no evidence is shown there.",
        tuple(f"band {k}" for k in bands),
        tuple(
            tuple(fmt.signed_interval(one.nats[k], *one.intervals[k]) for k in bands)
            for one in table.evidence
        ),
    )


def _errors(table: Table) -> Grid:
    """Return the mean error over severities by corruption; the JSON file has all five."""
    found = [{} if e.corruption is None else e.corruption.errors for e in table.entries]
    names = list(dict.fromkeys(name for errors in found for name in errors))
    means = [{name: sum(e.values()) / len(e) for name, e in errors.items()} for errors in found]
    return Grid(
        "errors",
        "Error by corruption",
        "Mean error over severities 1 to 5, in %; darker is worse.",
        tuple(name.replace("_", " ") for name in names),
        tuple(tuple(_bare_percent(mean.get(name, NAN)) for name in names) for mean in means),
    )


def _bare_percent(value: float) -> str:
    return fmt.percent(value).removesuffix(" %")


def _attacks(table: Table) -> Grid:
    found = [_accuracies(model) for model in table.models]
    names = sorted({key for accuracies in found for key in accuracies})
    return Grid(
        "attacks",
        "Accuracy under each attack",
        "Share of attacked images still classified rightly, with its 95 % interval.",
        tuple(
            f"{norm} {format_budget(budget)} {fmt.plain(label)}" for norm, budget, label in names
        ),
        tuple(tuple(accuracies.get(name, fmt.NOTHING) for name in names) for accuracies in found),
    )


def _accuracies(model: ModelRow) -> dict[tuple[str, float, str], str]:
    """Return the accuracy under every attack of a model by norm, budget and label."""
    return {
        (a.norm, a.epsilon, attack_label(a)): fmt.percent_interval(
            a.accuracy.value, *a.accuracy.interval
        )
        for entry in model.entries[::-1]  # the first counts
        if entry.adversarial is not None
        for a in entry.adversarial.attacks
    }


def _provenance(table: Table) -> Grid:
    names = (
        "source",
        "architecture",
        "weights",
        "weights sha256",
        "date",
        "package",
        "commit",
        "made with",
        "submitter",
    )
    columns = list(zip(*(_origin(entry) for entry in table.entries), strict=True))
    same = {names[k] for k, column in enumerate(columns) if len(set(column)) == 1}
    if len(table.entries) == 1:
        same = set()
    shown = [k for k, name in enumerate(names) if name not in same]
    return Grid(
        "provenance",
        "Provenance",
        "Digests by their first 12 digits; whole in the JSON file and in the entry.",
        tuple(names[k] for k in shown),
        tuple(zip(*(columns[k] for k in shown), strict=True)),
        "; ".join(
            f"{n} {column[0]}" for n, column in zip(names, columns, strict=True) if n in same
        ),
    )


def _origin(entry: Entry) -> list[str]:
    model, provenance = entry.model, entry.provenance
    commit = fmt.NOTHING if provenance.git_commit is None else provenance.git_commit[:12]
    torch = provenance.versions.get("torch")
    return [
        fmt.plain(model.source),
        fmt.plain(model.architecture),
        fmt.plain(model.weights),
        model.weights_sha256[:12],
        provenance.date[:10],
        fmt.plain(provenance.iaside_plugins),
        commit + (" + changes" if provenance.git_dirty else ""),
        ", ".join(
            [
                *([f"torch {fmt.plain(torch)}"] if torch else []),
                fmt.plain(provenance.device),
                fmt.plain(provenance.machine),
            ]
        ),
        fmt.plain(entry.submission.submitter),
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


def rank_grid(found: Record) -> Grid:
    """Return ranks with 95 % intervals over images, of scores and the primary outcome."""
    wanted = [
        "clean_accuracy",
        *(one.split("--")[1] for one in [found["primary"]] if one),
        "signed_score",
    ]
    ranked = [one for one in found["ranks"] if one["column"] in wanted]
    places = [{place["entry_id"]: _rank(place) for place in one["models"]} for one in ranked]
    return Grid(
        "ranks",
        "Ranks",
        "Rank with its 95 % interval over images; 1 is the highest, for errors the lowest.",
        tuple(one["label"] for one in ranked),
        tuple(
            tuple(place.get(model["entry_id"], fmt.NOTHING) for place in places)
            for model in found["models"]
        ),
    )


def _rank(place: Record) -> str:
    low, high = place["low"], place["high"]
    return f"{place['rank']}" + ("" if low is None else f" [{low}, {high}]")


def _step(value: float | None) -> int | None:
    return None if value is None else round(4 * value)
