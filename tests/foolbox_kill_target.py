"""A run to be killed.

Appends the number of images of every forward pass to LOG, so that the test knows where it is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from tiny_model import Counted
from torch import Tensor

from iaside_plugins import Protocol
from iaside_plugins.adapters.foolbox_adapter import robust_evaluation
from iaside_plugins.adapters.foolbox_adapter.models import foolbox
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.workflows.spectrum import study_perturbations
from iaside_plugins.workflows.spectrum_plan import SpectrumPlan

N, BATCH = 24, 2


class Logged(Counted):
    """Slow enough to be killed at any moment."""

    log: Path
    pause = 0.0

    def forward(self, x: Tensor) -> Tensor:
        with self.log.open("a") as file:
            file.write(f"{len(x)}\n")
        time.sleep(self.pause)
        return super().forward(x)


def images() -> list[tuple[Tensor, Tensor, list[str]]]:
    x = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return [
        (x[k : k + BATCH], torch.arange(BATCH), [f"{i}" for i in range(k, k + BATCH)])
        for k in range(0, N, BATCH)
    ]


def run(kind: str, resume: Path | None, log: Path, pause: float = 0.0) -> dict[str, Any]:
    """Two attacks, or one corruption; below the 512 rows of a full chunk."""
    net = Logged().eval()
    Logged.log, Logged.pause = log, pause
    if kind == "attacks":
        attacks = {"pgd": foolbox().attacks.LinfPGD(steps=3)}
        return robust_evaluation(net, images(), attacks, [0.05], resume=resume).to_dict()

    def corrupted(name: str | None, severity: int) -> Any:
        return [((x * 0.9).clamp(0, 1), y, ids) for x, y, ids in images()] if name else None

    plan = SpectrumPlan(images(), CorruptionPlan(("dim",), (), corrupted, {"source": "here"}), (1,))
    report = study_perturbations(plan, net, protocol=Protocol(n_bands=2), resume=resume)
    return {row: vars(value)["energies"].tolist() for row, value in enumerate(report.conditions)}
