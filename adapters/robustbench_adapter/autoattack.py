"""AutoAttack over a stream of images: seeded, images saved on disk, resumable batch by batch.

The schedule is AutoAttack's own: every attack of the version takes, in batches, the images that
are still classified correctly. Each finished batch is one file, named by a digest of the attack
and the pixels, in a folder named by a digest of the run (model, norm, budget, version, seed). A
run that was killed therefore repeats at most one batch, and later runs reuse the images.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.compat import import_pyautoattack
from iaside_plugins.adapters.isolation import check_model, isolated
from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.entry.build import CLEAN, STANDARD
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.batches import digests_of
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.inference.checks import check_images, check_labels, model_device
from iaside_plugins.inference.gradients import backward_failure, try_gradient
from iaside_plugins.inference.logits import described, logits_in
from iaside_plugins.inference.running import run_model
from iaside_plugins.storage.files import read_npz, write_atomic, write_json
from iaside_plugins.storage.provenance import model_digest
from iaside_plugins.value_table.progress import Progress, Work, added, times

ATTACKS = (*STANDARD, "apgd-dlr", "fab")
MIN_CLASSES = 10  # the targeted attacks aim at the 9 classes nearest to the true one
DLR_CLASSES = 3  # the loss divides by the distance of the greatest logit to the third
SQUARE_LIMIT = 0.002  # AutoAttack itself warns where the last attack lowers accuracy by more
_log = logging.getLogger(__name__)
# Upper bounds for one image at the settings of AutoAttack's version "standard"; "gradient" is a
# forward and a backward pass. An image that is fooled skips the later attacks.
ATTACK_PASSES: dict[str, Work] = {
    "apgd-ce": {"forward": 2, "gradient": 101},
    "apgd-dlr": {"forward": 2, "gradient": 101},
    "apgd-t": {"forward": 18, "gradient": 909},
    "fab-t": {"forward": 2000, "gradient": 900},
    "fab": {"forward": 400, "gradient": 900},
    "square": {"forward": 5002, "gradient": 0},
}


@dataclass(frozen=True)
class AutoAttackSpec:
    """AutoAttack at some budgets, in the form that `evaluation.plan.AttackPlan` takes.

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

    @property
    def by_gradient(self) -> bool:
        """Whether any of them follows gradients: all but Square do."""
        return self.order != ("square",)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of an entry's attack: name, norm, steps, rel_stepsize, random_start."""
        return {
            "name": self.name,
            "norm": self.norm,
            "steps": None,
            "rel_stepsize": None,
            "random_start": True,
        }


