"""From a model and a folder of images to a plan that `evaluate` can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet.corruption_sets import (
    GenerationOptions,
    distributed,
    generated,
)
from iaside_plugins.adapters.imagenet.systematic import systematic as other_readings_of
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.display.cost import Cost
from iaside_plugins.entry.write import check_texts
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.corruption import with_reference
from iaside_plugins.evaluation.plan import AttackPlan, EvaluationPlan
from iaside_plugins.evaluation.work import evaluation_work
from iaside_plugins.inference.checks import KnownClasses
from iaside_plugins.protocol import Protocol
from iaside_plugins.workflows.corruption_options import check_corruptions
from iaside_plugins.workflows.cost import probed
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.labels import check_labels_are_given
from iaside_plugins.workflows.source import DataSource, find_images, open_images


def evaluation_plan(  # noqa: PLR0913  the public signature
    source: DataSource,
    model: Classifier,
    *,
    corruptions: str = "generate",
    attacks: Sequence[foolbox_adapter.AttackSpec] = (),
    n_spectral: int | None = None,
    n_attack: int | None = None,
    generation: GenerationOptions | None = None,
    reference: str | None = None,
    systematic: bool = False,
) -> EvaluationPlan:
    """Return everything to evaluate, checked before any of it runs.

    Args:
        source: The images.
        model: The model, for its preprocessing.
        corruptions: "generate" (all 15), names of some, "none", or the folder of a distributed
            ImageNet-C.
        attacks: Attacks to run.
        n_spectral: Images for the spectral importance (all by default).
        n_attack: Images to attack (all by default).
        generation: How corruptions are generated.
        reference: For corruption errors: an entry file of the reference model on the same
            images, or the name of a published table.
        systematic: Whether the same files are also read by other decoders and resizes.

    Raises:
        InputError: For anything that cannot be used.
    """
    if reference is not None and corruptions == "none":
        raise InputError("reference=... is for corruption errors: it needs corruptions, got 'none'")
    wanted = check_corruptions(corruptions)
    check_labels_are_given(source.labels, "an entry")
    listing = find_images(source, model)
    clean = open_images(source, model, listing=listing)
    info, own = model.info.to_dict(), model.info.preprocessing
    corrupted = None
    if wanted is None:
        corrupted = distributed(Path(corruptions), clean, own, source.seed)
    elif wanted:
        made = generated(clean, own, source.seed, generation or GenerationOptions())
        corrupted = made.only(wanted)
    if corrupted is not None and reference is not None:
        ids = [record.image_id for record in clean.records]
        known = KnownClasses.of(clean)
        n_classes = None if known is None else known.n_classes
        corrupted = with_reference(corrupted, reference, clean.label_space.name, ids, n_classes)
    readings = other_readings_of(clean, own) if systematic else None
    attacked = None
    if attacks:
        foolbox_adapter.check_installed()
        for spec in attacks:  # a library that is missing is known before the work
            foolbox_adapter.foolbox_attack(spec)
        images = open_images(source, model, n_attack, listing=listing)
        attacked = AttackPlan(attacks, images, _attack, source.seed, source.batch_size)
    data = {
        "name": source.name or clean.label_space.name,
        "n_available": len(listing[0]),
        "seed": source.seed,
        "note": source.note,
    }
    check_texts(info, data)
    return EvaluationPlan(
        model=info,
        data=data,
        clean=clean,
        corruptions=corrupted,
        attacks=attacked,
        spectral=open_images(source, model, n_spectral, listing=listing),
        systematic=readings,
    )


def with_explained(
    plan: EvaluationPlan,
    source: DataSource,
    model: Classifier,
    *,
    corruptions: str = "generate",
    attacks: Sequence[foolbox_adapter.AttackSpec] = (),
    generation: GenerationOptions | None = None,
) -> EvaluationPlan:
    """Return a plan whose errors are split over bands too, as `iaside explain` does it.

    Corrupted images come from the reading of the plan; attacked ones are read and made apart.

    Args:
        plan: Of `evaluation_plan`; so are the other arguments.
        source: The images to decompose, some of the plan's.
        model: The model.
        corruptions: All of them are decomposed, at every severity.
        attacks: The attacks.
        generation: How corruptions are generated.

    Raises:
        InputError: For anything that cannot be used, and where there is nothing to decompose.
    """
    given: dict[str, Any] = {"corruptions": corruptions, "generation": generation}
    if plan.corruptions is not None:
        plan = replace(plan, explained=explain_plan(source, model, severities=SEVERITIES, **given))
    if attacks or plan.corruptions is None:
        apart = explain_plan(source, model, severities=(), attacks=attacks, **given)
        plan = replace(plan, perturbed=[apart])
    return plan


def evaluation_cost(
    model: Classifier,
    plan: EvaluationPlan,
    protocol: Protocol,
    *,
    n_devices: int = 1,
    **options: Any,
) -> Cost:
    """Return what an evaluation will cost.

    Args:
        model: The model.
        plan: Of the evaluation.
        protocol: Of the importance.
        n_devices: Devices that share the images.
        options: batch_size and precision of the passes.
    """
    gradients = plan.attacks is not None and plan.attacks.by_gradient
    each = {"protocol": protocol, "n_devices": n_devices, "gradients": gradients, **options}
    speed = probed(model, plan.clean, corruptions=plan.corruptions, **each)
    shorter = {
        "importance": "--n-spectral takes it on fewer images",
        "corruptions": "fewer images, --n-images, or --workers for more processes",
        "attacks": "--n-attack takes fewer images, --epsilons fewer budgets",
        "systematic": "fewer images, --n-images",
        "explain": "--n-explain takes it on fewer images",
    }
    held = 0
    if plan.explained is not None:  # those of a batch, in 8 bits
        n = min(len(plan.explained), getattr(plan.clean, "batch_size", 1))
        held = n * (1 + len(plan.explained.conditions)) * speed.pixels
    return Cost(evaluation_work(plan, protocol) or {}, speed, shorter, held=held)


def _attack(
    model: Any, images: Tensor, labels: Tensor, spec: Any, seed: int, first: int
) -> list[Tensor]:
    """Attack one batch with Foolbox, in the form that `AttackPlan` takes."""
    return foolbox_adapter.adversarial(model, images, labels, spec, seed=seed, first_index=first)
