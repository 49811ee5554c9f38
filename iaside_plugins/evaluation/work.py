"""What an evaluation has to do, part by part: for its bar, and for its cost before it begins."""

from __future__ import annotations

from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.decomposition.work import decomposition_work
from iaside_plugins.evaluation.plan import EvaluationPlan, PlannedAttack
from iaside_plugins.importance.run import importance_work
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import Work, added, times
from iaside_plugins.value_table.stream import count

N_CHECKED = 64  # images of the check of temperatures at most: five attacks in place of one
FACTORS = (0.1, 1.0, 10.0, 100.0)  # of the fitted temperature


def attack_work(spec: PlannedAttack) -> Work:
    """Return the work of one image at all budgets of an attack: making it, and the answers.

    Args:
        spec: The attack; its `work`, where it has one, is that of making the image.
    """
    return added(getattr(spec, "work", {}), {"forward": len(spec.epsilons)})


def conditions_work(plan: EvaluationPlan) -> dict[str, Work] | None:
    """Return the work under the conditions of a plan by part, None if unknown."""
    n = count(plan.clean)
    if n is None:
        return None
    parts: dict[str, Work] = {"clean": {"forward": n}}
    if (corruptions := plan.corruptions) is not None:
        n_plain = n * (corruptions.images(None, 0) is not None)
        n_corrupted = n * len(corruptions.names) * len(SEVERITIES)
        parts["corruptions"] = added({"forward": n_plain}, times(corruptions.work, n_corrupted))
    if (attacks := plan.attacks) is not None:
        n_attacked = count(attacks.images) or 0
        works = [times(attack_work(spec), n_attacked) for spec in attacks.specs]
        if attacks.by_gradient:
            works.append({"gradient": n_attacked})
        iterated = [spec for spec in attacks.specs if spec.to_dict()["steps"] is not None]
        if attacks.temperatures and iterated:
            n_checked = len(FACTORS) * min(n_attacked, N_CHECKED)
            works.append(times(attack_work(iterated[0]), n_checked))
        parts["attacks"] = added(*works)
    return parts


def systematic_work(plan: EvaluationPlan) -> Work | None:
    """Return the work of a plan on other readings of its files, None if unknown."""
    n = count(plan.clean)
    if n is None or plan.systematic is None:
        return None
    return {"forward": n * (1 + len(plan.systematic.names))}


def evaluation_work(plan: EvaluationPlan, protocol: Protocol) -> dict[str, Work] | None:
    """Return the work of a whole plan by part, None if it is unknown."""
    parts, n = conditions_work(plan), count(plan.spectral)
    if parts is None or n is None:
        return None
    each = [*plan.perturbed, *([] if plan.explained is None else [plan.explained])]
    splits = [decomposition_work(pairs, chains_like(protocol), count(pairs)) for pairs in each]
    if None in splits:
        return None
    found = {"importance": times(importance_work(protocol), n), **parts}
    if (read := systematic_work(plan)) is not None:
        found["systematic"] = dict(read)
    known = [work for work in splits if work is not None]
    if plan.explained is not None:
        known[-1] = {**known[-1], "corrupted": 0}  # the images are made for the corruptions
    return {**found, "explain": added(*known)} if known else found
