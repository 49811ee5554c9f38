"""Checks of an entry's ``corruption`` group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import (
    SEVERITIES,
    mean_corruption_error,
    unnormalised_mean_error,
)
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.schema import Corruption, Normalised
from iaside_plugins.errors import InputError

Problems = Iterator[str]


def corruption_problems(corruption: Corruption) -> Problems:
    """Yield problems of the conditions, and of the means over them."""
    incomplete = list(_incomplete(corruption))
    yield from incomplete
    yield from _corruption_counts(corruption)
    if corruption.missing and corruption.mce is not None:
        yield f"/corruption/mce: expected null, since {', '.join(corruption.missing)} is missing"
    if corruption.mce is not None:
        for k, condition in enumerate(corruption.conditions):
            if condition.error.n != corruption.n_images:
                yield (
                    f"/corruption/mce: expected null, since condition {k} is of "
                    f"{condition.error.n} images and others of {corruption.n_images}"
                )
                break
    if incomplete:
        return
    errors = corruption.errors
    got, expected = corruption.unnormalised_mean_error, unnormalised_mean_error(errors)
    if abs(got.value - expected) > 1e-9:
        yield (
            f"/corruption/unnormalised_mean_error/value: expected {expected!r}, got {got.value!r}"
        )
    if got.n_corruptions != len(errors):
        yield (
            f"/corruption/unnormalised_mean_error/n_corruptions: expected {len(errors)}, "
            f"got {got.n_corruptions}"
        )
    if corruption.mce is not None:
        yield from _ratio_problems("mce", corruption.mce, errors, corruption.mce.reference_errors)
    over = corruption.error_over_published
    if over is not None:
        if corruption.constants != "224" and corruption.names is CORRUPTIONS:
            yield "/corruption/error_over_published: published tables are of 224-pixel images"
        yield from _ratio_problems("error_over_published", over, errors, over.reference)


def _ratio_problems(name: str, claim: Normalised, errors: Any, reference: Any) -> Problems:
    """Recompute a corruption error over a reference's and yield what differs."""
    try:
        ratio = mean_corruption_error(errors, reference)
    except InputError as error:
        yield f"/corruption/{name}/reference: {error}"
        return
    if abs(claim.value - ratio) > 1e-6:
        yield f"/corruption/{name}/value: expected {ratio:.9g}, got {claim.value:.9g}"


def _incomplete(corruption: Corruption) -> Problems:
    """Yield conditions that are unknown, listed twice or missing."""
    seen: set[tuple[str, int]] = set()
    names = corruption.names
    for k, condition in enumerate(corruption.conditions):
        cell = (condition.corruption, condition.severity)
        place = pointer("corruption", "conditions", k)
        if condition.corruption not in names:
            yield (
                f"{place}/corruption: expected one of the {len(names)}, got "
                f"{condition.corruption!r}"
            )
        if cell in seen:
            yield f"{place}: expected every condition once, got {cell} again"
        seen.add(cell)
    present = {name for name, _ in seen}
    for name in sorted(present):
        if lacking := [s for s in SEVERITIES if (name, s) not in seen]:
            yield f"/corruption/conditions: expected 5 severities of {name}, lacking {lacking}"
    expected = sorted(set(names) - present)
    if sorted(corruption.missing) != expected:
        yield f"/corruption/missing: expected {expected}, got {list(corruption.missing)}"


def _corruption_counts(corruption: Corruption) -> Problems:
    """Yield wrong numbers of images: conditions may have more than the mean, never fewer."""
    least = corruption.n_images
    counts = {"uncorrupted_accuracy/n": corruption.uncorrupted_accuracy.n}
    for k, condition in enumerate(corruption.conditions):
        counts[f"conditions/{k}/error/n"] = condition.error.n
        if condition.probability_change.n != condition.error.n:
            yield (
                f"/corruption/conditions/{k}/probability_change/n: expected {condition.error.n} "
                f"images, got {condition.probability_change.n}"
            )
    for place, n in counts.items():
        if n < least:
            yield f"/corruption/{place}: expected at least {least} images, got {n}"
    if corruption.unnormalised_mean_error.n != least:
        yield (
            f"/corruption/unnormalised_mean_error/n: expected {least} images, "
            f"got {corruption.unnormalised_mean_error.n}"
        )
