"""Which images and perturbations `explain` decomposes, checked before the work, and its cost.

Systematic noise is decomposed apart from corruptions and attacks: its clean images are the model's
own input, theirs go through the geometry of the corruptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet.corruption_sets import (
    GenerationOptions,
    distributed,
    generated,
)
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.labels import LabelSpace
from iaside_plugins.adapters.imagenet.records import ImageRecord
from iaside_plugins.adapters.imagenet.systematic import systematic
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.work import decomposition_work
from iaside_plugins.display.cost import Cost
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.evaluation.pairs import AlignedImages
from iaside_plugins.evaluation.systematic import SystematicPlan
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.gradients import try_first_gradient
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import Work, added, part, times
from iaside_plugins.value_table.stream import places_of
from iaside_plugins.workflows.corruption_options import check_corruptions, check_each_severity
from iaside_plugins.workflows.cost import probed
from iaside_plugins.workflows.labels import PREDICTED
from iaside_plugins.workflows.source import DataSource, open_images, with_predictions

IMAGES_AT_ONCE = 8  # read, corrupted and attacked together: each comes under every condition


@dataclass(frozen=True)
class AttackSet:
    """Attacks whose images are decomposed.

    Attributes:
        specs: The attacks with their budgets.
        seed: Seeds every batch together with the attack's name and the first image's index.
    """

    specs: Sequence[foolbox_adapter.AttackSpec]
    seed: int = 0

    @property
    def work(self) -> Work:
        """Work of one image under all of them."""
        return added(*(spec.work for spec in self.specs))

    @property
    def conditions(self) -> list[Condition]:
        """The attacks at their budgets, by name and norm."""
        return [Condition(_attack_name(s), float(e)) for s in self.specs for e in s.epsilons]

    def perturbed(
        self, model: Any, images: Tensor, labels: Tensor, first: int
    ) -> dict[Condition, Tensor]:
        """Return the attacked images of a batch by condition."""
        found: dict[Condition, Tensor] = {}
        for spec in self.specs:
            each = foolbox_adapter.adversarial(
                model, images, labels, spec, seed=self.seed, first_index=first
            )
            for epsilon, attacked in zip(spec.epsilons, each, strict=True):
                found[Condition(_attack_name(spec), float(epsilon))] = attacked.cpu()
        return found


def _attack_name(spec: foolbox_adapter.AttackSpec) -> str:
    return f"{spec.name} {spec.norm}"


class PerturbedImages:
    """Clean images with their corrupted and attacked versions: batches for `error_decomposition`.

    "Clean" images go through the corruptions' own geometry, and are those that are attacked.

    Args:
        clean: The images as the model takes them.
        corruptions: Where corrupted images come from, or None.
        severities: Severities of the corruptions.
        attacks: Attacks, or None.
        model: What is attacked.
        systematic: Other readings of the same files, instead of corruptions and attacks; clean
            images are the model's own input then.

    Raises:
        InputError: For a single image.

    Attributes:
        records: The images' records, also of those that turn out to be unreadable.
        label_space: What the labels mean.
        conditions: Corruptions at their severities, then attacks at their budgets.
        left_out: Readings that cannot be varied, with the reason.
        work: Work of making one image under all of them.
        clean: As given; so are `corruptions` and `attacks`.
    """

    at_once = IMAGES_AT_ONCE

    def __init__(
        self,
        clean: ImageFolderData,
        corruptions: CorruptionPlan | None,
        severities: Sequence[int],
        attacks: AttackSet | None,
        model: Any,
        systematic: SystematicPlan | None = None,
    ) -> None:
        if len(clean.records) < 2:
            raise InputError(
                "errors are split over bands with intervals, on at least 2 images, got "
                f"{len(clean.records)}: take more"
            )
        self.records: Sequence[ImageRecord] = clean.records
        self.label_space: LabelSpace = clean.label_space
        self.clean, self.corruptions, self.attacks = clean, corruptions, attacks
        self._clean: Any = clean
        self._model, self._first = model, 0
        self.left_out: tuple[str, ...] = ()
        cells: dict[Condition, Any] = {}
        together = None
        if systematic is not None:
            self.left_out, together = systematic.left_out, systematic.together
            cells = {Condition(name): systematic.images(name) for name in systematic.names}
        elif corruptions is not None:
            plain = corruptions.images(None, 0)
            self._clean = clean if plain is None else plain
            together = corruptions.together
            cells = {
                Condition(name, s): corruptions.corrupted(name, s)
                for name in corruptions.names
                for s in severities
            }
        self._pairs = AlignedImages(self._clean, cells, together)
        self.can_be_parted = self._pairs.can_be_parted
        attacked = [] if attacks is None else attacks.conditions
        self.conditions: tuple[Condition, ...] = (*cells, *attacked)
        made = {} if corruptions is None else times({**corruptions.work, "forward": 0}, len(cells))
        self.work: Work = made if attacks is None else added(made, attacks.work)

    def __len__(self) -> int:
        return len(self.records)

    def part(self, start: int, stop: int) -> tuple[int, Any]:
        """Return some images, see `parallel.shards.Files`."""
        return start, self._pairs.part(start, stop)

    def with_part(
        self, part: tuple[int, Any], model: Any = None, n_workers: int = 0
    ) -> PerturbedImages:
        """Return the same with those images, which a model attacks, see `parallel.shards.Files`."""
        nothing: Any = None  # of what makes them, in functions that cannot be sent
        found = copy(self)
        found.clean = found.label_space = found.corruptions = found._clean = nothing
        found._model, (found._first, inner) = model, part
        found._pairs = self._pairs.with_part(inner, None, n_workers)
        found.records = found._pairs.records
        return found

    @property
    def readers(self) -> int:
        """Processes that read."""
        return self._pairs.readers

    @property
    def unread(self) -> Any:
        """What could not be read, for `note`."""
        return self._pairs.unread

    def note(self, unread: Any) -> None:
        """Note what a worker could not read."""
        self._pairs.note(unread)

    def __iter__(self) -> Iterator[tuple[Tensor, dict[Condition, Tensor], Tensor, list[str]]]:
        """Yield batches (clean, condition -> perturbed, labels, ids)."""
        place = places_of(self._pairs, self._first)
        for images, perturbed, labels, ids in self._pairs:
            attacked = {}
            first, *_ = map(place, ids)
            with part(times(self.work, len(ids))):
                if self.attacks is not None:
                    attacked = self.attacks.perturbed(self._model, images, labels, first)
            yield images, perturbed | attacked, labels, ids


def explain_plan(
    source: DataSource,
    model: Classifier,
    *,
    corruptions: str = "generate",
    severities: Sequence[int] = (1, 3, 5),
    attacks: Sequence[foolbox_adapter.AttackSpec] = (),
    generation: GenerationOptions | None = None,
) -> PerturbedImages:
    """Return the images to decompose, checked before any of the work.

    Args:
        source: The images, which are taken in random order.
        model: The model.
        corruptions: "generate" (all 15), names of some, "none", or the folder of a distributed
            ImageNet-C.
        severities: Among 1 to 5.
        attacks: Attacks with their budgets.
        generation: How corruptions are generated.

    Raises:
        InputError: For anything that cannot be used.
    """
    wanted = check_corruptions(corruptions)
    if not attacks and wanted == []:
        raise InputError("nothing to explain: give corruptions=..., attacks=..., or both")
    check_each_severity(severities)
    few = replace(source, batch_size=IMAGES_AT_ONCE)
    clean = open_images(few, model, shuffled=True)
    own = model.info.preprocessing

    def planned(images: ImageFolderData) -> CorruptionPlan | None:
        if wanted is None:
            return distributed(Path(corruptions), images, own, source.seed, severities)
        if not wanted:
            return None
        made = generated(images, own, source.seed, generation or GenerationOptions())
        return made.only(wanted)

    plan = planned(clean)
    plain = None if plan is None else plan.images(None, 0)
    if plain is not None and source.labels == PREDICTED:
        clean = with_predictions(few, clean, model, plain)
        plan = planned(clean)
    if attacks:
        foolbox_adapter.check_installed()
        try_first_gradient(model, clean, model_device(model))
    run = AttackSet(attacks, source.seed) if attacks else None
    return PerturbedImages(clean, plan, severities, run, model)


def systematic_pairs(source: DataSource, model: Classifier) -> PerturbedImages:
    """Return the same files read by other decoders and resizes, to decompose.

    Args:
        source: The images, which are taken in the random order of `explain_plan`.
        model: The model.

    Raises:
        InputError: For anything that cannot be used, and where there is nothing to vary.
    """
    clean = open_images(replace(source, batch_size=IMAGES_AT_ONCE), model, shuffled=True)
    plan = systematic(clean, model.info.preprocessing)
    return PerturbedImages(clean, None, (), None, model, plan)


def explain_cost(
    model: Classifier,
    images: PerturbedImages,
    protocol: Protocol,
    *,
    repair: int,
    n_devices: int = 1,
    at_most: bool = False,
    **options: Any,
) -> Cost:
    """Return what a decomposition will cost.

    Args:
        model: The model.
        images: The images.
        protocol: As for `error_decomposition`.
        repair: As for `error_decomposition`.
        n_devices: Devices that share the images.
        at_most: Whether it may stop early.
        options: batch_size and precision of the passes.
    """
    n, whole = len(images), decomposition_work(images, protocol, len(images), repair=repair)
    gradients = images.attacks is not None
    each = {"protocol": protocol, "n_devices": n_devices, "gradients": gradients, **options}
    speed = probed(model, images.clean, corruptions=images.corruptions, **each)
    bands = f"bands, {n} images x {len(images.conditions)} conditions"
    parts: dict[str, Work] = {bands: {"coalition": (whole or {}).get("coalition", 0)}}
    made = times(images.work, n)
    if corrupted := made.pop("corrupted", 0):
        parts["corruptions"] = {"corrupted": corrupted}
    if images.attacks is not None:
        parts["attacks"] = made
    shorter = {
        bands: "fewer images, --n-images"
        + ("" if images.corruptions is None else ", or fewer --severities"),
        "corruptions": "fewer --severities, or --workers for more processes",
        "attacks": "fewer budgets, --epsilons, or fewer --attack-steps",
    }
    held = 4 * IMAGES_AT_ONCE * (1 + len(images.conditions)) * speed.pixels
    return Cost(parts, speed, shorter, held=held, at_most=at_most)
