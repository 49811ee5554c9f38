"""Checks of an entry's ``benchmark`` group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.error_rates import CORRUPTIONS_3DCC
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
from iaside_plugins.entry.schema import Benchmark, Entry
from iaside_plugins.storage.provenance import ids_digest

Problems = Iterator[str]
LIST_SHA256 = (
    "d4121626d07722a0126c35b1563042e46a546f1a05ce705f2cdc635896d58574"  # of the ids of all 5000
)
ROUNDING = 1e-9


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
