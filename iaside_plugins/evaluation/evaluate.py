"""One model, one protocol -> entry: clean, corrupted, adversarial, spectral.

Images come as iterables and attacks as functions, so no host library is needed. For every image
under every condition the probability of the true class is stored, and whether it is classified
correctly; the entry holds error rates and paired changes computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.decomposition.comparison import combine
from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.streaming import StreamingDecomposition
from iaside_plugins.display.masking import warn_of_masking
from iaside_plugins.entry.build import (
    SCHEMA_VERSION,
    decomposition_group,
    entry_id,
    mean,
    proportion,
    spectral_group,
)
from iaside_plugins.evaluation.attacks import apart, weaker, worst_case
from iaside_plugins.evaluation.conditions import ConditionRunner, Outcome, settings_text
from iaside_plugins.evaluation.plan import AttackPlan, EvaluationPlan, PlannedAttack
from iaside_plugins.evaluation.plan_rows import PlanRows
from iaside_plugins.evaluation.temperature import temperature_check
from iaside_plugins.evaluation.work import attack_work, conditions_work, evaluation_work
from iaside_plugins.importance.chance import chance, not_judged
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.gradients import GradientView, gradient_rows, try_first_gradient
from iaside_plugins.parallel.processes import Devices, workers_of
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import jsonable
from iaside_plugins.storage.provenance import ids_digest, provenance
from iaside_plugins.value_table.progress import Progress, added


def evaluate(
    model: Model,
    plan: EvaluationPlan,
    protocol: Protocol,
    *,
    batch_size: int | str = 64,
    precision: str = "float32",
    devices: Devices = None,
    resume: Path | str | None = None,
    show_progress: bool = False,
) -> tuple[dict[str, Any], SpectralImportance]:
    """Return the entry of one model under one protocol, and its spectral importance.

    Args:
        model: (N, C, H, W) images in [0, 1] -> logits, in evaluation mode.
        plan: Images, corruptions and attacks, with their description for the entry.
        protocol: Protocol of the spectral importance.
        batch_size: Rows in one forward pass of the spectral importance; "auto": as many as memory
            allows, there and under the conditions.
        precision: As in `spectral_importance`.
        devices: Devices or workers that share the images, as `device` of `spectral_importance`.
            Conditions whose images are no files run on the model's device, and so does the check
            of temperatures.
        resume: Folder that stores finished images of every condition.
        show_progress: Whether to show progress bars.

    Returns:
        The entry, as JSON values, and the spectral importance.

    Raises:
        InputError: For input that cannot be used; finished work stays in `resume`.
    """
    if plan.attacks is not None and plan.attacks.by_gradient:
        try_first_gradient(model, plan.attacks.images, model_device(model))
    work = evaluation_work(plan, protocol)
    split: dict[str, Any] = {
        "batch_size": batch_size,
        "precision": precision,
        "resume": None if resume is None else Path(resume) / "decomposition",
    }
    with (
        Progress(None if work is None else added(*work.values()), show_progress) as bar,
        workers_of(devices) as pool,
        nullcontext(_streaming(model, plan, protocol, pool=pool, **split)) as explained,
        closing(
            PlanRows(
                model,
                plan,
                bar,
                batch_size=batch_size,
                resume=resume,
                forwards=protocol.forwards,
                pool=pool,
                pairs=explained,
            )
        ) as rows,
    ):
        device = pool or devices
        with not_judged():  # perhaps few of the clean images, which are judged by themselves
            # It drives the reading, since it checks protocol, precision and the size of the images.
            result = spectral_importance(
                model,
                rows.spectral(),
                protocol,
                device=device,
                batch_size=batch_size,
                precision=precision,
                resume=None if resume is None else Path(resume) / "spectral",
                show_progress=show_progress,
            )
        rows.finish(result.n_classes)
        clean, corruption, adversarial = _groups(plan, rows)
        systematic = None if rows.systematic is None else rows.systematic.group()
        with not_judged():  # perhaps few of the clean images, which were judged together
            splits = [] if explained is None else [explained.result()]
            given = {**split, "device": device, "show_progress": show_progress}
            splits += [
                error_decomposition(model, pairs, chains_like(protocol), **given)
                for pairs in plan.perturbed
            ]
    decomposition = decomposition_group(combine(splits), clean.ids) if splits else None
    n_unreadable = len(getattr(plan.clean, "unreadable", ()))
    n_taken = len(clean.ids) + n_unreadable
    selected = n_taken if n_taken < plan.data["n_available"] else None
    entry = {
        "schema_version": SCHEMA_VERSION,
        "entry_id": entry_id(plan.data["name"], plan.model["name"], protocol, selected=selected),
        "model": {**plan.model, "n_classes": result.n_classes},
        "data": {
            **plan.data,
            "n_images": len(clean.ids),
            "n_unreadable": n_unreadable,
            "image_ids_sha256": ids_digest(clean.ids),
        },
        "protocol": protocol.to_dict(),
        "clean_accuracy": proportion(clean.correct, by_image=True),
        "chance": chance(int(clean.correct.sum()), len(clean.ids), result.n_classes),
        "spectral": spectral_group(result),
        "corruption": corruption,
        "adversarial": adversarial,
        **({} if systematic is None else {"systematic": systematic}),
        **({} if decomposition is None else {"decomposition": decomposition}),
        "provenance": provenance((pool or rows.runner.predict.runner).device),
        "submission": {"submitter": None, "status": "self-reported", "statement": None},
    }
    return jsonable(entry), result


def _streaming(
    model: Model, plan: EvaluationPlan, protocol: Protocol, **options: Any
) -> StreamingDecomposition | None:
    """Return the decomposition of the plan's `explained`; None without any."""
    if plan.explained is None:
        return None
    return StreamingDecomposition(model, plan.explained, chains_like(protocol), **options)


