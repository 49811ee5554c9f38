"""Finished rows of a decomposition, and the result that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Condition, Contributions
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.importance.stopping import StopCheck, check_points
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.layout import RowLayout, UnpackedRows
from iaside_plugins.value_table.rows import FinishedGroup, ImageNote

Array = npt.NDArray[np.float64]
Conditions = tuple[Condition, ...]


@dataclass
class Rows:
    """Rows of one layout, those of an image under all conditions one after the other."""

    layout: RowLayout
    rows: list[Array] = field(default_factory=list)
    notes: list[ImageNote | None] = field(default_factory=list)  # of the clean image, row by row
    keys: list[str] = field(default_factory=list)  # in the store

    def add(self, group: FinishedGroup, store: RowStore) -> None:
        """Add the rows of a group, which are in the store."""
        self.keys += group.keys
        self.rows += [store.rows[key] for key in group.keys]
        self.notes += group.donors


def n_images(parts: Sequence[Rows], conditions: Conditions) -> int:
    """Return the number of images whose rows are all there."""
    return sum(len(part.rows) for part in parts) // max(1, len(conditions))


def first_images(parts: Sequence[Rows], conditions: Conditions, n: int) -> list[Rows]:
    """Return the rows of the first n images."""
    left, kept = n * len(conditions), []
    for part in parts:
        kept.append(Rows(part.layout, part.rows[:left], part.notes[:left], part.keys[:left]))
        left -= len(kept[-1].rows)
    return kept


def stop_check(
    parts: Sequence[Rows], conditions: Conditions, before: int, target_error: float
) -> StopCheck | None:
    """Return the first check that was enough, or else the last one; None if none was due.

    Args:
        parts: All rows by now.
        conditions: Of every image.
        before: Images at the check before.
        target_error: Half-width that is wanted.
    """
    check = None
    for n in check_points(before, n_images(parts, conditions)):
        error, _ = _games(_unpacked(first_images(parts, conditions, n)), conditions)
        widths = np.diff(error.over(error.mean_conditions).bands.interval, axis=1) / 2
        check = StopCheck(n, float(widths.max()) / target_error)
        if check.done:
            break
    return check


def result_of(
    protocol: Protocol,
    parts: Sequence[Rows],
    conditions: Conditions,
    *,
    n_forward: int,
    precision: str,
    forwards: tuple[str, ...],
    label_space: str,
) -> ErrorDecomposition:
    """Return the result from rows, the conditions of the first image first."""
    found, c = _unpacked(parts), len(conditions)
    notes = [note for part in parts for note in part.notes[::c] if note is not None]
    error, loss = _games(found, conditions)
    return ErrorDecomposition(
        protocol=protocol,
        error=error,
        loss=loss,
        energy=_by_condition(found.energy, c),
        wrong=None if found.hits is None else _by_condition(~found.hits, c),
        loss_table=None if found.values is None else -_by_condition(found.values, c).mean(axis=1),
        labels=np.array([note.label for note in notes]),
        ids=tuple(note.name for note in notes),
        image_size=notes[0].size,
        n_classes=int(next(part.rows[0][0] for part in parts if part.rows)),
        n_forward=n_forward,
        precision=precision,
        forwards=forwards,
        label_space=label_space,
    )


def _unpacked(parts: Sequence[Rows]) -> UnpackedRows:
    """Return what the rows hold, in one piece; NaN for nested sets that were not evaluated."""
    found = [part.layout.unpack(np.stack(part.rows)) for part in parts if part.rows]
    if len(found) == 1:
        return found[0]
    first, other = found
    lacking = np.full((len(other.ends), 2 * other.shapley_values.shape[1] - 2), np.nan)
    return UnpackedRows(
        None,
        None,
        np.concatenate([first.ends, other.ends]),
        np.concatenate([first.shapley_values, other.shapley_values]),
        np.concatenate([first.hit_ends, other.hit_ends]),
        np.concatenate([first.hit_shapley_values, other.hit_shapley_values]),
        energy=np.concatenate([first.energy, other.energy]),
        nested=None if first.nested is None else np.concatenate([first.nested, lacking]),
        nested_hits=None
        if first.nested_hits is None
        else np.concatenate([first.nested_hits, lacking]),
    )


def _games(found: UnpackedRows, conditions: Conditions) -> tuple[Contributions, Contributions]:
    """Return the games of errors and of the loss in nats, of rows of K images x C conditions."""

    def game(ends: Array, bands: Array, nested: Array | None, *, rates: bool) -> Contributions:
        c = len(conditions)
        return Contributions(
            conditions,
            _by_condition(ends, c)[0, :, 0],
            _by_condition(ends, c)[:, :, 1],
            _by_condition(bands, c),
            None if nested is None else _by_condition(nested, c),
            rates,
        )

    wrong = None if found.nested_hits is None else 1.0 - found.nested_hits
    lost = None if found.nested is None else -found.nested
    return (
        game(1.0 - found.hit_ends.astype(np.float64), -found.hit_shapley_values, wrong, rates=True),
        game(-found.ends, -found.shapley_values, lost, rates=False),
    )


def _by_condition(values: npt.NDArray[Any], n_conditions: int) -> npt.NDArray[Any]:
    """Return (C, K, ...) of (K * C, ...), where the conditions of the first image come first."""
    return np.moveaxis(values.reshape(-1, n_conditions, *values.shape[1:]), 0, 1)
