"""Several processes on a device, and one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from device_checks.checks import Notes, check, tf32
from device_checks.nets import PROTOCOL, SmallNet, data
from iaside_plugins import spectral_importance

TESTS = Path(__file__).resolve().parents[1]
N_KILLED = 60


@check(slow=True)
def two_processes(device: torch.device, notes: Notes) -> None:
    """Two on the same device give the rows of one."""
    net = SmallNet().to(device)
    one = spectral_importance(net, data(), PROTOCOL, batch_size=32)
    both = spectral_importance(net, data(), PROTOCOL, batch_size=32, device=[device, device])
    notes.near("values", both.values, one.values, 0)
    notes.near("passes", both.n_forward, one.n_forward, 1)  # each runs the black image


@check(slow=True)
def killed_and_resumed(device: torch.device, notes: Notes) -> None:
    """A run in another process is killed by its id and resumed here: the same rows, to the bit."""
    whole = spectral_importance(SmallNet().to(device), data(N_KILLED), PROTOCOL, batch_size=32)
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
        running = subprocess.Popen(
            [sys.executable, "-m", __name__, str(device), folder],
            env={**os.environ, "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
        )
        try:
            deadline = time.monotonic() + 90
            while not list(Path(folder).glob("*.npz")):
                if running.poll() is not None or time.monotonic() > deadline:
                    said = running.communicate(timeout=5)[1] if running.poll() is not None else b""
                    raise RuntimeError(f"no rows were stored: {said.decode()[-500:]}")
                time.sleep(0.02)
        finally:
            running.kill()
            running.communicate()
        found = spectral_importance(
            SmallNet().to(device), data(N_KILLED), PROTOCOL, batch_size=32, resume=folder
        )
    notes.near("values", found.values, whole.values, 0)
    notes.holds("finished rows were not run again", found.n_forward < whole.n_forward)


def _to_be_killed(device: str, folder: str) -> None:
    """Run slower and slower, so that the kill comes before the end."""
    images, labels = data(N_KILLED)

    def slowly() -> Iterator[tuple[Tensor, Tensor]]:
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            time.sleep(0.0 if k < 30 else 1.0)
            yield image[None], label[None]

    torch.set_num_threads(1)
    with tf32(False):
        spectral_importance(SmallNet().to(device), slowly(), PROTOCOL, batch_size=32, resume=folder)


if __name__ == "__main__":
    _to_be_killed(*sys.argv[1:])
