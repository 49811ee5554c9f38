"""From words on the command line to what `study_perturbations` measures, checked before work."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.foolbox_adapter.attack_runs import AttackRun
from iaside_plugins.adapters.foolbox_adapter.catalogue import TITLES
from iaside_plugins.adapters.imagenet.corruption_sets import SMALL, STANDARD, distributed, generated
from iaside_plugins.adapters.imagenet.folders import ImageFolderData, find_records, select
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.frost import find_frost_textures
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.workflows.source import DataSource, find_images, open_images
from iaside_plugins.workflows.spectrum_study import SpectrumPlan


def make_plan(
    source: DataSource,
    model: Classifier | None,
    *,
    corruptions: str = "generate",
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    runs: Sequence[AttackRun] = (),
    n_attack: int | None = None,
    shape: dict[str, Any] | None = None,
    jpeg: bool | None = None,
    frost: Path | None = None,
    cache: Path | None = None,
) -> SpectrumPlan:
    """Images, corruptions and attacks to measure.

    Args:
        source: The images.
        model: Takes and classifies them; without one they are only measured.
        corruptions: "generate" (all 15), names of some of them, "none", or the folder of a
            distributed ImageNet-C.
        severities: Among 1 to 5.
        runs: Attacks.
        n_attack: Images to attack, all by default.
        shape: Resize, crop and interpolation without a model; by default photographs (short side
            of 96 and more) are resized to 256 and cropped to 224, smaller images taken as they are.
        jpeg: As `plans.generated`.
        frost: Folder of frost textures.
        cache: Folder that keeps generated images.

    Raises:
        InputError: For anything that cannot be used.
    """
    wanted = check_corruptions(corruptions)
    for severity in severities:
        if severity not in range(1, 6):
            raise InputError(f"severities are 1 to 5, got {severity}")
    if runs and model is None:
        raise InputError("attacks need a model: give model=SPEC, or leave attacks=... out")
    if corruptions == "none" and not runs:
        raise InputError("nothing to measure: give corruptions=..., or attacks=... with model=...")
    if model is None:
        clean, own = _without_model(source, shape or {})
    else:
        found = find_images(source, model)
        # In random order, so that the images to attack, the first ones, are of many classes.
        clean = open_images(source, model, shuffled=True, found=found)
        own = model.info.preprocessing
    plan: CorruptionPlan | None = None
    if wanted is None and corruptions != "none":
        plan = distributed(Path(corruptions), clean, own, source.seed)
    elif wanted:
        plan = generated(clean, own, source.seed, jpeg, frost, cache)
        if lacking := [name for name in wanted if name not in plan.names]:
            if len(wanted) < len(CORRUPTIONS):
                raise InputError(f"{lacking[0]} cannot be made without its textures: frost=DIR")
            wanted = [name for name in wanted if name in plan.names]
        plan = dataclasses.replace(plan, names=tuple(wanted))
    attacked = None
    if runs and n_attack is not None:
        if n_attack < 1:
            raise InputError(f"n_attack must be at least 1, got {n_attack}")
        attacked = _first(clean, n_attack, own)
    return SpectrumPlan(
        clean, plan, tuple(severities), tuple(runs), TITLES, attacked, origin(corruptions, frost)
    )


def origin(corruptions: str, frost: Path | None) -> str:
    """What decides corrupted images beside their settings: a folder of them, or of textures.

    The folder's name, and a digest of its files' names, sizes and times of change.
    """
    wanted = check_corruptions(corruptions)
    if wanted is not None and "frost" not in wanted:
        return ""
    folder = Path(corruptions) if wanted is None else find_frost_textures(frost)
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for where, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            file = Path(where, name)
            seen = file.stat()
            line = f"{file.relative_to(folder)}|{seen.st_size}|{seen.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return f"{folder.resolve().name}:{digest.hexdigest()[:16]}"


def check_corruptions(text: str) -> list[str] | None:
    """Names of the corruptions to generate; empty for "none", None for a folder of them.

    Raises:
        InputError: Neither names, nor a folder, nor "generate" or "none".
    """
    if text == "generate":
        return list(CORRUPTIONS)
    if text == "none":
        return []
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if Path(text).is_dir() and not set(names) <= set(CORRUPTIONS):
        return None
    for name in names:
        if name not in CORRUPTIONS:
            raise InputError(
                f"unknown corruption {name!r} and no such folder: expected generate, none, a "
                f"folder, or some of {', '.join(CORRUPTIONS)}"
            )
    if not names:
        raise InputError("corruptions=... names none: expected generate, none, a folder, or names")
    return names


def check_severities(text: str) -> tuple[int, ...]:
    """Severities of a list such as "1,3,5", ascending.

    Raises:
        InputError: For anything but numbers from 1 to 5.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part in "12345" and len(part) == 1 for part in parts):
        raise InputError(f"severities are numbers from 1 to 5 such as 1,3,5; got {text!r}")
    return tuple(sorted({int(part) for part in parts}))


def _without_model(
    source: DataSource, shape: dict[str, Any]
) -> tuple[ImageFolderData, Preprocessing]:
    """The images, and the geometry that they are taken in."""
    records, space = find_records(source.root, labels="rank", classes=None)
    records = select(records, source.n_images, source.seed)
    given: dict[str, Any] = {
        key: value or None for key, value in shape.items() if value is not None
    }
    own = Preprocessing(**given)
    if not given:
        first, _, _ = next(
            iter(
                ImageFolderData(
                    source.root, records=records[:1], resize=None, crop=None, label_space=space
                )
            )
        )
        own = STANDARD if min(first.shape[2:]) >= SMALL else own
    clean = ImageFolderData(
        source.root,
        resize=own.resize,
        crop=own.crop,
        interpolation=own.interpolation,
        records=records,
        label_space=space,
        batch_size=source.batch_size,
        n_workers=source.workers,
    )
    return clean, own


def _first(clean: ImageFolderData, n: int, own: Preprocessing) -> ImageFolderData:
    return ImageFolderData(
        None,
        resize=own.resize,
        crop=own.crop,
        interpolation=own.interpolation,
        records=clean.records[:n],
        label_space=clean.label_space,
        batch_size=clean.batch_size,
        n_workers=clean.n_workers,
        grey=clean.grey,
    )
