"""Checks of what an entry claims: whatever its own numbers determine is computed again.

Every problem is one line: JSON pointer, what was expected, what the entry holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np

from iaside_plugins.entry.build import entry_id
from iaside_plugins.entry.check_accuracies import accuracy_problems
from iaside_plugins.entry.check_adversarial import adversarial_problems
from iaside_plugins.entry.check_benchmark import benchmark_problems
from iaside_plugins.entry.check_corruption import corruption_problems
from iaside_plugins.entry.check_decomposition import decomposition_problems
from iaside_plugins.entry.check_systematic import systematic_problems
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.per_image import unpack_bits
from iaside_plugins.entry.schema import Entry, Group, Mean, MeanError, Proportion, Spectral
from iaside_plugins.entry.texts import RESERVED, faults
from iaside_plugins.errors import InputError, cut, shown
from iaside_plugins.importance.result import band_edges
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.shapley.score import importance_distribution, score, score_range, signed_score
from iaside_plugins.stats.intervals import Z95, wilson

Problems = Iterator[str]
MACHINE = re.compile(r"[A-Za-z0-9_]{1,16}")  # "x86_64"; a host's name would be of use there
WITH_LINES = ("note", "statement", "reason")  # texts that may have several lines
NUMBERS = (float, int, type(None))
LONGEST = 600  # characters of a problem
TOLERANCE = 1e-6  # of numbers computed again: far above rounding in other orders of summation
ROUNDING = 1e-9  # of an interval's end against its own value
Limits = tuple[float, float]
NO_LIMITS = (-math.inf, math.inf)


def check_entry(entry: Entry, stem: str) -> list[str]:
    """Return the problems of one entry, one line each; empty if there are none.

    Args:
        entry: As parsed.
        stem: Name of its file without ``.json``.
    """
    return [cut(" ".join(problem.split()), LONGEST) for problem in _problems(entry, stem)]


def _problems(entry: Entry, stem: str) -> list[str]:
    problems = [*text_problems(entry), *interval_problems(entry), *_counts(entry)]
    try:
        protocol = Protocol.from_dict(entry.protocol.model_dump())
    except InputError as error:
        return [*problems, f"{pointer('protocol')}: {error}"]
    problems += _identity(entry, protocol, stem)
    for home, spectral in entry.spectra.items():
        problems += _spectral(spectral, protocol, pointer(*home))
        problems += spectral_interval_problems(spectral, protocol, pointer(*home))
    if entry.corruption is not None:
        problems += corruption_problems(entry.corruption)
    if entry.adversarial is not None:
        problems += adversarial_problems(entry.adversarial)
    problems += systematic_problems(entry)
    problems += decomposition_problems(entry)
    return [*problems, *benchmark_problems(entry), *accuracy_problems(entry)]


def _identity(entry: Entry, protocol: Protocol, stem: str) -> Problems:
    named = (entry.data.name, entry.model.name, protocol, entry.benchmark_id)
    n_taken = entry.data.n_images + entry.data.n_unreadable
    allowed = [entry_id(*named)]
    if n_taken < entry.data.n_available:  # the id of a selection may say n
        allowed.append(entry_id(*named, n_taken))
    if entry.entry_id not in allowed:
        expected = " or ".join(map(repr, allowed))
        yield f"/entry_id: expected {expected}, got {entry.entry_id!r}"
    if entry.entry_id != stem:
        yield f"/entry_id: expected the file's name {stem!r}, got {entry.entry_id!r}"
    try:
        datetime.strptime(entry.provenance.date, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        yield f"/provenance/date: expected a date in UTC, got {entry.provenance.date!r}"


def _spectral(spectral: Spectral, protocol: Protocol, home: str) -> Problems:
    """Recompute what follows from the value table, or else from the Shapley values."""
    exact = protocol.estimator == "exact"
    psi = np.array(spectral.shapley_values)
    distribution = importance_distribution(psi)
    computed = {
        "band_edges": band_edges(protocol, spectral.image_size),
        "distribution": distribution,
        "score": score(distribution, protocol.beta),
        "signed_score": signed_score(distribution, protocol.beta),
        "efficiency_residual": psi.sum() - (spectral.ends[1] - spectral.ends[0]),
    }
    if exact != (spectral.value_table is not None):
        wanted = f"2**{protocol.n_bands} numbers" if exact else "null"
        yield f"{home}/value_table: expected {wanted} for estimator {protocol.estimator!r}"
    if spectral.value_table is not None:
        table = np.array(spectral.value_table)
        computed = {"shapley_values": shapley_values(table), "ends": table[[0, -1]], **computed}
    for name, expected in computed.items():
        yield from close(f"{home}/{name}", getattr(spectral, name), expected)
    if abs(spectral.efficiency_residual) > TOLERANCE:  # float64 throughout, whatever the precision
        yield f"{home}/efficiency_residual: expected 0, got {spectral.efficiency_residual!r}"
    tied = spectral.tied_bands
    if len(set(tied)) < len(tied) or psi[tied[0]] > psi.min() + TOLERANCE:
        yield (
            f"{home}/tied_bands: expected different bands, the least ({psi.argmin()}) first, "
            f"got {list(tied)}"
        )


def _counts(entry: Entry) -> Problems:
    """Yield numbers of images that differ or exceed one another where they must not."""
    data = entry.data
    if data.n_images > data.n_available:
        yield f"/data/n_images: expected at most {data.n_available}, got {data.n_images}"
    pairs = [("/clean_accuracy/n", entry.clean_accuracy.n, data.n_images)]
    for parts, spectral in entry.spectra.items():
        home, n = pointer(*parts), spectral.n_images
        if n > data.n_images:
            yield f"{home}/n_images: expected at most {data.n_images}, got {n}"
        elif n != data.n_images and spectral.image_ids_sha256 == data.image_ids_sha256:
            yield f"{home}/image_ids_sha256: expected another for {n} of {data.n_images} images"
        pairs.append((f"{home}/clean_accuracy/n", spectral.clean_accuracy.n, n))
    if entry.adversarial is not None and entry.adversarial.n_images > data.n_images:
        got = entry.adversarial.n_images
        yield f"/adversarial/n_images: expected at most {data.n_images}, got {got}"
    for place, got, expected in pairs:
        if got != expected:
            yield f"{place}: expected {expected} images, got {got}"


def text_problems(entry: Entry) -> Problems:
    """Yield problems of every string of an entry, keys of mappings included."""
    for place, part in walk(entry):
        if isinstance(part, str):
            for expected in faults(part, lines=place.endswith(WITH_LINES)):
                yield f"{place}: expected {expected}, got {shown(part)}"
    if RESERVED.fullmatch(entry.data.name):  # it names a folder
        yield f"/data/name: expected a name that every disk takes, got {entry.data.name!r}"
    if not MACHINE.fullmatch(entry.provenance.machine):
        got = entry.provenance.machine
        wanted = "a kind of processor such as 'x86_64'"
        yield f"/provenance/machine: expected {wanted}, got {shown(got)}"


def walk(part: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Yield every part of an entry but numbers with its JSON pointer, keys of mappings included."""
    left = [(place, part)]
    while left:
        place, part = left.pop()
        yield place, part
        inside: list[tuple[str, object]] = []
        if isinstance(part, Group):
            inside = [(f"{place}/{name}", getattr(part, name)) for name in type(part).model_fields]
        elif isinstance(part, dict):
            for key, value in part.items():
                inside += [(place, key), (place + pointer(key), value)]
        elif isinstance(part, tuple) and not all(isinstance(one, NUMBERS) for one in part):
            inside = [(f"{place}/{k}", one) for k, one in enumerate(part)]
        left += [one for one in reversed(inside) if not isinstance(one[1], NUMBERS)]


