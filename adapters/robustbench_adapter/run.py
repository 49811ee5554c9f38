"""Run a prepared request: the two accuracies, the entry, the importance under each condition."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from iaside_plugins.adapters.isolation import same_logits
from iaside_plugins.adapters.robustbench_adapter.autoattack import (
    AdversarialImages,
    AttackedImages,
    AutoAttackSpec,
    attacks_work,
    run_autoattack,
)
from iaside_plugins.adapters.robustbench_adapter.cost import BenchmarkCost
from iaside_plugins.adapters.robustbench_adapter.images import part_of
from iaside_plugins.adapters.robustbench_adapter.request import PreparedRequest, host_version
from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.error_rates import SEVERITIES, cell_accuracies, mean_accuracy
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.entry.build import CYCLED, entry_id, spectral_group
from iaside_plugins.entry.robustbench_json import read
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.evaluate import conditions, evaluate
from iaside_plugins.evaluation.pairs import AlignedImages
from iaside_plugins.evaluation.plan import AttackPlan, EvaluationPlan
from iaside_plugins.importance.chance import not_judged
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import ImportanceRun, spectral_importance
from iaside_plugins.inference.checks import model_device
from iaside_plugins.storage.files import jsonable, write_json
from iaside_plugins.storage.provenance import ids_digest, model_digest
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.value_table.progress import Progress, added, times

FILE = "model.json"  # the logits, in a folder of unfinished work
TOLERANCE = 1e-3  # of the largest logit: other devices and batch sizes change less


@dataclass(frozen=True)
class BenchmarkResult:
    """The results of a run.

    Attributes:
        n_images: Number of images evaluated.
        image_ids_sha256: Digest of their ids.
        clean_accuracy: Accuracy on the clean images, in [0, 1].
        corruption: The entry's ``corruption`` group, or None.
        adversarial: The entry's ``adversarial`` group, or None.
        attacked: Budget -> adversarial images.
        entry: The entry; None without the spectral importance.
        result: The spectral importance on the clean images, or None.
    """

    n_images: int
    image_ids_sha256: str
    clean_accuracy: float
    corruption: dict[str, Any] | None
    adversarial: dict[str, Any] | None
    attacked: dict[float, AdversarialImages]
    entry: dict[str, Any] | None = None
    result: SpectralImportance | None = None

    @property
    def cells(self) -> dict[tuple[str, int], float]:
        """(corruption, severity) -> accuracy; empty for attacks."""
        return {} if self.corruption is None else cell_accuracies(self.corruption["conditions"])

    @property
    def robust_accuracy(self) -> float:
        """RobustBench's second number, in [0, 1].

        Accuracy on the images attacked at the first budget, or the mean accuracy over all
        corruptions and severities.
        """
        if self.adversarial is None:
            return mean_accuracy(self.cells)
        return float(self.adversarial["attacks"][0]["accuracy"]["value"])


@contextmanager
def run_benchmark(ready: PreparedRequest, cost: BenchmarkCost) -> Iterator[BenchmarkResult]:
    """Run a prepared request, or resume it; the adversarial images can be read inside.

    Args:
        ready: The request.
        cost: The result of `cost_of`; its logits tell whether a stopped run was of this model.

    Raises:
        InputError: Input cannot be used. What was finished stays in the resume folder.
    """
    request = ready.request
    identity = (
        ready.threat,
        request.n_examples,
        Path(request.data_dir).resolve(),
        request.seed,
        request.corruptions_data_dir,
        request.batch_size,
        ready.protocol.used(),
        request.precision,
    )
    given = None if request.resume is None else Path(request.resume)
    with resume_folder(given, "robustbench", *map(str, identity), ready.model) as folder:
        kind = f"{model_digest(ready.model)} {model_device(ready.model).type} {request.precision}"
        check_same_model(folder, kind, cost.logits, in_cache=given is None)
        if request.aa_state_path is not None:
            check_same_model(Path(request.aa_state_path), kind, cost.logits, in_cache=False)
        with Progress(cost.total.work, request.show_progress, "robustbench_adapter"):
            if request.spectral:
                _check_protocol(ready, folder)
            attacked: dict[float, AdversarialImages] = {}
            if ready.spec is not None:
                attacked = {
                    eps: _attack(ready, ready.spec, eps, folder) for eps in ready.spec.epsilons
                }
            measure = _with_entry if request.spectral else _without_entry
            result = measure(ready, attacked, folder)
        _check_agreement(result)
        yield result


def _check_protocol(ready: PreparedRequest, folder: Path) -> None:
    """Refuse, before the attacks, a folder of an earlier run of another protocol."""
    ImportanceRun(
        ready.model,
        (),
        ready.protocol,
        precision=ready.request.precision,
        resume=folder / "spectral",
        max_images=None,
        target_error=None,
    )


def _with_entry(
    ready: PreparedRequest, attacked: dict[float, AdversarialImages], folder: Path
) -> BenchmarkResult:
    """Return the results with the entry and the spectral importance."""
    request = ready.request
    entry, importance = evaluate(
        ready.model,
        _evaluation_plan(ready, attacked),
        ready.protocol,
        batch_size=request.batch_size,
        precision=request.precision,
        resume=folder,
        show_progress=request.show_progress,
    )
    entry["benchmark"] = jsonable(_benchmark_group(ready, attacked, folder))
    entry["entry_id"] = entry_id(
        entry["data"]["name"],
        entry["model"]["name"],
        ready.protocol,
        f"robustbench-{ready.threat.model}",
    )
    return BenchmarkResult(
        n_images=entry["data"]["n_images"],
        image_ids_sha256=entry["data"]["image_ids_sha256"],
        clean_accuracy=entry["clean_accuracy"]["value"],
        corruption=entry["corruption"],
        adversarial=entry["adversarial"],
        attacked=attacked,
        entry=entry,
        result=importance,
    )


def _without_entry(
    ready: PreparedRequest, attacked: dict[float, AdversarialImages], folder: Path
) -> BenchmarkResult:
    """Return the accuracies alone."""
    plan, show_progress = _evaluation_plan(ready, attacked), ready.request.show_progress
    clean, corruption, adversarial, _ = conditions(
        ready.model, plan, resume=folder, show_progress=show_progress
    )
    return BenchmarkResult(
        n_images=len(clean.ids),
        image_ids_sha256=ids_digest(clean.ids),
        clean_accuracy=float(clean.correct.mean()),
        corruption=corruption,
        adversarial=adversarial,
        attacked=attacked,
    )


def _check_agreement(result: BenchmarkResult) -> None:
    """Check that the accuracy on the attacked images is the one that the last attack left.

    Raises:
        InputError: It is another one: the model's answers change between batches or calls.
    """
    for attack in (result.adversarial or {}).get("attacks", ()):
        epsilon, accuracy = attack["epsilon"], attack["accuracy"]["value"]
        left = list(result.attacked[epsilon].accuracy_after.values())[-1]
        if abs(accuracy - left) > 1e-9:
            raise InputError(
                f"AutoAttack left an accuracy of {left:.6g} at eps {epsilon:.6g}, and the model's "
                f"on the same attacked images is {accuracy:.6g}: its answers are not the same "
                "every time; expected a deterministic model that treats images one by one"
            )


def run_facts(ready: PreparedRequest, result: BenchmarkResult) -> dict[str, Any]:
    """Return what identifies a run, with or without an entry, and its two accuracies."""
    facts: dict[str, Any] = {
        "clean_accuracy": result.clean_accuracy,
        "robust_accuracy": result.robust_accuracy,
        "n_images": result.n_images,
        "image_ids_sha256": result.image_ids_sha256,
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
    ready: PreparedRequest, spec: AutoAttackSpec, epsilon: float, folder: Path
) -> AdversarialImages:
    """Attack all images at one budget."""
    request = ready.request
    own = request.aa_state_path
    each = added({"forward": 1}, attacks_work(spec.order))
    with Progress(times(each, len(ready.images.ids)), request.show_progress) as bar:
        return run_autoattack(
            ready.model,
            ready.images.clean(None),
            spec,
            epsilon,
            seed=request.seed,
            batch_size=request.batch_size,
            folder=folder / "attacks" if own is None else Path(own),
            bar=bar,
        )


def _evaluation_plan(
    ready: PreparedRequest, attacked: dict[float, AdversarialImages]
) -> EvaluationPlan:
    """Return the run in the form that `iaside_plugins.evaluation.evaluate` takes."""
    request, clean = ready.request, ready.images.clean
    attacks = None
    if ready.spec is not None:

        def batches(
            _model: Any, x: Tensor, y: Tensor, spec: Any, _seed: int, _first: int
        ) -> list[Tensor]:
            return [attacked[epsilon].batch(x, y) for epsilon in spec.epsilons]

        attacks = AttackPlan(
            [ready.spec],
            clean(None),
            batches,
            request.seed,
            request.batch_size,
            keep=False,
            by_gradient=ready.spec.by_gradient,
        )
    return EvaluationPlan(
        model=ready.info,
        data=ready.data,
        clean=clean(None),
        spectral=clean(ready.spectral_part),
        perturbed=_pairs(ready, attacked),
        corruptions=ready.plan,
        attacks=attacks,
    )


def _benchmark_group(
    ready: PreparedRequest, attacked: dict[float, AdversarialImages], folder: Path
) -> dict[str, Any]:
    """Return the entry's ``benchmark`` group."""
    after = [
        {"epsilon": epsilon, "attack": attack, "accuracy": accuracy}
        for epsilon, images in attacked.items()
        for attack, accuracy in images.accuracy_after.items()
    ]
    profiles = []
    for condition, perturbed in _conditions(ready, attacked):
        with not_judged():
            result = spectral_importance(
                ready.model,
                perturbed,
                ready.protocol,
                batch_size=ready.request.batch_size,
                precision=ready.request.precision,
                resume=folder / "spectral",
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
    """Return the conditions under which the importance is computed: their names and images."""
    if not ready.request.profiles:
        return []
    part = ready.spectral_part
    if ready.spec is None:
        return [(CYCLED, Cycled(ready, part))]
    name = ready.spec.name
    return [
        (
            f"{name} {ready.threat.model} {format_budget(epsilon)}",
            AttackedImages(ready.images.clean(part), images),
        )
        for epsilon, images in attacked.items()
    ]


def _pairs(ready: PreparedRequest, attacked: dict[float, AdversarialImages]) -> list[AlignedImages]:
    """Return the pairs of images whose errors are decomposed: a corruption, or all budgets, each.

    One corruption after another, so that few of the images are held at a time.
    """
    if not ready.request.explain:
        return []
    part, images = ready.spectral_part, ready.images
    if ready.spec is not None:
        name = f"{ready.spec.name} {ready.threat.model}"
        adversarial = {
            Condition(name, epsilon): AttackedImages(images.clean(part), one)
            for epsilon, one in attacked.items()
        }
        return [AlignedImages(images.clean(part), adversarial)]
    plain = images.cell(None, 0, part)
    pairs = []
    for name in ready.threat.corruptions:
        cells = {Condition(name, s): images.cell(name, s, part) for s in SEVERITIES}
        found = {condition: cell for condition, cell in cells.items() if cell is not None}
        pairs.append(AlignedImages(images.clean(part) if plain is None else plain, found))
    return pairs


class Cycled:
    """Images under one corruption and severity each, so that all cells get an equal share.

    The cells come in an order drawn with the seed: if there are fewer images than cells, the
    cells that are used are a random choice.
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


def check_same_model(
    folder: Path, kind: str, logits: Mapping[str, Sequence[float]], *, in_cache: bool
) -> None:
    """Note a model's logits in a folder of unfinished work, or compare them with those noted there.

    Args:
        folder: The folder.
        kind: What else tells runs apart (digest of the weights, device, precision); runs of
            another kind are not compared.
        logits: Digest of an image -> logits.
        in_cache: Whether the folder is in the cache: it is then emptied, and the run starts anew.

    Raises:
        InputError: The folder is the user's, and was begun with another model.
    """
    noted = read(folder / FILE)
    before = noted.get(kind, {})
    both = [name for name in logits if name in before]
    if not all(same_logits([before[name]], [logits[name]], TOLERANCE) for name in both):
        if not in_cache:
            raise InputError(
                f"{folder} holds the work of another model: it has the same class and weights, and "
                "its logits of the same images are others now; give another folder"
            )
        shutil.rmtree(folder, ignore_errors=True)
        noted, before = {}, {}
    write_json(folder / FILE, {**noted, kind: {**before, **logits}}, indent=None)
