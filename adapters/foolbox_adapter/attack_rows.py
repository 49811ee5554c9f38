"""Foolbox attacks over a whole data set: seeded batch by batch, measured, stored, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_adapter.attacks import (
    AttackRun,
    Budget,
    attack_failures,
    attack_seed,
)
from iaside_plugins.adapters.foolbox_adapter.inputs import checked_batch, checked_logits, labels_of
from iaside_plugins.adapters.foolbox_adapter.models import (
    Networks,
    bounds_of,
    find_networks,
    foolbox,
    native,
    safe,
)
from iaside_plugins.adapters.isolation import same_logits, seed_generators
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.batches import digests_of
from iaside_plugins.evaluation.conditions import StoredRows, place_keys
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.inference.checks import non_finite
from iaside_plugins.inference.gradients import GradientView, gradient_rows
from iaside_plugins.inference.output_checks import OutputCheck, last_operation
from iaside_plugins.storage.provenance import model_digest
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import advance, times
from iaside_plugins.value_table.stream import batches, names_of, say_copies

Array = npt.NDArray[np.float64]
Budgets = Budget | Sequence[Budget]
Measure = Callable[[Tensor, Tensor, npt.NDArray[np.bool_], Array], Array]
N_MARKS = 3  # numbers of each row that tell the model's clean logits
_SAME = 1e-4  # of the greatest mark of an image: above float32 rounding on another machine


@dataclass(frozen=True)
class AttackRows:
    """Every image of a data set under every attack.

    Attributes:
        ids: Ids (or digests) of the images.
        correct: Whether the model is right on each clean image, (N,).
        rows: What was measured, (N, R), by attack and budget.
        view: What attacks by gradients see; None if there are none.
    """

    ids: tuple[str, ...]
    correct: npt.NDArray[np.bool_]
    rows: dict[tuple[str, Budget], Array]
    view: GradientView | None


def attack_batch(
    fmodel: Any, run: AttackRun, images: Tensor, labels: Tensor, seed: int
) -> list[tuple[Tensor, npt.NDArray[np.bool_], Array]]:
    """Return, for every budget, adversarial images, Foolbox's `is_adv`, and distances.

    They are exactly Foolbox's own after seeding. An attack of fixed budgets is seeded again and
    called for each of them, so that a budget's result does not depend on the others; a
    minimisation attack is called once for all. Distances of failed attacks are infinite.

    Raises:
        InputError: The model gives NaN or infinite logits for an attacked image: the place of a NaN
            would count as a class.
    """
    calls = [run.epsilons] if run.minimal else [(epsilon,) for epsilon in run.epsilons]
    out = []
    for epsilons in calls:
        seed_generators(seed, images.device)
        with attack_failures(run.name):
            _, clipped, is_adv = run.attack(fmodel, images, labels, epsilons=list(epsilons))
        for adversarial, succeeded in zip(clipped, is_adv, strict=True):
            _check_finite(fmodel, run.name, adversarial)
            success = succeeded.cpu().numpy()
            far = run.attack.distance(images, adversarial).double().cpu().numpy()
            out.append((adversarial.detach(), success, np.where(success, far, np.inf)))
    return out


def _check_finite(fmodel: Any, name: str, adversarial: Tensor) -> None:
    with torch.no_grad():
        logits = native(fmodel(adversarial.detach().clone()))
    bad = ~torch.isfinite(logits).flatten(1).all(dim=1)
    if bool(bad.any()):
        attacked = f"{int(bad.sum())} of {len(bad)} images attacked by {name}"
        raise non_finite(f"{attacked}, which are neither right nor wrong")


def checked_runs(attacks: Any, epsilons: Budgets | Mapping[str, Budgets]) -> list[AttackRun]:
    """Return attacks with their budgets.

    Args:
        attacks: Foolbox attacks, by name or as a list (named by their classes), or one.
        epsilons: Budgets (or one) of all attacks, or by the name of the attack or of its norm.

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
) -> AttackRows:
    """Measure every image under every attack and budget; stored rows are not computed again.

    Args:
        fmodel: A Foolbox model; see `models.find_networks` and `safe`.
        data: Batches (images, labels) or (images, labels, ids), or one pair of tensors; images in
            the model's own bounds. A batch is seeded from (seed, attack, index of its first
            image), so batches are part of the result.
        runs: The attacks.
        measure: (images, adversarial, is_adv, distances) -> rows (N, R) of one batch and budget.
        seed: Seed of the run.
        store: Holds the rows, all of one length.

    Raises:
        InputError: For a batch that cannot be used, no images, budgets beyond the model's bounds,
            or a model without gradients.
    """
    _check_budgets(runs, bounds_of(fmodel))
    ids: list[str] = []
    every: list[str] = []  # digests
    right: list[npt.NDArray[np.bool_]] = []
    judged = OutputCheck(fmodel)
    seen: list[Array] = []
    with StoredRows(store) as rows:
        for first, x, y, names, networks in _checked(data, fmodel):
            digests = digests_of(x, y)
            with safe(fmodel, networks) as model:
                seed_generators(attack_seed(seed, "clean", first), x.device)
                with torch.no_grad():
                    logits = checked_logits(native(model(x.clone())), y)
                judged.see(logits, partial(last_operation, model, x))
                right.append((logits.argmax(dim=1) == y).cpu().numpy())
                if any(run.by_gradient for run in runs):
                    seen.append(gradient_rows(model, x, y))
                batch = _MarkedBatch(model, x, y, measure, logit_marks(logits))
                for run in runs:
                    keys = _keys(run, seed, place_keys(first, digests))
                    own_seed = attack_seed(seed, run.name, first)
                    rows.batch(keys, partial(batch.attacked, run, own_seed), batch.is_valid)
                    advance(times(run.work, len(x)))
            ids += digests if names is None else names
            every += digests
    if not ids:
        raise InputError("no images: the data are empty")
    say_copies(every)
    correct = np.concatenate(right)
    warn_at_chance(int(correct.sum()), len(correct), logits.shape[1])
    cells = [(run.name, epsilon) for run in runs for epsilon in run.epsilons]
    return AttackRows(
        tuple(ids),
        correct,
        {cell: rows.table(cell)[:, N_MARKS:] for cell in cells},
        GradientView.of(np.concatenate(seen), correct) if seen else None,
    )


