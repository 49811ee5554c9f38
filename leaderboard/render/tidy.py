"""The board as tidy CSV files: one row a number, one row an entry, one row an ImageNet-C result.

Their columns stand in `tidy_columns`, which also gives the data dictionary.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from iaside_plugins.budgets import parse_budget
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import CORRUPTIONS_3DCC
from iaside_plugins.display.text import markdown_table
from iaside_plugins.entry.schema import (
    Adversarial,
    Corruption,
    Decomposition,
    Difference,
    Entry,
    Mean,
    Profile,
    Proportion,
    Spectral,
    Split,
    Systematic,
)
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.render.tidy_columns import (
    ALL_CONDITIONS,
    ALL_CORRUPTIONS,
    ALL_READINGS,
    CLEAN,
    IMAGENET_C,
    MODELS,
    QUANTITIES,
    RESULTS,
    WORST_CASE,
    Field,
)
from iaside_plugins.leaderboard.table.formatting import csv_text
from iaside_plugins.leaderboard.table.rows import attack_label

_UNDER_ATTACK = re.compile(r"(\S+) (Linf|L2) (\S+)")
DICTIONARY = """\
# Data dictionary

Written by `iaside leaderboard build` from the tables that also write the columns. The files are
UTF-8 with a head line; an empty cell is a value that is not there. Numbers have full precision,
and shares lie in [0, 1]: percents stand in results-imagenet-c.csv alone. A text that a spreadsheet
would run as a formula has an apostrophe before it. What is in `stats.json` and in an entry say
`stats.schema.json` and `entry.schema.json`.
"""
FILES = (
    (
        "results.csv",
        RESULTS,
        "One row a number. Value tables, one value a coalition, are in the entries alone.",
    ),
    (
        "models.csv",
        MODELS,
        "One row an entry. A model has several with other images, protocols or benchmarks.",
    ),
    (
        "results-imagenet-c.csv",
        IMAGENET_C,
        "One row an entry of corrupted ImageNet images, by the names and in the percents of timm's "
        "`results-imagenet.csv`.",
    ),
)


class Where(NamedTuple):
    """What the images were put through."""

    condition: str = CLEAN
    severity: int | None = None
    norm: str | None = None
    budget: float | None = None


UNCHANGED = Where()


class Number(NamedTuple):
    """One number of an entry, with its interval and what it was measured under."""

    entry: Entry
    quantity: str
    value: float
    n: int
    interval: Sequence[float | None] = (None, None)
    where: Where = UNCHANGED
    band: int | None = None


class ModelsRow(NamedTuple):
    """One entry, and the family that the statistics put its model in."""

    entry: Entry
    family: str

    @property
    def versions(self) -> str:
        """Of the libraries, in one text."""
        versions = self.entry.provenance.versions
        return " ".join(f"{name}=={version}" for name, version in sorted(versions.items()))


class ImageNetCRow(NamedTuple):
    """One entry of corrupted ImageNet images, by the names of timm's results."""

    entry: Entry
    corruption: Corruption

    @property
    def top1_err(self) -> float:
        """The mean error in percent."""
        return _percent(self.corruption.unnormalised_mean_error.value)

    @property
    def top1(self) -> float:
        """The mean accuracy in percent."""
        return _percent(1 - self.corruption.unnormalised_mean_error.value)

    @property
    def top1_diff(self) -> float:
        """What corruption costs, in points of accuracy; below 0 where it costs any."""
        clean = self.corruption.uncorrupted_accuracy.value
        return _percent(1 - self.corruption.unnormalised_mean_error.value - clean)

    @property
    def mce(self) -> float | None:
        """The mCE in percent."""
        return None if self.corruption.mce is None else _percent(self.corruption.mce.value)

    @property
    def param_count(self) -> float:
        """Millions of parameters."""
        return self.entry.model.n_parameters / 1e6

    @property
    def crop_pct(self) -> float | None:
        """Share of the resized image's side that is cropped."""
        reading = self.entry.model.preprocessing
        return reading.crop / reading.resize if reading.crop and reading.resize else None


def _percent(share: float) -> float:
    return round(100 * share, 6)  # what is below that is rounding


def results(board: Board) -> str:
    """Return results.csv: every number of every entry, in the order of their ids."""
    return _csv(RESULTS, (number for entry in board.entries for number in numbers(entry)))


def models(board: Board) -> str:
    """Return models.csv: what is known of every entry's model, images and origin."""
    rows = (ModelsRow(entry, board.families[entry.entry_id]) for entry in board.entries)
    return _csv(MODELS, rows)


def imagenet_c(board: Board) -> str:
    """Return results-imagenet-c.csv, in the form of timm's results.

    It holds the entries of image sets named imagenet... under any of the 15 corruptions.
    """
    rows = (
        ImageNetCRow(entry, entry.corruption)
        for entry in board.entries
        if entry.data.name.lower().startswith("imagenet")
        and entry.corruption is not None
        and entry.corruption.names == CORRUPTIONS
    )
    return _csv(IMAGENET_C, rows)


def data_dictionary() -> str:
    """Return data-dictionary.md: every column of the files, with unit and range."""
    head = ["column", "type or unit", "range", "what it is"]
    parts = [DICTIONARY]
    for file, fields, note in FILES:
        rows = [[*field[:-1]] for field in fields]
        parts += [f"## {file}\n", f"{note}\n", markdown_table([head, *rows]) + "\n"]
        if fields is RESULTS:
            quantities = [[name, *about] for name, about in QUANTITIES.items()]
            parts.append(markdown_table([["quantity", *head[1:]], *quantities]) + "\n")
    return "\n".join(parts)


