"""Error decompositions of entries: means over some of their conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import SEVERITIES, load_reference
from iaside_plugins.display.text import rounded_to_sum
from iaside_plugins.entry.schema import Decomposition, Entry, Split


@dataclass(frozen=True)
class MeanSplit:
    """Shares of 1: ``clean + sum(bands) = error``, lowest band first."""

    clean: float
    bands: tuple[float, ...]
    error: float

    @classmethod
    def of(cls, splits: Sequence[Split]) -> MeanSplit:
        """Return the mean of at least one split of an entry, each with the same weight."""
        return cls.mean([cls(one.clean, one.bands, one.perturbed) for one in splits])

    @classmethod
    def mean(cls, splits: Sequence[MeanSplit]) -> MeanSplit:
        """Return the mean of at least one, each with the same weight."""
        n = len(splits)
        return cls(
            math.fsum(one.clean for one in splits) / n,
            tuple(math.fsum(v) / n for v in zip(*(s.bands for s in splits), strict=True)),
            math.fsum(one.error for one in splits) / n,
        )

    def __truediv__(self, size: float) -> MeanSplit:
        """Return it in another unit, one of which is `size`."""
        return MeanSplit(self.clean / size, tuple(b / size for b in self.bands), self.error / size)

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


def normalised_split(entry: Entry) -> tuple[str, MeanSplit] | None:
    """Return the mCE, or the ratio over published errors, split as the error is, with its name.

    ``CE_c = sum over s of E(c, s) / sum over s of E_ref(c, s)`` and their mean are linear in the
    errors, so clean part and bands add up to it. None without a reference, and where a corruption
    lacks a severity.
    """
    found, corruption = entry.decomposition, entry.corruption
    if found is None or corruption is None:
        return None
    means: Mapping[str, float]
    if corruption.mce is not None:
        name = f"mCE, in % of {corruption.mce.reference}'s errors on the same images"
        errors = corruption.mce.reference_errors
        means = {c: math.fsum(rates) / len(rates) for c, rates in errors.items()}
    elif corruption.error_over_published is not None:
        reference = corruption.error_over_published.reference
        name = f"error ratio, in % of {reference}, errors on other images"
        means = load_reference(reference).mean_errors
    else:
        return None
    splits = []
    for c, mean in means.items():
        some = [one for one in found.conditions if one.condition == c]
        if len(some) != len(SEVERITIES):
            return None
        splits.append(MeanSplit.of(some) / mean)
    return name, MeanSplit.mean(splits)