def interval_problems(entry: Entry) -> Problems:
    """Yield proportions that are not k/n with Wilson's interval, and impossible intervals."""
    for place, part in walk(entry):
        if isinstance(part, Proportion):
            hits = part.value * part.n
            if abs(hits - round(hits)) > TOLERANCE:
                yield f"{place}/value: expected a multiple of 1/{part.n}, got {part.value!r}"
            yield from close(f"{place}/interval", part.interval, np.array(wilson(hits, part.n)))
            yield from _images(f"{place}/images", part, round(hits))
        elif isinstance(part, Mean):
            limits = (0.0, 1.0) if isinstance(part, MeanError) else NO_LIMITS
            yield from _around(f"{place}/interval", part.value, part.interval, part.n, limits)
            yield from _not_wider(f"{place}/interval", part)


def _images(place: str, part: Proportion, hits: int) -> Problems:
    """Yield answers by image that are not of so many images, or do not give the proportion."""
    if part.images is None:
        return
    try:
        found = int(unpack_bits(part.images, part.n).sum())
    except ValueError as error:
        yield f"{place}: {error}"
    else:
        if found != hits:
            yield f"{place}: expected {hits} images, got {found}"


def spectral_interval_problems(spectral: Spectral, protocol: Protocol, home: str) -> Problems:
    """Yield impossible intervals of one spectral importance, and numbers that are missing."""
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
    """Yield the first number that differs from the recomputed one."""
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
    """Check that an interval holds its value, lies in the limits and is symmetric (if even)."""
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
    """Check an interval's width: the spread is at most sqrt(mean (1 - mean) n / (n - 1)).

    A mean error is over all conditions and its interval over the images that all of them have,
    whose mean may differ: there 0.5 is used, the mean of the greatest spread.
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
