"""From a model and a folder of images to a Job that `evaluate` can run, and its entry's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet.corruption_sets import distributed, generated, with_reference
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.entry.write import check_texts
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import AttackPlan, EvaluationPlan
from iaside_plugins.workflows.source import DataSource, find_images, open_images


def make_job(
    source: DataSource,
    model: Classifier,
    *,
    corruptions: str = "generate",
    attacks: Sequence[foolbox_adapter.AttackSpec] = (),
    n_spectral: int | None = None,
    n_attack: int | None = None,
    jpeg: bool | None = None,
    frost: Path | None = None,
    cache: Path | None = None,
    reference: str | None = None,
) -> EvaluationPlan:
    """Everything to evaluate, checked before any of it runs.

    Args:
        source: The images.
        model: The model, for its preprocessing.
        corruptions: "generate", "none", or the folder of a distributed ImageNet-C.
        attacks: Attacks to run.
        n_spectral: Images for the spectral importance (all by default).
        n_attack: Images to attack (all by default).
        jpeg: Whether generated corruptions are saved as JPEG; by default as in the distributed
            sets: at 224 pixels, not below.
        frost: Folder of frost textures.
        cache: Folder that keeps generated images for the next model.
        reference: For corruption errors: an entry file of the reference model on the same
            images, or the name of a published table.

    Raises:
        InputError: For anything that cannot be used.
    """
    if reference is not None and corruptions == "none":
        raise InputError("reference=... is for corruption errors: it needs corruptions, got 'none'")
    found = find_images(source, model)
    clean = open_images(source, model, found=found)
    info = model.info.to_dict()
    plan = None
    if corruptions == "generate":
        plan = generated(clean, model.info.preprocessing, source.seed, jpeg, frost, cache)
    elif corruptions != "none":
        plan = distributed(Path(corruptions), clean, model.info.preprocessing, source.seed)
    if plan is not None and reference is not None:
        plan = with_reference(plan, reference, clean)
    attacked = None
    if attacks:
        foolbox_adapter.check_installed()
        images = open_images(source, model, n_attack, found=found)
        attacked = AttackPlan(attacks, images, _attack, source.seed, source.batch_size)
    data = {
        "name": source.name or clean.label_space.name,
        "n_available": len(found[0]),
        "seed": source.seed,
        "note": source.note,
    }
    check_texts(info, data)
    return EvaluationPlan(
        model=info,
        data=data,
        clean=clean,
        corruptions=plan,
        attacks=attacked,
        spectral=open_images(source, model, n_spectral, found=found),
    )


def _attack(
    model: Any, images: Tensor, labels: Tensor, spec: Any, seed: int, first: int
) -> list[Tensor]:
    return foolbox_adapter.adversarial(model, images, labels, spec, seed=seed, first_index=first)