@dataclass
class AdversarialImages:
    """The result of AutoAttack at one budget; the images stay on disk.

    Attributes:
        epsilon: The budget.
        accuracy_after: Accuracy on the clean images and after each attack, in order.
        places: Digest of an image -> file and row of its adversarial version. Images that
            survived, or were misclassified from the start, have none and are left as they are.
    """

    epsilon: float
    accuracy_after: dict[str, float] = field(default_factory=dict)
    places: dict[str, tuple[Path, int]] = field(default_factory=dict)
    _open: dict[str, tuple[Path, Any]] = field(default_factory=dict)

    def batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the adversarial versions of clean images, (N, C, H, W) float32 on the CPU."""
        out = images.to("cpu", torch.float32, copy=True)
        for k, digest in enumerate(digests_of(images, labels)):
            place = self.places.get(digest)
            if place is not None:
                out[k] = torch.from_numpy(self._images(place[0])[place[1]])
        return out

    def _images(self, path: Path) -> Any:
        """Return the images of a file; the last file of each attack stays in memory."""
        attack = path.name.rpartition("-")[0]
        if attack not in self._open or self._open[attack][0] != path:
            self._open[attack] = (path, read_npz(path)["images"])
        return self._open[attack][1]


class AttackedImages:
    """A stream of the adversarial versions of clean images: (images, labels, ids) batches."""

    def __init__(self, images: Images, attacked: AdversarialImages) -> None:
        self.images, self.attacked = images, attacked
        self.records = getattr(images, "records", None) or ()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Sequence[str]]]:
        for x, y, ids in self.images:
            yield self.attacked.batch(x, y), y, ids


def check_installed() -> None:
    """Raise MissingExtraError if pyautoattack is not installed."""
    import_pyautoattack()


def attacks_work(names: Sequence[str]) -> Work:
    """Return the work of one image that withstands all of these attacks, at most."""
    return added(*(ATTACK_PASSES[name] for name in names))


def run_autoattack(
    model: nn.Module,
    images: Images,
    spec: AutoAttackSpec,
    epsilon: float,
    *,
    seed: int,
    batch_size: int,
    folder: Path,
    bar: Progress | None = None,
) -> AdversarialImages:
    """Attack a stream of images at one budget; batches finished by an earlier run are reused.

    Args:
        model: Module in evaluation mode, (N, C, H, W) images in [0, 1] -> logits.
        images: (images, labels, ids) batches; read once for the clean images, and once for every
            attack that has batches to compute.
        spec: Norm and attacks.
        epsilon: The budget, in pixel units.
        seed: AutoAttack's seed, used for every batch.
        batch_size: Images attacked together. It changes the result: the images of a batch share
            random draws.
        folder: Folder of finished batches.
        bar: Counts what is done, or None.

    Raises:
        InputError: A model, images or labels that cannot be used, too few classes, or a folder
            that cannot be written.
        InputTypeError: The model is not an ``nn.Module``.
        MissingExtraError: pyautoattack is not installed.
    """
    device = model_device(model)
    check_model(model, device)
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
    run = _AttackRun(model, spec, epsilon, device, seed, home, AdversarialImages(epsilon))
    digests, robust = run.classify(images, bar)
    for number, attack in enumerate(spec.order):
        left = np.flatnonzero(robust)
        parts = [left[k : k + batch_size] for k in range(0, len(left), batch_size)]
        if bar is not None:
            bar.set_description(f"{attack} ({len(left)} left)")
            bar.set_left(times(attacks_work(spec.order[number:]), len(left)))
        for part, _ in zip(parts, run.attack(attack, parts, digests, images), strict=True):
            if bar is not None:
                bar.update(times(attacks_work([attack]), len(part)))
        robust &= [digest not in run.result.places for digest in digests]  # copies fall together
        run.result.accuracy_after[attack] = float(robust.mean())
    _warn_of_square(run.result.accuracy_after)
    return run.result


@dataclass
class _AttackRun:
    """AutoAttack at one budget: computes batches, or reads those that are on disk."""

    model: nn.Module
    spec: AutoAttackSpec
    epsilon: float
    device: torch.device
    seed: int
    home: Path
    result: AdversarialImages

    def classify(self, images: Images, bar: Progress | None) -> tuple[list[str], Any]:
        """Return the digest of every image, and whether the model classifies it correctly."""
        digests: list[str] = []
        right: list[Any] = []
        for x, labels, _ in images:
            check_images(x)
            y = check_labels(labels, len(x))
            batch = digests_of(x, y)
            digests += batch
            right.append(~self._computed(CLEAN, batch, x, y))
            if bar is not None:
                bar.set_description("clean")
                bar.update({"forward": len(x)})
        if not digests:
            raise InputError("no images to attack: the data are empty")
        robust = np.concatenate(right)
        self.result.accuracy_after[CLEAN] = float(robust.mean())
        return digests, robust

    def attack(
        self, attack: str, parts: list[Any], digests: list[str], images: Images
    ) -> Iterator[Any]:
        """Yield, for each part, which of its images are fooled; (len(part),) bool."""
        loaded = _gathered(images, parts)  # reads no image until a part is missing
        for k, part in enumerate(parts):
            batch = [digests[i] for i in part]
            fooled = self._stored(attack, batch)
            if fooled is None:
                x, y = next(pair for number, pair in loaded if number == k)
                fooled = self._computed(attack, batch, x, y)
            yield fooled

    def _path(self, attack: str, batch: list[str]) -> Path:
        """Return the file of a batch, given by the digests of its images."""
        key = hashlib.sha256("|".join(batch).encode()).hexdigest()[:16]
        return self.home / f"{attack}-{key}.npz"

    def _stored(self, attack: str, batch: list[str]) -> Any:
        """Return which images of a batch are fooled, or None if its file is absent or damaged."""
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
            self.result.places.update({batch[i]: (path, row) for row, i in enumerate(hits)})
        return fooled

    def _computed(self, attack: str, batch: list[str], x: Tensor, y: Tensor) -> Any:
        """Return which images of a batch are fooled, after storing it if it was not stored."""
        stored = self._stored(attack, batch)
        if stored is not None:
            return stored
        fooled, adversarial = self._clean(x, y) if attack == CLEAN else self._run(attack, x, y)
        with io.BytesIO() as file:
            np.savez(file, fooled=fooled, images=adversarial)
            write_atomic(self._path(attack, batch), file.getvalue())
        return self._stored(attack, batch)

    @torch.no_grad()
    def _clean(self, x: Tensor, y: Tensor) -> tuple[Any, Any]:
        """Return which images are misclassified, and no adversarial images."""
        logits = logits_in(run_model(self.model, x.to(self.device)), self.model)
        rows = torch.is_tensor(logits) and logits.ndim == 2
        if not rows or logits.shape[1] <= int(y.max()):
            raise InputError(
                f"expected logits of shape ({len(x)}, n_classes), and the labels go up to "
                f"{int(y.max())}; got {described(logits)}"
            )
        targeted = {"apgd-t", "fab-t"} & set(self.spec.order)
        if targeted and logits.shape[1] < MIN_CLASSES:
            raise InputError(
                f"AutoAttack's {' and '.join(sorted(targeted))} need at least {MIN_CLASSES} "
                f"classes, the model has {logits.shape[1]}"
            )
        if "apgd-dlr" in self.spec.order and logits.shape[1] < DLR_CLASSES:
            raise InputError(
                f"AutoAttack's apgd-dlr needs at least {DLR_CLASSES} classes, the model has "
                f"{logits.shape[1]}: take attacks=apgd-ce or square"
            )
        if self.spec.by_gradient:
            try_gradient(self.model, x.to(self.device))
        return (logits.argmax(dim=1).cpu() != y).numpy(), np.zeros(0, dtype=np.float32)

    def _run(self, attack: str, x: Tensor, y: Tensor) -> tuple[Any, Any]:
        """Attack one batch; return which images are fooled, and those adversarial images."""
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
            try:
                adversarial, predicted = runner.run_standard_evaluation(clean, y, batch_size=len(x))
            except (Exception, SystemExit) as error:
                if isinstance(error, InputError) or is_out_of_memory(error):
                    raise
                raise backward_failure(error, f"AutoAttack's {attack}") from error
        fooled = (predicted.cpu() != y).numpy()
        return fooled, adversarial.detach().cpu().numpy()[fooled]


def _gathered(images: Images, parts: list[Any]) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Yield (number, (images, labels)) of every part, in the order of the stream, read once.

    Only one part and one batch of the stream are in memory at a time.
    """
    owner = {int(i): k for k, part in enumerate(parts) for i in part}
    sizes = [len(part) for part in parts]
    first, k = 0, 0
    rows: list[tuple[Tensor, Tensor]] = []
    for x, labels, _ in images:
        y = check_labels(labels, len(x))
        for row in range(len(x)):
            if first + row in owner:
                rows.append((x[row], y[row]))
                if len(rows) == sizes[k]:
                    xs, ys = zip(*rows, strict=True)
                    yield k, (torch.stack(xs), torch.stack(ys))
                    k, rows = k + 1, []
        first += len(x)


def _warn_of_square(accuracy: dict[str, float]) -> None:
    """Warn, as AutoAttack does, if the Square attack fools many images that the others did not."""
    others = [value for name, value in accuracy.items() if name not in ("square", CLEAN)]
    if "square" in accuracy and others:
        drop = min(others) - accuracy["square"]
        if drop > SQUARE_LIMIT:
            _log.warning(
                "the Square attack lowered robust accuracy by %.2f points after the gradient "
                "attacks: gradients may be masked, and the figure may be too high",
                100 * drop,
            )


@contextmanager
def attack_log(path: str | Path | None) -> Iterator[None]:
    """Append everything that AutoAttack logs to a file; restore its logger on leaving.

    Args:
        path: The file; None to change nothing.

    Raises:
        InputError: The file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    logger = logging.getLogger("auto-attack")
    level = logger.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
