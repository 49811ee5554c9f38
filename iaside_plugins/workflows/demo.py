"""The demo: real classifiers and photographs that come with installed packages, evaluated whole."""

from __future__ import annotations

import logging
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iaside_plugins.adapters.foolbox_adapter import parse_attacks
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.budgets import format_budget
from iaside_plugins.decomposition.plots import plot_decomposition
from iaside_plugins.decomposition.protocols import chains_like
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.sentences import conclusion
from iaside_plugins.decomposition.text import decomposition_table
from iaside_plugins.display.cost import Cost
from iaside_plugins.display.plots import save_figure
from iaside_plugins.display.text import proportion
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan import EvaluationPlan
from iaside_plugins.importance.chance import not_judged
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import check_writable
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.workflows.evaluate import evaluation_cost, evaluation_plan
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.source import DataSource, open_model

logger = logging.getLogger(__name__)
N_IMAGES = 20  # of each data set; Foolbox's package carries no more
N_ATTACK = 10  # a gradient takes as long as two or three passes, and an image 20 of them


@dataclass(frozen=True)
class Subject:
    """A classifier that the demo evaluates, and on what.

    Attributes:
        spec: Of the model.
        data: Its images.
        epsilons: Budgets of the attacks in Linf, pixel units of [0, 1].
    """

    spec: str
    data: str
    epsilons: tuple[float, ...]


SUBJECTS = (
    Subject("pip:efficientnet_lite0", "foolbox:imagenet", (0.25 / 255,)),
    Subject("pip:resnet18_cifar10", "foolbox:cifar10", (0.5 / 255,)),
)
# Fewer passes than the exact values take, for an answer within minutes on a laptop.
QUICK = Protocol(estimator="permutation", forwards="fast")


@dataclass(frozen=True)
class Prepared:
    """A model with what is to be evaluated on it, and what that will cost."""

    model: Classifier
    plan: EvaluationPlan
    cost: Cost


@dataclass(frozen=True)
class Evaluated:
    """What the demo found of one model."""

    entry: dict[str, Any]
    importance: SpectralImportance
    decomposition: ErrorDecomposition

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.entry["model"]["name"])


@dataclass(frozen=True)
class Demo:
    """Options of the demo.

    Attributes:
        folder: Receives entries/, results/, corrupted/, the board (README.md, index.html,
            leaderboard.csv and others) and why-MODEL.png; unfinished/ while it runs.
        n_images: Images of each data set, at most 20.
        severities: Of the corruptions whose errors are split over bands.
        seed: Of the selection, the corruptions and the attacks.
        protocol: Of the spectral importance.
        attack_steps: Steps of projected gradient descent.
        device: "auto", "cpu" or "cuda[:i]".
        workers: Processes that corrupt images.
        batch_size: Rows in one forward pass.
        resume: Folder of finished images while it runs, instead of folder/unfinished.
        show_progress: Whether to show progress bars.
        subjects: Models with their images.
    """

    folder: Path
    n_images: int = N_IMAGES
    severities: Sequence[int] = (3,)
    seed: int = 0
    protocol: Protocol = QUICK
    attack_steps: int = 10
    device: str = "auto"
    workers: int = 2
    batch_size: int = 8
    resume: Path | None = None
    show_progress: bool = False
    subjects: Sequence[Subject] = SUBJECTS

    def prepare(self) -> list[Prepared]:
        """Open every model with its images, and return what is to do and what it will cost.

        Raises:
            InputError: For a folder that cannot be written, or numbers out of range.
            MissingExtraError: For a library of the extra `demo` that is not installed.
        """
        if not 2 <= self.n_images <= N_IMAGES:
            raise InputError(f"expected 2 to {N_IMAGES} images, got n_images={self.n_images}")
        check_writable(self.folder, folder=True)
        return [self._prepared(subject) for subject in self.subjects]

    def run(
        self, prepared: Sequence[Prepared], say: Callable[[str], None] = logger.info
    ) -> list[Evaluated]:
        """Evaluate every model: entries, board, pictures; what was found of each is said at once.

        Args:
            prepared: As of `prepare`.
            say: Receives the lines.
        """
        from iaside_plugins.leaderboard.build import build

        found = []
        for one in prepared:
            found.append(self._evaluated(one))
            say("\n".join(evaluated_text(found[-1])))
        build(self.folder)
        shutil.rmtree(self.folder / "unfinished", ignore_errors=True)
        return found

    def _prepared(self, subject: Subject) -> Prepared:
        """Open a model with its images."""
        model = open_model(subject.spec, device=self.device)
        source = DataSource(
            Path(subject.data),
            n_images=self.n_images,
            seed=self.seed,
            workers=self.workers,
            batch_size=self.n_images,
            note=f"the {N_IMAGES} images that Foolbox's package carries",
        )
        corrupted = GenerationOptions(cache=self.folder / "corrupted")
        attacks = parse_attacks("fgsm,pgd", subject.epsilons, steps=self.attack_steps)
        plan = evaluation_plan(
            source, model, attacks=attacks, n_attack=N_ATTACK, generation=corrupted
        )
        pairs = explain_plan(source, model, severities=self.severities, generation=corrupted)
        plan = replace(plan, perturbed=[pairs])
        cost = evaluation_cost(model, plan, self.protocol, batch_size=self.batch_size)
        shorter = dict.fromkeys(cost.parts, "fewer images, --n-images")
        return Prepared(model, plan, replace(cost, shorter=shorter))

    def _evaluated(self, one: Prepared) -> Evaluated:
        """Evaluate one model, and write its entry, its result and its picture."""
        name = one.model.info.name
        resume = (self.resume or self.folder / "unfinished") / name
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "show_progress": self.show_progress,
        }
        with Progress(one.cost.work, self.show_progress, name, one.cost.speed.weights):
            entry, importance = evaluate(
                one.model, one.plan, self.protocol, resume=resume, **options
            )
            with not_judged():  # `evaluate` did
                decomposition = error_decomposition(  # of the rows that were just kept
                    one.model,
                    one.plan.perturbed[0],
                    chains_like(self.protocol),
                    resume=resume / "decomposition",
                    **options,
                )
        typed = typed_entry(entry)
        dataset = one.plan.data["name"]
        write_entry(self.folder / "entries" / dataset / f"{typed.entry_id}.json", typed)
        (self.folder / "results").mkdir(exist_ok=True)
        decomposition.save(self.folder / "results" / f"{name}.npz")
        save_figure(plot_decomposition(decomposition, name), self.folder / f"why-{name}.png")
        return Evaluated(entry, importance, decomposition)


