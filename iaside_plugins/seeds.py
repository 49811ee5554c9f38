"""Seeds made from text, the same in every process, order and machine; generators put back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SEED_BITS = 63  # of `seed_of`


def seed_of(*parts: object) -> int:
    """Return a seed in [0, 2**63) made from any parts, joined as text with ``|``."""
    return seed_of_text("|".join(str(part) for part in parts), SEED_BITS)


def seed_of_text(text: str, bits: int) -> int:
    """Return the first `bits` bits (64 at most) of the SHA-256 of a text, as an integer."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - bits)


@contextmanager
def preserved_generators(device: torch.device) -> Iterator[None]:
    """Restore the global generators on leaving: torch's (CPU and GPUs), numpy's and Python's.

    If `device` is a GPU, the generators of all GPUs are restored, since hosts reseed them all.
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
