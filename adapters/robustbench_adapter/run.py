"""A prepared request to results: the entry, the two accuracies, a profile under each condition."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.adapters.models.robustbench_names import N_CLASSES
from iaside_plugins.adapters.robustbench_adapter.attacked_images import (
    AdversarialImages,
    AttackedImages,
)
from iaside_plugins.adapters.robustbench_adapter.autoattack import AutoAttackSpec, run_autoattack
from iaside_plugins.adapters.robustbench_adapter.cost import Cost, estimate
from iaside_plugins.adapters.robustbench_adapter.images import part_of
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest, host_version
from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.error_rates import SEVERITIES, cell_accuracies, mean_accuracy
from iaside_plugins.entry.build import CYCLED, entry_id, spectral_group
from iaside_plugins.entry.robustbench_json import read
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.evaluate import AttackPlan, EvaluationPlan, conditions, evaluate
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.storage.files import jsonable, write_json
from iaside_plugins.storage.provenance import ids_digest, model_digest
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.stream import progress_bar

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkResult:
    """What a run gives.

    Attributes:
        n_images: Images evaluated.
        image_ids_sha256: Digest of their ids.
        clean_accuracy: Share of the clean images classified correctly.
        robust_accuracy: The same of the attacked images (at the first budget), or the mean over
            all corruptions and severities.
        cells: (corruption, severity) -> accuracy; empty for attacks.
        entry: The entry; None without the spectral importance.
        result: The spectral importance on clean images, or None.
        corruption: The entry's group, or None.
        adversarial: The entry's group, or None.
        attacked: Budget -> the adversarial images.
    """

    n_images: int
    image_ids_sha256: str
    clean_accuracy: float
    robust_accuracy: float
    cells: dict[tuple[str, int], float]
    entry: dict[str, Any] | None
    result: SpectralImportance | None
    corruption: dict[str, Any] | None
    adversarial: dict[str, Any] | None
    attacked: dict[float, AdversarialImages]


def cost_of(ready: PreparedRequest) -> Cost:
    """The cost of a run; also the check that model, images and bands go together.

    Raises:
        InputError: They do not.
    """
    request = ready.request
    game = Game(ready.model, ready.protocol, ready.device(), request.batch_size, request.precision)
    n_budgets = len(ready.spec.epsilons) if ready.spec else 0
    n_cells = len(ready.threat.corruptions) * len(SEVERITIES)
    if n_cells:
        n_cells += ready.images.cell(None, 0, None) is not None
    n_profiles = (n_budgets or 1) if request.profiles else 0
    cost = estimate(
        game,
        next(iter(ready.images.clean(None))),
        n=len(ready.images.ids),
        protocol=ready.protocol if request.spectral else None,
        n_cells=n_cells,
        n_spectral=len(ready.spectral_part),
        n_profiles=n_profiles,
        attacks=ready.spec.order if ready.spec else (),
        n_budgets=n_budgets,
    )
    _check_classes(ready, game.n_classes)
    return cost


def _check_classes(ready: PreparedRequest, n_classes: int | None) -> None:
    """Refuse a model of another number of classes; warn of one that is the caller's own module."""
    expected = N_CLASSES[ready.threat.dataset]
    if n_classes == expected:
        return
    problem = f"{ready.name} has {n_classes} outputs, and {ready.threat.dataset} {expected} classes"
    if isinstance(ready.model, Classifier):
        raise InputError(f"{problem}; give a model of {ready.threat.dataset}, or its own dataset")
    _log.warning("%s: are its outputs numbered as the labels are?", problem)


