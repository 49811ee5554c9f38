"""Checks of an entry's ``adversarial`` group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.budgets import format_budget
from iaside_plugins.display.masking import is_weaker
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.per_image import unpack_bits
from iaside_plugins.entry.schema import Adversarial, Attack, Masking, TemperatureCheck, WorstCase

Problems = Iterator[str]
ROUNDING = 1e-9


def adversarial_problems(adversarial: Adversarial) -> Problems:
    """Yield problems of the attacks, and of the worst cases over them."""
    seen: set[tuple[object, ...]] = set()
    for k, attack in enumerate(adversarial.attacks):
        place = pointer("adversarial", "attacks", k)
        cell = (*_settings(attack), attack.epsilon)
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
    yield from _rising(adversarial.worst_case)
    if adversarial.masking is not None:
        yield from _masking(adversarial, adversarial.masking)


def _masking(adversarial: Adversarial, masking: Masking) -> Problems:
    """Check what attacks saw against their number of images, and against their accuracies."""
    place, n = "/adversarial/masking", masking.n_images
    most = max(attack.accuracy.value for attack in adversarial.attacks) * adversarial.n_images
    if not most - 0.5 <= n <= adversarial.n_images:
        yield (
            f"{place}/n_images: expected at least the {most:.0f} that an attack leaves and at most "
            f"{adversarial.n_images}, got {n}"
        )
    for name in ("n_zero", "n_non_finite", "n_varying"):
        if getattr(masking, name) > n:
            yield f"{place}/{name}: expected at most {n} images, got {getattr(masking, name)}"
    if masking.n_zero + masking.n_non_finite > n:
        yield f"{place}: expected one kind of gradient an image, got more than {n}"
    attacks = [attack.model_dump() for attack in adversarial.attacks]
    lost = {
        (a["name"], b["name"], a["norm"], a["epsilon"]): a["accuracy"]["value"]
        - b["accuracy"]["value"]
        for a in attacks
        for b in attacks
        if is_weaker(a, b)
    }
    values = {(a.name, a.norm, a.epsilon): a.accuracy.value for a in adversarial.attacks}
    for k, pair in enumerate(masking.apart):
        ends = [values.get((name, pair.norm, pair.epsilon)) for name in (pair.attack, pair.other)]
        if ends[0] is None or ends[1] is None:
            yield f"{place}/apart/{k}: expected two attacks of this entry at one budget"
        elif abs(ends[0] - ends[1] - pair.difference) > ROUNDING:
            expected = ends[0] - ends[1]
            yield f"{place}/apart/{k}/difference: expected {expected:.9g}, got {pair.difference!r}"
    if masking.temperature is not None:
        yield from _temperature(adversarial, masking.temperature)
    said = [(w.attack, w.single, w.norm, w.epsilon) for w in masking.weaker]
    if Counter(said) != Counter(lost.keys()):
        yield f"{place}/weaker: expected {[*lost]}, got {said}"
        return
    for k, one in enumerate(masking.weaker):
        least = round(lost[said[k]] * adversarial.n_images)
        if not least <= one.n_missed <= n:
            yield (
                f"{place}/weaker/{k}/n_missed: expected from {least} to {n} images, got "
                f"{one.n_missed}"
            )


def _temperature(adversarial: Adversarial, check: TemperatureCheck) -> Problems:
    """Check that an attack at temperatures is one of the entry, and its counts fall."""
    place = "/adversarial/masking/temperature"
    if check.n_images > adversarial.n_images:
        yield (f"{place}/n_images: expected at most {adversarial.n_images}, got {check.n_images}")
    own = [a.epsilon for a in adversarial.attacks if (a.name, a.norm) == (check.attack, check.norm)]
    got = [case.epsilon for case in check.cases]
    if Counter(got) != Counter(own):
        yield f"{place}/cases: expected the epsilons of {check.attack}, {own}, got {got}"
    for k, case in enumerate(check.cases):
        if not case.n_left <= case.n_robust <= check.n_images:
            yield (
                f"{place}/cases/{k}: expected n_left <= n_robust <= {check.n_images}, got "
                f"{case.n_left} and {case.n_robust}"
            )


def _n_images(place: str, got: int, expected: int) -> Problems:
    if got != expected:
        yield f"{place}/n: expected {expected} images, got {got}"


def _worst_case(place: str, case: WorstCase, attacks: tuple[Attack, ...]) -> Problems:
    """Check a worst case's bounds: the least accuracy; 1 minus the sum of the errors.

    An attack of a smaller budget counts too: what it finds lies within the larger one.
    """
    own = [a for a in attacks if a.norm == case.norm and a.epsilon <= case.epsilon]
    names = [name for name, *_ in dict.fromkeys(_settings(attack) for attack in own)]
    if Counter(case.attacks) != Counter(names):
        yield (
            f"{place}/attacks: expected all of that norm up to that epsilon, {names}, "
            f"got {case.attacks}"
        )
        return
    high = min(attack.accuracy.value for attack in own)
    low = max(0.0, 1 - sum(1 - attack.accuracy.value for attack in own))
    if not low - 1e-9 <= case.accuracy.value <= high + 1e-9:
        yield (
            f"{place}/accuracy/value: expected from {low:.9g} to {high:.9g}, "
            f"got {case.accuracy.value!r}"
        )


def _settings(attack: Attack) -> tuple[Any, ...]:
    """Return what tells an attack from others, whatever its budget; its name first."""
    step = attack.steps, attack.rel_stepsize
    return attack.name, attack.norm, *step, attack.random_start, attack.restarts


def _rising(cases: tuple[WorstCase, ...]) -> Problems:
    """Yield images that withstand a budget but not a smaller one of the same norm."""
    order = sorted(range(len(cases)), key=lambda k: (cases[k].norm, cases[k].epsilon))
    for smaller, k in pairwise(order):
        before, own = cases[smaller], cases[k]
        if before.norm != own.norm or before.accuracy.n != own.accuracy.n:
            continue
        more = round((own.accuracy.value - before.accuracy.value) * own.accuracy.n)
        if before.accuracy.images is not None and own.accuracy.images is not None:
            try:
                withstand, before_too = _flags(own), _flags(before)
            except ValueError:  # told of where they are counted
                continue
            more = int((withstand & ~before_too).sum())
        if more > 0:
            yield (
                f"{pointer('adversarial', 'worst_case', k)}/accuracy: expected no image that does "
                f"not withstand {before.norm} {format_budget(before.epsilon)} too, got {more} "
                "(evaluate again; with the same --resume it takes minutes)"
            )


def _flags(case: WorstCase) -> npt.NDArray[np.bool_]:
    """Return which images withstand every attack."""
    return unpack_bits(case.accuracy.images or "", case.accuracy.n)
