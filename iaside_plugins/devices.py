"""TODO."""

from __future__ import annotations

import torch

from iaside_plugins.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" is the first GPU if there is one, else the CPU.

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
    """Where the model is, and the devices among which images are shared, if there are several.

    Raises:
        InputError: As `pick_device`, for any of them.
    """
    devices = [pick_device(name.strip()) for name in text.split(",")]
    return devices[0], ",".join(map(str, devices)) if len(devices) > 1 else None
