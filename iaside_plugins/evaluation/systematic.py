"""A model on the same files read otherwise: the plan, and the entry's ``systematic`` group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iaside_plugins.decomposition.contributions import sum_over
from iaside_plugins.entry.build import mean, paired_error, proportion
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import (
    Answers,
    ConditionRows,
    ConditionRunner,
    Images,
)
from iaside_plugins.evaluation.reading import ConditionStream, Together


@dataclass(frozen=True)
class SystematicPlan:
    """Readings of the same files by other decoders and resizes.

    Attributes:
        own: Name of the model's own reading, the clean condition.
        names: The other readings, of `corruptions.systematic.READINGS`.
        images: Name -> images of the clean ones' shape.
        left_out: Readings that are not evaluated, each with the reason.
        together: Reads the clean images and all others in one pass, see `reading.Together`; None
            to read one after another.
    """

    own: str
    names: tuple[str, ...]
    images: Callable[[str], Images]
    left_out: tuple[str, ...] = ()
    together: Together | None = None


class SystematicRows:
    """A model's answers to the same files read otherwise, taken as the images come.

    Args:
        runner: Runs the model.
        plan: What is evaluated.

    Attributes:
        own: Those of the model's own reading, which take the batches of the clean images.
        streams: One of every other reading.
    """

    def __init__(self, runner: ConditionRunner, plan: SystematicPlan) -> None:
        self._plan = plan
        self.own, *others = self._rows = [
            ConditionRows(runner, f"systematic|{name}", predicted=True)
            for name in (plan.own, *plan.names)
        ]
        self.streams = [
            ConditionStream(plan.images(name), (rows,))
            for name, rows in zip(plan.names, others, strict=True)
        ]

    def group(self) -> dict[str, Any]:
        """Return the entry's ``systematic`` group.

        All of its numbers are of the images that can be read under every condition.

        Raises:
            InputError: No image is readable under all.
        """
        return _group(self._plan, [rows.answers() for rows in self._rows])


def _group(plan: SystematicPlan, found: Sequence[Answers]) -> dict[str, Any]:
    """Return the group of answers under every condition, the model's own first."""
    everywhere = set.intersection(*(set(answers.ids) for answers in found))
    shared = [name for name in found[0].ids if name in everywhere]
    if not shared:
        raise InputError("no image can be read under every condition of systematic noise")
    own, *others = (answers.at(shared) for answers in found)
    wrong = np.array([~other.correct for other in others], dtype=np.float64)
    added = wrong - ~own.correct
    conditions = [
        {
            "condition": name,
            "error": proportion(~other.correct),
            **paired_error(own.correct, other.correct),
            "probability_change": mean(np.abs(other.probability - own.probability)),
            "changed": proportion(other.prediction != own.prediction),
        }
        for name, other in zip(plan.names, others, strict=True)
    ]
    over_all = sum_over(added, np.full(len(added), 1 / len(added)))
    return {
        "own": plan.own,
        "n_images": len(shared),
        "own_accuracy": proportion(own.correct),
        "conditions": conditions,
        "mean_error": mean(wrong.mean(axis=0)),
        "mean_added": {
            "value": over_all.value,
            "interval": over_all.interval,
            "n": len(shared),
        },
        "worst": plan.names[int(np.argmax(wrong.sum(axis=1)))],
        "left_out": list(plan.left_out),
    }