def _check_budgets(runs: Sequence[AttackRun], bounds: tuple[float, float]) -> None:
    """Raise InputError for Linf budgets beyond the range of a pixel: any image lies within them."""
    lower, upper = bounds
    for run in runs:
        most = max((e for e in run.epsilons if e is not None), default=0.0)
        if run.norm == "Linf" and most > upper - lower:
            raise InputError(
                f"{run.name}: expected Linf budgets in units of the model's bounds "
                f"({lower:g}, {upper:g}), {upper - lower:g} at most, got {most:g}; of pixels in "
                "[0, 1] give 8/255 for 8"
            )


def _keys(run: AttackRun, seed: int, places: Sequence[str]) -> dict[tuple[str, Budget], list[str]]:
    """Return the keys of one batch's rows by attack and budget."""
    # A minimisation attack depends on the other budgets: they may stop it early.
    others = run.epsilons if run.minimal else ()
    return {
        (run.name, epsilon): [
            f"marked|{run.name}|{run.settings}|{seed}|{others}|{epsilon!r}|{place}"
            for place in places
        ]
        for epsilon in run.epsilons
    }


@dataclass(frozen=True)
class _MarkedBatch:
    """One batch under attack; its rows begin with the marks of its clean logits.

    Stored rows of a model that answers otherwise are computed again.
    """

    fmodel: Any
    images: Tensor
    labels: Tensor
    measure: Measure
    marks: Array

    def attacked(self, run: AttackRun, seed: int) -> Iterator[Array]:
        """Yield the rows of every budget of one attack."""
        results = attack_batch(self.fmodel, run, self.images, self.labels, seed)
        for adversarial, is_adv, far in results:
            rows = self.measure(self.images, adversarial, is_adv, far)
            yield np.concatenate([self.marks, rows], axis=1)

    def is_valid(self, rows: Array) -> bool:
        """Whether stored rows are of a model that gives the same logits."""
        return same_marks(rows[:, :N_MARKS], self.marks)


def _checked(
    data: Any, fmodel: Any
) -> Iterator[tuple[int, Tensor, Tensor, list[str] | None, Networks]]:
    """Yield index of the first image, images, labels, ids and networks of every non-empty batch."""
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
        names = None if len(batch) == 2 else names_of(batch[2], len(x))
        yield first, x, y, names, networks
        first += len(x)


def fmodel_digest(fmodel: Any) -> str:
    """Return a digest of a Foolbox model, its wrappers and networks.

    It is of numbers, text and tensors in attributes and closures. Code is not included, nor data
    held elsewhere: `logit_marks` tell those models apart.
    """
    text = repr(_described(fmodel, {}))
    return f"{type(fmodel).__name__}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def logit_marks(logits: Tensor) -> Array:
    """Return fixed projections (N, 3) of every image's logits (N, n_classes)."""
    values = logits.detach().cpu().double()
    steps = torch.outer(torch.arange(values.shape[1]).double(), torch.arange(1.0, N_MARKS + 1))
    return np.asarray((values @ steps.double().cos()).numpy())


def same_marks(stored: Array, now: Array) -> bool:
    """Return whether logits were the same up to rounding."""
    return same_logits(stored, now, _SAME)


def _described(part: Any, visited: dict[int, Any]) -> Any:
    """Return nested lists of text and numbers, the same in every process."""
    part = native(part)
    if part is None or isinstance(part, (bool, int, float, str, bytes)):
        return part
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, nn.Module):
        return model_digest(part)
    if isinstance(part, Tensor):
        raw = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return [kind, str(part.dtype), list(part.shape), hashlib.sha256(raw.tobytes()).hexdigest()]
    if isinstance(part, np.ndarray):
        return [kind, str(part.dtype), part.shape, hashlib.sha256(part.tobytes()).hexdigest()]
    if id(part) in visited or isinstance(part, type) or inspect.ismodule(part):
        return [kind, getattr(part, "__qualname__", "")]
    visited[id(part)] = part  # the reference keeps its id from being used again
    parts: list[Any]
    if isinstance(part, Mapping):
        parts = [[str(key), value] for key, value in part.items()]
    elif isinstance(part, (list, tuple)):
        parts = [*part]
    elif isinstance(part, partial):
        parts = [part.func, part.args, part.keywords]
    elif inspect.ismethod(part):
        parts = [part.__func__, part.__self__]
    elif inspect.isfunction(part):
        parts = [part.__qualname__, part.__defaults__, part.__kwdefaults__]
        for cell in part.__closure__ or ():
            with contextlib.suppress(ValueError):  # an empty cell
                parts.append(cell.cell_contents)
    else:
        parts = [*getattr(part, "__dict__", {}).items()]
    return [kind, [_described(value, visited) for value in parts]]
