"""Modules of 8-bit integers, as `torch.ao.quantization` makes them: what they are and hold.

Their weights are packed for one library of the CPU, and are no parameters of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def quantised_parts(model: Any) -> Iterator[nn.Module]:
    """Yield the modules of a model that compute with 8-bit integers."""
    if isinstance(model, nn.Module):
        for part in model.modules():
            if "quantized" in type(part).__module__.split("."):
                yield part


def is_quantised(model: Any) -> bool:
    """Return whether a model has modules of 8-bit integers."""
    return next(quantised_parts(model), None) is not None


def n_parameters(model: nn.Module) -> int:
    """Return the number of parameters of a model, with those that are packed."""
    found = sum(parameter.numel() for parameter in model.parameters())
    for part in quantised_parts(model):
        for name in ("weight", "bias"):
            packed = getattr(part, name, None)
            value = packed() if callable(packed) else None
            found += value.numel() if torch.is_tensor(value) else 0
    return found
