"""One frame of raw floats a table: rows that share protocol, images and corruptions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS, CORRUPTIONS
from iaside_plugins.entry.schema import Corruption, Entry
from iaside_plugins.importance.evidence import Evidence
from iaside_plugins.leaderboard.table.rows import (
    KEYS,
    AttackColumn,
    ModelRow,
    errors_by_image,
    grouped,
    keys,
)
from iaside_plugins.leaderboard.table.splits import corruption_split
from iaside_plugins.stats.intervals import mean_interval

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
TEXTS = (
    "dataset",
    "protocol_id",
    "benchmark",
    "other_entry_ids",
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
CORRUPTION_ERROR = "mean_corruption_error_unnormalised"
GROUPS = {
    group: tuple(name for name in CORRUPTIONS if CORRUPTION_GROUPS[name] == group)
    for group in dict.fromkeys(CORRUPTION_GROUPS.values())
}


@dataclass(frozen=True)
class Table:
    """Models that may stand in one table, best clean accuracy first, then by name.

    Attributes:
        models: In the order of the rows.
        attack_columns: The columns of robust accuracy that any of them has.
        frame: One row an entry, raw numbers; missing ones are NaN or NA.
    """

    models: tuple[ModelRow, ...]
    attack_columns: tuple[AttackColumn, ...]
    frame: pd.DataFrame

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What the entries of every row say together, but for their attacks."""
        return tuple(row.entry for row in self.models)

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
    """Return the tables of entries, in the order of what they share (`KEYS`)."""
    return [_table(rows) for rows in grouped(entries)]


def concatenated(parts: list[Table]) -> pd.DataFrame:
    """Concatenate all tables; a column that a table lacks is empty there."""
    import pandas as pd

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


def is_missing(value: Any) -> bool:
    """Return whether a cell of a frame has no value: None, NaN or NA."""
    import pandas as pd

    return bool(pd.isna(value))


def _table(rows: tuple[ModelRow, ...]) -> Table:
    import pandas as pd

    attack_columns = tuple(sorted({column for row in rows for column in row.cases}))
    frame = _typed(pd.DataFrame([_row(row, attack_columns) for row in rows], dtype=object))
    return Table(rows, attack_columns, frame)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert counts to nullable integers, text to objects, all else to floats.

    Frames are made of objects first: pandas would turn a missing text into NaN.
    """
    kinds = dict.fromkeys(TEXTS, "object") | dict.fromkeys(COUNTS, "Int64")
    return frame.astype({name: kinds.get(name, "float64") for name in frame.columns})


def _row(model: ModelRow, attack_columns: tuple[AttackColumn, ...]) -> Row:
    entry = model.entry
    spectral, clean = entry.spectral, entry.clean_accuracy
    row: Row = keys(entry) | {
        "model": entry.model.name,
        "training": entry.model.training,
        "n_parameters": entry.model.n_parameters,
        "entry_id": entry.entry_id,
        "other_entry_ids": " ".join(e.entry_id for e in model.entries[1:]) or None,
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
    row |= _corrupted(entry.corruption) | _split(entry)
    for attack in attack_columns:
        if attack in model.cases:
            accuracy = model.cases[attack][0].accuracy
            row |= _estimate(attack.column, accuracy.value, accuracy.interval)
        else:
            row |= _estimate(attack.column, None, (None, None))
    return row


def _estimate(name: str, value: float | None, interval: Sequence[float | None]) -> Row:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _corrupted(corruption: Corruption | None) -> Row:
    """Return errors under corruption, all None for an entry without corruptions."""
    empty: Row = _estimate(CORRUPTION_ERROR, None, (None, None)) | dict.fromkeys(
        [
            "n_corruptions",
            "mce",
            "mce_reference",
            "error_over_published",
            "error_over_published_reference",
            *(f"error_{group}{end}" for group in GROUPS for end in ("", "_low", "_high")),
            "mean_probability_change",
        ]
    )
    if corruption is None:
        return empty
    mean, errors = corruption.unnormalised_mean_error, corruption.errors
    row = empty | _estimate(CORRUPTION_ERROR, mean.value, mean.interval)
    row["n_corruptions"] = mean.n_corruptions
    for key in ("mce", "error_over_published"):
        if (claim := getattr(corruption, key)) is not None:
            row |= {key: claim.value, f"{key}_reference": claim.reference}
    for group, members in GROUPS.items():
        rates = [rate for m in members for rate in errors.get(m, {}).values()]
        row |= _estimate(f"error_{group}", _mean(rates), _interval(corruption, members))
    changes = [condition.probability_change.value for condition in corruption.conditions]
    return row | {"mean_probability_change": _mean(changes)}


def _interval(corruption: Corruption, members: Sequence[str]) -> tuple[float | None, float | None]:
    """Return the 95 % interval over images of a mean error; none without errors by image."""
    by_image = errors_by_image(corruption, members)
    if by_image is None or len(by_image) < 2:
        return None, None
    _, (low, high) = mean_interval(by_image)
    return max(0.0, low), min(1.0, high)


def _split(entry: Entry) -> Row:
    """Return the clean error and what every band adds; without a decomposition no band."""
    found = corruption_split(entry.decomposition)
    if found is None:
        return {"error_by_band_clean": None}
    bands = {f"error_by_band_{k}": value for k, value in enumerate(found.bands)}
    return {"error_by_band_clean": found.clean, **bands}


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
