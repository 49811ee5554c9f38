"""Which images and perturbations `spectrum` measures, checked before the work."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.foolbox_adapter.attacks import AttackRun
from iaside_plugins.adapters.imagenet.corruption_sets import (
    SMALL,
    STANDARD,
    GenerationOptions,
    distributed,
    generated,
    pair_sizes,
)
from iaside_plugins.adapters.imagenet.folders import ImageFolderData, matched_records
from iaside_plugins.adapters.imagenet.labels import LabelSpace
from iaside_plugins.adapters.imagenet.listing import image_names
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import UNLABELLED, ImageRecord, find_records, select
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.corruptions.frost import find_frost_textures
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.workflows.corruption_options import check_corruptions, check_each_severity
from iaside_plugins.workflows.labels import check_labels_are_given
from iaside_plugins.workflows.source import DataSource, open_images, shaped_images

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpectrumPlan:
    """Images, corruptions and attacks to measure.

    Attributes:
        clean: The images as the model takes them: batches (images, labels, ids).
        corruptions: Where corrupted images come from, or None.
        severities: Severities of the corruptions, among 1 to 5; (None,) for a folder of perturbed
            images, which has none.
        runs: Attacks with their budgets.
        attacked: The images to attack, among the clean ones; by default all.
        origin: Identifies the folder of frost textures, or of a distributed set, on which the
            corrupted images depend beside the corruptions' settings.
    """

    clean: Any
    corruptions: CorruptionPlan | None = None
    severities: tuple[int | None, ...] = (1, 2, 3, 4, 5)
    runs: Sequence[AttackRun] = ()
    attacked: Any = None
    origin: str = ""


def spectrum_plan(
    source: DataSource,
    model: Classifier | None,
    *,
    corruptions: str = "generate",
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    runs: Sequence[AttackRun] = (),
    n_attack: int | None = None,
    shape: dict[str, Any] | None = None,
    generation: GenerationOptions | None = None,
) -> SpectrumPlan:
    """Return images, corruptions and attacks to measure, checked before any of it runs.

    Args:
        source: The images.
        model: Takes and classifies them; without one they are only measured.
        corruptions: "generate" (all 15), names of some of them, "none", or the folder of a
            distributed ImageNet-C.
        severities: Severities of the corruptions, among 1 to 5.
        runs: Attacks.
        n_attack: Number of images to attack, all by default.
        shape: Resize, crop and interpolation without a model; by default photographs (short side
            of 96 and more) are resized to 256 and cropped to 224, smaller images taken as they are.
        generation: How corruptions are generated.

    Raises:
        InputError: For anything that cannot be used.
    """
    check_labels_are_given(source.labels, "attacking" if runs else "measuring spectra")
    wanted = check_corruptions(corruptions)
    generation = generation or GenerationOptions()
    check_each_severity(severities)
    if runs and model is None:
        raise InputError("attacks need a model: give model=SPEC, or leave attacks=... out")
    if corruptions == "none" and not runs:
        raise InputError("nothing to measure: give corruptions=..., or attacks=... with model=...")
    if model is None:
        clean, own = _without_model(source, shape or {})
    else:
        # In random order, so that the images to attack, the first ones, are of many classes.
        clean = open_images(source, model, shuffled=True)
        own = model.info.preprocessing
    plan: CorruptionPlan | None = None
    if wanted is None:
        plan = distributed(Path(corruptions), clean, own, source.seed, severities)
    elif wanted:
        plan = generated(clean, own, source.seed, generation).only(wanted)
    attacked = None
    if runs and n_attack is not None:
        if n_attack < 1:
            raise InputError(f"n_attack must be at least 1, got {n_attack}")
        first = clean.records[:n_attack]
        attacked = shaped_images(source, own, first, clean.label_space, grey=clean.grey)
    return SpectrumPlan(
        clean, plan, tuple(severities), tuple(runs), attacked, origin(corruptions, generation.frost)
    )


def origin(corruptions: str, frost: Path | None) -> str:
    """Identify the folder on which corrupted images depend: a folder of them, or of textures.

    Args:
        corruptions: As for `spectrum_plan`.
        frost: Folder of frost textures, or None.

    Returns:
        The folder's name, and a digest of its files' names, sizes and times of change; empty for
        no folder.
    """
    wanted = check_corruptions(corruptions)
    if wanted is not None and "frost" not in wanted:
        return ""
    folder = Path(corruptions) if wanted is None else find_frost_textures(frost)
    return "" if folder is None else _folder_digest(folder)


def _folder_digest(folder: Path) -> str:
    """Return a folder's name, and a digest of its files' names, sizes and times of change."""
    digest = hashlib.sha256()
    for where, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            file = Path(where, name)
            status = file.stat()
            line = f"{file.relative_to(folder)}|{status.st_size}|{status.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return f"{folder.resolve().name}:{digest.hexdigest()[:16]}"


def perturbed_plan(
    source: DataSource, folder: Path, model: Classifier | None, shape: dict[str, Any] | None = None
) -> SpectrumPlan:
    """Return images and the same images perturbed, in a folder with the same file names.

    Both folders hold class folders, or without a model the images themselves; both go through the
    same resize and crop.

    Args:
        source: The clean images.
        folder: The perturbed images; file endings may differ.
        model: Takes and classifies them; without one they are only measured.
        shape: Resize, crop and interpolation without a model, see `spectrum_plan`.

    Raises:
        InputError: For folders that cannot be used, or images that are missing in one.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} of perturbed images")
    if model is None:
        clean, own = _without_model(source, shape or {}, _records_of_pairs(source))
    else:
        clean, own = open_images(source, model), model.info.preprocessing
    records = matched_records(folder, clean.records)
    others = [pair for pair in pair_sizes(records, clean.records) if pair[0] != pair[1]]
    if others:
        (width, height), (own_width, own_height) = others[0]
        _log.warning(
            "%s holds images of %d x %d pixels, and the clean ones of %d x %d (width x height); "
            "both are resized and cropped alike, so those that were cropped before show another "
            "part: a distributed ImageNet-C is for corruptions=DIR",
            *(folder, width, height, own_width, own_height),
        )
    images = shaped_images(source, own, records, clean.label_space, grey=clean.grey)
    name = folder.resolve().name
    settings = {"source": "folder", "name": name, "jpeg": None, "size": own.crop}
    plan = CorruptionPlan((name,), (), lambda which, _: images if which else None, settings)
    return SpectrumPlan(clean, plan, (None,), origin=_folder_digest(folder))


def _records_of_pairs(source: DataSource) -> tuple[list[ImageRecord], LabelSpace]:
    """Return the images of a source, whose labels do not matter; they may lie in it directly."""
    if not source.root.is_dir() or not (names := image_names(source.root)):
        return find_records(source.root, labels=UNLABELLED, classes=None)
    return [ImageRecord(source.root / name, 0, name) for name in names], LabelSpace.of_integers(
        "records", [0]
    )


def _without_model(
    source: DataSource,
    shape: dict[str, Any],
    listing: tuple[list[ImageRecord], LabelSpace] | None = None,
) -> tuple[ImageFolderData, Preprocessing]:
    """Return the images, and their resize and crop."""
    records, space = listing or find_records(source.root, labels=UNLABELLED, classes=None)
    records = select(records, source.n_images, source.seed)
    given: dict[str, Any] = {
        key: value or None for key, value in shape.items() if value is not None
    }
    own = Preprocessing(**given)
    if not given:
        images = shaped_images(source, own, records[:1], space)
        first, _, _ = next(iter(images))
        own = STANDARD if min(first.shape[2:]) >= SMALL else own
    return shaped_images(source, own, records, space), own
