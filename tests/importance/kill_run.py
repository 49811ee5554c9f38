"""A run to be killed: `python kill_run.py RESUME OUT [READY]`.

With READY, every attempt is a fork of this process: the fork writes its process id to READY and
runs; where it is killed the next attempt begins. Without, it runs once.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracles

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.storage import row_store as store_module

N_IMAGES = 120


class Slow(oracles.TinyNet):
    """So slow that a kill falls between two of its passes, or within one."""

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.004)
        return super().forward(images)


def run(folder: str, out: str) -> None:
    data = oracles.sample(N_IMAGES)
    store_module.FLUSH_SECONDS = 0.0  # every row at once: as many writes to be killed in
    result = spectral_importance(Slow(), data, Protocol(4), batch_size=8, resume=folder)
    result.save(out)


def main(folder: str, out: str, ready: str | None = None) -> None:
    torch.set_num_threads(1)
    if ready is None:
        run(folder, out)
        return
    while True:
        pid = os.fork()
        if pid == 0:
            part = Path(f"{ready}.part")
            part.write_text(str(os.getpid()))
            part.replace(ready)
            run(folder, out)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        while Path(ready).exists():
            time.sleep(0.002)


if __name__ == "__main__":
    main(*sys.argv[1:])
