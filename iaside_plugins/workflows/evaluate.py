"""From a model and a folder of images to a Job that `evaluate` can run, and its entry's file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet.corruption_sets import distributed, generated, with_reference
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import Attacks, Job
from iaside_plugins.storage.row_store import write_json
from iaside_plugins.workflows.source import Source, find_images, open_images


def make_job(
    source: Source,
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
) -> Job:
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
        raise InputError("--reference is for corruption errors: it needs corruptions, got 'none'")
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
        attacked = Attacks(attacks, images, _attack, source.seed, source.batch_size)
    data = {
        "name": source.name or clean.label_space.name,
        "n_available": len(found[0]),
        "seed": source.seed,
        "note": source.note,
    }
    check_texts(info, data)
    return Job(
        model=info, data=data, clean=clean, corruptions=plan, attacks=attacked,
        spectral=open_images(source, model, n_spectral, found=found),
    )  # fmt: skip


def check_texts(model: dict[str, Any], data: dict[str, Any]) -> None:
    """Refuse names and notes that an entry may not hold, before the work and not after it."""
    from iaside_plugins.entry.check_text import faults
    from iaside_plugins.entry.fields import ValidationError
    from iaside_plugins.entry.schema import DataGroup, ModelGroup

    counts = {"n_images": 1, "n_unreadable": 0, "image_ids_sha256": "0" * 64}
    try:
        ModelGroup.model_validate_json(json.dumps(model))
        DataGroup.model_validate_json(json.dumps({**data, **counts}))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        raise InputError(f"{where} of the entry: {first['msg']}, got {first['input']!r}") from error
    for key, text in (*model.items(), *data.items()):
        if isinstance(text, str) and (wanted := faults(text)):
            raise InputError(f"{key} of the entry: expected {wanted[0]}, got {text!r}")


def _attack(
    model: Any, images: Tensor, labels: Tensor, spec: Any, seed: int, first: int
) -> list[Tensor]:
    return foolbox_adapter.adversarial(model, images, labels, spec, seed=seed, first_index=first)


def write_entry(path: Path, entry: dict[str, Any]) -> Path:
    """Validate an entry by recomputation and write it; a folder gets it under its entry_id.

    Raises:
        InputError: If the file cannot be written, or a check fails (which would be a defect of
            this package: please report it).
    """
    from iaside_plugins.entry.checks import check_entry
    from iaside_plugins.entry.parse import parse_entry

    if path.is_dir():
        path = path / f"{entry['entry_id']}.json"
    parsed = parse_entry(json.dumps(entry), path.name)
    problems = check_entry(parsed, entry["entry_id"])
    if problems:
        raise InputError(f"the entry does not pass its own checks: {problems[0]}")
    write_json(path, entry)
    return path
