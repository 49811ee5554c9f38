"""A model under corruptions: what is evaluated, and the entry's ``corruption`` group of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iaside_plugins.corruptions.error_rates import SEVERITIES, mean_corruption_error
from iaside_plugins.entry.build import mean, proportion
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import ConditionRunner, Images, Outcome
from iaside_plugins.stats.intervals import jackknife
from iaside_plugins.value_table.stream import count

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorruptionPlan:
    """What is evaluated under corruption.

    Attributes:
        names: Corruptions to evaluate, of the 15.
        missing: Those of the 15 that cannot be had, for example "frost" without textures.
        images: (name, severity) -> images; (None, 0) -> the same images uncorrupted through the
            same geometry, or None where that is the model's own clean input.
        settings: Recorded in the entry and in what a resumed run must equal: source, size,
            constants, jpeg, seed.
        reference: Errors of a reference model on the same images at severities 1 to 5, for mCE.
        reference_name: Its name.
        published: Name of a published table of other images to normalise by as well.
    """

    names: tuple[str, ...]
    missing: tuple[str, ...]
    images: Callable[[str | None, int], Images | None]
    settings: Mapping[str, Any]
    reference: Mapping[str, Sequence[float]] | None = None
    reference_name: str = ""
    published: str | None = None


def corruption_group(
    runner: ConditionRunner, plan: CorruptionPlan, clean: Outcome
) -> dict[str, Any]:
    """The entry's ``corruption`` group.

    Args:
        runner: Of the model.
        plan: What is evaluated.
        clean: Outcome on the clean images.

    Raises:
        InputError: A condition has no images, or they cannot be used.
    """
    settings = "-".join(f"{key}={value}" for key, value in sorted(plan.settings.items()))
    plain = plan.images(None, 0)
    base = clean if plain is None else runner.run(f"{settings}|uncorrupted", plain)
    conditions, wrong, partial = [], [], []
    for name in plan.names:
        for severity in SEVERITIES:
            images = plan.images(name, severity)
            if images is None:
                raise InputError(f"no images for {name} at severity {severity}")
            outcome = runner.run(f"{settings}|{name}-{severity}", images).among(base)
            if count(images) not in (None, len(outcome.ids)):
                partial.append(f"{name} {severity}")
            change = np.abs(outcome.probability - base.at(outcome.ids).probability)
            conditions.append(
                {
                    "corruption": name,
                    "severity": severity,
                    "error": proportion(~outcome.correct),
                    "probability_change": mean(change),
                }
            )
            wrong.append(dict(zip(outcome.ids, ~outcome.correct, strict=True)))
    shared = [name for name in base.ids if all(name in cell for cell in wrong)]
    return {
        **plan.settings,
        "n_images": len(shared),
        "uncorrupted_accuracy": proportion(base.correct),
        "conditions": conditions,
        "missing": list(plan.missing),
        "unnormalised_mean_error": _mean_error(conditions, wrong, shared, len(plan.names)),
        **_normalised(plan, conditions, partial),
    }


def _normalised(
    plan: CorruptionPlan, conditions: list[dict[str, Any]], partial: list[str]
) -> dict[str, Any]:
    """``mce`` (same images, all of them) and ``error_over_published`` (a table of other images)."""
    errors: dict[str, list[float]] = {}
    for cell in conditions:
        errors.setdefault(cell["corruption"], []).append(cell["error"]["value"])
    out: dict[str, Any] = {"mce": None, "error_over_published": None}
    if plan.missing:
        return out
    if plan.reference is not None and partial:
        _log.warning("no mCE: images of %s were unreadable, the reference has them", partial[0])
    elif plan.reference is not None:
        value = mean_corruption_error(errors, plan.reference)
        out["mce"] = {
            "value": value,
            "reference": plan.reference_name,
            "reference_errors": {name: list(plan.reference[name]) for name in plan.names},
        }
    if plan.published is not None:
        value = mean_corruption_error(errors, plan.published)
        out["error_over_published"] = {"value": value, "reference": plan.published}
    return out


def _mean_error(
    conditions: list[dict[str, Any]], wrong: list[dict[str, Any]], shared: list[str], n: int
) -> dict[str, Any]:
    """Mean error over corruptions and severities; its interval is over images, paired.

    Args:
        conditions: Cells with their ``error``.
        wrong: Of each cell, image id -> whether it is misclassified.
        shared: Ids of the images that all cells have.
        n: Corruptions.
    """
    value = float(np.mean([cell["error"]["value"] for cell in conditions]))
    per_image = np.array([[cell[name] for cell in wrong] for name in shared], dtype=float)
    estimate = jackknife(per_image.mean(axis=1, keepdims=True), lambda x: x[..., 0])
    half = float(np.diff(estimate.interval)[0]) / 2
    interval = np.clip([value - half, value + half], 0, 1)
    return {"value": value, "interval": interval, "n": len(shared), "n_corruptions": n}
