"""A run to be killed: `python kill_target.py attack|corruptions DATA RESUME LOG`.

Prints the entry. Appends the number of images of every forward pass to LOG, so that the test
knows where it is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from few_steps import few_steps
from robustbench_layout import Pooled, fitted
from torch import Tensor

from iaside_plugins.adapters.imagenet.cifar import read_cifar
from iaside_plugins.adapters.robustbench_adapter.api import evaluate
from iaside_plugins.value_table.speed import Speed

N, BATCH = 12, 4
COST = import_module("iaside_plugins.adapters.robustbench_adapter.cost")  # not the function


class Logged(Pooled):
    """Slow enough to be killed at any moment, and a little nonlinear."""

    log = -1
    pause = 0.0

    def forward(self, x: Tensor) -> Tensor:
        os.write(self.log, f"{len(x)}\n".encode())
        time.sleep(self.pause)
        return (super().forward(x) / 5).tanh() * 5


def network(data: str) -> Logged:
    """A network that knows the clean images."""
    pixels, labels = read_cifar(Path(data), "cifar10") or (None, None)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255
    net = Logged(10).eval()
    net.load_state_dict(fitted(images, torch.from_numpy(labels), 10, brittle=1.0).state_dict())
    return net


def main(kind: str, data: str, resume: str, log: str) -> None:
    torch.set_num_threads(1)
    Logged.log = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    if kind == "attack":
        given = {"threat_model": "Linf", "eps": 2 / 255, "attacks": ["apgd-ce", "apgd-t"]}
    else:
        given = {"threat_model": "corruptions"}
        Logged.pause = 0.002
    untimed = patch.object(COST, "speed_of", lambda *_, **__: Speed())  # passes are counted
    with few_steps() if kind == "attack" else nullcontext(), untimed:
        entry = evaluate(
            network(data),
            n_examples=N,
            dataset="cifar10",
            data_dir=data,
            batch_size=BATCH,
            n_bands=2,
            n_spectral=3,
            resume=resume,
            show_progress=False,
            **given,
        )
    for name in ("date", "git_dirty"):
        entry["provenance"].pop(name)
    for spectral in (entry["spectral"], *entry["benchmark"]["profiles"]):
        spectral.pop("n_forward")
    sys.stdout.write(json.dumps(entry))


if __name__ == "__main__":
    main(*sys.argv[1:])
