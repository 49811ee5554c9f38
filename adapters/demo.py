"""The main job on the embedded default: train, evaluate, write entries, build the table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iaside_plugins.adapters import digits
from iaside_plugins.adapters.foolbox_adapter import parse_attacks
from iaside_plugins.adapters.jobs import Source, make_job, open_model
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation import evaluate
from iaside_plugins.plots import plot_profiles, save_figure
from iaside_plugins.protocol import Protocol
from iaside_plugins.result import SpectralImportance
from iaside_plugins.store import write_json

logger = logging.getLogger(__name__)
NETWORK = "python:iaside_plugins.adapters.digits:network"
EPSILONS = (0.05, 0.1, 0.2)
HEADLINE = 0.1


@dataclass(frozen=True)
class Trained:
    """One evaluated network of the demo."""

    training: str
    seed: int
    entry: dict[str, Any]
    result: SpectralImportance


def run_demo(
    folder: Path, *, n_seeds: int = 3, n_images: int = 200, seed: int = 0,
    protocol: Protocol | None = None, attack_steps: int = 20, show_progress: bool = False,
    say: Callable[[str], None] = logger.info,
) -> list[Trained]:  # fmt: skip
    """Train four small networks in different ways, evaluate each, write entries and a table.

    Args:
        folder: Receives images/, weights/, results/, entries/, README.md, leaderboard.csv and
            profiles.png.
        n_seeds: Networks of each training.
        n_images: Test images, at most 400.
        seed: Of the first network, of the selection and the corruptions.
        protocol: Of the spectral importance.
        attack_steps: Steps of projected gradient descent.
        show_progress: Whether to show progress bars.
        say: Receives a line for every finished step.

    Raises:
        InputError: For a folder that cannot be written, or numbers out of range.
        MissingExtraError: For a library of the extra `demo` that is not installed.
    """
    from iaside_plugins.leaderboard.build import build

    if not 2 <= n_images <= digits.N_TEST or n_seeds < 1:
        raise InputError(f"expected n_images in 2..{digits.N_TEST} and at least one seed")
    data = digits.load_digits()
    root = folder / "images"
    try:
        digits.write_images(root, data.test_images, data.test_labels)
        (folder / "weights").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror or error}") from error
    (folder / "classes.txt").write_text("\n".join(map(str, range(10))) + "\n")
    source = Source(
        root, classes=folder / "classes.txt", n_images=n_images, seed=seed,
        name="digits",
        note="scikit-learn digits enlarged to 32 x 32",
    )  # fmt: skip
    trained = []
    for k in range(n_seeds):
        for training in digits.TRAININGS:
            one = _one(folder, source, data, training, seed + k, protocol or Protocol(),
                       attack_steps, show_progress)  # fmt: skip
            say(_line(one))
            trained.append(one)
    build(folder)
    first = {one.training: one.result for one in trained if one.seed == seed}
    save_figure(plot_profiles(first), folder / "profiles.png")
    return trained


def _one(
    folder: Path, source: Source, data: digits.Digits, training: str, seed: int,
    protocol: Protocol, attack_steps: int, show_progress: bool,
) -> Trained:  # fmt: skip
    """One network: trained, saved, loaded again by its specification, evaluated."""
    name = f"digits-{training}-{seed}"
    weights = folder / "weights" / f"{name}.pth"
    torch.save(digits.train(training, data, seed).state_dict(), weights)
    model = open_model(NETWORK, weights=weights, device="cpu", name=name, training=training)
    job = make_job(
        source, model, corruptions="generate", cache=folder / "corrupted",
        attacks=parse_attacks("fgsm,pgd", epsilons_linf=EPSILONS, steps=attack_steps),
    )  # fmt: skip
    entry, result = evaluate(model, job, protocol, batch_size=512, show_progress=show_progress)
    write_json(folder / "entries" / "digits" / f"{entry['entry_id']}.json", entry)
    result.save(folder / "results" / f"{name}.npz")
    return Trained(training, seed, entry, result)


def robust_accuracy(entry: dict[str, Any], epsilon: float = HEADLINE) -> float:
    """Worst-case Linf accuracy of an entry at one budget, in [0, 1]."""
    cells = entry["adversarial"]["worst_case"]
    return float(next(c for c in cells if c["epsilon"] == epsilon)["accuracy"]["value"])


def _line(one: Trained) -> str:
    entry, result = one.entry, one.result
    low, high = result.signed_score_interval
    return (
        f"{one.training:<12} seed {one.seed}: clean {entry['clean_accuracy']['value']:.3f}, "
        f"corrupted {1 - entry['corruption']['unnormalised_mean_error']['value']:.3f}, "
        f"attacked {robust_accuracy(entry):.3f}, signed score {result.signed_score:+.3f} "
        f"[{low:+.3f}, {high:+.3f}]"
    )


def summary(trained: list[Trained]) -> str:
    """What came out, over seeds, and what the reader is looking at; every figure is computed."""
    lines = [
        "accuracy and where the evidence lies (mean over seeds, least to greatest seed in brackets;"
        " Shapley values in nats)",
        f"{'training':<12} {'clean':<19} {'14-15 corruptions':<19} {'attack, eps 0.1':<19} "
        f"{'signed score':<22} {'bands 0-1':<10} {'bands 2-7':<10}",
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
        rows[training] = (columns, psi)
        cells = [f"{np.mean(c):.2f} [{min(c):.2f}, {max(c):.2f}]" for c in columns[:3]]
        score = columns[3]
        cells.append(f"{np.mean(score):+.2f} [{min(score):+.2f}, {max(score):+.2f}]")
        lines.append(
            f"{training:<12} {cells[0]:<19} {cells[1]:<19} {cells[2]:<19} {cells[3]:<22} "
            f"{psi[:2].sum():<+10.2f} {psi[2:].sum():<+10.2f}"
        )
    return "\n".join([*lines, "", *_reading(rows)])


def _reading(rows: dict[str, Any]) -> list[str]:
    clean = [np.mean(columns[0]) for columns, _ in rows.values()]
    attacked = {training: np.mean(columns[2]) for training, (columns, _) in rows.items()}
    best, worst = max(attacked, key=attacked.__getitem__), min(attacked, key=attacked.__getitem__)
    high = {training: psi[2:].sum() / np.abs(psi).sum() for training, (_, psi) in rows.items()}
    return [
        "What you are looking at",
        f"- Clean accuracy does not tell these networks apart ({min(clean):.2f} to "
        f"{max(clean):.2f}), an attack of 0.1 does: {attacked[best]:.2f} ({best}) against "
        f"{attacked[worst]:.2f} ({worst}).",
        "- The Shapley values say which spatial frequencies each network draws its evidence from: "
        "band 0 holds the coarse shape, band 7 the finest detail. Share of all value in bands 2-7: "
        + ", ".join(f"{training} {value:+.0%}" for training, value in high.items()) + ".",
        "- A negative share means that those bands mislead the network more than they help it. A "
        "low-leaning score alone does not make a network robust: read the score with the "
        "nats beside it, and both with the accuracies.",
        "- Intervals over images are in the entries; brackets above show the spread over seeds.",
    ]  # fmt: skip