def conditions(
    model: Model,
    plan: EvaluationPlan,
    *,
    batch_size: int | str = 64,
    resume: Path | str | None = None,
    show_progress: bool = False,
    n_classes: int | None = None,
) -> tuple[Outcome, dict[str, Any] | None, dict[str, Any] | None, torch.device]:
    """Return the clean outcome, the ``corruption`` and ``adversarial`` groups, and the device.

    The arguments are those of `evaluate`; `n_classes` is the number of the model's outputs, by
    default that of the passes made here. A clean accuracy at chance is logged before the rest.

    Raises:
        InputError: For input that cannot be used; finished work stays in `resume`.
    """
    work = conditions_work(plan)
    alone = replace(plan, systematic=None)
    with (
        Progress(None if work is None else added(*work.values()), show_progress) as bar,
        closing(PlanRows(model, alone, bar, batch_size=batch_size, resume=resume)) as rows,
    ):
        rows.finish(n_classes)
        return *_groups(plan, rows), rows.runner.predict.runner.device


def _groups(
    plan: EvaluationPlan, rows: PlanRows
) -> tuple[Outcome, dict[str, Any] | None, dict[str, Any] | None]:
    """Return the clean outcome, and the entry's ``corruption`` and ``adversarial`` groups."""
    clean = rows.clean.outcome()
    corruption = None if rows.corruption is None else rows.corruption.group(clean)
    attacks = None if plan.attacks is None else _attacked(rows.runner, plan.attacks, clean)
    return clean, corruption, attacks


@dataclass(frozen=True)
class _Attack:
    """One attack of a plan on batches; can be pickled where the plan's `run` can."""

    run: Callable[[Model, Tensor, Tensor, Any, int, int], Sequence[Tensor]]
    spec: PlannedAttack
    seed: int

    def __call__(self, model: Model, x: Tensor, y: Tensor, first: int) -> Sequence[Tensor]:
        """Return the images attacked at every budget; the first one has a place."""
        return self.run(model, x, y, self.spec, self.seed, first)


def _attacked(runner: ConditionRunner, plan: AttackPlan, clean: Outcome) -> dict[str, Any]:
    """Return the entry's ``adversarial`` group.

    An image counts as robust if the clean image and the attacked one are both classified
    correctly. See `worst_case` for which attacks count at a budget.
    """
    view = _gradient_view(runner, plan, clean)
    attacks: list[dict[str, Any]] = []
    found: list[tuple[PlannedAttack, list[Outcome]]] = []
    fooled: list[Any] = []  # by attack and budget, beside `attacks`
    by_norm: dict[str, list[tuple[str, dict[float, Any]]]] = {}
    for spec in plan.specs:
        settings = spec.to_dict()
        tag = settings_text(settings)
        tag += f"-seed={plan.seed}-batch={plan.batch_size}"
        names = [f"{tag}|{spec.name} {epsilon!r}" for epsilon in spec.epsilons]

        attack, work = _Attack(plan.run, spec, plan.seed), attack_work(spec)
        outcomes = runner.attack(names, plan.images, attack, keep=plan.keep, work=work)
        found.append((spec, outcomes))
        successes: dict[float, Any] = {}
        by_norm.setdefault(spec.norm, []).append((spec.name, successes))
        for epsilon, outcome in zip(map(float, spec.epsilons), outcomes, strict=True):
            outcome = outcome.among(clean)
            base = clean.at(outcome.ids)
            attacks.append(
                {
                    **settings,
                    "epsilon": epsilon,
                    "accuracy": proportion(outcome.correct & base.correct),
                    "probability_change": mean(np.abs(outcome.probability - base.probability)),
                }
            )
            fooled.append(base.correct & ~outcome.correct)
            successes[epsilon] = ~outcome.correct
    worst = []
    for norm, epsilon in sorted({(attack["norm"], attack["epsilon"]) for attack in attacks}):
        counted, robust = worst_case(base.correct, by_norm[norm], epsilon)
        case = {"norm": norm, "epsilon": epsilon, "attacks": counted}
        worst.append({**case, "accuracy": proportion(robust, by_image=True)})
    group: dict[str, Any] = {
        "n_images": attacks[0]["accuracy"]["n"],
        "seed": plan.seed,
        "batch_size": plan.batch_size,
        "attacks": attacks,
        "worst_case": worst,
    }
    if view is not None:
        group["masking"] = {**view.to_dict(), "weaker": weaker(attacks, fooled)}
        libraries = [getattr(s, "library", None) for s in plan.specs for _ in s.epsilons]
        group["masking"]["apart"] = apart(attacks, libraries)
        iterated = [pair for pair in found if pair[0].to_dict()["steps"] is not None]
        if iterated and plan.keep and (plan.temperatures or view.n_zero):
            check = temperature_check(runner, plan, *iterated[0], clean)
            group["masking"]["temperature"] = check
        warn_of_masking(group, warned=view)
    return group


def _gradient_view(
    runner: ConditionRunner, plan: AttackPlan, clean: Outcome
) -> GradientView | None:
    """Return what an attack by gradients sees, said before it begins; None for other attacks."""
    if not plan.by_gradient:
        return None
    ids, rows = runner.rows_of("gradient", plan.images, gradient_rows, {"gradient": 1})
    known = set(clean.ids)
    kept = [k for k, name in enumerate(ids) if name in known]
    view = GradientView.of(rows[kept], clean.at([ids[k] for k in kept]).correct)
    warn_of_masking({"attacks": (), "masking": view.to_dict()})
    return view
