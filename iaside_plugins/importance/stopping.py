"""When a run has enough images: its target is known closely enough.

The target is checked at fixed numbers of images, whatever the batches. A run that stops when its
estimated interval is narrow stops more readily where it came out too narrow, most of all where a
tie of bands at the minimum was not noticed. So a check takes bands for tied that are within
`WIDE_ERRORS` standard errors of the least; the interval reported afterwards is that of any run.
Coverage after stopping is measured by `tests/bench/bench_coverage.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError
from iaside_plugins.importance.ties import difference, estimate
from iaside_plugins.shapley.score import BETA, score, signed_score
from iaside_plugins.stats.intervals import Estimate

Array = npt.NDArray[np.float64]
TARGETS = ("signed_score", "score", "sign")
MIN_IMAGES = 100  # before a run may stop: with fewer, the estimated width undercovers
CHECK_EVERY = 25
WIDE_ERRORS = 3.0  # bands so near the least may yet tie with it


@dataclass(frozen=True)
class StopCheck:
    """What is known after some images.

    Attributes:
        n_images: So many images.
        ratio: Half-width of what matters over the half-width that is wanted.
    """

    n_images: int
    ratio: float

    @property
    def done(self) -> bool:
        """Whether these images are enough."""
        return self.n_images >= MIN_IMAGES and self.ratio <= 1

    def expected(self, known: int | None = None) -> int:
        """Return the images that are likely to be enough: half-widths fall with the root of n.

        Args:
            known: How many there are at most, if that is known.
        """
        checks = math.ceil(self.n_images * self.ratio**2 / CHECK_EVERY)
        enough = max(MIN_IMAGES, CHECK_EVERY * checks, self.n_images)
        return enough if known is None else min(known, enough)


@dataclass(frozen=True)
class Stopping:
    """A target and how closely it is to be known.

    Attributes:
        error: "signed_score", "score": greatest half-width of the 95 % interval. "sign": in nats;
            every band's Shapley value must be known to be above or below 0, or to be within this
            of it, all bands together at 95 %, however often it is checked.
        target: One of `TARGETS`.
        beta: The protocol's.

    Raises:
        InputError: For an error that is not above 0, or another target.
    """

    error: float
    target: str = "signed_score"
    beta: float = BETA

    def __post_init__(self) -> None:
        if not self.error > 0:
            raise InputError(f"target_error must be above 0, got {self.error!r}")
        if self.target not in TARGETS:
            raise InputError(f"target must be one of {', '.join(TARGETS)}; got {self.target!r}")

    def check(self, per_image: Array, other: Array | None = None) -> StopCheck:
        """Check the Shapley values of all images so far.

        Args:
            per_image: (n_images, M) in nats, of at least two images.
            other: Of a second model on the same images: then what matters is the difference of
                the scores, or the sign of the difference of each band's Shapley values.
        """
        n = len(per_image)
        if self.target == "sign":
            return StopCheck(n, self._sign(per_image if other is None else per_image - other))
        found = self._score(per_image, other)
        return StopCheck(n, float(found.interval[1] - found.interval[0]) / 2 / self.error)

    def _score(self, per_image: Array, other: Array | None) -> Estimate:
        def statistic(shares: Array) -> Array:
            return (score if self.target == "score" else signed_score)(shares, self.beta)

        if other is None:
            return estimate(per_image, statistic, WIDE_ERRORS)
        return difference(per_image, other, statistic, WIDE_ERRORS)

    def _sign(self, rows: Array) -> float:
        """Return the greatest ratio over bands; below 1 if all are known as closely as wanted."""
        n, m = rows.shape
        half = rows.std(axis=0, ddof=1) * sequence_width(n, 0.05 / m)
        return float(np.max(half / np.maximum(abs(rows.mean(axis=0)), self.error)))


def stopping_rule(error: float | None, target: str, beta: float) -> Stopping | None:
    """Return the rule of a run, or None where it takes all images.

    Raises:
        InputError: See `Stopping`; and for a target without an error, which would be ignored.
    """
    if error is not None:
        return Stopping(error, target, beta)
    if target != TARGETS[0]:
        Stopping(1.0, target)
        raise InputError(f"target={target!r} needs target_error, how closely it is to be known")
    return None


def check_points(before: int, now: int) -> range:
    """Return the numbers of images in (before, now] at which a run checks its target."""
    return range((before // CHECK_EVERY + 1) * CHECK_EVERY, now + 1, CHECK_EVERY)


def sequence_width(n: int, alpha: float) -> float:
    """Return the half-width of a confidence sequence for a mean, in standard deviations.

    It holds after any number of images at once with probability 1 - alpha (for n large enough for
    the central limit), so a run may check as often as it likes; tightest at four times
    `MIN_IMAGES`. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 52
    (2024), eq. 3.
    """
    rate = -2 * math.log(alpha)
    rho2 = (rate + math.log(rate + 1)) / (4 * MIN_IMAGES)
    spread = n * rho2 + 1
    return math.sqrt(2 * spread / (n**2 * rho2) * math.log(math.sqrt(spread) / alpha))
