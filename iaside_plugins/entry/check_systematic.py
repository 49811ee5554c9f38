"""Checks of an entry's ``systematic`` group: errors, differences and means computed again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from iaside_plugins.corruptions.systematic import DECODER, OWN_DECODER, other_readings, own_reading
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.schema import Difference, Entry, OtherReading, Systematic
from iaside_plugins.stats.intervals import Z95, paired_change

Problems = Iterator[str]
HOME = "systematic"
ROUNDING = 1e-9


def systematic_problems(entry: Entry) -> Problems:
    """Yield problems of the ``systematic`` group; none for an entry without one."""
    group = entry.systematic
    if group is None:
        return
    if group.n_images > entry.data.n_images:
        got = f"expected at most {entry.data.n_images}, got {group.n_images}"
        yield f"{pointer(HOME, 'n_images')}: {got}"
    yield from _names(entry, group)
    wrong_counts = list(_counts(group))
    yield from wrong_counts
    if wrong_counts:
        return
    for k, one in enumerate(group.conditions):
        yield from _condition(group, one, pointer(HOME, "conditions", k))
    yield from _means(group)


def _names(entry: Entry, group: Systematic) -> Problems:
    """Yield an own reading that is not the model's, and readings missing, unknown or twice."""
    taken = entry.model.preprocessing
    resizes = taken.resize is not None
    own = own_reading(taken.interpolation) if resizes else OWN_DECODER
    if group.own != own:
        yield f"{pointer(HOME, 'own')}: expected {own!r}, as the model's images, got {group.own!r}"
    names = [one.condition for one in group.conditions]
    expected = other_readings(taken.interpolation if resizes else None, jpeg=DECODER in names)
    if Counter(names) != Counter(expected):
        place = pointer(HOME, "conditions")
        yield f"{place}: expected each of {', '.join(expected)} once, got {', '.join(names)}"


def _counts(group: Systematic) -> Problems:
    """Yield numbers of images other than the group's."""
    counts = {f"{name}/n": getattr(group, name).n for name in ("own_accuracy", "mean_error")}
    counts["mean_added/n"] = group.mean_added.n
    for k, one in enumerate(group.conditions):
        for name in ("error", "added", "probability_change", "changed"):
            counts[f"conditions/{k}/{name}/n"] = getattr(one, name).n
    for place, n in counts.items():
        if n != group.n_images:
            yield f"{pointer(HOME)}/{place}: expected {group.n_images} images, got {n}"


def _condition(group: Systematic, one: OtherReading, place: str) -> Problems:
    """Compute the difference of a reading again, and compare it with the errors."""
    n = group.n_images
    own_right, wrong, changed = group.own_accuracy.count, one.error.count, one.changed.count
    if one.n_lost > own_right or one.n_gained > n - own_right:
        yield (
            f"{place}: expected at most {own_right} lost and {n - own_right} gained images, got "
            f"{one.n_lost} and {one.n_gained}"
        )
        return
    expected = n - own_right + one.n_lost - one.n_gained
    if wrong != expected:
        yield f"{place}/error/value: expected {expected} of {n} images, got {wrong}"
    value, low, high = paired_change(one.n_lost, one.n_gained, n)
    yield from _difference(f"{place}/added", one.added, value, (low, high))
    flips = one.n_lost + one.n_gained
    most = flips + n - own_right - one.n_gained  # of the images that are wrong both times
    if not flips <= changed <= most:
        yield f"{place}/changed/value: expected from {flips} to {most} images, got {changed}"
    if flips and not one.probability_change.value:
        yield f"{place}/probability_change/value: expected more than 0, since answers turn, got 0"


def _means(group: Systematic) -> Problems:
    """Compute the means over the readings and the worst one again."""
    error = float(np.mean([one.error.value for one in group.conditions]))
    if abs(group.mean_error.value - error) > ROUNDING:
        yield f"/{HOME}/mean_error/value: expected {error:.9g}, got {group.mean_error.value:.9g}"
    added = float(np.mean([one.added.value for one in group.conditions]))
    place = f"/{HOME}/mean_added"
    yield from _difference(place, group.mean_added, added, None)
    low, high = group.mean_added.interval
    if low is not None and high is not None:
        # Of images that are all lost or gained under every reading, and half a one more each; or
        # of images that all change alike, and half a one more under one reading.
        n = group.n_images
        least = 0.5 / len(group.conditions)
        narrowest, widest = (
            2 * Z95 * math.sqrt(squares / (n - 1) / n) if n > 1 else 0.0
            for squares in (least, n + 0.5)
        )
        if abs((group.mean_added.value - low) - (high - group.mean_added.value)) > ROUNDING:
            yield f"{place}/interval: expected it as far to either side, got {[low, high]}"
        elif not narrowest - ROUNDING <= high - low <= widest + ROUNDING:
            yield (
                f"{place}/interval: expected from {narrowest:.9g} to {widest:.9g} from end to end, "
                f"got {high - low:.9g}"
            )
    worst = max(one.error.value for one in group.conditions)
    names = [one.condition for one in group.conditions if one.error.value >= worst - ROUNDING]
    if group.worst not in names:
        yield f"/{HOME}/worst: expected {' or '.join(map(repr, names))}, got {group.worst!r}"


def _difference(
    place: str, got: Difference, value: float, interval: tuple[float, float] | None
) -> Problems:
    """Yield a value or an end other than expected; None for an interval that is not known."""
    if abs(got.value - value) > ROUNDING:
        yield f"{place}/value: expected {value:.9g}, got {got.value:.9g}"
    if (got.n > 1) != (None not in got.interval):
        yield f"{place}/interval: expected two numbers for n > 1 and null for one image"
    elif interval is not None and got.n > 1:
        for k, (end, wanted) in enumerate(zip(got.interval, interval, strict=True)):
            if end is not None and abs(end - wanted) > ROUNDING:
                yield f"{place}/interval/{k}: expected {wanted:.9g}, got {end:.9g}"