@contextmanager
def finished(ready: PreparedRequest, cost: Cost) -> Iterator[BenchmarkResult]:
    """Run, or go on with what a stopped run kept; adversarial images stay readable inside.

    Args:
        ready: What to run.
        cost: Of `cost_of`, whose probe tells whether a kept run is of this very model.

    Raises:
        InputError: For input that cannot be used; what was finished is kept.
    """
    request, spec = ready.request, ready.spec
    which = (
        ready.threat,
        request.n_examples,
        Path(request.data_dir).resolve(),
        request.seed,
        request.corruptions_data_dir,
        request.batch_size,
        ready.protocol.used(),
        request.precision,
    )
    folder = None if request.resume is None else Path(request.resume)
    with resume_folder(folder, "robustbench", *map(str, which), ready.model) as home:
        kind = f"{model_digest(ready.model)} {ready.device().type} {request.precision}"
        check_same_model(home, kind, cost.logits, ours=folder is None)
        if request.aa_state_path is not None:
            check_same_model(Path(request.aa_state_path), kind, cost.logits, ours=False)
        attacked: dict[float, AdversarialImages] = {}
        if spec is not None:
            attacked = {eps: _attack(ready, spec, eps, home) for eps in spec.epsilons}
        entry = result = None
        job = _job(ready, attacked)
        if request.spectral:
            entry, result = evaluate(
                ready.model,
                job,
                ready.protocol,
                batch_size=request.batch_size,
                precision=request.precision,
                resume=home,
                show_progress=request.show_progress,
            )
            n, digest = entry["data"]["n_images"], entry["data"]["image_ids_sha256"]
            clean = entry["clean_accuracy"]["value"]
            corruption, adversarial = entry["corruption"], entry["adversarial"]
            entry["benchmark"] = jsonable(_benchmark(ready, attacked, home))
            entry["entry_id"] = entry_id(
                entry["data"]["name"],
                entry["model"]["name"],
                ready.protocol,
                f"robustbench-{ready.threat.model}",
            )
        else:
            outcome, corruption, adversarial, _ = conditions(
                ready.model, job, resume=home, show_progress=request.show_progress
            )
            n, digest = len(outcome.ids), ids_digest(outcome.ids)
            clean = float(outcome.correct.mean())
        _check_agreement(adversarial, attacked)
        cells = {} if corruption is None else cell_accuracies(corruption["conditions"])
        yield BenchmarkResult(
            n,
            digest,
            clean,
            _robust(cells, adversarial),
            cells,
            entry,
            result,
            corruption,
            adversarial,
            attacked,
        )


def _check_agreement(
    adversarial: dict[str, Any] | None, attacked: dict[float, AdversarialImages]
) -> None:
    """The accuracy on the attacked images is what the last attack left: they are the same ones.

    Raises:
        InputError: It is not, as the model's answers change from batch to batch or call to call.
    """
    for attack in (adversarial or {}).get("attacks", ()):
        epsilon, accuracy = attack["epsilon"], attack["accuracy"]["value"]
        left = list(attacked[epsilon].accuracy_after.values())[-1]
        if abs(accuracy - left) > 1e-9:
            raise InputError(
                f"AutoAttack left an accuracy of {left:.6g} at eps {epsilon:.6g}, and the model's "
                f"on the same attacked images is {accuracy:.6g}: its answers are not the same "
                "every time; expected a deterministic model that treats images one by one"
            )


def _robust(cells: dict[tuple[str, int], float], adversarial: dict[str, Any] | None) -> float:
    if adversarial is None:
        return mean_accuracy(cells)
    return float(adversarial["attacks"][0]["accuracy"]["value"])


def run_facts(ready: PreparedRequest, found: BenchmarkResult) -> dict[str, Any]:
    """What says which run it was, with or without an entry, and its two numbers."""
    facts: dict[str, Any] = {
        "clean_accuracy": found.clean_accuracy,
        "robust_accuracy": found.robust_accuracy,
        "n_images": found.n_images,
        "image_ids_sha256": found.image_ids_sha256,
        "weights_sha256": ready.info["weights_sha256"],
        "seed": ready.request.seed,
        "batch_size": ready.request.batch_size,
    }
    if ready.spec is not None:
        facts |= {"attack_order": list(ready.spec.order), "eps": list(ready.spec.epsilons)}
    if ready.plan is not None:
        facts["corrupted_images"] = dict(ready.plan.settings)
    return facts


def _attack(
    ready: PreparedRequest, spec: AutoAttackSpec, epsilon: float, home: Path
) -> AdversarialImages:
    request = ready.request
    own = request.aa_state_path
    total = len(ready.images.ids) * (1 + len(spec.order))
    with progress_bar(total, request.show_progress) as bar:
        return run_autoattack(
            ready.model,
            ready.images.clean(None),
            spec,
            epsilon,
            device=ready.device(),
            seed=request.seed,
            batch_size=request.batch_size,
            folder=home / "attacks" if own is None else Path(own),
            bar=bar,
        )


