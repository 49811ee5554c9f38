"""What the evaluator writes is what the board takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_adapter import AttackSpec
from iaside_plugins.corruptions import CORRUPTIONS
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.evaluation.plan import AttackPlan, EvaluationPlan
from iaside_plugins.leaderboard.build import add, board_files, build, validate
from iaside_plugins.protocol import Protocol

N, SIDE, CLASSES = 12, 8, 3


def batches(
    images: Tensor, labels: Tensor, size: int = 5
) -> list[tuple[Tensor, Tensor, list[str]]]:
    ids = [f"image{k}" for k in range(len(images))]
    return [
        (images[k : k + size], labels[k : k + size], ids[k : k + size])
        for k in range(0, len(images), size)
    ]


@pytest.mark.parametrize("missing", [(), ("frost",)])
def test_evaluated_entry_is_valid(
    make_entry: Any, missing: tuple[str, ...], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(N, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(CLASSES, (N,), generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)

    def corrupted(name: str | None, severity: int) -> Any:
        if name is None:
            return None
        noise = torch.randn(images.shape, generator=generator)
        return batches((images + 0.05 * severity * noise).clamp(0, 1), labels)

    def attack(
        model: Any, x: Tensor, y: Tensor, spec: Any, seed: int, first: int
    ) -> Sequence[Tensor]:
        noise = torch.rand(x.shape, generator=generator).sub(0.5).sign()
        return [(x + epsilon * noise).clamp(0, 1) for epsilon in spec.epsilons]

    names = tuple(name for name in CORRUPTIONS if name not in missing)
    settings = {"source": "generated", "size": 224, "constants": "224", "jpeg": False, "seed": 0}
    specs = [
        AttackSpec("fgsm", "Linf", None, None, False, (0.0, 0.1)),
        AttackSpec("pgd", "Linf", 3, 0.5, True, (0.0, 0.1)),
    ]
    clean = batches(images, labels)
    job = EvaluationPlan(
        model=make_entry()["model"],
        data={"name": "toy", "n_available": N, "seed": 0, "note": None},
        clean=clean,
        spectral=clean,
        corruptions=CorruptionPlan(
            names, missing, corrupted, settings, published="alexnet_robustbench_5k"
        ),
        attacks=AttackPlan(specs, clean, attack, seed=0, batch_size=5),
    )
    entry, _ = evaluate(model, job, Protocol(n_bands=3))
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(entry), encoding="utf-8")
    assert validate([file]) == []
    add(file, tmp_path / "board")
    built = build(tmp_path / "board")
    assert set(board_files([])) < set(built)
    assert [name for name in built if name.startswith("models/toy--resnet20--")]