def numbers(entry: Entry) -> Iterator[Number]:
    """Yield every number of an entry."""
    yield _number(entry, "accuracy", entry.clean_accuracy)
    for spectral in entry.spectra.values():
        yield from _spectral(entry, spectral)
    if entry.corruption is not None:
        yield from _corruption(entry, entry.corruption)
    if entry.adversarial is not None:
        yield from _adversarial(entry, entry.adversarial)
    if entry.systematic is not None:
        yield from _systematic(entry, entry.systematic)
    if entry.decomposition is not None:
        yield from _decomposition(entry, entry.decomposition)


def _number(
    entry: Entry, quantity: str, part: Proportion | Mean | Difference, where: Where = UNCHANGED
) -> Number:
    return Number(entry, quantity, part.value, part.n, part.interval, where)


def _spectral(entry: Entry, spectral: Spectral) -> Iterator[Number]:
    where = _place(spectral.condition) if isinstance(spectral, Profile) else UNCHANGED
    n = spectral.n_images
    yield _number(entry, "spectral_accuracy", spectral.clean_accuracy, where)
    intervals = Evidence.of(spectral.shapley_values, spectral.shapley_se).intervals.tolist()
    for band, value in enumerate(spectral.shapley_values):
        ends: Sequence[float | None] = [None if end != end else end for end in intervals[band]]
        yield Number(entry, "shapley_value", value, n, ends, where, band)
    for band, value in enumerate(spectral.distribution):
        ends = spectral.distribution_interval[band]
        yield Number(entry, "distribution", value, n, ends, where, band)
    yield Number(entry, "score", spectral.score, n, spectral.score_interval, where)
    signed = spectral.signed_score_interval
    yield Number(entry, "signed_score", spectral.signed_score, n, signed, where)
    for quantity, value in zip(("empty", "grand"), spectral.ends, strict=True):
        yield Number(entry, f"log_likelihood_{quantity}", value, n, where=where)


def _place(condition: str) -> Where:
    """Return the condition of a further profile, with norm and budget if it is an attack."""
    found = _UNDER_ATTACK.fullmatch(condition)
    if found is None:
        return Where(condition)
    return Where(found[1], norm=found[2], budget=parse_budget(found[3]))


def _corruption(entry: Entry, group: Corruption) -> Iterator[Number]:
    yield _number(entry, "uncorrupted_accuracy", group.uncorrupted_accuracy)
    for one in group.conditions:
        where = Where(one.corruption, one.severity)
        yield _number(entry, "error", one.error, where)
        yield _number(entry, "probability_change", one.probability_change, where)
    where = Where(ALL_CORRUPTIONS)
    yield _number(entry, "mean_corruption_error", group.unnormalised_mean_error, where)
    for quantity in ("mce", "error_over_published"):
        if (claim := getattr(group, quantity)) is not None:
            yield Number(entry, quantity, claim.value, group.n_images, where=where)


def _adversarial(entry: Entry, group: Adversarial) -> Iterator[Number]:
    for attack in group.attacks:
        where = Where(attack_label(attack), norm=attack.norm, budget=attack.epsilon)
        yield _number(entry, "accuracy", attack.accuracy, where)
        yield _number(entry, "probability_change", attack.probability_change, where)
    for case in group.worst_case:
        where = Where(WORST_CASE, norm=case.norm, budget=case.epsilon)
        yield _number(entry, "accuracy", case.accuracy, where)
    for step in entry.benchmark.after_attack if entry.benchmark else ():
        where = Where(step.attack, norm=group.attacks[0].norm, budget=step.epsilon)
        yield Number(entry, "accuracy_after_attack", step.accuracy, group.n_images, where=where)


def _systematic(entry: Entry, group: Systematic) -> Iterator[Number]:
    yield _number(entry, "own_accuracy", group.own_accuracy, Where(group.own))
    for one in group.conditions:
        where = Where(one.condition)
        yield _number(entry, "error", one.error, where)
        yield _number(entry, "added_error", one.added, where)
        yield _number(entry, "probability_change", one.probability_change, where)
        yield _number(entry, "changed", one.changed, where)
    yield _number(entry, "mean_error", group.mean_error, Where(ALL_READINGS))
    yield _number(entry, "mean_added_error", group.mean_added, Where(ALL_READINGS))


def _decomposition(entry: Entry, group: Decomposition) -> Iterator[Number]:
    yield from _split(entry, group.n_images, group.mean, Where(ALL_CONDITIONS))
    for one in group.conditions:
        where = Where(one.condition, budget=one.level)
        if one.level is not None and one.condition in (*CORRUPTIONS, *CORRUPTIONS_3DCC):
            where = Where(one.condition, severity=int(one.level))
        yield from _split(entry, group.n_images, one, where)


def _split(entry: Entry, n: int, split: Split, where: Where) -> Iterator[Number]:
    yield Number(entry, "clean_error", split.clean, n, where=where)
    yield Number(entry, "perturbed_error", split.perturbed, n, where=where)
    for band, value in enumerate(split.bands):
        yield Number(entry, "error_by_band", value, n, split.bands_interval[band], where, band)


def _csv(fields: Sequence[Field], rows: Iterable[object]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([field.name for field in fields])
    paths = [field.path.split(".") for field in fields]
    writer.writerows([_cell(row, path) for path in paths] for row in rows)
    return file.getvalue()


def _cell(value: Any, path: Sequence[str]) -> str:
    """Return what a path of attributes and positions leads to, empty if it ends at None."""
    for part in path:
        if value is None:
            return ""
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    if value is None:
        return ""
    return _text(value) if isinstance(value, str) else repr(value)


_text = lru_cache(maxsize=4096)(csv_text)  # most texts stand in many rows
