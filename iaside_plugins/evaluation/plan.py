"""What an evaluation does: images, corruptions, attacks and other readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.evaluation.systematic import SystematicPlan
from iaside_plugins.inference.forward import Model


class PlannedAttack(Protocol):
    """An attack at some budgets; ``work`` and ``library``, where it has them, are used too."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def norm(self) -> str:
        """Norm of the budgets: "Linf" or "L2"."""

    @property
    def epsilons(self) -> Sequence[float]:
        """Budgets in pixel units of [0, 1]."""

    def to_dict(self) -> dict[str, Any]:
        """Return name, norm, steps, rel_stepsize and random_start, as in an entry."""


@dataclass(frozen=True)
class AttackPlan:
    """What is evaluated under attack.

    Attributes:
        specs: Attacks.
        images: Images to attack.
        run: (model, images, labels, spec, seed, first_index) -> an adversarial batch per epsilon.
        seed: Seeds every batch together with the attack's name and the first image's index.
        batch_size: Images in one batch; part of the result, since batches are seeded.
        keep: Whether outcomes are stored for a resumed run; not if `run` reads finished images.
        temperatures: Whether the first attack of many steps is run again at other temperatures, see
            `temperature_check`; it is in any case where gradients are zero.
        by_gradient: Whether the attacks follow gradients, which are then tried before all else.
    """

    specs: Sequence[PlannedAttack]
    images: Images
    run: Callable[[Model, Tensor, Tensor, Any, int, int], Sequence[Tensor]]
    seed: int
    batch_size: int
    keep: bool = True
    by_gradient: bool = True
    temperatures: bool = False


@dataclass(frozen=True)
class EvaluationPlan:
    """Everything that `evaluate` needs besides the model and the protocol.

    Attributes:
        model: The entry's ``model`` group.
        data: The entry's ``data`` group without counts of this run: name, n_available, seed, note.
        clean: All images.
        spectral: Images for the spectral importance (the same, or a part of them).
        corruptions: Corruptions, or None.
        attacks: Attacks, or None.
        perturbed: Pairs of images whose errors are decomposed, as `error_decomposition` takes
            them: one for all conditions or several, each for some of them. They are read apart.
        systematic: Other readings of the same files, or None.
        explained: Pairs of images of `clean` under conditions of `corruptions`, as `perturbed`,
            with `records`: their errors are decomposed from the reading of all others; or None.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    clean: Images
    spectral: Images
    corruptions: CorruptionPlan | None = None
    attacks: AttackPlan | None = None
    perturbed: Sequence[Any] = ()
    systematic: SystematicPlan | None = None
    explained: Any = None
