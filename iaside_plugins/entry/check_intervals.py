"""Intervals of an entry: computed again where its numbers determine them, else what they must be.

Wilson's interval follows from k and n. Intervals of means and jackknife intervals need values of
single images, which an entry does not hold: they must lie around their value as far to either side
(but where they are cut to the range of what they are of), inside that range, and no wider than any
values of that mean could make them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from iaside_plugins.entry.check_text import walk
from iaside_plugins.entry.schema import Entry, Mean, MeanError, Proportion, Spectral
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.score import score_range
from iaside_plugins.stats.intervals import Z95, wilson

Problems = Iterator[str]
TOLERANCE = 1e-6  # of numbers computed again: rounding in other orders of summation, far exceeded
ROUNDING = 1e-9  # of an interval's end against its own value
Limits = tuple[float, float]
NO_LIMITS = (-math.inf, math.inf)


def interval_problems(entry: Entry) -> Problems:
    """Proportions are k/n with Wilson's interval; means have intervals that they can have."""
    for place, part in walk(entry):
        if isinstance(part, Proportion):
            hits = part.value * part.n
            if abs(hits - round(hits)) > TOLERANCE:
                yield f"{place}/value: expected a multiple of 1/{part.n}, got {part.value!r}"
            yield from close(f"{place}/interval", part.interval, np.array(wilson(hits, part.n)))
        elif isinstance(part, Mean):
            limits = (0.0, 1.0) if isinstance(part, MeanError) else NO_LIMITS
            yield from _around(f"{place}/interval", part.value, part.interval, part.n, limits)
            yield from _not_wider(f"{place}/interval", part)


def spectral_interval_problems(spectral: Spectral, protocol: Protocol, home: str) -> Problems:
    """Intervals of one spectral importance, and numbers that only one image leaves undefined."""
    low, high = score_range(protocol.n_bands, protocol.beta)
    # Where bands tie, the interval also reaches over what they give as one.
    even = spectral.score_intervals == "jackknife" or len(spectral.tied_bands) == 1
    for name, limits in (("score", (0.0, max(-low, high))), ("signed_score", (low, high))):
        place, interval = f"{home}/{name}_interval", getattr(spectral, f"{name}_interval")
        n, value = spectral.n_images, getattr(spectral, name)
        yield from _around(place, value, interval, n, limits, even=even)
    shares = zip(spectral.distribution, spectral.distribution_interval, strict=True)
    for k, (share, interval) in enumerate(shares):
        place = f"{home}/distribution_interval/{k}"
        yield from _around(place, share, interval, spectral.n_images, (0.0, 1.0))
    for name in ("shapley_se", "score_bias", "signed_score_bias"):
        values = getattr(spectral, name)
        missing = None in values if isinstance(values, tuple) else values is None
        if missing and spectral.n_images > 1:
            yield f"{home}/{name}: expected numbers for {spectral.n_images} images"


def close(place: str, got: float | Sequence[float], expected: np.ndarray) -> Problems:
    """The first number that is not what was computed."""
    found, wanted = np.atleast_1d(got), np.atleast_1d(expected)
    wrong = np.flatnonzero(~(np.abs(found - wanted) <= TOLERANCE))
    if len(wrong):
        k = int(wrong[0])
        where = place if np.ndim(got) == 0 else f"{place}/{k}"
        yield f"{where}: expected {wanted[k]:.9g}, got {found[k]:.9g}"


def _around(
    place: str,
    value: float,
    interval: tuple[float | None, float | None],
    n: int,
    limits: Limits,
    *,
    even: bool = True,
) -> Problems:
    """Two numbers around the value, inside the limits, and (even) as far to either side of it."""
    low, high = interval
    if low is None or high is None:
        if n > 1 or low is not high:
            yield f"{place}: expected two numbers for n = {n}, got {[low, high]}"
        return
    got = f"[{low:.9g}, {high:.9g}]"
    if not low - ROUNDING <= value <= high + ROUNDING:
        yield f"{place}: expected an interval around {value:.9g}, got {got}"
    elif low < limits[0] - ROUNDING or high > limits[1] + ROUNDING:
        yield f"{place}: expected it inside [{limits[0]:.9g}, {limits[1]:.9g}], got {got}"
    elif even and abs((value - low) - (high - value)) > ROUNDING:
        cut = low <= limits[0] + ROUNDING and value - low < high - value
        if not cut and not (high >= limits[1] - ROUNDING and high - value < value - low):
            yield f"{place}: expected it as far to either side of {value:.9g}, got {got}"


def _not_wider(place: str, mean: Mean) -> Problems:
    """Values in [0, 1] of a given mean vary at most by sqrt(mean (1 - mean) n / (n - 1)).

    A mean error is over all conditions and its interval over the images that all of them have,
    whose mean may differ: there the mean with the greatest spread stands for it.
    """
    low, high = mean.interval
    if low is None or high is None or mean.n < 2:
        return
    centre = 0.5 if isinstance(mean, MeanError) else mean.value
    widest = 2 * Z95 * math.sqrt(centre * (1 - centre) / (mean.n - 1))
    if high - low > widest + ROUNDING:
        yield (
            f"{place}: expected at most {widest:.9g} from end to end for n = {mean.n}, "
            f"got {high - low:.9g}"
        )
