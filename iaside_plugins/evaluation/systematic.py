"""A model on the same files read otherwise: the plan, and the entry's ``systematic`` group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iaside_plugins.decomposition.contributions import sum_over
from iaside_plugins.entry.build import mean, paired_error, proportion
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Batch, ConditionRunner, Images

Together = Callable[[Sequence[Any]], Iterable[tuple[int, Batch]]]


@dataclass(frozen=True)
class SystematicPlan:
    """Readings of the same files by other decoders and resizes.

    Attributes:
        own: Name of the model's own reading, the clean condition.
        names: The other readings, of `corruptions.systematic.READINGS`.
        images: Name -> images of the clean ones' shape.
        left_out: Readings that are not evaluated, each with the reason.
        together: Reads several streams in one pass: -> (index, batch) in any order; None to read
            one after another.
    """

    own: str
    names: tuple[str, ...]
    images: Callable[[str], Images]
    left_out: tuple[str, ...] = ()
    together: Together | None = None


def systematic_group(
    runner: ConditionRunner, plan: SystematicPlan, clean: Images
) -> dict[str, Any]:
    """Return the entry's ``systematic`` group.

    All of its numbers are of the images that can be read under every condition.

    Args:
        runner: Runs the model.
        plan: What is evaluated.
        clean: The images as the model takes them.

    Raises:
        InputError: As `ConditionRunner.run_together`, or no image is readable under all.
    """
    streams = [clean, *map(plan.images, plan.names)]
    tags = [f"systematic|{name}" for name in (plan.own, *plan.names)]
    batches = (plan.together or _in_turn)(streams)
    found = runner.answers_together(tags, batches)
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


def _in_turn(streams: Sequence[Images]) -> Iterator[tuple[int, Batch]]:
    """Yield the batches of streams, one stream after another, with the number of the stream."""
    for k, images in enumerate(streams):
        yield from ((k, batch) for batch in images)
