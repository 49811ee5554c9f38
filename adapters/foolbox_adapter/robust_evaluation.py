"""Foolbox attacks over a whole data set, to robust accuracies: `fb.accuracy` under attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_adapter.attack_runs import (
    AttackRun,
    Budget,
    Budgets,
    attack_rows,
    checked_runs,
)
from iaside_plugins.adapters.foolbox_adapter.fingerprint import fmodel_digest
from iaside_plugins.adapters.foolbox_adapter.guards import foolbox
from iaside_plugins.adapters.foolbox_adapter.models import bounds_of
from iaside_plugins.adapters.isolation import check_model
from iaside_plugins.evaluation.attacks import AttackOutcome, RobustEvaluation
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.stream import count, progress_bar

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
    """Robust accuracy by attack and budget, worst case, least distances, area under the curve.

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
        seed: Of the run.
        resume: Folder in which finished images are kept; a run that stopped goes on from there.
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
    store = RowStore(resume, identity, flush_every=512)
    total = count(data)
    with progress_bar(None if total is None else total * len(runs), show_progress) as bar:
        bar.set_description("attacks", refresh=False)
        ids, wrong, rows = attack_rows(
            fmodel, data, runs, _measure, seed=seed, store=store, on_images=bar.update
        )
    correct = ~np.asarray(wrong, dtype=bool)
    return RobustEvaluation(
        tuple(ids),
        correct,
        tuple(_outcome(run, rows, correct) for run in runs),
        {"seed": seed, "bounds": list(bounds_of(fmodel))},
    )


def as_fmodel(model: Any) -> Any:
    """A Foolbox model; a bare network gets bounds [0, 1], and is not moved.

    Raises:
        InputError: The network is in training mode or on several devices.
        InputTypeError: Neither a Foolbox model nor a network.
    """
    if not isinstance(model, nn.Module):
        bounds_of(model)
        return model
    tensors = chain(model.parameters(), model.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    check_model(model, device)
    return foolbox().PyTorchModel(model, bounds=(0, 1), device=device)


def _with_least(run: AttackRun) -> AttackRun:
    """A minimisation attack also tells its least distance."""
    if not run.minimal or None in run.epsilons:
        return run
    return replace(run, epsilons=(None, *run.epsilons))


def _measure(
    images: Tensor, adversarial: Tensor, is_adv: npt.NDArray[np.bool_], distances: Array
) -> Array:
    return np.stack([is_adv.astype(np.float64), distances], axis=1)


def _outcome(
    run: AttackRun, rows: Mapping[tuple[str, Budget], Array], correct: npt.NDArray[np.bool_]
) -> AttackOutcome:
    budgets: list[float] = []
    is_adv: list[npt.NDArray[np.bool_]] = []
    # 0 where no attack is needed. What a minimisation attack finds within a budget may be less
    # than its least: it may have stopped early.
    far = [np.where(correct, np.inf, 0.0)]
    if run.clean:
        budgets, is_adv = [0.0], [~correct]
    for epsilon in run.epsilons:
        found, norms = rows[run.name, epsilon][:, 0] > 0, rows[run.name, epsilon][:, 1]
        if epsilon is not None:
            budgets.append(epsilon)
            is_adv.append(found)
            norms = norms if run.minimal else np.where(found, epsilon, np.inf)
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
