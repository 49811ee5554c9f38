"""The gradient attacks we run through Foolbox, their budgets, and their adversarial images.

Epsilons are in pixel units: images, bounds and epsilons live in [0, 1], and the model normalises
inside. `foolbox_guards` keeps from the caller what Foolbox does to generators and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_adapter.guards import (
    checked_batch,
    checked_labels,
    foolbox,
    guarded,
)
from iaside_plugins.adapters.isolation import seed_generators
from iaside_plugins.errors import InputError
from iaside_plugins.seeds import seed_of

# Each default budget has published figures to stand beside. Linf: 0.5/255 and 2/255 are those of
# imagenet-testbed, 4/255 is RobustBench's for ImageNet, 8/255 its for CIFAR. L2: 0.1 and 0.5 are
# imagenet-testbed's (224 x 224), 0.5 also RobustBench's for CIFAR.
EPSILONS_LINF = (0.5 / 255, 2 / 255, 4 / 255, 8 / 255)
EPSILONS_L2 = (0.1, 0.5)

_FOOLBOX_CLASS = {  # (norm, iterated) -> class in foolbox.attacks
    ("Linf", False): "LinfFastGradientAttack",
    ("Linf", True): "LinfProjectedGradientDescentAttack",
    ("L2", False): "L2FastGradientAttack",
    ("L2", True): "L2ProjectedGradientDescentAttack",
}


@dataclass(frozen=True)
class AttackSpec:
    """An untargeted gradient attack on the cross-entropy, and the budgets to run it at.

    Attributes:
        name: Name in tables; also enters the seed of the random start.
        norm: "Linf" or "L2", the norm of the budget.
        steps: Gradient steps, or None for a fast-gradient attack (one step of size epsilon).
        rel_stepsize: Step size as a fraction of epsilon; None exactly where `steps` is.
        random_start: Whether to start from a random point of the epsilon ball.
        epsilons: Budgets in pixel units; 0 stands for the clean images.
    """

    name: str
    norm: str
    steps: int | None
    rel_stepsize: float | None
    random_start: bool
    epsilons: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.norm not in ("Linf", "L2"):
            raise InputError(f"{self.name}: expected norm 'Linf' or 'L2', got {self.norm!r}")
        if (self.steps is None) != (self.rel_stepsize is None):
            raise InputError(f"{self.name}: give both steps and rel_stepsize, or neither")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"{self.name}: expected steps >= 1, got {self.steps}")
        limit = 1.0 if self.norm == "Linf" else math.inf
        wrong = [e for e in self.epsilons if not (0 <= e <= limit and math.isfinite(e))]
        if wrong or not self.epsilons:
            raise InputError(
                f"{self.name}: expected {self.norm} epsilons in pixel units of [0, 1] images "
                f"(8/255 is {8 / 255:.4f}), got {wrong or 'none'}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON values: name, norm, steps, rel_stepsize, random_start."""
        return {key: value for key, value in asdict(self).items() if key != "epsilons"}


# Steps, step sizes and random starts are Foolbox's own defaults.
ATTACKS: Mapping[str, AttackSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            AttackSpec("fgsm", "Linf", None, None, False, EPSILONS_LINF),
            AttackSpec("pgd", "Linf", 40, 0.01 / 0.3, True, EPSILONS_LINF),
            AttackSpec("fgm", "L2", None, None, False, EPSILONS_L2),
            AttackSpec("pgd_l2", "L2", 50, 0.025, True, EPSILONS_L2),
        )
    }
)


def parse_attacks(
    text: str,
    epsilons_linf: Sequence[float] | None = None,
    epsilons_l2: Sequence[float] | None = None,
    steps: int | None = None,
) -> tuple[AttackSpec, ...]:
    """Attacks named in a comma-separated list, e.g. "fgsm,pgd"; an empty text names none.

    Args:
        text: Names among `ATTACKS`; a repeated one counts once.
        epsilons_linf: Budgets of the Linf attacks in pixel units, in place of the defaults.
        epsilons_l2: The same for the L2 attacks.
        steps: Steps of the iterated attacks. The step size is scaled so that steps times step
            size stays the default's (4/3 epsilon for Linf, 5/4 for L2): with the default step
            size, fewer steps could not even reach the boundary of the ball.

    Raises:
        InputError: An unknown name, no epsilon, an epsilon out of range, or steps below 1.
    """
    specs = []
    for name in dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()):
        if name not in ATTACKS:
            raise InputError(f"no attack is called {name!r}; expected some of {', '.join(ATTACKS)}")
        spec = ATTACKS[name]
        epsilons = epsilons_linf if spec.norm == "Linf" else epsilons_l2
        if epsilons is not None:
            spec = replace(spec, epsilons=tuple(float(e) for e in epsilons))
        if steps is not None and spec.steps is not None and spec.rel_stepsize is not None:
            path = spec.steps * spec.rel_stepsize
            spec = replace(spec, steps=steps, rel_stepsize=path / max(steps, 1))
        specs.append(spec)
    return tuple(specs)


def attack_seed(seed: int, name: str, first_index: int) -> int:
    """Seed of one batch's random start: a function of its arguments only, in [0, 2**63)."""
    return seed_of(seed, name, first_index)


def adversarial(
    model: nn.Module,
    images: Tensor,
    labels: Any,
    spec: AttackSpec,
    *,
    seed: int,
    first_index: int = 0,
) -> list[Tensor]:
    """Adversarial images of one batch, one (N, C, H, W) float32 tensor per epsilon of `spec`.

    They lie in [0, 1] and within epsilon of the images, up to float32 rounding; whether they fool
    the model is for the caller's own forward pass to say. Random starts are drawn anew for every
    epsilon from (seed, attack, first_index), so a result depends neither on other batches nor on
    the other epsilons; it does depend on the batch size and the kind of device.

    Args:
        model: Eval-mode module, (N, C, H, W) images in [0, 1] -> (N, n_classes) logits.
        images: (N, C, H, W) floats in [0, 1], on any device; N may be 0.
        labels: (N,) integers, the true classes.
        spec: The attack and its epsilons; epsilon 0 returns the clean images.
        seed: Seed of the run.
        first_index: Index of the batch's first image in the data set.

    Returns:
        Tensors on the model's device, without gradients.

    Raises:
        InputError: As `guarded`; images out of [0, 1]; labels that do not fit.
        InputTypeError: Images or labels of the wrong type.
    """
    here = getattr(images, "device", "cpu")
    if isinstance(model, nn.Module):
        here = next((t.device for t in chain(model.parameters(), model.buffers())), here)
    device = torch.device(here)
    with guarded(model, device) as fmodel:
        x, y = checked_batch(images, labels, device)
        if len(x) and any(spec.epsilons):
            with torch.no_grad():  # else a label without an output is the attack's IndexError
                checked_labels(y, len(y), fmodel(x[:1]).shape[1])
        attack = foolbox_attack(spec)
        batches = []
        for epsilon in spec.epsilons:
            seed_generators(attack_seed(seed, spec.name, first_index), device)
            nothing = epsilon == 0 or len(x) == 0
            batches.append(x if nothing else attack(fmodel, x, y, epsilons=epsilon)[1])
    return batches


def foolbox_attack(spec: AttackSpec) -> Any:
    """The Foolbox attack of a spec, which takes its epsilons when it is called."""
    kind = getattr(foolbox().attacks, _FOOLBOX_CLASS[spec.norm, spec.steps is not None])
    if spec.steps is None:
        return kind(random_start=spec.random_start)
    return kind(steps=spec.steps, rel_stepsize=spec.rel_stepsize, random_start=spec.random_start)
