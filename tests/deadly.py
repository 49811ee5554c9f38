"""Networks that kill the process they run in, or fail there; in a module, so that they travel."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import oracles
import torch

from iaside_plugins.parallel import processes

_work = processes._work


class Deadly(oracles.TinyNet):
    """Kills its process `times` times, at the call number `at` of a process; counts in a folder."""

    def __init__(self, folder: Path, at: int = 3, times: int = 1) -> None:
        super().__init__()
        self.folder, self.at, self.times, self.calls = str(folder), at, times, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        killed = len(list(Path(self.folder).glob("killed-*")))
        if self.calls == self.at and killed < self.times:
            Path(self.folder, f"killed-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


class Slow(oracles.TinyNet):
    """Leaves a file named after its process, and takes its time."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = str(folder)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Path(self.folder, f"pid-{os.getpid()}").touch()
        time.sleep(0.2)
        return super().forward(images)


def local_class() -> torch.nn.Module:
    """A network whose class cannot be pickled, with a function that builds it anew."""

    class Local(oracles.TinyNet):
        pass

    return Local()


def exits(*_arguments: object) -> None:
    """End the process that calls it."""
    os._exit(3)


def beats_often(*arguments: Any) -> None:
    """Work as a worker does, with ten signs of life for one."""
    processes.BEAT /= 10
    _work(*arguments)


class StartMethod:
    """A job whose parts say by what a worker would start processes."""

    def begin(self, *_model_and_device):
        return lambda _: multiprocessing.get_start_method(allow_none=True)
