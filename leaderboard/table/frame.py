"""Entries to one frame of raw floats a table: rows that share protocol, images and corruptions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS, CORRUPTIONS
from iaside_plugins.entry.clashes import protocol_digest
from iaside_plugins.entry.schema import (
    Attack,
    Corruption,
    Entry,
    WorstCase,
)
from iaside_plugins.importance.evidence import Evidence

Row = dict[str, Any]
KEYS = (
    "dataset",
    "protocol_id",
    "benchmark",
    "image_ids_sha256",
    "spectral_image_ids_sha256",
    "corruption_source",
    "corruption_jpeg",
    "corruption_size",
    "corruption_constants",
    "corruption_seed",
    "corruption_missing",
    "n_corruption_images",
)
TEXTS = (
    "dataset",
    "protocol_id",
    "benchmark",
    "image_ids_sha256",
    "spectral_image_ids_sha256",
    "corruption_source",
    "corruption_jpeg",
    "corruption_constants",
    "corruption_missing",
    "model",
    "training",
    "entry_id",
    "weights_sha256",
    "status",
    "mce_reference",
    "error_over_published_reference",
)
COUNTS = (
    "corruption_size",
    "corruption_seed",
    "n_corruption_images",
    "n_parameters",
    "n_images",
    "n_spectral_images",
    "input_height",
    "input_width",
    "n_corruptions",
)


@dataclass(frozen=True, order=True)
class AttackColumn:
    """One column of robust accuracy: what was attacked with what, and how many images."""

    norm: str
    epsilon: float
    attacks: tuple[str, ...]
    n_images: int
    seed: int | None = None  # of the selection, where only some of the images were attacked

    @property
    def column(self) -> str:
        """Its name in the frame and in the CSV file."""
        attacks = "+".join(self.attacks)
        some = "" if self.seed is None else f"_seed{self.seed}"
        return f"robust_accuracy_{self.norm}_{self.epsilon!r}_{attacks}_n{self.n_images}{some}"


@dataclass(frozen=True)
class Table:
    """Entries that may stand in one table, best clean accuracy first, then by name.

    Attributes:
        entries: In the order of the rows.
        attack_columns: The columns of robust accuracy that any of them has.
        frame: One row an entry, raw numbers; missing ones are NaN or NA.
    """

    entries: tuple[Entry, ...]
    attack_columns: tuple[AttackColumn, ...]
    frame: pd.DataFrame

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of the frame, as Python's own numbers."""
        return records(self.frame)

    @cached_property
    def evidence(self) -> list[Evidence]:
        """What each row says of the bands."""
        return [Evidence.of(e.spectral.shapley_values, e.spectral.shapley_se) for e in self.entries]

    @cached_property
    def greatest(self) -> float:
        """The greatest Shapley value of any band, without sign: one scale a table, in nats."""
        return max(float(np.abs(one.nats).max()) for one in self.evidence) or 1.0

    @cached_property
    def span(self) -> tuple[float, float]:
        """The least and the greatest Shapley value of any band, and 0."""
        bands = range(self.entries[0].protocol.n_bands)
        values = self.frame[[f"shapley_value_{k}" for k in bands]].to_numpy()
        return min(0.0, float(values.min())), max(0.0, float(values.max()))


def tables(entries: Iterable[Entry]) -> list[Table]:
    """Group entries by what makes numbers comparable (`KEYS`), in the order of those keys."""
    rows = sorted(
        entries,
        key=lambda e: (_group(e), -e.clean_accuracy.value, e.model.name, e.entry_id),
    )
    return [_table(tuple(group)) for _, group in groupby(rows, key=_group)]


def concatenated(parts: list[Table]) -> pd.DataFrame:
    """Concatenate all tables; a column that a table lacks is empty there."""
    if not parts:
        return pd.DataFrame({name: [] for name in KEYS})
    columns: dict[str, None] = {}
    widest_first = sorted(parts, key=lambda part: -part.entries[0].protocol.n_bands)
    for part in widest_first:  # so that all bands are side by side
        columns |= dict.fromkeys(part.frame.columns)
    rows = [row for part in parts for row in part.rows]
    return _typed(pd.DataFrame(rows, columns=list(columns), dtype=object))


def records(frame: pd.DataFrame) -> list[Row]:
    """Return rows of a frame by column, as Python's own numbers."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _group(entry: Entry) -> tuple[str, ...]:
    keys = _keys(entry)
    shown = tuple("" if keys[name] is None else str(keys[name]) for name in KEYS)
    return (*shown, protocol_digest(entry.protocol))  # the id that is shown is short


def _table(entries: tuple[Entry, ...]) -> Table:
    found = {column for entry in entries for column, _ in _cases(entry)}
    attack_columns = tuple(sorted(found))
    rows = [_row(entry, attack_columns) for entry in entries]
    return Table(entries, attack_columns, _typed(pd.DataFrame(rows, dtype=object)))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert counts to nullable integers, text to objects, all else to floats.

    Frames are made of objects first: pandas would turn a missing text into NaN.
    """
    kinds = dict.fromkeys(TEXTS, "object") | dict.fromkeys(COUNTS, "Int64")
    return frame.astype({name: kinds.get(name, "float64") for name in frame.columns})


