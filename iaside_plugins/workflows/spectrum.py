"""Spectra of corruptions and attacks on the same images: what is measured, and its measurement.

`spectrum_plan` checks the words of the command line before any work; `study_perturbations` measures
band by band, with a model also its errors and its importance.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.attacks import AttackRun
from iaside_plugins.adapters.foolbox_adapter.robust_evaluation import attacked_conditions
from iaside_plugins.adapters.imagenet.corruption_sets import (
    SMALL,
    STANDARD,
    GenerationOptions,
    distributed,
    generated,
)
from iaside_plugins.adapters.imagenet.folders import ImageFolderData, matched_records
from iaside_plugins.adapters.imagenet.labels import LabelSpace
from iaside_plugins.adapters.imagenet.listing import image_names
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import (
    UNLABELLED,
    ImageRecord,
    find_records,
    select,
)
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.frost import find_frost_textures
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import FLUSH_EVERY, Images, StoredRows
from iaside_plugins.evaluation.corruption import CorruptionPlan, no_images, paired
from iaside_plugins.evaluation.worked import Predictor, digests_of
from iaside_plugins.importance.run import importance_work, spectral_importance
from iaside_plugins.inference.checks import check_images, model_device
from iaside_plugins.inference.gradients import try_first_gradient
from iaside_plugins.protocol import Protocol, method_identity
from iaside_plugins.spectra.report import PerturbedCondition, SpectrumReport
from iaside_plugins.spectral.energy import band_energies, band_products
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import model_identity, provenance
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import Progress, Work, added, progress_bar, times
from iaside_plugins.value_table.stream import count
from iaside_plugins.workflows.cost import Cost, probed
from iaside_plugins.workflows.labels import check_labels_are_given
from iaside_plugins.workflows.source import DataSource, open_images, shaped_images

Array = npt.NDArray[np.float64]
ROWS = {"rows": 2}  # what a stored row holds; 1, without inner products, was not recorded


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


def study_perturbations(
    plan: SpectrumPlan,
    model: Any = None,
    *,
    protocol: Protocol | None = None,
    seed: int = 0,
    batch_size: int = 64,
    resume: Path | str | None = None,
    info: Mapping[str, Any] | None = None,
    show_progress: bool = False,
) -> SpectrumReport:
    """Measure band energies of every perturbation, and with a model its errors and importance.

    Args:
        plan: Images, corruptions and attacks.
        model: A network on images in [0, 1], in evaluation mode; attacks need one.
        protocol: Bands, and the choices of the importance.
        seed: Seed of the attacks.
        batch_size: Rows in one forward pass of the importance.
        resume: Folder that stores finished work; a stopped run goes on from there.
        info: Further facts for the report.
        show_progress: Whether to show progress bars on stderr.

    Raises:
        InputError: Nothing to measure, attacks without a model, or input that cannot be used.
    """
    protocol = protocol or Protocol()
    partition = SpectralPartition(protocol.n_bands, protocol.band_norm)
    if plan.corruptions is None and not plan.runs:
        raise InputError("nothing to measure: expected corruptions, attacks, or both")
    if plan.runs and model is None:
        raise InputError("attacks need a model")
    folder = None if resume is None else Path(resume)
    device = model_device(model) if model is not None else torch.device("cpu")
    importance = None
    attacked = plan.clean if plan.attacked is None else plan.attacked
    if any(run.by_gradient for run in plan.runs):
        try_first_gradient(model, attacked, device)
    conditions: list[PerturbedCondition] = []
    shape: tuple[int, ...] | None = None
    work = spectrum_work(plan, model, protocol)
    with progress_bar(None if work is None else added(*work.values()), show_progress) as bar:
        if model is not None:
            importance = spectral_importance(
                model,
                plan.clean,
                protocol,
                batch_size=batch_size,
                show_progress=show_progress,
                resume=None if folder is None else folder / "spectral",
            )
        if plan.corruptions is not None:
            spectra = CorruptionSpectra(plan, plan.corruptions, partition, model, folder)
            for name in plan.corruptions.names:
                for severity in plan.severities:
                    bar.set_description(f"{name} {severity or ''}".strip())
                    conditions.append(spectra.condition(name, severity, bar))
            shape = spectra.shape
        if plan.runs:
            bar.set_description("attacks")
            conditions += attacked_conditions(
                model,
                attacked,
                plan.runs,
                partition,
                seed=seed,
                folder=None if folder is None else folder / "attacks",
            )
    channels, height, width = shape or next(iter(plan.clean))[0].shape[1:]
    return SpectrumReport(
        tuple(conditions),
        partition,
        (int(height), int(width)),
        int(channels),
        importance,
        {
            "model": None,
            **(info or {}),
            "corruptions": None if plan.corruptions is None else dict(plan.corruptions.settings),
            "attacks": {run.name: run.settings for run in plan.runs},
            "seed": seed,
            "protocol": protocol.to_dict(),
            "provenance": provenance(device),
        },
    )


def spectrum_work(plan: SpectrumPlan, model: Any, protocol: Protocol) -> dict[str, Work] | None:
    """Return the work of a study by part, None if it is unknown.

    Args:
        plan: Images, corruptions and attacks.
        model: The network, or None: then only images are made.
        protocol: Of the importance.
    """
    n, n_attacked = count(plan.clean), count(plan.clean if plan.attacked is None else plan.attacked)
    if n is None or n_attacked is None:
        return None
    parts: dict[str, Work] = {}
    if model is not None:
        parts["importance"] = times(importance_work(protocol), n)
    if plan.corruptions is not None:
        each = corrupted_work(plan.corruptions, model)
        parts["corruptions"] = times(each, n * len(plan.corruptions.names) * len(plan.severities))
    if plan.runs:
        parts["attacks"] = times(added(*(run.work for run in plan.runs)), n_attacked)
    return parts


def spectrum_cost(
    plan: SpectrumPlan, model: Classifier | None, protocol: Protocol, batch_size: int = 64
) -> Cost:
    """Return what a study will cost; the arguments are those of `study_perturbations`."""
    asked = None if model is None else protocol
    speed = probed(
        model,
        plan.clean,
        protocol=asked,
        corruptions=plan.corruptions,
        batch_size=batch_size,
        gradients=any(run.by_gradient for run in plan.runs),
    )
    shorter = {
        "importance": "fewer images, --n-images",
        "corruptions": "fewer --severities, or --workers for more processes",
        "attacks": "--n-attack takes fewer images, --attack-steps fewer steps",
    }
    return Cost(spectrum_work(plan, model, protocol) or {}, speed, shorter)


def perturbation_names(plan: SpectrumPlan) -> list[str]:
    """Return the names of corruptions and attacks."""
    names = () if plan.corruptions is None else plan.corruptions.names
    return [*names, *(run.name for run in plan.runs)]


def corrupted_work(corruptions: CorruptionPlan, model: Any) -> Work:
    """Return the work of one corrupted image, which without a model is only made."""
    return corruptions.work if model is not None else {**corruptions.work, "forward": 0}


class CorruptionSpectra:
    """Corrupted images compared with the same images uncorrupted, through the same geometry.

    Args:
        plan: The images.
        corruptions: Where corrupted images come from.
        partition: The bands.
        model: Classifies the corrupted images, or None.
        folder: Folder of the run, or None to store nothing.

    Attributes:
        shape: Channels, height and width of the images.

    Raises:
        InputError: For images that cannot be used, or a folder of another run.
    """

    def __init__(
        self,
        plan: SpectrumPlan,
        corruptions: CorruptionPlan,
        partition: SpectralPartition,
        model: Any,
        folder: Path | None,
    ) -> None:
        self._corruptions, self._partition = corruptions, partition
        plain = corruptions.images(None, 0)
        self._clean: Images = plan.clean if plain is None else plain
        self._predict = None if model is None else Predictor(model)
        self.work = corrupted_work(corruptions, model)
        identity = {
            **model_identity(model, None if model is None else folder),
            **method_identity(),
            "bands": [partition.n_bands, partition.norm],
            **ROWS,
            "origin": plan.origin,
            **{key: str(value) for key, value in corruptions.settings.items()},
        }
        where = None if folder is None else folder / "corruptions"
        self._store = RowStore(where, identity, FLUSH_EVERY, width=3 + 3 * partition.n_bands)
        self._digests: dict[str, str] = {}
        self.shape: tuple[int, ...] = ()
        for images, labels, ids in self._clean:
            check_images(images, partition.n_bands)
            self.shape = tuple(images.shape[1:])
            self._digests.update(zip(ids, digests_of(images, labels), strict=True))

    def condition(self, name: str, severity: int | None, bar: Progress) -> PerturbedCondition:
        """Measure one corruption at one severity; images are read unless all rows are stored.

        Args:
            name: The corruption.
            severity: 1 to 5; None for a folder of perturbed images.
            bar: Counts the images.

        Raises:
            InputError: If it has no images, or the model cannot take them.
        """
        # Noise is seeded by the id of an image, so that its pixels alone are no key.
        keys = {
            image: f"{name}-{severity}|{image}|{digest}" for image, digest in self._digests.items()
        }
        ids: list[str] = []
        with StoredRows(self._store) as rows:
            if all(key in self._store.rows for key in keys.values()):
                ids = list(keys)
                rows.batch({name: list(keys.values())}, tuple)
                bar.update(times(self.work, len(ids)))
            else:
                pairs = paired(self._clean, self._corruptions.corrupted(name, severity or 0))
                for images, *batch in pairs:
                    rows.batch(
                        {name: [keys[image] for image in images]},
                        partial(self._rows, images, *batch),
                    )
                    ids += images
                    bar.update(times(self.work, len(images)))
        if not ids:
            raise InputError(no_images(name, severity or 0))
        table, m = rows.table(name), self._partition.n_bands
        return PerturbedCondition(
            "corruption",
            name,
            name.replace("_", " "),
            None if severity is None else float(severity),
            None,
            tuple(ids),
            table[:, 1:-m],
            np.ones(len(ids), dtype=bool),
            table[:, 0],
            table[:, -m:],
        )

    def _rows(
        self, ids: Sequence[str], clean: Tensor, corrupted: Tensor, labels: Tensor
    ) -> Iterator[Array]:
        """Yield error (NaN without a model), band energies and products of every image, once."""
        error = np.full(len(ids), np.nan)
        if self._predict is not None:
            error = 1 - self._predict(corrupted, labels, ids)[:, 1]
        energies = band_energies(clean, corrupted, self._partition)
        products = band_products(clean, corrupted, self._partition)
        yield np.concatenate([error[:, None], energies, products], axis=1)


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
        # In random order, so that the images to attack, the first ones, are of many classes.
        clean = open_images(source, model, shuffled=True)
        own = model.info.preprocessing
    plan: CorruptionPlan | None = None
    if wanted is None and corruptions != "none":
        plan = distributed(Path(corruptions), clean, own, source.seed)
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


def check_corruptions(text: str) -> list[str] | None:
    """Return the corruptions to generate; empty for "none", None for a folder of them.

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
    """Return the severities of a list such as "1,3,5", ascending.

    Raises:
        InputError: For anything but numbers from 1 to 5.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part in "12345" and len(part) == 1 for part in parts):
        raise InputError(f"severities are numbers from 1 to 5 such as 1,3,5; got {text!r}")
    return tuple(sorted({int(part) for part in parts}))


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
