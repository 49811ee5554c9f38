"""Entries to the rows of comparable tables: one row a model, whichever commands measured it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.budgets import format_budget
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.entry.clashes import protocol_digest
from iaside_plugins.entry.per_image import unpack_bits
from iaside_plugins.entry.schema import Adversarial, Attack, Corruption, Entry, WorstCase

Array = npt.NDArray[np.float64]
KEYS = (
    "dataset",
    "protocol_id",
    "benchmark",
    "image_ids_sha256",
    "spectral_image_ids_sha256",
    "corruption_source",
    "corruption_jpeg",
    "corruption_size",
    "corruption_constants",
    "corruption_seed",
    "corruption_missing",
    "n_corruption_images",
)


@dataclass(frozen=True, order=True)
class AttackColumn:
    """One column of robust accuracy: what was attacked with what, and how many images."""

    norm: str
    epsilon: float
    attacks: tuple[str, ...]
    n_images: int
    seed: int | None = None  # of the selection, where only some of the images were attacked

    @property
    def column(self) -> str:
        """Its name in the frame and in the CSV file."""
        attacks = "+".join(self.attacks)
        some = "" if self.seed is None else f"_seed{self.seed}"
        return f"robust_accuracy_{self.norm}_{self.epsilon!r}_{attacks}_n{self.n_images}{some}"

    @property
    def words(self) -> str:
        """The names of its attacks: "AutoAttack", "FGSM, PGD-40"."""
        return ", ".join(dict.fromkeys(_word(label) for label in self.attacks))

    @property
    def budget(self) -> str:
        """Its norm and budget: "Linf 2/255"."""
        return f"{self.norm} {format_budget(self.epsilon)}"


@dataclass(frozen=True)
class ModelRow:
    """What all entries of one model on the same images say.

    Attributes:
        entries: At least one; the first gives name, importance and clean accuracy.
    """

    entries: tuple[Entry, ...]

    @cached_property
    def entry(self) -> Entry:
        """The first entry, with the parts that only another one has; its attacks are its own."""
        first = self.entries[0]
        parts = ("corruption", "systematic", "decomposition")
        found = {
            part: next((v for e in self.entries if (v := getattr(e, part)) is not None), None)
            for part in parts
        }
        return first.model_copy(update=found)

    @cached_property
    def cases(self) -> dict[AttackColumn, tuple[WorstCase, Adversarial]]:
        """Worst cases by the attacks that they are over, each with its group of an entry.

        Of several entries with the same attacks the first counts.
        """
        found: dict[AttackColumn, tuple[WorstCase, Adversarial]] = {}
        for entry in self.entries:
            for column, case, group in _cases(entry):
                found.setdefault(column, (case, group))
        return found


def grouped(entries: Iterable[Entry]) -> list[tuple[ModelRow, ...]]:
    """Return the rows of every table, best clean accuracy first, then by name.

    A table holds what is comparable: the same data set, protocol, host benchmark, images and
    corruptions (`KEYS`). What a host measured without corruptions stands in the row of the same
    weights on the same images, where it agrees with it on clean accuracy and image size: no
    preprocessing of the host's own is in between.
    """
    held = list(entries)
    own = {_measured(entry) for entry in held if entry.benchmark is None}
    tables: dict[tuple[str, ...], list[Entry]] = {}
    guests: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in held:
        if entry.benchmark is not None and entry.corruption is None and _measured(entry) in own:
            guests.setdefault(_measured(entry), []).append(entry)
        else:
            tables.setdefault(_group(entry), []).append(entry)
    return [
        tuple(_row(entry, guests) for entry in sorted(tables[group], key=_order))
        for group in sorted(tables)
    ]


def _row(entry: Entry, guests: dict[tuple[Any, ...], list[Entry]]) -> ModelRow:
    found = [] if entry.benchmark is not None else guests.get(_measured(entry), [])
    return ModelRow((entry, *sorted(found, key=lambda guest: guest.entry_id)))


def _order(entry: Entry) -> tuple[float, str, str]:
    return -entry.clean_accuracy.value, entry.model.name, entry.entry_id


def _measured(entry: Entry) -> tuple[Any, ...]:
    """Return what two entries agree on if they measured one model on the same pixels."""
    return (
        entry.data.name,
        protocol_digest(entry.protocol),
        entry.data.image_ids_sha256,
        entry.spectral.image_ids_sha256,
        entry.model.weights_sha256,
        entry.clean_accuracy.value,
        entry.spectral.image_size,
    )


def _group(entry: Entry) -> tuple[str, ...]:
    shown = ("" if value is None else str(value) for value in keys(entry).values())
    return (*shown, protocol_digest(entry.protocol))  # the id that is shown is short


def keys(entry: Entry) -> dict[str, Any]:
    """Return what must be the same for numbers of two entries to be comparable, by `KEYS`."""
    found = dict.fromkeys(KEYS) | {
        "dataset": entry.data.name,
        "protocol_id": entry.protocol.protocol_id,
        "benchmark": entry.benchmark_id,
        "image_ids_sha256": entry.data.image_ids_sha256,
        "spectral_image_ids_sha256": entry.spectral.image_ids_sha256,
    }
    if (corruption := entry.corruption) is not None:
        found |= {
            "corruption_source": corruption.source,
            "corruption_jpeg": "yes" if corruption.jpeg else "no",
            "corruption_size": corruption.size,
            "corruption_constants": corruption.constants,
            "corruption_seed": corruption.seed,
            "corruption_missing": " ".join(sorted(corruption.missing)),
            "n_corruption_images": corruption.n_images,
        }
    return found


def errors_by_image(group: Corruption, names: Collection[str] = CORRUPTIONS) -> Array | None:
    """Return every image's share of errors under some corruptions at all their severities (n,).

    None where the entry does not say which images are wrong, or where conditions lack images.
    """
    cells = [cell.error for cell in group.conditions if cell.corruption in names]
    if not cells or any(one.images is None or one.n != cells[0].n for one in cells):
        return None
    flags = np.array([unpack_bits(one.images or "", one.n) for one in cells], dtype=np.float64)
    return np.asarray(flags.mean(axis=0))


def attack_label(attack: Attack) -> str:
    """Return name, steps and start of an attack, which tell attacks of one budget apart."""
    steps = "" if attack.steps is None else f"-{attack.steps}x{attack.rel_stepsize:.4g}"
    starts = "" if attack.restarts == 1 else f"-{attack.restarts}"
    return attack.name + steps + (f"-random{starts}" if attack.random_start else "")


def _word(label: str) -> str:
    name, _, settings = label.partition("-")
    steps = settings.partition("x")[0]
    if name.startswith("autoattack"):
        return "AutoAttack" + name.removeprefix("autoattack").removeprefix("_standard")
    return name.upper() + (f"-{steps}" if steps.isdigit() else "")


def _cases(entry: Entry) -> Iterator[tuple[AttackColumn, WorstCase, Adversarial]]:
    group = entry.adversarial
    if group is None:
        return
    seed = entry.data.seed if group.n_images < entry.data.n_images else None
    for case in group.worst_case:
        labels = sorted(
            attack_label(attack)
            for attack in group.attacks
            if (attack.norm, attack.epsilon) == (case.norm, case.epsilon)
        )
        column = AttackColumn(case.norm, case.epsilon, tuple(labels), case.accuracy.n, seed)
        yield column, case, group
