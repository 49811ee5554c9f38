"""Devices by name, and how one says that its memory ran out."""

from __future__ import annotations

import sys

import torch

from iaside_plugins.errors import InputError

# What torch's errors say where memory ran out without an error type of its own.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "ALLOC_FAILED",
)


def pick_device(name: str) -> torch.device:
    """Return the device of a name: "auto" is the first GPU if there is one, else the CPU.

    Raises:
        InputError: For an unknown device, or a GPU where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device must be auto, cpu or cuda[:i], got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda[:i], got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={name}: this computer has {torch.cuda.device_count()} CUDA GPUs")
    return device


def pick_devices(text: str) -> tuple[torch.device, str | None]:
    """Return the model's device, and all devices as a text if there are several.

    Raises:
        InputError: As `pick_device`, for any of them.
    """
    devices = [pick_device(name.strip()) for name in text.split(",")]
    return devices[0], ",".join(map(str, devices)) if len(devices) > 1 else None


def n_devices(several: str | None) -> int:
    """Return how many devices a text names, 1 for None."""
    return 1 if several is None else len(several.split(","))


def peak_memory(device: torch.device) -> int | None:
    """Return the greatest memory in use so far, in bytes, or None where nobody tells."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, says that memory ran out."""
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False
