"""Host libraries draw from the global generators; here those are seeded, and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_generators(device: torch.device) -> Iterator[None]:
    """Put the global generators back on leaving: torch's (CPU and GPUs), numpy's and Python's.

    All GPUs where `device` is one, since hosts reseed every one of them.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002 - hosts draw from this global generator
    python_state = random.getstate()
    gpus = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators (CPU and `device`) and numpy's global one.

    Not torch.manual_seed: it would also reseed devices whose generators are not preserved.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