def evaluated_text(one: Evaluated, width: int | None = None) -> list[str]:
    """Return what was found of a model: its accuracies, why it errs, and where its evidence lies.

    Args:
        one: What was found.
        width: Greatest width of a line; by default the terminal's.
    """
    room = width or min(shutil.get_terminal_size().columns, 100)
    entry, error = one.entry, one.decomposition.error
    corrupted, worst = entry["corruption"], entry["adversarial"]["worst_case"][0]
    mean = 1 - corrupted["unnormalised_mean_error"]["value"]
    levels = sorted({f"{condition.level:g}" for condition in error.conditions})
    head = f"Errors at severity {' and '.join(levels)}, split over bands"
    if corrupted["uncorrupted_accuracy"] != entry["clean_accuracy"]:
        head += "; all images, clean ones too, are resized as ImageNet-C is before the model's own"
    sentences = [*conclusion(one.decomposition), one.importance.evidence.sentence]
    return [
        f"{one.name} ({entry['data']['name']}, {entry['data']['n_images']} images)",
        f"  right on clean images    {proportion(entry['clean_accuracy'])}",
        f"  right under corruptions  {mean:6.1%}  (the mean over severities 1 to 5)",
        f"  right under attack       {proportion(worst['accuracy'])} "
        f"(Linf {format_budget(worst['epsilon'])})",
        "",
        *textwrap.wrap(f"{head}:", room),
        *decomposition_table(error, room, "clean", "error"),
        "",
        *(line for text in sentences for line in textwrap.wrap(text, room)),
        "",
    ]


def summary(found: Sequence[Evaluated]) -> str:
    """Return how to read what the demo printed, in sentences whose figures are all computed."""
    clean = [one.entry["clean_accuracy"] for one in found]
    widest = max(100 * (ends[1] - ends[0]) / 2 for ends in (c["interval"] for c in clean))
    return "\n".join(
        [
            "What you are looking at",
            "- Each row of a table is a corruption: the errors on clean images, plus what the",
            "  perturbation costs in each band of spatial frequency (0 the coarsest), is exactly",
            "  the error under the corruption.",
            "- A sentence is said only where its 95 % interval over images supports it. With so",
            f"  few images little is: the accuracies above are known to {widest:.0f} points or so.",
            "- The same on your own model and images: iaside explain MODEL --data DIR.",
        ]
    )
