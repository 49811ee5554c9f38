"""`demo --digits`: train small networks, evaluate them, write entries, build the table."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.adapters.foolbox_adapter import parse_attacks
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.display.plots import plot_profiles, save_figure
from iaside_plugins.display.text import number
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.importance.evidence import Evidence, band_list, total
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.protocol import Protocol
from iaside_plugins.workflows import digits
from iaside_plugins.workflows.evaluate import evaluation_plan
from iaside_plugins.workflows.source import DataSource, open_model

logger = logging.getLogger(__name__)
NETWORK = "python:iaside_plugins.workflows.digits:network"
EPSILONS = (0.05, 0.1, 0.2)
HEADLINE = 0.1


@dataclass(frozen=True)
class Trained:
    """One evaluated network of the demo."""

    training: str
    seed: int
    entry: dict[str, Any]
    result: SpectralImportance


@dataclass(frozen=True)
class DigitsDemo:
    """Options of the demo.

    Attributes:
        folder: Receives images/, weights/, results/, entries/, README.md, leaderboard.csv and
            profiles.png; unfinished/ while it runs.
        n_seeds: Networks of each training.
        n_images: Test images, at most 400.
        n_train: Training images, at most 1397; fewer make weaker networks.
        seed: Of the first network, of the selection and the corruptions.
        protocol: Of the spectral importance.
        attack_steps: Steps of projected gradient descent.
        device: "auto", "cpu" or "cuda[:i]"; training always runs on the CPU.
        batch_size: Rows in one forward pass.
        resume: Folder of finished images while it runs, instead of folder/unfinished.
        show_progress: Whether to show progress bars.
    """

    folder: Path
    n_seeds: int = 3
    n_images: int = 200
    n_train: int = digits.N_TRAIN
    seed: int = 0
    protocol: Protocol = Protocol()  # noqa: RUF009 - frozen
    attack_steps: int = 20
    device: str = "cpu"
    batch_size: int = 512
    resume: Path | None = None
    show_progress: bool = False

    def run(self, say: Callable[[str], None] = logger.info) -> list[Trained]:
        """Train four small networks in different ways, evaluate each, write entries and a table.

        Args:
            say: Receives a line for every finished network.

        Raises:
            InputError: For a folder that cannot be written, or numbers out of range.
            MissingExtraError: For a library of the extra `demo` that is not installed.
        """
        from iaside_plugins.leaderboard.build import build

        if not 2 <= self.n_images <= digits.N_TEST or self.n_seeds < 1:
            raise InputError(
                f"expected 2 to {digits.N_TEST} images and at least one seed, got "
                f"{self.n_images} and {self.n_seeds}"
            )
        data = digits.load_digits(self.n_train)
        source = self._write_images(data)
        trained = []
        for seed in range(self.seed, self.seed + self.n_seeds):
            for training in digits.TRAININGS:
                one = self._train_and_evaluate(source, data, training, seed)
                say(_line(one))
                trained.append(one)
        build(self.folder)
        first = {one.training: one.result for one in trained if one.seed == self.seed}
        save_figure(plot_profiles(first), self.folder / "profiles.png")
        shutil.rmtree(self.folder / "unfinished", ignore_errors=True)
        return trained

    def _write_images(self, data: digits.Digits) -> DataSource:
        """Write the test images as folders of files."""
        root, classes = self.folder / "images", self.folder / "classes.txt"
        try:
            digits.write_images(root, data.test_images, data.test_labels)
            (self.folder / "weights").mkdir(exist_ok=True)
            classes.write_text("\n".join(map(str, range(10))) + "\n")
        except OSError as error:
            raise InputError(f"cannot write into {self.folder}: {error.strerror}") from error
        return DataSource(
            root,
            classes=classes,
            n_images=self.n_images,
            seed=self.seed,
            name="digits",
            note="scikit-learn digits enlarged to 32 x 32",
        )

    def _train_and_evaluate(
        self, source: DataSource, data: digits.Digits, training: str, seed: int
    ) -> Trained:
        """Train, save and load one network by its specification, and evaluate it."""
        fewer = "" if self.n_train == digits.N_TRAIN else f"-of-{self.n_train}"
        name = f"digits-{training}-{seed}{fewer}"
        weights = self.folder / "weights" / f"{name}.pth"
        torch.save(digits.train(training, data, seed).state_dict(), weights)
        model = open_model(
            NETWORK, weights=weights, device=self.device, name=name, training=training
        )
        plan = evaluation_plan(
            source,
            model,
            corruptions="generate",
            generation=GenerationOptions(cache=self.folder / "corrupted"),
            attacks=parse_attacks("fgsm,pgd", epsilons_linf=EPSILONS, steps=self.attack_steps),
        )
        entry, result = evaluate(
            model,
            plan,
            self.protocol,
            batch_size=self.batch_size,
            resume=(self.resume or self.folder / "unfinished") / name,
            show_progress=self.show_progress,
        )
        typed = typed_entry(entry)
        write_entry(self.folder / "entries" / "digits" / f"{typed.entry_id}.json", typed)
        result.save(self.folder / "results" / f"{name}.npz")
        return Trained(training, seed, entry, result)


def robust_accuracy(entry: dict[str, Any], epsilon: float = HEADLINE) -> float:
    """Return the worst-case Linf accuracy of an entry at one budget, in [0, 1]."""
    cells = entry["adversarial"]["worst_case"]
    return float(next(c for c in cells if c["epsilon"] == epsilon)["accuracy"]["value"])


def _line(one: Trained) -> str:
    entry, result = one.entry, one.result
    return (
        f"{one.training:<12} seed {one.seed}: clean {entry['clean_accuracy']['value']:.3f}, "
        f"corrupted {1 - entry['corruption']['unnormalised_mean_error']['value']:.3f}, "
        f"attacked {robust_accuracy(entry):.3f}, signed score "
        f"{number(result.signed_score, *result.signed_score_interval, spec='+.3f')}"
    )


def summary(trained: list[Trained]) -> str:
    """Return the table of results over seeds and how to read it; every figure is computed."""
    m = trained[0].result.protocol.n_bands
    cut = min(2, m - 1)
    low, high = band_list(range(cut)), band_list(range(cut, m))
    lines = [
        "accuracy and where the evidence lies (mean over seeds, least to greatest seed in brackets;"
        " Shapley values in nats)",
        f"{'training':<12} {'clean':<19} {'corrupted':<19} {'attack, eps 0.1':<19} "
        f"{'signed score':<22} {low:<10} {high:<10}",
    ]
    rows = {}
    for training in dict.fromkeys(one.training for one in trained):
        group = [one for one in trained if one.training == training]
        psi = np.mean([one.result.shapley_values for one in group], axis=0)
        columns = [
            [one.entry["clean_accuracy"]["value"] for one in group],
            [1 - one.entry["corruption"]["unnormalised_mean_error"]["value"] for one in group],
            [robust_accuracy(one.entry) for one in group],
            [one.result.signed_score for one in group],
        ]
        per_image = np.mean([one.result.per_image for one in group], axis=0)
        rows[training] = (columns, per_image)
        cells = [
            number(float(np.mean(c)), min(c), max(c), spec=spec)
            for c, spec in zip(columns, (".2f", ".2f", ".2f", "+.2f"), strict=True)
        ]
        lines.append(
            f"{training:<12} {cells[0]:<19} {cells[1]:<19} {cells[2]:<19} {cells[3]:<22} "
            f"{psi[:cut].sum():<+10.2f} {psi[cut:].sum():<+10.2f}"
        )
    return "\n".join([*lines, "", *_reading(rows, cut, m)])


def _errors(per_image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the standard errors of the means over images."""
    return np.asarray(per_image.std(axis=0, ddof=1) / np.sqrt(len(per_image)))


