"""Running out of memory: how it shows, and how many rows to try first."""

from __future__ import annotations

import logging

import torch

from iaside_plugins.errors import InputError

FIRST_ROWS = {"cuda": 512}  # what "auto" tries first on a device, 64 on others
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
_log = logging.getLogger(__name__)


def first_batch_size(batch_size: int | str, device: torch.device) -> int:
    """Rows in one forward pass to begin with.

    Args:
        batch_size: A number, or "auto": the device's number in `FIRST_ROWS`, halved where memory
            runs out.
        device: Where the model is.

    Raises:
        InputError: For anything else.
    """
    if batch_size == "auto":
        return FIRST_ROWS.get(device.type, 64)
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise InputError(
            f"batch_size must be 'auto' or an integer of at least 1, got {batch_size!r}"
        )
    return batch_size


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that memory ran out."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS):
            return True
        error = error.__cause__
    return False


def halved(batch_size: int) -> int:
    """Half the rows, said in the log; what the failed pass held on a GPU is given back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _log.warning("out of memory with batches of %d; going on with %d", batch_size, batch_size // 2)
    return batch_size // 2
