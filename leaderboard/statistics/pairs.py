"""Differences of two models on the same images, where their entries say which images are right.

Both models see every image, so a difference is known better than two intervals of single models
tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from iaside_plugins.entry.per_image import unpack_bits
from iaside_plugins.entry.schema import Proportion
from iaside_plugins.leaderboard.table.frame import Table
from iaside_plugins.leaderboard.table.rows import AttackColumn, ModelRow, errors_by_image
from iaside_plugins.stats.intervals import mean_interval, paired_change

MOST_MODELS = 40  # of a table: 780 pairs
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """The second model's number less the first's, a share of 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedColumn:
    """One quantity of every pair of models.

    Attributes:
        label: What it is, as the board's columns have it.
        differences: By the places of two rows, the first less than the second.
    """

    label: str
    differences: dict[tuple[int, int], PairedDifference]


def paired_columns(table: Table, attacks: list[AttackColumn]) -> list[PairedColumn]:
    """Return clean accuracy, mean error under corruption and robust accuracies, pair by pair.

    Args:
        table: Of the board; above `MOST_MODELS` models nothing is compared.
        attacks: Columns of robust accuracy to compare.
    """
    if len(table.models) > MOST_MODELS:
        return []
    readers: list[tuple[str, Callable[[ModelRow], Array | None]]] = [
        ("clean accuracy", _clean),
        ("mean corruption error", _corrupted),
        *((f"robust accuracy ({a.budget}, {a.words})", _attacked(a)) for a in attacks),
    ]
    found = [_column(label, [read(row) for row in table.models]) for label, read in readers]
    return [column for column in found if column.differences]


def _column(label: str, images: list[Array | None]) -> PairedColumn:
    pairs = {
        (i, j): _difference(first, second)
        for (i, first), (j, second) in combinations(enumerate(images), 2)
        if first is not None and second is not None and len(first) == len(second)
    }
    return PairedColumn(label, pairs)


def _difference(first: Array, second: Array) -> PairedDifference:
    """Return the mean of second - first: of flags as in `paired_change`, else with a normal one."""
    if np.isin([*first, *second], (0.0, 1.0)).all():
        gained, lost = int((second > first).sum()), int((second < first).sum())
        return PairedDifference(*paired_change(gained, lost, len(first)))
    value, ends = mean_interval(second - first)
    return PairedDifference(value, *ends)


def _flags(part: Proportion) -> Array | None:
    return None if part.images is None else unpack_bits(part.images, part.n).astype(float)


def _clean(row: ModelRow) -> Array | None:
    return _flags(row.entry.clean_accuracy)


def _corrupted(row: ModelRow) -> Array | None:
    return None if row.entry.corruption is None else errors_by_image(row.entry.corruption)


def _attacked(attack: AttackColumn) -> Callable[[ModelRow], Array | None]:
    def read(row: ModelRow) -> Array | None:
        return _flags(row.cases[attack][0].accuracy) if attack in row.cases else None

    return read
