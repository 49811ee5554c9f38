"""Checks of an entry's groups on perturbed images: corruption, adversarial, benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import (
    CORRUPTIONS_3DCC,
    SEVERITIES,
    mean_corruption_error,
    unnormalised_mean_error,
)
from iaside_plugins.display.masking import is_weaker
from iaside_plugins.entry.build import (
    CLEAN,
    CYCLED,
    LISTED,
    SELECTED_ALL,
    SELECTED_FIRST,
    SELECTED_RANDOM,
    STANDARD,
    WHOLE_LIST,
)
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.per_image import unpack_bits
from iaside_plugins.entry.schema import (
    Adversarial,
    Attack,
    Benchmark,
    Corruption,
    Entry,
    Masking,
    Normalised,
    TemperatureCheck,
    WorstCase,
)
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import ids_digest

Problems = Iterator[str]
LIST_SHA256 = (
    "d4121626d07722a0126c35b1563042e46a546f1a05ce705f2cdc635896d58574"  # of the ids of all 5000
)
ROUNDING = 1e-9


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


def benchmark_problems(entry: Entry) -> Problems:
    """Yield problems of the ``benchmark`` group; none for an entry without one."""
    benchmark = entry.benchmark
    if benchmark is None:
        return
    groups = list(_groups(entry, benchmark))
    yield from groups
    yield from _selection(entry, benchmark)
    if not groups:
        yield from _after_attack(entry, benchmark)
        yield from _profiles(entry, benchmark)


def _groups(entry: Entry, benchmark: Benchmark) -> Problems:
    """Yield groups that are missing for the threat model, or do not belong to it."""
    is_attack = benchmark.threat_model in ("Linf", "L2")
    for name, wanted in (("adversarial", is_attack), ("corruption", not is_attack)):
        if (getattr(entry, name) is not None) != wanted:
            what = "a group" if wanted else "null"
            yield f"/{name}: expected {what} for threat_model {benchmark.threat_model!r}"
    if (benchmark.corrupted_preprocessing is None) != is_attack:
        what = "null" if is_attack else "text"
        yield f"/benchmark/corrupted_preprocessing: expected {what} for {benchmark.threat_model!r}"
    if is_attack and entry.adversarial is not None:
        for k, attack in enumerate(entry.adversarial.attacks):
            if attack.norm != benchmark.threat_model:
                place = pointer("adversarial", "attacks", k, "norm")
                yield f"{place}: expected {benchmark.threat_model!r}, got {attack.norm!r}"
    if not is_attack and entry.corruption is not None:
        is_3d = entry.corruption.names is CORRUPTIONS_3DCC
        if is_3d != (benchmark.threat_model == "corruptions_3d"):
            got = "corruptions_3d" if is_3d else "corruptions"
            yield f"/benchmark/threat_model: expected {got!r}, got {benchmark.threat_model!r}"


def _selection(entry: Entry, benchmark: Benchmark) -> Problems:
    """Compare how images were selected with their number, the data set and the seed."""
    data, got = entry.data, benchmark.selection
    n = data.n_images + data.n_unreadable
    by_seed = SELECTED_RANDOM.format(seed=data.seed)
    possible = {
        LISTED: data.name == "imagenet" and _is_listed(entry, n),
        SELECTED_ALL: n == data.n_available,
        SELECTED_FIRST: data.name in ("cifar10", "cifar100"),
        by_seed: n < data.n_available,
    }
    if not possible.get(got, False):
        fitting = [text for text, fits in possible.items() if fits]
        yield (
            f"/benchmark/selection: expected one that {n} of {data.n_available} images of "
            f"{data.name} with these ids can be ({', '.join(map(repr, fitting))}), got {got!r}"
        )


def _is_listed(entry: Entry, n: int) -> bool:
    """Return whether the ids are the first n of RobustBench's list, as far as is known.

    Parts of the list are known only where RobustBench is installed, and the ids of unreadable
    images are not known at all.
    """
    if n > WHOLE_LIST:
        return False
    if entry.data.n_unreadable:
        return True
    if n == WHOLE_LIST:
        return entry.data.image_ids_sha256 == LIST_SHA256
    from iaside_plugins.entry.robustbench_json import robustbench_ids

    listed = robustbench_ids()
    return not listed or ids_digest(listed[:n]) == entry.data.image_ids_sha256


def _after_attack(entry: Entry, benchmark: Benchmark) -> Problems:
    """Check that accuracies fall from the clean one to the robust one, at every budget."""
    place = "/benchmark/after_attack"
    attacks = entry.adversarial.attacks if entry.adversarial is not None else ()
    accuracies = {attack.epsilon: attack.accuracy.value for attack in attacks}
    orders = {attack.epsilon: _order(attack.name) for attack in attacks}
    found: dict[float, list[tuple[str, float]]] = {}
    for step in benchmark.after_attack:
        found.setdefault(step.epsilon, []).append((step.attack, step.accuracy))
    if sorted(found) != sorted(accuracies):
        yield f"{place}: expected epsilons {sorted(accuracies)}, got {sorted(found)}"
        return
    for budget, steps in found.items():
        names = [name for name, _ in steps]
        values = [value for _, value in steps]
        where = f"{place} at epsilon {budget:.6g}"
        if names != [CLEAN, *orders[budget]]:
            yield f"{where}: expected {[CLEAN, *orders[budget]]}, got {names}"
        if abs(values[0] - entry.clean_accuracy.value) > ROUNDING:
            yield f"{where}: expected {entry.clean_accuracy.value:.9g} first, got {values[0]:.9g}"
        if any(np.diff(values) > ROUNDING):
            yield f"{where}: expected accuracies that only fall, got {values}"
        if abs(values[-1] - accuracies[budget]) > ROUNDING:
            yield f"{where}: expected {accuracies[budget]:.9g} last, got {values[-1]:.9g}"


def _order(name: str) -> list[str]:
    """Return the attacks in the name of a run of AutoAttack."""
    custom = name.removeprefix("autoattack_custom_")
    return list(STANDARD) if name == "autoattack_standard" else custom.split("_")


def _profiles(entry: Entry, benchmark: Benchmark) -> Problems:
    """Yield conditions without a profile, if there are profiles, and profiles of other images."""
    got = [profile.condition for profile in benchmark.profiles]
    if entry.adversarial is None:
        expected = [CYCLED]
    else:
        expected = [
            f"{a.name} {a.norm} {format_budget(a.epsilon)}" for a in entry.adversarial.attacks
        ]
    if got and got != expected:
        yield f"/benchmark/profiles: expected the conditions {expected}, got {got}"
    for k, profile in enumerate(benchmark.profiles):
        place = pointer("benchmark", "profiles", k, "image_ids_sha256")
        if entry.adversarial is None:  # in the order of the cells
            continue
        if profile.image_ids_sha256 != entry.spectral.image_ids_sha256:
            yield f"{place}: expected {entry.spectral.image_ids_sha256!r}, the clean images'"
