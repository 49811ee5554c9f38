"""Tensors between host and device, and matrix products in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device the current one: streams, events and graphs belong to the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Copy a tensor to a device, without waiting for what the device is doing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """Copy a tensor to the host; the copy is complete once an event recorded after it is."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


@contextmanager
def exact_product() -> Iterator[None]:
    """Compute matrix products in full float32: TF32 or bfloat16 would round coalition images.

    Touches torch's flags only where they allow rounding, and puts them back.
    """
    flags: Any = torch.backends
    backends: list[Any] = [getattr(kind, "matmul", None) for kind in (flags.cuda, flags.mkldnn)]
    if not all(hasattr(backend, "fp32_precision") for backend in backends):
        precision = torch.get_float32_matmul_precision()  # torch before 2.9
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
        return
    general = flags.fp32_precision
    before = [(backend, backend.fp32_precision) for backend in backends]
    loose = [
        (backend, own)
        for backend, own in before
        if (general if own == "none" else own) in ("tf32", "bf16")
    ]
    for backend, _ in loose:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, own in loose:
            backend.fp32_precision = own