def _job(ready: PreparedRequest, attacked: dict[float, AdversarialImages]) -> EvaluationPlan:
    """The run in the form that `iaside_plugins.evaluation.evaluate` takes."""
    request, clean = ready.request, ready.images.clean
    attacks = None
    if ready.spec is not None:

        def batches(
            _model: Any, x: Tensor, y: Tensor, spec: Any, _seed: int, _first: int
        ) -> list[Tensor]:
            return [attacked[epsilon].batch(x, y) for epsilon in spec.epsilons]

        attacks = AttackPlan(
            [ready.spec], clean(None), batches, request.seed, request.batch_size, keep=False
        )
    return EvaluationPlan(
        model=ready.info,
        data=ready.data,
        clean=clean(None),
        spectral=clean(ready.spectral_part),
        corruptions=ready.plan,
        attacks=attacks,
    )


def _benchmark(
    ready: PreparedRequest, attacked: dict[float, AdversarialImages], home: Path
) -> dict[str, Any]:
    """The entry's ``benchmark`` group."""
    after = [
        {"epsilon": epsilon, "attack": attack, "accuracy": accuracy}
        for epsilon, found in attacked.items()
        for attack, accuracy in found.accuracy_after.items()
    ]
    profiles = []
    for condition, images in _conditions(ready, attacked):
        result = spectral_importance(
            ready.model,
            images,
            ready.protocol,
            batch_size=ready.request.batch_size,
            precision=ready.request.precision,
            resume=home / "spectral",
            show_progress=ready.request.show_progress,
        )
        profiles.append({"condition": condition, **spectral_group(result)})
    return {
        "host": "robustbench",
        "host_version": host_version(),
        "threat_model": ready.threat.model,
        "selection": ready.images.selection,
        "clean_preprocessing": ready.geometry.name,
        "corrupted_preprocessing": None if ready.threat.is_attack else ready.corrupted.name,
        "note": ready.geometry.note,
        "after_attack": after,
        "profiles": profiles,
    }


def _conditions(
    ready: PreparedRequest, attacked: dict[float, AdversarialImages]
) -> list[tuple[str, Images]]:
    """The perturbed images of the spectral importances, by the name of their condition."""
    if not ready.request.profiles:
        return []
    part = ready.spectral_part
    if ready.spec is None:
        return [(CYCLED, Cycled(ready, part))]
    name = ready.spec.name
    return [
        (
            f"{name} {ready.threat.model} {format_budget(epsilon)}",
            AttackedImages(ready.images.clean(part), found),
        )
        for epsilon, found in attacked.items()
    ]


class Cycled:
    """Images each under one corruption and severity, so that all cells get an equal share.

    The cells come in a seeded random order: fewer images than cells are then a random choice.
    """

    def __init__(self, ready: PreparedRequest, part: list[int]) -> None:
        self._cell = ready.images.cell
        cells = [(name, s) for name in ready.threat.corruptions for s in SEVERITIES]
        order = np.random.default_rng(ready.request.seed).permutation(len(cells))
        parts = [part[k :: len(cells)] for k in range(len(cells))]
        self.parts = [(cells[c], own) for c, own in zip(order, parts, strict=True) if own]
        self.records = part_of(ready.images.ids, part)  # for the length of progress bars

    def __iter__(self) -> Iterator[Any]:
        for (name, severity), part in self.parts:
            images = self._cell(name, severity, part)
            if images is not None:
                yield from images


FILE = "model.json"


TOLERANCE = 1e-3  # of the greatest logit: more than devices and sizes of batches change


def check_same_model(
    folder: Path, kind: str, logits: Mapping[str, Sequence[float]], *, ours: bool
) -> None:
    """Note a model's logits in a folder of unfinished work, or compare them with those there.

    Args:
        folder: The folder.
        kind: What else tells runs apart (digest of the weights, device, precision); runs of
            another kind are not compared.
        logits: Digest of an image -> logits.
        ours: Whether the folder is in the cache and may be emptied, so that the run starts anew.

    Raises:
        InputError: The folder is the user's, and was begun with another model.
    """
    noted = read(folder / FILE)
    known = noted.get(kind, {})
    if any(not _same(known[name], row) for name, row in logits.items() if name in known):
        if not ours:
            raise InputError(
                f"{folder} holds the work of another model: it has the same class and weights, and "
                "its logits of the same images are others now; give another folder"
            )
        shutil.rmtree(folder, ignore_errors=True)
        noted, known = {}, {}
    write_json(folder / FILE, {**noted, kind: {**known, **logits}}, indent=None)


def _same(before: Sequence[float], now: Sequence[float]) -> bool:
    old, new = np.asarray(before), np.asarray(now)
    if old.shape != new.shape:
        return False
    return bool(np.abs(old - new).max() <= TOLERANCE * np.abs(old).max())
