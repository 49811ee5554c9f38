"""Where a model's evidence is: the bands whose interval excludes 0, in nats.

Every sentence and every picture of the bands comes from here. The importance distribution is no
such thing: it shifts the values so that the least is 0, and gives bands of no evidence at all a
part above 0. It serves the score alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iaside_plugins.stats.intervals import Z95, mean_interval

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Shapley values of the bands in nats, lowest band first, with 95 % intervals.

    Attributes:
        nats: The values (M,).
        intervals: (M, 2); NaN where there is no standard error.
    """

    nats: Array
    intervals: Array

    @classmethod
    def of(cls, values: npt.ArrayLike, errors: Sequence[float | None] | Array) -> Evidence:
        """Return the evidence of Shapley values with their standard errors (None: unknown)."""
        psi = np.asarray(values, dtype=np.float64)
        half = Z95 * np.array([np.nan if e is None else e for e in errors], dtype=np.float64)
        return cls(psi, np.stack([psi - half, psi + half], axis=-1))

    @property
    def above(self) -> list[int]:
        """Bands of evidence for the true class: their interval lies above 0."""
        return np.flatnonzero(self.intervals[:, 0] > 0).tolist()

    @property
    def below(self) -> list[int]:
        """Bands of evidence against it: their interval lies below 0."""
        return np.flatnonzero(self.intervals[:, 1] < 0).tolist()

    @property
    def excludes_zero(self) -> list[int]:
        """Bands of evidence for the true class or against it: their interval excludes 0."""
        return sorted([*self.above, *self.below])

    @property
    def includes_zero(self) -> list[int]:
        """All other bands, also without an interval: no evidence is drawn or named there."""
        return sorted(set(range(len(self.nats))).difference(self.excludes_zero))

    @property
    def sentence(self) -> str:
        """Where the evidence is, in words."""
        parts = [f"evidence in {band_list(self.above)}" if self.above else "evidence in no band"]
        if self.below:
            parts.append(f"evidence against the true class in {band_list(self.below)}")
        if self.includes_zero:
            what = "no interval" if np.isnan(self.intervals).all() else "interval includes 0"
            parts.append(f"{what} in {band_list(self.includes_zero)}")
        return "; ".join(parts)


def total(per_image: npt.ArrayLike, bands: Sequence[int]) -> tuple[float, tuple[float, float]]:
    """Return the summed Shapley value of some bands in nats, with its 95 % interval over images.

    Args:
        per_image: (n_images, M), in nats.
        bands: The bands.
    """
    return mean_interval(np.asarray(per_image, dtype=np.float64)[:, list(bands)].sum(axis=1))


def band_list(bands: Sequence[int]) -> str:
    """Return ascending bands in words, for example "bands 0-2, 5"; "no band" for none."""
    if not bands:
        return "no band"
    runs: list[list[int]] = []
    for band in bands:
        if runs and band == runs[-1][-1] + 1:
            runs[-1].append(band)
        else:
            runs.append([band])
    texts = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"band{'s' * (len(bands) > 1)} {', '.join(texts)}"
