"""What a table shows in a sentence each, with its counter-example; rules that are fixed here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from iaside_plugins.leaderboard.board import Section
from iaside_plugins.leaderboard.statistics.comparison import NOT_SHOWN, NOT_TESTABLE, SHOWN
from iaside_plugins.leaderboard.statistics.report import Record
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import Row, Table
from iaside_plugins.leaderboard.table.presentation import main_attacks
from iaside_plugins.leaderboard.table.rows import AttackColumn
from iaside_plugins.leaderboard.table.splits import corruption_split

KEEPS = 0.5  # of its clean accuracy: a model that keeps so much is called robust here
APART = 0.2  # of the shares of error in the upper bands: as much is a difference
LEAST_ADDED = 0.02  # error that corruptions add, below which its share of a band means little
LEAST = 3  # models that a finding is about


@dataclass(frozen=True)
class Finding:
    """One card of the page, plain text with words of entries, to be escaped.

    Attributes:
        title: A few words.
        text: What was found, with numbers.
        counter: The strongest example against it; empty where there is none.
        holds: Whether it says that something is so, not that it is not or is not known.
    """

    title: str
    text: str
    counter: str = ""
    holds: bool = True


def findings(section: Section) -> list[Finding]:
    """Return the findings of a table, each by its own rule; none about fewer than three models."""
    table = section.table
    found = [*_of_attacks(table), *_under_noise(table), *_of_bands(table)]
    return [*found, *_verdict(section.statistics)]


def _of_attacks(table: Table) -> Iterator[Finding]:
    for attack in main_attacks(table)[:1]:
        held = [row for row in table.rows if not math.isnan(row[attack.column])]
        if len(held) >= LEAST:
            yield _accurate_or_robust(held, attack)
            yield from _lean_and_robust(held, attack)


def _accurate_or_robust(rows: list[Row], attack: AttackColumn) -> Finding:
    """Compare the most accurate with the most robust model: apart where intervals are."""
    accurate = max(rows, key=lambda row: row["clean_accuracy"])
    robust = max(rows, key=lambda row: row[attack.column])
    where = f"at {attack.budget} ({attack.words})"
    both = f"{_standing(accurate, attack)}. {_standing(robust, attack)}"
    if accurate is robust:
        others = (row for row in rows if row is not robust)
        shown = all(robust[f"{attack.column}_low"] > row[f"{attack.column}_high"] for row in others)
        return Finding(
            "The most accurate is the most robust"
            if shown
            else "No model is shown to be the most robust",
            f"{_name(robust)} is right on {_percent(robust['clean_accuracy'])} of clean images and "
            f"keeps {_percent(robust[attack.column])} {where}"
            + (", more than any other." if shown else "; none keeps more, but intervals overlap."),
            holds=shown,
        )
    if accurate[f"{attack.column}_high"] < robust[f"{attack.column}_low"]:
        return Finding("The most accurate is not the most robust", f"{_upper(where)}: {both}.")
    return Finding(
        "The most accurate may be the most robust",
        f"{_upper(where)}: {both}. The intervals overlap.",
        holds=False,
    )


def _standing(row: Row, attack: AttackColumn) -> str:
    return (
        f"{_name(row)} {_percent(row['clean_accuracy'])} clean and "
        f"{_percent(row[attack.column])} attacked"
    )


def _lean_and_robust(rows: list[Row], attack: AttackColumn) -> Iterator[Finding]:
    """Count who leans to low bands (interval above 0) among robust models and the others."""
    robust = [row for row in rows if row[attack.column] >= KEEPS * row["clean_accuracy"]]
    others = [row for row in rows if row not in robust]
    if not robust or not others:
        return
    low, low_others = ([r for r in some if r["signed_score_low"] > 0] for some in (robust, others))
    text = (
        f"Of {len(robust)} models that keep half of their accuracy at {attack.budget}, {len(low)} "
        f"lean to low bands; of the other {len(others)}, {len(low_others)}."
    )
    against = [row for row in robust if row not in low]
    counter = ""
    if against:
        counter = f"{_name(against[0])} is robust and does not lean low."
    elif low_others:
        most = max(low_others, key=lambda row: row["signed_score"])
        counter = (
            f"Low is not enough: {_name(most)} leans low ({fmt.signed(most['signed_score'])}) and "
            f"keeps {_percent(most[attack.column])}."
        )
    more = len(low) * len(others) > len(low_others) * len(robust)
    title = "Robust models here lean low" if more else "Robust models here lean no lower"
    yield Finding(title, text, counter, more)


def _under_noise(table: Table) -> Iterator[Finding]:
    """Compare the most accurate model with the one that errs least under noise."""
    rows = [row for row in table.rows if not math.isnan(row["error_noise"])]
    if len(rows) < LEAST:
        return
    accurate = max(rows, key=lambda row: row["clean_accuracy"])
    best = min(rows, key=lambda row: row["error_noise"])
    if accurate is best:
        text = f"{_name(best)} errs on {_percent(best['error_noise'])} under noise."
        yield Finding("Under noise the most accurate errs least", text)
        return
    least, most = _percent(best["error_noise"]), _percent(accurate["error_noise"])
    text = f"{_name(best)} errs on {least}, {_name(accurate)}, the most accurate, on {most}."
    if math.isnan(best["error_noise_high"]):
        text += " These entries give no intervals."
    shown = bool(best["error_noise_high"] < accurate["error_noise_low"])
    title = "Under noise the most accurate errs more" if shown else "Who errs least under noise"
    yield Finding(title, text, holds=shown)


def _of_bands(table: Table) -> Iterator[Finding]:
    """Compare where errors come from: the share of what corruptions add in the upper bands.

    Of models to whose error corruptions add enough to have shares.

    The counter-example is the model that errs least under corruption among those whose errors come
    rather from the other half than those of the one that errs least of all.
    """
    found = []
    for entry in table.entries:
        split = corruption_split(entry.decomposition)
        if split is not None and (added := sum(split.bands)) >= LEAST_ADDED:
            upper = sum(split.bands[len(split.bands) // 2 :]) / added
            found.append((upper, split.error, fmt.plain(entry.model.name)))
    if len(found) < LEAST:
        return
    (least, _, lower), (most, _, highest) = min(found), max(found)
    best = min(found, key=lambda one: one[1])
    others = [one for one in found if (one[0] > 0.5) != (best[0] > 0.5)]
    counter = ""
    if others:
        other = min(others, key=lambda one: one[1])
        pair = f"{best[2]} {_percent(best[1])}, {other[2]} {_percent(other[1])}"
        counter = f"Either may err little: {pair}."
    apart = most - least >= APART
    yield Finding(
        "Errors come from different bands" if apart else "Errors come from the same bands",
        f"Of the error that corruptions add, {_percent(most)} lies in the upper half of the bands "
        f"for {highest}, {_percent(least)} for {lower}.",
        counter if apart else "",
    )


def _verdict(found: Record) -> Iterator[Finding]:
    """Say the verdict of the comparison that was named in advance."""
    titles = {
        SHOWN: "The score says more than clean accuracy",
        NOT_SHOWN: "Not shown to beat clean accuracy",
        NOT_TESTABLE: "Too few to tell from clean accuracy",
    }
    for one in found["comparisons"]:
        if one["id"] == found["primary"]:
            shown = one["verdict"] == SHOWN
            reason = one["in_words"].partition(": ")[2]
            text = f"{one['outcome_label']}, {one['n_models']} models: {reason}"
            yield Finding(titles[one["verdict"]], _upper(text), holds=shown)


def _upper(text: str) -> str:
    """Return a text with a great first letter, but "mCE" as it is."""
    return text[:1].upper() + text[1:] if text[1:2].islower() else text


def _name(row: Row) -> str:
    return fmt.plain(row["model"])


def _percent(value: float) -> str:
    return f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
