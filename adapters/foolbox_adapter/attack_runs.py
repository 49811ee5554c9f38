"""Foolbox attacks over a whole data set: seeded batch by batch, measured, kept as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.attacks import attack_seed
from iaside_plugins.adapters.foolbox_adapter.fingerprint import logit_marks, same_marks
from iaside_plugins.adapters.foolbox_adapter.guards import checked_batch, checked_logits, foolbox
from iaside_plugins.adapters.foolbox_adapter.models import (
    Networks,
    bounds_of,
    find_networks,
    labels_of,
    native,
    safe,
)
from iaside_plugins.adapters.isolation import seed_generators
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.seeds import seed_of
from iaside_plugins.storage.provenance import image_digest
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.stream import batches

Array = npt.NDArray[np.float64]
Budget = float | None  # None: the least perturbation that a minimisation attack finds
Budgets = Budget | Sequence[Budget]
Measure = Callable[[Tensor, Tensor, npt.NDArray[np.bool_], Array], Array]


@dataclass(frozen=True)
class AttackRun:
    """One Foolbox attack and the budgets to run it at.

    Attributes:
        name: In tables; enters the seed of every batch.
        attack: The Foolbox attack.
        epsilons: Budgets in units of the model's bounds; None (first) for the least perturbation
            of a minimisation attack.
        clean: Whether budget 0 is asked for too: the clean images, which nothing is run for.

    Raises:
        InputError: Budgets out of range, none, or None for an attack of fixed budgets; an attack
            whose distance is still to be chosen.
        InputTypeError: Not an attack with a distance (spatial attacks have no budget).
    """

    name: str
    attack: Any
    epsilons: tuple[Budget, ...]
    clean: bool = False

    def __post_init__(self) -> None:
        base = foolbox().attacks.base
        if not isinstance(self.attack, base.AttackWithDistance):
            raise InputTypeError(
                f"{self.name}: expected a Foolbox attack with budgets, got "
                f"{type(self.attack).__name__}"
            )
        try:
            _ = self.attack.distance
        except ValueError as error:
            raise InputError(
                f"{self.name}: expected an attack with a distance, got {self.attack!r}: choose "
                "one, such as distance=foolbox.distances.l2"
            ) from error
        numbers = [e for e in self.epsilons if e is not None]
        nothing = not self.epsilons and not self.clean
        if nothing or any(not 0 < e < float("inf") for e in numbers):
            raise InputError(
                f"{self.name}: expected budgets of at least 0, got {list(self.epsilons) or 'none'}"
            )
        if None in self.epsilons and not self.minimal:
            raise InputError(f"{self.name} attacks at fixed budgets: give it some")

    @property
    def minimal(self) -> bool:
        """Whether the attack looks for the least perturbation, at no budget of its own."""
        attack = self.attack
        while hasattr(attack, "attack"):  # repeated attacks wrap one
            attack = attack.attack
        return isinstance(attack, foolbox().attacks.base.MinimizationAttack)

    @property
    def norm(self) -> str:
        """Norm of its budgets: "Linf", "L2", "L1" or "L0"."""
        p = getattr(self.attack.distance, "p", None)
        return f"L{p:g}" if p is not None else str(self.attack.distance)

    @property
    def settings(self) -> str:
        """The attack as it prints: its class and hyper-parameters."""
        return repr(self.attack)


def attack_batch(
    fmodel: Any, run: AttackRun, images: Tensor, labels: Tensor, seed: int
) -> list[tuple[Tensor, npt.NDArray[np.bool_], Array]]:
    """For every budget: adversarial images, Foolbox's `is_adv`, and distances where it is true.

    Exactly what Foolbox gives after seeding: an attack of fixed budgets is seeded anew and called
    for each of them, so that a budget's result does not depend on the others; a minimisation
    attack is called once for all. Distances of failed attacks are infinite.
    """
    calls = [run.epsilons] if run.minimal else [(epsilon,) for epsilon in run.epsilons]
    out = []
    for epsilons in calls:
        seed_generators(seed, images.device)
        _, clipped, is_adv = run.attack(fmodel, images, labels, epsilons=list(epsilons))
        for adversarial, found in zip(clipped, is_adv, strict=True):
            success = found.cpu().numpy()
            far = run.attack.distance(images, adversarial).double().cpu().numpy()
            out.append((adversarial.detach(), success, np.where(success, far, np.inf)))
    return out


def checked_runs(attacks: Any, epsilons: Budgets | Mapping[str, Budgets]) -> list[AttackRun]:
    """Attacks with their budgets.

    Args:
        attacks: Foolbox attacks, by name or as a list (named by their classes), or one.
        epsilons: Budgets (or one) of all, or by the name of the attack or of its norm.

    Raises:
        InputError: No attack, an attack without budgets, and as `AttackRun`.
    """
    if isinstance(attacks, foolbox().Attack):
        attacks = [attacks]
    if not isinstance(attacks, Mapping):
        named: dict[str, Any] = {}
        for attack in attacks:
            kind = type(attack).__name__
            number = sum(name.split(" #")[0] == kind for name in named) + 1
            named[kind if number == 1 else f"{kind} #{number}"] = attack
        attacks = named
    if not attacks:
        raise InputError("expected at least one attack")
    runs = []
    for name, attack in attacks.items():
        budgets: Any = epsilons
        if isinstance(epsilons, Mapping):
            norm = AttackRun(name, attack, (1.0,)).norm
            if name not in epsilons and norm not in epsilons:
                raise InputError(
                    f"no budgets for {name} ({norm}): give epsilons by name or norm, got "
                    f"{', '.join(epsilons)}"
                )
            budgets = epsilons[name] if name in epsilons else epsilons[norm]
        given = list(budgets) if isinstance(budgets, Iterable) else [budgets]
        numbers = sorted({float(e) for e in given if e is not None and e != 0})
        least = (None,) if None in given else ()
        runs.append(AttackRun(name, attack, (*least, *numbers), clean=0 in given))
    return runs


def attack_rows(
    fmodel: Any,
    data: Any,
    runs: Sequence[AttackRun],
    measure: Measure,
    *,
    seed: int,
    store: RowStore,
    on_images: Callable[[int], object] = lambda n: None,
) -> tuple[list[str], Array, dict[tuple[str, Budget], Array]]:
    """What `measure` says of every image under every attack and budget.

    Args:
        fmodel: A Foolbox model; see `foolbox_models.find_networks` and `safe`.
        data: Batches (images, labels) or (images, labels, ids), or one pair of tensors; images in
            the model's own bounds. A batch is seeded from (seed, attack, index of its first
            image), so that batches are part of the result.
        runs: The attacks.
        measure: (images, adversarial, is_adv, distances) -> rows (N, R) of one batch and budget.
        seed: Of the run.
        store: Keeps the rows, all of one length.
        on_images: Called with the number of images that an attack has finished.

    Returns:
        Ids (or digests) of the images; whether each clean image is misclassified (N,) bool; rows
        (N, R) by attack and budget.

    Raises:
        InputError: For a batch that cannot be used, or no images.
    """
    ids: list[str] = []
    wrong: list[Array] = []
    rows: dict[tuple[str, Budget], list[Array]] = {
        (run.name, epsilon): [] for run in runs for epsilon in run.epsilons
    }
    try:
        for first, x, y, names, networks in _checked(data, fmodel):
            digests = [image_digest(image, int(label)) for image, label in zip(x, y, strict=True)]
            batch = seed_of(first, *digests)
            with safe(fmodel, networks) as model:
                seed_generators(attack_seed(seed, "clean", first), x.device)
                with torch.no_grad():
                    logits = checked_logits(native(model(x)), y)
                wrong.append((logits.argmax(dim=1) != y).cpu().numpy())
                marks = logit_marks(logits)
                for run in runs:
                    found = _kept_rows(run, model, x, y, batch, seed, first, marks, measure, store)
                    for epsilon, part in zip(run.epsilons, found, strict=True):
                        rows[run.name, epsilon] += part
                    on_images(len(x))
            ids += digests if names is None else names
    finally:
        store.compact()
    if not ids:
        raise InputError("no images: the data are empty")
    return ids, np.concatenate(wrong), {key: np.stack(part) for key, part in rows.items()}


def _kept_rows(
    run: AttackRun,
    fmodel: Any,
    x: Tensor,
    y: Tensor,
    batch: int,
    seed: int,
    first: int,
    marks: Array,
    measure: Measure,
    store: RowStore,
) -> list[list[Array]]:
    """Rows of one batch under every budget of one attack, from the store if they are there.

    Kept rows begin with the marks of the clean logits: those of a model that answers otherwise
    are found anew.
    """
    # The least perturbation is sought with the other budgets in mind: they may stop it early.
    others = run.epsilons if run.minimal else ()
    keys = [
        [
            f"marked|{run.name}|{run.settings}|{seed}|{others}|{epsilon!r}|{batch:x}-{k}"
            for k in range(len(x))
        ]
        for epsilon in run.epsilons
    ]
    n = marks.shape[1]
    if not all(
        all(key in store.rows for key in part)
        and same_marks(np.stack([store.rows[key][:n] for key in part]), marks)
        for part in keys
    ):
        results = attack_batch(fmodel, run, x, y, attack_seed(seed, run.name, first))
        for part, (adversarial, is_adv, far) in zip(keys, results, strict=True):
            rows = np.concatenate([marks, measure(x, adversarial, is_adv, far)], axis=1)
            for key, row in zip(part, rows, strict=True):
                store.add(key, row)
        store.flush()  # a batch of an attack may take minutes
    return [[store.rows[key][n:] for key in part] for part in keys]


def _checked(
    data: Any, fmodel: Any
) -> Iterator[tuple[int, Tensor, Tensor, list[str] | None, Networks]]:
    """Index of the first image, images, labels, ids, networks: of every batch not empty."""
    first, networks = 0, None
    bounds = bounds_of(fmodel)
    whole = isinstance(data, (tuple, list)) and len(data) in (2, 3)
    pair = whole and all(torch.is_tensor(native(part)) for part in data[:2])
    stream: Iterable[Any] = [data] if pair else batches(data)
    for batch in stream:
        given = native(batch[0])
        with torch.inference_mode(False):  # else the copies could not be attacked
            here = torch.device(getattr(given, "device", "cpu"))
            device = here if networks is None else networks.device
            x, y = checked_batch(given, labels_of(batch[1]), device, bounds)
            if not len(x):
                continue
            if networks is None:
                networks = find_networks(fmodel, x)
                x, y = x.to(networks.device), y.to(networks.device)
        yield first, x, y, None if len(batch) == 2 else [str(name) for name in batch[2]], networks
        first += len(x)
