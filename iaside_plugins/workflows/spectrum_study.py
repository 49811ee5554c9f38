"""Corruptions and attacks on the same images, measured band by band, with the model's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.attack_runs import AttackRun, attack_rows
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.inference.checks import check_images, model_device
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.spectra.report import PerturbedCondition, SpectrumReport
from iaside_plugins.spectral.energy import band_energies
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import image_digest, model_digest, provenance
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.stream import count, progress_bar

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpectrumPlan:
    """What is measured.

    Attributes:
        clean: The images as the model takes them: batches (images, labels, ids).
        attacked: Those of them that are attacked; by default all.
        corruptions: Where corrupted images come from, or None.
        severities: Of the corruptions, among 1 to 5.
        runs: Attacks with their budgets.
        titles: Titles of attacks by name.
        origin: What decides the corrupted images beside the corruptions' settings: a folder of
            frost textures, or of a distributed set.
    """

    clean: Any
    corruptions: CorruptionPlan | None = None
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    runs: Sequence[AttackRun] = ()
    titles: Mapping[str, str] | None = None
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
    """Band energies of every perturbation, and with a model its errors and its importance.

    Args:
        plan: Images, corruptions and attacks.
        model: A network on images in [0, 1], in evaluation mode; attacks need one.
        protocol: Bands, and the choices of the importance.
        seed: Of the attacks.
        batch_size: Rows in one forward pass of the importance.
        resume: Folder in which finished work is kept; a run that stopped goes on from there.
        info: What else the report should say.
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
    if model is not None:
        importance = spectral_importance(
            model,
            plan.clean,
            protocol,
            batch_size=batch_size,
            show_progress=show_progress,
            resume=None if folder is None else folder / "spectral",
        )
    conditions: list[PerturbedCondition] = []
    shape: tuple[int, int, int] | None = None
    with progress_bar(_total(plan), show_progress) as bar:
        if plan.corruptions is not None:
            study = CorruptionStudy(
                plan.corruptions, plan.clean, partition, model, folder, plan.origin
            )
            for name in plan.corruptions.names:
                for severity in plan.severities:
                    bar.set_description(f"{name} {severity}", refresh=False)
                    conditions.append(study.condition(name, severity, bar.update))
            shape = study.shape
        if plan.runs:
            bar.set_description("attacks", refresh=False)
            conditions += _attacked(plan, partition, model, seed, folder, bar.update)
    if shape is None:
        channels, height, width = next(iter(plan.clean))[0].shape[1:]
        shape = channels, height, width
    return SpectrumReport(
        tuple(conditions),
        partition,
        (shape[1], shape[2]),
        shape[0],
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


def _total(plan: SpectrumPlan) -> int | None:
    n, n_attacked = count(plan.clean), count(plan.clean if plan.attacked is None else plan.attacked)
    if n is None or n_attacked is None:
        return None
    names = () if plan.corruptions is None else plan.corruptions.names
    return n * len(names) * len(plan.severities) + n_attacked * len(plan.runs)


class CorruptionStudy:
    """Corrupted images beside the same images uncorrupted, through the same geometry."""

    def __init__(
        self,
        plan: CorruptionPlan,
        clean: Images,
        partition: SpectralPartition,
        model: Any,
        folder: Path | None,
        origin: str = "",
    ) -> None:
        self._plan, self._partition = plan, partition
        plain = plan.images(None, 0)
        self._plain: Images = clean if plain is None else plain
        self._runner = None if model is None else ModelRunner(model, model_device(model))
        identity = {
            "model": None if model is None or folder is None else model_digest(model),
            "bands": [partition.n_bands, partition.norm],
            "origin": origin,
            **{key: str(value) for key, value in plan.settings.items()},
        }
        where = None if folder is None else folder / "corruptions"
        self._store = RowStore(where, identity, flush_every=512)
        self._digests: dict[str, str] = {}
        self.shape = (0, 0, 0)
        for images, labels, ids in self._plain:
            check_images(images, partition.n_bands)
            self.shape = int(images.shape[1]), int(images.shape[2]), int(images.shape[3])
            for image, label, name in zip(images, labels, ids, strict=True):
                self._digests[name] = image_digest(image, int(label))

    def condition(
        self, name: str, severity: int, on_images: Callable[[int], object]
    ) -> PerturbedCondition:
        """One corruption at one severity, from the store what is there.

        Raises:
            InputError: If it has no images, or the model cannot take them.
        """
        # Noise is seeded by the name of an image, so that its pixels alone would not do.
        keys = {
            image: f"{name}-{severity}|{image}|{digest}" for image, digest in self._digests.items()
        }
        ids = list(keys)
        if not all(key in self._store.rows for key in keys.values()):
            ids = []
            try:
                for found, *pairs in self._pairs(name, severity):
                    if not all(keys[image] in self._store.rows for image in found):
                        for image, row in zip(found, self._rows(*pairs), strict=True):
                            self._store.add(keys[image], row)
                        self._store.flush()
                    ids += found
                    on_images(len(found))
            finally:
                self._store.compact()
        else:
            on_images(len(ids))
        if not ids:
            raise InputError(f"no images for {name} at severity {severity}")
        table = np.stack([self._store.rows[keys[image]] for image in ids])
        everything = np.ones(len(ids), dtype=bool)
        return PerturbedCondition(
            "corruption",
            name,
            name.replace("_", " "),
            float(severity),
            None,
            tuple(ids),
            table[:, 1:],
            everything,
            table[:, 0],
        )

    def _pairs(
        self, name: str, severity: int
    ) -> Iterator[tuple[list[str], Tensor, Tensor, Tensor]]:
        """Ids, clean images, corrupted ones, labels by batch; unreadable images are left out."""
        corrupted = self._plan.images(name, severity)
        if corrupted is None:
            return
        held: dict[str, tuple[Tensor, int]] = {}
        plain = iter(self._plain)
        for images, _, found in corrupted:
            # A file may be unreadable in one of the two: images are paired by name.
            while not all(name in held for name in found):
                batch = next(plain, None)
                if batch is None:
                    break
                for image, label, name in zip(*batch, strict=True):
                    held[name] = image, int(label)
            both = [k for k, name in enumerate(found) if name in held]
            if not both:
                continue
            pairs = [held.pop(found[k]) for k in both]
            clean = torch.stack([image for image, _ in pairs])
            labels = torch.tensor([label for _, label in pairs])
            yield [found[k] for k in both], clean, images[both], labels

    def _rows(self, clean: Tensor, corrupted: Tensor, labels: Tensor) -> Array:
        """Error, then energies, of every image."""
        energies = band_energies(clean, corrupted, self._partition)
        return np.concatenate([self._wrong(corrupted, labels)[:, None], energies], axis=1)

    @torch.no_grad()
    def _wrong(self, images: Tensor, labels: Tensor) -> Array:
        if self._runner is None:
            return np.full(len(images), np.nan)
        logits = self._runner.logits(images.to(self._runner.device), int(labels.max()))
        return np.asarray((logits.argmax(dim=1).cpu() != labels.cpu()).double().numpy())


def _attacked(
    plan: SpectrumPlan,
    partition: SpectralPartition,
    model: Any,
    seed: int,
    folder: Path | None,
    on_images: Callable[[int], object],
) -> list[PerturbedCondition]:
    """Every attack and budget as a condition; failed attacks do not count."""
    from iaside_plugins.adapters.foolbox_adapter.robust_evaluation import as_fmodel

    fmodel = as_fmodel(model)
    identity = {
        "model": None if folder is None else model_digest(model),
        "bands": [partition.n_bands, partition.norm],
    }
    store = RowStore(None if folder is None else folder / "attacks", identity, flush_every=512)

    def measure(
        images: Tensor, adversarial: Tensor, is_adv: npt.NDArray[np.bool_], distances: Array
    ) -> Array:
        energies = band_energies(images, adversarial, partition)
        return np.concatenate([is_adv[:, None], energies], axis=1)

    images = plan.clean if plan.attacked is None else plan.attacked
    ids, wrong, rows = attack_rows(
        fmodel, images, plan.runs, measure, seed=seed, store=store, on_images=on_images
    )
    titles = plan.titles or {}
    correct = ~np.asarray(wrong, dtype=bool)
    return [
        PerturbedCondition(
            *_kind(run, titles),
            epsilon,
            run.norm,
            tuple(ids),
            rows[run.name, epsilon][:, 1:],
            correct & (rows[run.name, epsilon][:, 0] > 0),
            np.maximum(rows[run.name, epsilon][:, 0], ~correct),
        )
        for run in plan.runs
        for epsilon in run.epsilons
    ]


def _kind(run: AttackRun, titles: Mapping[str, str]) -> tuple[str, str, str]:
    """Kind, name and title of an attack's conditions."""
    family, _, band = run.name.rpartition("_")
    if family == "band_pgd":
        return "band attack", run.name, f"PGD L2 in band {band}"
    return "attack", run.name, titles.get(run.name, run.name)
