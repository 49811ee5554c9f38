"""A model under corruptions: what is evaluated, its reference, the entry's ``corruption`` group."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import SEVERITIES, load_reference, mean_corruption_error
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.entry.build import mean, proportion
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import (
    ConditionRows,
    ConditionRunner,
    Images,
    Outcome,
    settings_text,
)
from iaside_plugins.evaluation.reading import ConditionStream, Together
from iaside_plugins.stats.intervals import ROUNDING, jackknife, rate_interval
from iaside_plugins.storage.files import read_json
from iaside_plugins.storage.provenance import ids_digest
from iaside_plugins.value_table.progress import Work
from iaside_plugins.value_table.stream import count

PUBLISHED_SIZE = 224  # pixels, of the images behind the published tables
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorruptionPlan:
    """What is evaluated under corruption.

    Attributes:
        names: Corruptions to evaluate, of the 15.
        missing: Those of the 15 that are not available, for example "frost" without textures.
        images: (name, severity) -> images; (None, 0) -> the same images uncorrupted through the
            same geometry, or None if that is the model's own clean input.
        settings: Recorded in the entry; a resumed run must have the same: source, size, constants,
            jpeg, seed.
        reference: Errors of a reference model on the same images at severities 1 to 5, for mCE.
        reference_name: Name of the reference model.
        published: Name of a published table of other images to normalise by as well.
        together: Reads the clean images and all of `images` in one pass, see `reading.Together`;
            None to read one after another.
    """

    names: tuple[str, ...]
    missing: tuple[str, ...]
    images: Callable[[str | None, int], Images | None]
    settings: Mapping[str, Any]
    reference: Mapping[str, Sequence[float]] | None = None
    reference_name: str = ""
    published: str | None = None
    together: Together | None = None

    @property
    def work(self) -> Work:
        """Work of one corrupted image."""
        made = self.settings.get("source") == "generated"
        return {"forward": 1, "corrupted": 1} if made else {"forward": 1}

    def only(self, names: Sequence[str]) -> CorruptionPlan:
        """Return the plan of some corruptions; of all 15, of those that can be had.

        Raises:
            InputError: One of some cannot be had.
        """
        lacking = [name for name in names if name not in self.names]
        if lacking and len(names) < len(CORRUPTIONS):
            raise InputError(f"{lacking[0]} cannot be made without its textures: frost=DIR")
        kept = tuple(name for name in names if name in self.names)
        missing = tuple(name for name in CORRUPTIONS if name not in kept)
        return dataclasses.replace(self, names=kept, missing=missing)

    def corrupted(self, name: str, severity: int) -> Images:
        """Return the images of one corruption at one severity.

        Raises:
            InputError: If there are none.
        """
        images = self.images(name, severity)
        if images is None:
            raise InputError(no_images(name, severity))
        return images


def no_images(name: str, severity: int) -> str:
    """Return the error message for a corruption without images."""
    return f"no images for {name} at severity {severity}"


def paired(clean: Images, perturbed: Images) -> Iterator[tuple[list[str], Tensor, Tensor, Tensor]]:
    """Yield batches of clean images with the same images perturbed, paired by id.

    A file may be unreadable in one of the two streams: its image is left out. Batches are those of
    `perturbed`.

    Args:
        clean: Batches of (images, labels, ids).
        perturbed: The same for the perturbed images, in the same order.

    Yields:
        Ids, clean images (N, C, H, W), perturbed ones, labels (N,).
    """
    waiting: dict[str, tuple[Tensor, int]] = {}
    stream = iter(clean)
    for images, _, ids in perturbed:
        while not all(name in waiting for name in ids):
            batch = next(stream, None)
            if batch is None:
                break
            for image, label, name in zip(*batch, strict=True):
                waiting[name] = image, int(label)
        both = [k for k, name in enumerate(ids) if name in waiting]
        if both:
            pairs = [waiting.pop(ids[k]) for k in both]
            labels = torch.tensor([label for _, label in pairs])
            yield (
                [ids[k] for k in both],
                torch.stack([image for image, _ in pairs]),
                images[both],
                labels,
            )


class CorruptedRows:
    """A model's rows under the corruptions of a plan, taken as their images come.

    Args:
        runner: Runs the model.
        plan: What is evaluated.

    Attributes:
        cells: Every corruption and severity, in the plan's order.
        rows: Those of the cells.
        plain: Those of the uncorrupted images in their geometry, None if that is the clean input.
        streams: One of every condition, that of `plain` first.

    Raises:
        InputError: A condition has no images.
    """

    def __init__(self, runner: ConditionRunner, plan: CorruptionPlan) -> None:
        self._plan = plan
        settings = settings_text(plan.settings)
        self.cells = [(name, severity) for name in plan.names for severity in SEVERITIES]
        self.rows = [
            ConditionRows(runner, f"{settings}|{name}-{severity}", plan.work)
            for name, severity in self.cells
        ]
        images = [plan.corrupted(*cell) for cell in self.cells]
        self._counts = [count(one) for one in images]
        self.plain: ConditionRows | None = None
        self.streams = [
            ConditionStream(one, (rows,), Condition(*cell))
            for one, rows, cell in zip(images, self.rows, self.cells, strict=True)
        ]
        if (plain := plan.images(None, 0)) is not None:
            self.plain = ConditionRows(runner, f"{settings}|uncorrupted")
            self.streams.insert(0, ConditionStream(plain, (self.plain,)))

    def group(self, clean: Outcome) -> dict[str, Any]:
        """Return the entry's ``corruption`` group.

        Args:
            clean: Outcome on the clean images.

        Raises:
            InputError: A condition has no images.
        """
        plan = self._plan
        base = clean if self.plain is None else self.plain.outcome()
        conditions, wrong, partial = [], [], []
        for (name, severity), n_images, rows in zip(
            self.cells, self._counts, self.rows, strict=True
        ):
            outcome = rows.outcome().among(base)
            if n_images not in (None, len(outcome.ids)):
                partial.append(f"{name} {severity}")
            change = np.abs(outcome.probability - base.at(outcome.ids).probability)
            conditions.append(
                {
                    "corruption": name,
                    "severity": severity,
                    "error": proportion(~outcome.correct, by_image=True),
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
    """Return ``mce`` (of the same images) and ``error_over_published`` (a table of others)."""
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
    """Return the mean error over corruptions and severities, with an interval over images.

    Args:
        conditions: The entry's conditions, with their ``error``.
        wrong: For each condition, image id -> whether it is misclassified.
        shared: Ids of the images that all conditions have.
        n: Number of corruptions.
    """
    value = float(np.mean([cell["error"]["value"] for cell in conditions]))
    per_image = np.array([[cell[name] for cell in wrong] for name in shared], dtype=float)
    estimate = jackknife(per_image.mean(axis=1, keepdims=True), lambda x: x[..., 0])
    half = float(np.diff(estimate.interval)[0]) / 2
    if half < ROUNDING:  # all images err equally often, which does not make the mean certain
        half = float(np.abs(np.subtract(rate_interval(per_image.mean(axis=1)), value)).max())
    interval = np.clip([value - half, value + half], 0, 1)
    return {"value": value, "interval": interval, "n": len(shared), "n_corruptions": n}


def with_reference(
    plan: CorruptionPlan,
    reference: str,
    dataset: str,
    ids: Sequence[str],
    n_classes: int | None = None,
) -> CorruptionPlan:
    """Return the plan with a reference model, by whose errors its own are divided.

    Args:
        plan: The plan.
        reference: An entry file of the reference model, or the name of a published table.
        dataset: Name of the images' label space.
        ids: Ids of the images that will be evaluated, in order.
        n_classes: Classes among which the model chooses, if that is known.

    Raises:
        InputError: For an unknown table, or an entry of other images, corruptions or classes.
    """
    if not Path(reference).is_file():
        if set(load_reference(reference).mean_errors) != set(CORRUPTIONS):
            raise InputError(f"{reference} is not a table of the 15 corruptions of ImageNet-C")
        if dataset != "imagenet" or plan.settings["size"] != PUBLISHED_SIZE:
            raise InputError(
                f"{reference} holds errors on ImageNet at {PUBLISHED_SIZE} pixels, the images here "
                f"are {dataset} at {plan.settings['size']}: report their mean "
                "error unnormalised, without reference=..."
            )
        return dataclasses.replace(plan, published=reference)
    return with_reference_entry(plan, Path(reference), ids, n_classes)


def with_reference_entry(
    plan: CorruptionPlan, file: Path, ids: Sequence[str], n_classes: int | None = None
) -> CorruptionPlan:
    """Return the plan with the errors of a reference model on the same images, from its entry.

    Args:
        plan: The plan.
        file: The entry of the reference model.
        ids: Ids of the images that will be evaluated, in order.
        n_classes: Classes among which the model chooses, if that is known.

    Raises:
        InputError: Not an entry with these corruptions, or one of other images or classes.
    """
    try:
        entry = read_json(file)
        group = entry["corruption"]
        cells = {(c["corruption"], c["severity"]): c["error"]["value"] for c in group["conditions"]}
        errors = {name: [float(cells[name, s]) for s in SEVERITIES] for name in plan.names}
        name, images = str(entry["model"]["name"]), entry["data"]["image_ids_sha256"]
        theirs = entry["model"].get("n_classes")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is not an entry with errors under the same corruptions ({error})"
        ) from error
    other = [key for key, value in plan.settings.items() if group.get(key) != value]
    if images != ids_digest(ids) or other:
        raise InputError(
            f"{file} was measured on other images ({', '.join(other) or 'other files'} "
            "differ): an mCE needs the reference model's errors on the same ones; evaluate it with "
            "the same images, n_images=..., seed=... and corruption options"
        )
    if None not in (n_classes, theirs) and n_classes != theirs:
        raise InputError(
            f"{file} has the errors of a model that chooses among {theirs} classes, here they are "
            f"{n_classes}: evaluate it with the same classes=... and restrict_classes"
        )
    if not plan.missing:
        mean_corruption_error(errors, errors)  # refuses what makes no mCE before the work
    return dataclasses.replace(plan, reference=errors, reference_name=name)
