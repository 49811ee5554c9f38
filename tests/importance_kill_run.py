"""A run to be killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import oracles
from torch import Tensor

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
    """Run once, or, with `ready`, again after every kill.

    Each attempt is then a fork of this process: it writes its process id to `ready` and runs; where
    it is killed the next attempt begins.
    """
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
