"""Error decompositions of entries: means over some of their conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.display.text import rounded_to_sum
from iaside_plugins.entry.schema import Decomposition, Split


@dataclass(frozen=True)
class MeanSplit:
    """Shares of 1: ``clean + sum(bands) = error``, lowest band first."""

    clean: float
    bands: tuple[float, ...]
    error: float

    @classmethod
    def of(cls, splits: Sequence[Split]) -> MeanSplit:
        """Return the mean of at least one split, each with the same weight."""
        n = len(splits)
        return cls(
            math.fsum(one.clean for one in splits) / n,
            tuple(math.fsum(v) / n for v in zip(*(s.bands for s in splits), strict=True)),
            math.fsum(one.perturbed for one in splits) / n,
        )

    @property
    def points(self) -> list[float]:
        """Clean error, bands and error in points, rounded so that the row adds up."""
        return rounded_to_sum(self.clean, self.bands, self.error)

    def __str__(self) -> str:
        """Return it in percent: "5.0 + 0.5 0.8 1.6 2.3 = 10.2 %"."""
        clean, *bands, error = self.points
        return f"{clean:.1f} + {' '.join(f'{band:.1f}' for band in bands)} = {error:.1f} %"


def corruption_split(found: Decomposition | None) -> MeanSplit | None:
    """Return the mean over all corruptions and severities; None without any.

    The mean of the entry itself is also over attacks, where there are some.
    """
    splits = [] if found is None else [c for c in found.conditions if c.condition in CORRUPTIONS]
    return MeanSplit.of(splits) if splits else None
