"""Spectra of corruptions and attacks on the same images, measured band by band.

With a model also its errors and its importance. `spectrum_plan` says what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.robust_evaluation import attacked_conditions
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.display.cost import Cost
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.batches import Predictor, digests_of
from iaside_plugins.evaluation.conditions import FLUSH_EVERY, Images, StoredRows
from iaside_plugins.evaluation.corruption import CorruptionPlan, no_images, paired
from iaside_plugins.importance.chance import not_judged
from iaside_plugins.importance.run import importance_work, spectral_importance
from iaside_plugins.inference.checks import check_images, model_device
from iaside_plugins.inference.gradients import try_first_gradient
from iaside_plugins.protocol import Protocol, method_identity
from iaside_plugins.spectra.report import PerturbedCondition, SpectrumReport
from iaside_plugins.spectral.energy import band_energies, band_products
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import model_identity, provenance
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import Progress, Work, added, times
from iaside_plugins.value_table.stream import count
from iaside_plugins.workflows.cost import probed
from iaside_plugins.workflows.spectrum_plan import SpectrumPlan

Array = npt.NDArray[np.float64]
ROWS = {"rows": 2}  # what a stored row holds; 1, without inner products, was not recorded


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
    with Progress(None if work is None else added(*work.values()), show_progress) as bar:
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
            with not_judged():  # perhaps few of the clean images, which the importance judged
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
