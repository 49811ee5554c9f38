"""Foolbox attacks over a whole data set, to robust accuracies and to spectra of perturbations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.attack_rows import (
    N_MARKS,
    AttackRows,
    Budgets,
    attack_rows,
    checked_runs,
    fmodel_digest,
)
from iaside_plugins.adapters.foolbox_adapter.attacks import CATALOGUE, AttackRun, BandAttack
from iaside_plugins.adapters.foolbox_adapter.models import as_fmodel, bounds_of, foolbox
from iaside_plugins.display.masking import warn_of_masking
from iaside_plugins.evaluation.attacks import AttackOutcome, RobustEvaluation, weaker
from iaside_plugins.evaluation.conditions import FLUSH_EVERY
from iaside_plugins.inference.gradients import GradientView
from iaside_plugins.protocol import method_identity
from iaside_plugins.spectra.report import PerturbedCondition
from iaside_plugins.spectral.energy import band_energies
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import Progress, added, times
from iaside_plugins.value_table.stream import count

Array = npt.NDArray[np.float64]


def robust_evaluation(
    fmodel: Any,
    data: Any,
    attacks: Any,
    epsilons: Budgets | Mapping[str, Budgets],
    *,
    seed: int = 0,
    resume: Path | str | None = None,
    show_progress: bool = False,
) -> RobustEvaluation:
    """Return robust accuracy by attack and budget, worst case, distances and area under the curve.

    Streams the data once. Each batch and attack is seeded from (seed, attack, index of the batch's
    first image): on the same seeds the results are Foolbox's own, and they depend on the batches.
    The model stays where and as it is (device, mode, `requires_grad`, gradients), and so do the
    global generators.

    Args:
        fmodel: A Foolbox model of PyTorch tensors, or a network on images in [0, 1].
        data: (images, labels), or an iterable of (images, labels) or (images, labels, ids)
            batches, such as a data loader; images within the model's bounds.
        attacks: Foolbox attacks, by name or as a list, or one.
        epsilons: Budgets (or one) of all of them, or by the name of the attack or of its norm
            ("Linf", "L2", ...), in units of the bounds. 0 is the clean images and costs nothing.
            Minimisation attacks are run once for all budgets and also tell the least distance.
        seed: Seed of the run.
        resume: Folder that stores finished images; a stopped run goes on from there.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: Attacks, budgets, images or labels that cannot be used; a network in training
            mode, or on several devices.
        InputTypeError: Neither a Foolbox model nor a network; images that are not PyTorch's.
        MissingExtraError: Foolbox is not installed.
    """
    foolbox()
    fmodel = as_fmodel(fmodel)
    runs = [_with_least(run) for run in checked_runs(attacks, epsilons)]
    identity = {} if resume is None else {"model": fmodel_digest(fmodel), "seed": seed}
    identity |= method_identity()
    store = RowStore(resume, identity, FLUSH_EVERY, width=N_MARKS + 2)
    total = count(data)
    each = added(*(run.work for run in runs))
    with Progress(None if total is None else times(each, total), show_progress) as bar:
        bar.set_description("attacks")
        found = attack_rows(fmodel, data, runs, _measure, seed=seed, store=store)
    outcomes = tuple(_outcome(run, found) for run in runs)
    masking = None if found.view is None else _masking(found.view, runs, outcomes, found.correct)
    info = {"seed": seed, "bounds": list(bounds_of(fmodel))}
    return RobustEvaluation(found.ids, found.correct, outcomes, info, masking)


def _masking(
    view: GradientView,
    runs: Sequence[AttackRun],
    outcomes: Sequence[AttackOutcome],
    correct: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """Return what attacks by gradients saw and missed, as an entry has it, and warn of it."""
    cells, fooled = [], []
    for run, outcome in zip(runs, outcomes, strict=True):
        for epsilon, is_adv in outcome.successes.items():
            if run.by_gradient and not run.minimal and epsilon > 0:
                left = {"value": float((correct & ~is_adv).mean())}
                cell = {"name": run.name, "norm": run.norm, "epsilon": epsilon}
                cells.append({**cell, "steps": run.steps, "accuracy": left})
                fooled.append(correct & is_adv)
    masking = {**view.to_dict(), "weaker": weaker(cells, fooled)}
    warn_of_masking({"attacks": cells, "masking": masking})
    return masking


def _with_least(run: AttackRun) -> AttackRun:
    """Return the run; a minimisation attack is also asked for its least distance."""
    if not run.minimal or None in run.epsilons:
        return run
    return replace(run, epsilons=(None, *run.epsilons))


def _measure(
    images: Tensor, adversarial: Tensor, is_adv: npt.NDArray[np.bool_], distances: Array
) -> Array:
    """Return rows (N, 2): success and distance."""
    return np.stack([is_adv.astype(np.float64), distances], axis=1)


def _outcome(run: AttackRun, found: AttackRows) -> AttackOutcome:
    """Return the outcome of one attack from the rows of `_measure`."""
    correct = found.correct
    budgets: list[float] = []
    is_adv: list[npt.NDArray[np.bool_]] = []
    # 0 where no attack is needed. What a minimisation attack finds within a budget may be less
    # than its least: it may have stopped early.
    far = [np.where(correct, np.inf, 0.0)]
    if run.clean:
        budgets, is_adv = [0.0], [~correct]
    for epsilon in run.epsilons:
        success, norms = found.rows[run.name, epsilon].T
        succeeded = success > 0
        if epsilon is not None:
            budgets.append(epsilon)
            is_adv.append(succeeded)
            norms = norms if run.minimal else np.where(succeeded, epsilon, np.inf)
        far.append(norms)
    return AttackOutcome(
        run.name,
        run.norm,
        run.settings,
        run.minimal,
        tuple(budgets),
        np.array(is_adv, dtype=bool).reshape(len(budgets), len(correct)),
        np.min(far, axis=0),
    )


def attacked_conditions(
    model: Any,
    images: Any,
    runs: Sequence[AttackRun],
    partition: SpectralPartition,
    *,
    seed: int,
    folder: Path | None,
) -> list[PerturbedCondition]:
    """Return the spectra of every attack and budget; images on which it fails do not count.

    Args:
        model: A network on images in [0, 1], in evaluation mode, or a Foolbox model.
        images: Batches (images, labels, ids).
        runs: The attacks.
        partition: The bands.
        seed: Seed of the attacks.
        folder: Folder that stores finished images, or None.

    Raises:
        InputError: As `attack_rows`.
    """

    def measure(
        clean: Tensor, adversarial: Tensor, is_adv: npt.NDArray[np.bool_], distances: Array
    ) -> Array:
        energies = band_energies(clean, adversarial, partition)
        return np.concatenate([is_adv[:, None], energies], axis=1)

    identity = {
        **model_identity(model, folder),
        **method_identity(),
        "bands": [partition.n_bands, partition.norm],
    }
    found = attack_rows(
        as_fmodel(model),
        images,
        runs,
        measure,
        seed=seed,
        store=RowStore(folder, identity, FLUSH_EVERY, width=N_MARKS + 3 + 2 * partition.n_bands),
    )
    if found.view is not None:
        warn_of_masking({"attacks": (), "masking": found.view.to_dict()})
    conditions = []
    for run in runs:
        for epsilon in run.epsilons:
            table = found.rows[run.name, epsilon]
            conditions.append(
                PerturbedCondition(
                    *_kind_and_title(run),
                    epsilon,
                    run.norm,
                    found.ids,
                    table[:, 1:],
                    found.correct & (table[:, 0] > 0),
                    np.maximum(table[:, 0], ~found.correct),
                )
            )
    return conditions


def _kind_and_title(run: AttackRun) -> tuple[str, str, str]:
    """Return kind, name and title of an attack's conditions."""
    family, _, band = run.name.rpartition("_")
    if family in CATALOGUE and isinstance(CATALOGUE[family], BandAttack):
        return "band attack", run.name, f"PGD L2 in band {band}"
    return "attack", run.name, CATALOGUE[run.name].title if run.name in CATALOGUE else run.name
