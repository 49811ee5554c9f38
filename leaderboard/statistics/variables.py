"""The variables of one table that statistics compare, raw and scaled; ranks and reliability."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.statistics.estimates import MIN_MODELS
from iaside_plugins.leaderboard.table.frame import CORRUPTION_ERROR, GROUPS, Row, Table
from iaside_plugins.leaderboard.table.rows import AttackColumn
from iaside_plugins.stats.intervals import Z95

# Words for sizes, which tell no families apart.
SIZES = frozenset(
    {
        "atto",
        "femto",
        "pico",
        "nano",
        "tiny",
        "mini",
        "small",
        "medium",
        "base",
        "large",
        "xlarge",
        "huge",
        "giant",
        "patch",
    }
)
UNKNOWN = "unknown"
Bounds = tuple[float | None, float | None]
PREDICTORS = {"signed_score": "signed score", "score": "score"}
ENDS = ("", "_low", "_high")
NO_CORRUPTIONS = "corruptions not evaluated"


@dataclass(frozen=True)
class Measured:
    """One number of one model.

    Attributes:
        value: As the entry states it.
        scaled: On the column's scale, on which it is compared with a straight line.
        interval: 95 % over images; None where the entry has none.
    """

    value: float
    scaled: float
    interval: Bounds = (None, None)


@dataclass(frozen=True)
class Variable:
    """One number of every model that has it.

    Attributes:
        id: Never changed; the column's name in the CSV file, if it has one.
        label: For people, plain text.
        better: "higher" or "lower"; None for what has no good direction.
        scale: "logit" for proportions, "log" for ratios, "raw".
        measured: By entry_id.
        missing: Why a model has none, by entry_id.
    """

    id: str
    label: str
    better: str | None
    scale: str
    measured: dict[str, Measured]
    missing: dict[str, str]

    @property
    def estimated(self) -> dict[str, tuple[float, float, float]]:
        """Value and ends of the interval of the models that have one, by entry_id."""
        return {
            key: (one.value, low, high)
            for key, one in self.measured.items()
            for low, high in [one.interval]
            if low is not None and high is not None
        }


def logit(share: float, n: int) -> float:
    """Return log(p / (1 - p)) of a proportion of n images, finite at 0 and 1.

    Half an image is added to either side (Haldane, Annals of Human Genetics 20, 1956).
    """
    return math.log((share * n + 0.5) / ((1 - share) * n + 0.5))


def _log_share(share: float, n: int) -> float:
    return math.log((share * n + 0.5) / (n + 1))


def clean_accuracy(table: Table) -> Variable:
    """Return the clean accuracy, with which every score competes."""

    def read(entry: Entry) -> Measured:
        clean = entry.clean_accuracy
        return Measured(clean.value, logit(clean.value, clean.n), clean.interval)

    return _column("clean_accuracy", "clean accuracy", "higher", "logit", table, read)


def predictors(table: Table) -> list[Variable]:
    """Return the scores; they have no better direction."""

    def reader(name: str) -> Callable[[Entry], Measured]:
        def read(entry: Entry) -> Measured:
            value = float(getattr(entry.spectral, name))
            return Measured(value, value, getattr(entry.spectral, f"{name}_interval"))

        return read

    return [
        _column(name, label, None, "raw", table, reader(name)) for name, label in PREDICTORS.items()
    ]


def outcomes(table: Table) -> list[Variable]:
    """Return what scores are compared with, if a model of the table has it."""
    found = [
        _column(
            CORRUPTION_ERROR,
            "mean corruption error (unnormalised)",
            "lower",
            "logit",
            table,
            _mean_error,
        ),
        _column("mce", "mCE", "lower", "log", table, _mce),
        _column(
            "retained_accuracy_corruption",
            "accuracy under corruption, share of clean",
            "higher",
            "log",
            table,
            _retained_under_corruption,
        ),
    ]
    rows = {row["entry_id"]: row for row in table.rows}
    for attack in table.attack_columns:
        budget = f"at {attack.budget} ({attack.words})"
        found += [
            _column(
                attack.column,
                f"robust accuracy {budget}",
                "higher",
                "logit",
                table,
                _robust(attack, rows, retained=False),
            ),
            _column(
                attack.column.replace("robust", "retained", 1),
                f"robust accuracy {budget}, share of clean",
                "higher",
                "log",
                table,
                _robust(attack, rows, retained=True),
            ),
        ]
    return [column for column in found if column.measured]


def corruption_errors(table: Table) -> list[tuple[str, Variable]]:
    """Return group and mean error over the five severities of every corruption."""
    errors = {e.entry_id: e.corruption.errors for e in table.entries if e.corruption is not None}

    def reader(name: str) -> Callable[[Entry], Measured | str]:
        def read(entry: Entry) -> Measured | str:
            if entry.corruption is None:
                return NO_CORRUPTIONS
            rates = errors[entry.entry_id].get(name, {})
            if len(rates) < len(SEVERITIES):
                return f"{name} not evaluated"
            value = math.fsum(rates.values()) / len(rates)
            return Measured(value, logit(value, entry.corruption.n_images))

        return read

    columns = [
        (group, _column(name, name.replace("_", " "), "lower", "logit", table, reader(name)))
        for group, names in GROUPS.items()
        for name in names
    ]
    return [(group, column) for group, column in columns if column.measured]


def _column(
    id_: str,
    label: str,
    better: str | None,
    scale: str,
    table: Table,
    read: Callable[[Entry], Measured | str],
) -> Variable:
    measured: dict[str, Measured] = {}
    missing: dict[str, str] = {}
    for entry in table.entries:
        found = read(entry)
        if isinstance(found, str):
            missing[entry.entry_id] = found
        else:
            measured[entry.entry_id] = found
    return Variable(id_, label, better, scale, measured, missing)


def _mean_error(entry: Entry) -> Measured | str:
    if entry.corruption is None:
        return NO_CORRUPTIONS
    mean = entry.corruption.unnormalised_mean_error
    return Measured(mean.value, logit(mean.value, mean.n), mean.interval)


def _mce(entry: Entry) -> Measured | str:
    if entry.corruption is None or entry.corruption.mce is None:
        return "no mCE: no reference model on the same images"
    value = entry.corruption.mce.value
    return Measured(value, math.log(value)) if value > 0 else "an mCE of 0 has no logarithm"


def _retained_under_corruption(entry: Entry) -> Measured | str:
    """Return the share of the accuracy on the same images uncorrupted."""
    if entry.corruption is None:
        return NO_CORRUPTIONS
    mean, clean = entry.corruption.unnormalised_mean_error, entry.corruption.uncorrupted_accuracy
    return _retained(1 - mean.value, mean.n, clean.value, clean.n)


def _robust(
    attack: AttackColumn, rows: dict[str, Row], *, retained: bool
) -> Callable[[Entry], Measured | str]:
    def read(entry: Entry) -> Measured | str:
        value, low, high = (rows[entry.entry_id][attack.column + end] for end in ENDS)
        if math.isnan(value):
            return "not attacked in this way"
        clean = entry.clean_accuracy
        if retained:
            return _retained(value, attack.n_images, clean.value, clean.n)
        return Measured(value, logit(value, attack.n_images), (low, high))

    return read


def _retained(value: float, n: int, clean: float, n_clean: int) -> Measured | str:
    if clean == 0:
        return "no share of a clean accuracy of 0"
    return Measured(value / clean, _log_share(value, n) - _log_share(clean, n_clean))


def family(architecture: str, training: str | None) -> str:
    """Return the family of a model, for resampling: "resnet, adversarial".

    Models that differ in size, budget or seed alone are not independent draws, so an interval
    that resamples models one by one is too short for them. A family is the architecture's name up
    to its first number, without words for sizes and without pieces of one or two letters, and the
    training up to its first comma or bracket ("adversarial, L-inf 2/255" is "adversarial").
    Models of unstated training are one family an architecture: rather too few families than too
    many.

    Args:
        architecture: The host's name of it, such as "resnet50" or "DeiT Base".
        training: How it was trained; None if unstated.
    """
    head = re.split(r"v?\d", architecture.lower(), maxsplit=1)[0]
    words = [word for word in re.findall(r"[^\W\d_]+", head) if len(word) > 2]
    name = " ".join(word for word in words if word not in SIZES)
    way = re.split(r"[,(\[]", (training or UNKNOWN).lower(), maxsplit=1)[0].strip()
    return f"{name or ' '.join(architecture.lower().split())}, {way or UNKNOWN}"


def rank_intervals(column: Variable) -> dict[str, Any]:
    """Return every model's rank, 1 the best (or greatest), with the range of possible ranks.

    The range is from 1 + the number of models whose interval lies wholly on the better side of
    this model's, to n - the number of those on the other side. All models see the same images, so
    differences are known better than the intervals of single models say: the ranges are wide
    rather than narrow. Equal values share the better rank.

    Args:
        column: With intervals; models without one are left out.
    """
    sign = -1.0 if column.better == "lower" else 1.0
    rows = [
        (key, value, sign * value, sorted((sign * low, sign * high)))
        for key, (value, low, high) in column.estimated.items()
    ]
    values = np.sort([row[2] for row in rows])
    lows, highs = (np.sort([row[3][end] for row in rows]) for end in (0, 1))

    def above(ascending: npt.NDArray[np.float64], least: float) -> int:
        return len(ascending) - int(np.searchsorted(ascending, least, side="right"))

    ranked = [
        {
            "entry_id": key,
            "value": value,
            "rank": 1 + above(values, signed),
            "low": 1 + above(lows, high),
            "high": len(rows) - int(np.searchsorted(highs, low, side="left")),
            "tied": bool(above(values, signed) + np.searchsorted(values, signed) < len(rows) - 1),
        }
        for key, value, signed, (low, high) in rows
    ]
    return {
        "column": column.id,
        "label": column.label,
        "first": "lowest" if column.better == "lower" else "highest",
        "better": column.better,
        "models": sorted(ranked, key=lambda row: (row["rank"], row["entry_id"])),
    }


def reliability(column: Variable) -> dict[str, Any]:
    """Return 1 - (mean squared standard error over images) / (variance over models).

    The share of a column's variance that is not error of measurement: a correlation with the
    column cannot exceed its square root but by chance (Spearman 1904). Entries hold no values of
    single images, so images cannot be split into halves; the standard errors are those of the
    stated intervals (jackknife for scores, Wilson for proportions). Errors that all models share,
    as they see the same images, are counted as if they differed: it is a lower bound.
    """
    both = [(value, (high - low) / (2 * Z95)) for value, low, high in column.estimated.values()]
    found: dict[str, Any] = {"column": column.id, "label": column.label, "n_models": len(both)}
    empty = {"value": None, "standard_error": None, "standard_deviation": None}
    if len(both) < MIN_MODELS:
        return {**found, **empty, "reason": f"n = {len(both)} models, needs {MIN_MODELS}"}
    values, errors = np.array(both).T
    if np.ptp(values) == 0:
        return {**found, **empty, "reason": "the column is the same for all models"}
    noise, spread = float((errors**2).mean()), float(values.var(ddof=1))
    return {
        **found,
        "value": 1 - noise / spread,
        "standard_error": noise**0.5,
        "standard_deviation": spread**0.5,
        "reason": None,
    }
