"""Host libraries draw from the global generators; here those are seeded, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_generators(device: torch.device) -> Iterator[None]:
    """Put torch's generators (CPU and `device`) and numpy's global one back on leaving."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - hosts draw from this global generator
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators (CPU and `device`) and numpy's global one.

    Not torch.manual_seed: it would also reseed devices whose generators are not preserved.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
