"""AutoAttack over a stream of images: seeded, its images kept on disk, resumable batch by batch.

The schedule is AutoAttack's own: every attack of the version takes, in batches, the images that
are still classified correctly. Each finished batch is one file, named by what decides it (attack
and pixels), in a folder named by what decides the run (model, norm, budget, version, seed). So a
run that was killed repeats at most the batch under way, whatever stopped it, and later runs reuse
the images.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from iaside_plugins.adapters.compat import import_pyautoattack
from iaside_plugins.adapters.isolation import check_model, isolated
from iaside_plugins.adapters.robustbench_adapter.attacked_images import AdversarialImages
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.inference.checks import check_images, check_labels
from iaside_plugins.storage.files import read_npz, write_atomic, write_json
from iaside_plugins.storage.provenance import image_digest, model_digest

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
ATTACKS = (*STANDARD, "apgd-dlr", "fab")
CLEAN = "clean"
MIN_CLASSES = 10  # the version's targeted attacks aim at the 9 classes nearest to the true one
SQUARE_LIMIT = 0.002  # above this drop by the last attack, AutoAttack itself warns of its result
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AutoAttackSpec:
    """AutoAttack at some budgets, in the form that `evaluation.evaluate.Attacks` takes.

    Attributes:
        norm: "Linf" or "L2".
        epsilons: Budgets in pixel units of [0, 1] images.
        attacks: Attacks of the version "custom", in order, or None for the version "standard".
    """

    norm: str
    epsilons: tuple[float, ...]
    attacks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.norm not in ("Linf", "L2"):
            raise InputError(f"AutoAttack: expected norm 'Linf' or 'L2', got {self.norm!r}")
        greatest = 1.0 if self.norm == "Linf" else np.inf
        wrong = [e for e in self.epsilons if not 0 < e <= greatest or e == np.inf]
        if wrong or not self.epsilons:
            raise InputError(
                f"AutoAttack: expected {self.norm} budgets above 0 in pixel units of [0, 1] images "
                f"(8/255 is {8 / 255:.4f}), got {wrong or 'none'}"
            )
        unknown = [a for a in self.attacks or () if a not in ATTACKS]
        if unknown or self.attacks == ():
            raise InputError(
                f"AutoAttack: expected some of {', '.join(ATTACKS)}, got {unknown or 'none'}"
            )
        for what, values in (("budgets", self.epsilons), ("attacks", self.attacks or ())):
            if len(set(values)) < len(values):
                raise InputError(f"AutoAttack: expected different {what}, got {list(values)}")

    @property
    def order(self) -> tuple[str, ...]:
        """The attacks, in the order they run."""
        return STANDARD if self.attacks is None else self.attacks

    @property
    def name(self) -> str:
        """Name in entries and tables."""
        if self.attacks is None:
            return "autoattack_standard"
        return "_".join(("autoattack_custom", *self.attacks))

    def to_dict(self) -> dict[str, Any]:
        """As the attacks of an entry: name, norm, steps, rel_stepsize, random_start."""
        return {
            "name": self.name,
            "norm": self.norm,
            "steps": None,
            "rel_stepsize": None,
            "random_start": True,
        }


def check_installed() -> None:
    """Raise MissingExtraError where pyautoattack is not installed, before any work is done."""
    import_pyautoattack()


def run_autoattack(
    model: nn.Module,
    images: Images,
    spec: AutoAttackSpec,
    epsilon: float,
    *,
    device: torch.device | str,
    seed: int,
    batch_size: int,
    folder: Path,
    bar: tqdm[Any] | None = None,
) -> AdversarialImages:
    """Attack a stream of images at one budget, or find on disk what a former run finished.

    Args:
        model: Eval-mode module on `device`, (N, C, H, W) images in [0, 1] -> logits.
        images: (images, labels, ids) batches; run through once for every attack that has work.
        spec: Norm and attacks.
        epsilon: The budget, in pixel units.
        device: Where the model is.
        seed: AutoAttack's own seed, that of every batch.
        batch_size: Images attacked together; part of the result, since batches share draws.
        folder: Where finished batches are kept.
        bar: Progress bar over images and attacks, or None.

    Raises:
        InputError: A model, images or labels that cannot be used, too few classes, or a folder
            that cannot be written.
        InputTypeError: The model is not an ``nn.Module``.
        MissingExtraError: pyautoattack is not installed.
    """
    check_model(model, torch.empty(0, device=device).device)
    identity = {
        "model": model_digest(model),
        "norm": spec.norm,
        "epsilon": epsilon,
        "attacks": list(spec.order),
        "standard": spec.attacks is None,
        "seed": seed,
        "pyautoattack": metadata.version("pyautoattack"),
    }
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    home = folder / f"autoattack-{name}"
    write_json(home / "run.json", identity)
    work = _Work(model, spec, epsilon, torch.device(device), seed, home, AdversarialImages(epsilon))
    digests, robust = work.clean(images, bar)
    for attack in spec.order:
        alive = np.flatnonzero(robust)
        parts = [alive[k : k + batch_size] for k in range(0, len(alive), batch_size)]
        if bar is not None:
            bar.set_description(f"{attack} ({len(alive)} left)", refresh=False)
            bar.update(len(robust) - len(alive))
        for part, fooled in zip(parts, work.attack(attack, parts, digests, images), strict=True):
            robust[part[fooled]] = False
            if bar is not None:
                bar.update(len(part))
        work.found.accuracy_after[attack] = float(robust.mean())
    _warn_of_square(work.found.accuracy_after)
    return work.found


@dataclass
class _Work:
    """One run: computes batches, or reads them where they are on disk."""

    model: nn.Module
    spec: AutoAttackSpec
    epsilon: float
    device: torch.device
    seed: int
    home: Path
    found: AdversarialImages

    def clean(self, images: Images, bar: tqdm[Any] | None) -> tuple[list[str], Any]:
        """Digest of every image, and whether the model classifies it correctly."""
        digests: list[str] = []
        right: list[Any] = []
        for x, labels, _ in images:
            check_images(x)
            y = check_labels(labels, len(x))
            batch = _digests(x, y)
            digests += batch
            right.append(~self._finished(CLEAN, batch, x, y))
            if bar is not None:
                bar.set_description("clean", refresh=False)
                bar.update(len(x))
        if not digests:
            raise InputError("no images to attack: the data are empty")
        robust = np.concatenate(right)
        self.found.accuracy_after[CLEAN] = float(robust.mean())
        return digests, robust

    def attack(
        self, attack: str, parts: list[Any], digests: list[str], images: Images
    ) -> Iterator[Any]:
        """Which images of each part are fooled, part by part; (len(part),) bool."""
        loaded = _gathered(images, parts)  # reads no image until a part is missing
        for k, part in enumerate(parts):
            batch = [digests[i] for i in part]
            kept = self._kept(attack, batch)
            if kept is None:
                x, y = next(pair for number, pair in loaded if number == k)
                kept = self._finished(attack, batch, x, y)
            yield kept

    def _path(self, attack: str, batch: list[str]) -> Path:
        key = hashlib.sha256("|".join(batch).encode()).hexdigest()[:16]
        return self.home / f"{attack}-{key}.npz"

    def _kept(self, attack: str, batch: list[str]) -> Any:
        """What a file says of a batch, or None if there is none or it is damaged."""
        path = self._path(attack, batch)
        try:
            data = read_npz(path)
            fooled = data["fooled"].astype(bool)
            if len(fooled) != len(batch) or len(data["images"]) not in (0, int(fooled.sum())):
                return None
        except (InputError, OSError, KeyError):
            return None
        if attack != CLEAN:
            hits = np.flatnonzero(fooled)
            self.found.places.update({batch[i]: (path, row) for row, i in enumerate(hits)})
        return fooled

    def _finished(self, attack: str, batch: list[str], x: Tensor, y: Tensor) -> Any:
        kept = self._kept(attack, batch)
        if kept is not None:
            return kept
        fooled, adversarial = self._clean(x, y) if attack == CLEAN else self._run(attack, x, y)
        with io.BytesIO() as file:
            np.savez(file, fooled=fooled, images=adversarial)
            write_atomic(self._path(attack, batch), file.getvalue())
        self.found.n_computed += 1
        return self._kept(attack, batch)

    @torch.no_grad()
    def _clean(self, x: Tensor, y: Tensor) -> tuple[Any, Any]:
        logits = self.model(x.to(self.device))
        if logits.ndim != 2 or logits.shape[1] <= int(y.max()):
            raise InputError(
                f"the model gives {tuple(logits.shape)} logits, the labels go up to {int(y.max())}"
            )
        targeted = {"apgd-t", "fab-t"} & set(self.spec.order)
        if targeted and logits.shape[1] < MIN_CLASSES:
            raise InputError(
                f"AutoAttack's {' and '.join(sorted(targeted))} need at least {MIN_CLASSES} "
                f"classes, the model has {logits.shape[1]}"
            )
        return (logits.argmax(dim=1).cpu() != y).numpy(), np.zeros(0, dtype=np.float32)

    def _run(self, attack: str, x: Tensor, y: Tensor) -> tuple[Any, Any]:
        """One attack on one batch: which are fooled, and the images that fool."""
        library = import_pyautoattack()
        with isolated(self.model, self.device) as device:
            version = "standard" if self.spec.attacks is None else "custom"
            runner = library.AutoAttack(
                self.model,
                norm=self.spec.norm,
                eps=self.epsilon,
                seed=self.seed,
                device=device,
                version=version,
                attacks=None if version == "standard" else [attack],
            )
            runner.attacks_to_run = [attack]
            clean = x.to(torch.float32).clamp(0, 1)
            adversarial, predicted = runner.run_standard_evaluation(clean, y, batch_size=len(x))
        fooled = (predicted.cpu() != y).numpy()
        return fooled, adversarial.detach().cpu().numpy()[fooled]


def _digests(x: Tensor, y: Tensor) -> list[str]:
    return [image_digest(image, int(label)) for image, label in zip(x, y.tolist(), strict=True)]


def _gathered(images: Images, parts: list[Any]) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """(number, (images, labels)) of every part, in one pass over the stream and in its order.

    Holds one part and one batch of the stream at a time.
    """
    owner = {int(i): k for k, part in enumerate(parts) for i in part}
    sizes = [len(part) for part in parts]
    first, k = 0, 0
    kept: list[tuple[Tensor, Tensor]] = []
    for x, labels, _ in images:
        y = check_labels(labels, len(x))
        for row in range(len(x)):
            if first + row in owner:
                kept.append((x[row], y[row]))
                if len(kept) == sizes[k]:
                    xs, ys = zip(*kept, strict=True)
                    yield k, (torch.stack(xs), torch.stack(ys))
                    k, kept = k + 1, []
        first += len(x)


def _warn_of_square(accuracy: dict[str, float]) -> None:
    """Say, as AutoAttack does, when the last attack finds much that the others did not."""
    others = [value for name, value in accuracy.items() if name not in ("square", CLEAN)]
    if "square" in accuracy and others:
        drop = min(others) - accuracy["square"]
        if drop > SQUARE_LIMIT:
            _log.warning(
                "the Square attack lowered robust accuracy by %.2f points after the gradient "
                "attacks: gradients may be masked, and the figure may be too high",
                100 * drop,
            )