def _keys(entry: Entry) -> Row:
    corruption = entry.corruption
    keys: Row = dict.fromkeys(KEYS)
    keys |= {
        "dataset": entry.data.name,
        "protocol_id": entry.protocol.protocol_id,
        "benchmark": entry.benchmark_id,
        "image_ids_sha256": entry.data.image_ids_sha256,
        "spectral_image_ids_sha256": entry.spectral.image_ids_sha256,
    }
    if corruption is not None:
        keys |= {
            "corruption_source": corruption.source,
            "corruption_jpeg": "yes" if corruption.jpeg else "no",
            "corruption_size": corruption.size,
            "corruption_constants": corruption.constants,
            "corruption_seed": corruption.seed,
            "corruption_missing": " ".join(sorted(corruption.missing)),
            "n_corruption_images": corruption.n_images,
        }
    return keys


def _row(entry: Entry, attack_columns: tuple[AttackColumn, ...]) -> Row:
    spectral, clean = entry.spectral, entry.clean_accuracy
    row = _keys(entry) | {
        "model": entry.model.name,
        "training": entry.model.training,
        "n_parameters": entry.model.n_parameters,
        "entry_id": entry.entry_id,
        "weights_sha256": entry.model.weights_sha256,
        "status": entry.submission.status,
        "n_images": entry.data.n_images,
        "n_spectral_images": spectral.n_images,
        "input_height": spectral.image_size[0],
        "input_width": spectral.image_size[1],
        **_estimate("clean_accuracy", clean.value, clean.interval),
        **_estimate("signed_score", spectral.signed_score, spectral.signed_score_interval),
        **_estimate("score", spectral.score, spectral.score_interval),
    }
    evidence = Evidence.of(spectral.shapley_values, spectral.shapley_se)
    for k, ends in enumerate(evidence.intervals.tolist()):
        row |= _estimate(f"shapley_value_{k}", spectral.shapley_values[k], ends)
    row |= {f"share_{k}": value for k, value in enumerate(spectral.distribution)}
    row |= _corrupted(entry.corruption)
    cases = dict(_cases(entry))
    for attack in attack_columns:
        case = cases.get(attack)
        if case is None:
            row |= _estimate(attack.column, None, (None, None))
        else:
            row |= _estimate(attack.column, case.accuracy.value, case.accuracy.interval)
    return row


def _estimate(name: str, value: float | None, interval: Sequence[float | None]) -> Row:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _corrupted(corruption: Corruption | None) -> Row:
    """Return errors under corruption, all None for an entry without corruptions."""
    name = "mean_corruption_error_unnormalised"
    empty: Row = _estimate(name, None, (None, None)) | dict.fromkeys(
        [
            "n_corruptions",
            "mce",
            "mce_reference",
            "error_over_published",
            "error_over_published_reference",
            *(f"error_{group}" for group in GROUPS),
            "mean_probability_change",
        ]
    )
    if corruption is None:
        return empty
    mean, errors = corruption.unnormalised_mean_error, corruption.errors
    row = empty | _estimate(name, mean.value, mean.interval) | {"n_corruptions": mean.n_corruptions}
    for key in ("mce", "error_over_published"):
        if (claim := getattr(corruption, key)) is not None:
            row |= {key: claim.value, f"{key}_reference": claim.reference}
    for group, members in GROUPS.items():
        rates = [rate for m in members for rate in errors.get(m, {}).values()]
        row[f"error_{group}"] = _mean(rates)
    changes = [condition.probability_change.value for condition in corruption.conditions]
    return row | {"mean_probability_change": _mean(changes)}


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def attack_label(attack: Attack) -> str:
    """Return name, steps and start of an attack, which tell attacks of one budget apart."""
    steps = "" if attack.steps is None else f"-{attack.steps}x{attack.rel_stepsize:.4g}"
    starts = "" if attack.restarts == 1 else f"-{attack.restarts}"
    return attack.name + steps + (f"-random{starts}" if attack.random_start else "")


def _cases(entry: Entry) -> list[tuple[AttackColumn, WorstCase]]:
    """Return worst cases by the attacks that they are over."""
    adversarial, out = entry.adversarial, []
    if adversarial is None:
        return []
    part = adversarial.n_images < entry.data.n_images
    for case in adversarial.worst_case:
        labels = [
            attack_label(attack)
            for attack in adversarial.attacks
            if (attack.norm, attack.epsilon) == (case.norm, case.epsilon)
        ]
        column = AttackColumn(
            case.norm,
            case.epsilon,
            tuple(sorted(labels)),
            case.accuracy.n,
            entry.data.seed if part else None,
        )
        out.append((column, case))
    return out


GROUPS = {
    group: tuple(name for name in CORRUPTIONS if CORRUPTION_GROUPS[name] == group)
    for group in dict.fromkeys(CORRUPTION_GROUPS.values())
}
