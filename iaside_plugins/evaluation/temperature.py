"""Robustness that the scale of the logits only feigns: the same attack at other temperatures.

A network whose logits are very large or very small gives an attack gradients that vanish in the
cross-entropy. Divided by a temperature its answers are the same, and its gradients are not: Extreme
Miscalibration and the Illusion of Adversarial Robustness, ACL 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.evaluation.batches import Batch
from iaside_plugins.evaluation.conditions import ConditionRunner, Images, Outcome, settings_text
from iaside_plugins.evaluation.plan import AttackPlan, PlannedAttack
from iaside_plugins.evaluation.work import FACTORS, N_CHECKED, attack_work
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.stats.temperature import DIGITS, fitted_temperature

Array = npt.NDArray[np.float64]


class Tempered(nn.Module):
    """A network whose logits are divided by a temperature: the same answers, other gradients."""

    def __init__(self, net: Any, temperature: float) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature
        self.eval()

    def forward(self, images: Tensor) -> Any:
        """Return logits (N, n_classes) of images (N, C, H, W)."""
        return logits_in(self.net(images), self.net) / self.temperature


def temperature_check(
    runner: ConditionRunner,
    plan: AttackPlan,
    spec: PlannedAttack,
    outcomes: Sequence[Outcome],
    clean: Outcome,
) -> dict[str, Any]:
    """Attack the first images again through logits at several temperatures.

    Costs `FACTORS` times the attack on at most `N_CHECKED` images; stored as the attack itself is.

    Args:
        runner: Of the evaluation.
        plan: The attacks of the evaluation.
        spec: The attack.
        outcomes: Of the attack at each of its budgets, without a temperature.
        clean: Of the clean images.

    Returns:
        The entry's group ``temperature``: how many images withstand the attack by itself, and how
        many withstand it at every temperature too.
    """
    part = _first(plan.images)
    temperatures = _temperatures(runner, part)
    tag = settings_text(spec.to_dict())
    found: list[list[Outcome]] = []
    for temperature in temperatures:
        net = Tempered(runner.model, temperature)

        def attack(
            _model: Any, x: Tensor, y: Tensor, first: int, net: nn.Module = net
        ) -> Sequence[Tensor]:
            return plan.run(net, x, y, spec, plan.seed, first)

        names = [
            f"{tag}-seed={plan.seed}|temperature {temperature!r} {epsilon!r}"
            for epsilon in spec.epsilons
        ]
        found.append(runner.attack(names, part, attack, work=attack_work(spec)))
    cases, ids = [], found[0][0].among(clean).ids
    for k, (epsilon, outcome) in enumerate(zip(map(float, spec.epsilons), outcomes, strict=True)):
        robust = outcome.at(ids).correct & clean.at(ids).correct
        left = robust & np.all([one[k].at(ids).correct for one in found], axis=0)
        cases.append({"epsilon": epsilon, "n_robust": int(robust.sum()), "n_left": int(left.sum())})
    return {
        "attack": spec.name,
        "norm": spec.norm,
        "n_images": len(ids),
        "temperatures": list(temperatures),
        "cases": cases,
    }


def _first(images: Images) -> list[Batch]:
    """Return the first `N_CHECKED` images, in batches."""
    part: list[Batch] = []
    n = 0
    for x, y, ids in images:
        part.append((x[: N_CHECKED - n], y[: N_CHECKED - n], ids[: N_CHECKED - n]))
        n += len(part[-1][0])
        if n >= N_CHECKED:
            break
    return part


def _temperatures(runner: ConditionRunner, part: Sequence[Batch]) -> list[float]:
    """Return the temperatures of the check, from the clean images."""
    model = runner.predict.runner
    with torch.no_grad():
        passes = [model.batch_logits(x.to(model.device), int(y.max())) for x, y, _ in part]
    logits = torch.cat(passes).double().cpu().numpy()
    return checked_temperatures(logits, torch.cat([y for _, y, _ in part]).cpu().numpy())


def checked_temperatures(logits: Array, labels: npt.NDArray[np.int64]) -> list[float]:
    """Return `FACTORS` of the temperature fitted on clean images, whatever the logits' scale.

    Logits are fitted after division by the median distance of the two greatest of an image.

    Args:
        logits: (K, n_classes) of clean images.
        labels: (K,) class indices.
    """
    top = np.sort(logits, axis=1)
    scale = float(np.median(top[:, -1] - top[:, -2])) or 1.0
    fitted = fitted_temperature(logits / scale, labels) if len(labels) > 1 else 1.0
    return [float(f"{scale * fitted * factor:.{DIGITS}g}") for factor in FACTORS]
