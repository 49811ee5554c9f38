"""Checks of an entry's corruption and adversarial groups, each against its own conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from iaside_plugins.corruptions.apply import CORRUPTION_GROUPS, CORRUPTIONS
from iaside_plugins.corruptions.error_rates import (
    CORRUPTIONS_3DCC,
    SEVERITIES,
    mean_corruption_error,
    unnormalised_mean_error,
)
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.schema import Adversarial, Attack, Corruption, Normalised, WorstCase
from iaside_plugins.errors import InputError

Problems = Iterator[str]
GROUPS = {
    group: tuple(name for name in CORRUPTIONS if CORRUPTION_GROUPS[name] == group)
    for group in dict.fromkeys(CORRUPTION_GROUPS.values())
}


def severity_errors(corruption: Corruption) -> dict[str, dict[int, float]]:
    """Error rates by corruption and severity."""
    errors: dict[str, dict[int, float]] = {}
    for condition in corruption.conditions:
        errors.setdefault(condition.corruption, {})[condition.severity] = condition.error.value
    return errors


def benchmark_of(corruption: Corruption) -> tuple[str, ...]:
    """The corruptions of an mCE: the 12 of ImageNet-3DCC where there is one of them, or the 15."""
    names = {condition.corruption for condition in corruption.conditions}
    return CORRUPTIONS_3DCC if names & set(CORRUPTIONS_3DCC) else CORRUPTIONS


def corruption_problems(corruption: Corruption) -> Problems:
    """Problems of the conditions, and of the means made from them."""
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
    errors = severity_errors(corruption)
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
        if corruption.constants != "224" and benchmark_of(corruption) is CORRUPTIONS:
            yield "/corruption/error_over_published: published tables are of 224-pixel images"
        yield from _ratio_problems("error_over_published", over, errors, over.reference)


def _ratio_problems(name: str, claim: Normalised, errors: Any, reference: Any) -> Problems:
    """Problems of a corruption error over a reference's, computed again."""
    try:
        ratio = mean_corruption_error(errors, reference)
    except InputError as error:
        yield f"/corruption/{name}/reference: {error}"
        return
    if abs(claim.value - ratio) > 1e-6:
        yield f"/corruption/{name}/value: expected {ratio:.9g}, got {claim.value:.9g}"


def _incomplete(corruption: Corruption) -> Problems:
    """Conditions that are unknown, double or lacking."""
    seen: set[tuple[str, int]] = set()
    names = benchmark_of(corruption)
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
    """A condition may have images that another lacks; the mean is over those that all have."""
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


def adversarial_problems(adversarial: Adversarial) -> Problems:
    """Problems of the attacks, and of the worst cases made from them."""
    seen: set[tuple[object, ...]] = set()
    for k, attack in enumerate(adversarial.attacks):
        place = pointer("adversarial", "attacks", k)
        cell = (
            attack.name,
            attack.norm,
            attack.steps,
            attack.rel_stepsize,
            attack.random_start,
            attack.epsilon,
        )
        if cell in seen:
            yield f"{place}: expected every attack once, got {attack.name} again"
        seen.add(cell)
        for name in ("accuracy", "probability_change"):
            yield from _n_images(f"{place}/{name}", getattr(attack, name).n, adversarial.n_images)
    threats = [(case.norm, case.epsilon) for case in adversarial.worst_case]
    for norm, epsilon in dict.fromkeys((a.norm, a.epsilon) for a in adversarial.attacks):
        if (norm, epsilon) not in threats:
            yield f"/adversarial/worst_case: expected one for {norm} {epsilon:.6g}, got none"
    for k, case in enumerate(adversarial.worst_case):
        place = pointer("adversarial", "worst_case", k)
        if threats.index(threats[k]) < k:
            yield f"{place}: expected one worst case a norm and epsilon, got another"
        yield from _n_images(f"{place}/accuracy", case.accuracy.n, adversarial.n_images)
        yield from _worst_case(place, case, adversarial.attacks)


def _n_images(place: str, got: int, expected: int) -> Problems:
    if got != expected:
        yield f"{place}/n: expected {expected} images, got {got}"


def _worst_case(place: str, case: WorstCase, attacks: tuple[Attack, ...]) -> Problems:
    """At most the least of the accuracies; at least 1 minus the sum of their errors."""
    own = [a for a in attacks if (a.norm, a.epsilon) == (case.norm, case.epsilon)]
    if Counter(case.attacks) != Counter(attack.name for attack in own):
        names = [attack.name for attack in own]
        yield f"{place}/attacks: expected all of that norm and epsilon, {names}, got {case.attacks}"
        return
    high = min(attack.accuracy.value for attack in own)
    low = max(0.0, 1 - sum(1 - attack.accuracy.value for attack in own))
    if not low - 1e-9 <= case.accuracy.value <= high + 1e-9:
        yield (
            f"{place}/accuracy/value: expected from {low:.9g} to {high:.9g}, "
            f"got {case.accuracy.value!r}"
        )