def _reading(rows: dict[str, Any], cut: int, m: int) -> list[str]:
    """Return how to read the table, in sentences whose figures are all computed."""
    clean = [np.mean(columns[0]) for columns, _ in rows.values()]
    attacked = {training: np.mean(columns[2]) for training, (columns, _) in rows.items()}
    best, worst = max(attacked, key=attacked.__getitem__), min(attacked, key=attacked.__getitem__)
    high = {training: total(per_image, range(cut, m)) for training, (_, per_image) in rows.items()}
    found = {
        training: Evidence.of(per_image.mean(axis=0), _errors(per_image))
        for training, (_, per_image) in rows.items()
    }
    order = sorted(rows, key=lambda training: np.mean(rows[training][0][3]))
    return [
        "What you are looking at",
        f"- Clean accuracy hardly tells these networks apart ({min(clean):.2f} to "
        f"{max(clean):.2f}); an attack of {HEADLINE} does: {attacked[best]:.2f} ({best}) against "
        f"{attacked[worst]:.2f} ({worst}).",
        "- The Shapley values say from which spatial frequencies each network draws its evidence: "
        f"band 0 is the coarse shape, band {m - 1} the finest detail. In nats, with 95 % intervals "
        f"over images, {band_list(range(cut, m))} are worth "
        + ", ".join(
            f"{number(value, *ends)} ({training})" for training, (value, ends) in high.items()
        )
        + ".",
        *(f"  {training}: {evidence.sentence}" for training, evidence in found.items()),
        "- By signed score, from high frequencies to low: "
        + ", ".join(f"{training} (attacked {attacked[training]:.2f})" for training in order)
        + ".",
        "- The score is not a robustness measure: where a network that leans low breaks all the "
        "same, as training with blur can show, the profile says what it reads, not how firmly.",
        "- Intervals over images are in the entries; the brackets above are the spread over seeds.",
    ]
