"""One place for every guard that other people's attacks need around a model."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from iaside_plugins.errors import InputError, InputTypeError


@contextmanager
def isolated(model: nn.Module, device: torch.device | str) -> Iterator[torch.device]:
    """A context in which attacks on a model leave nothing behind; yields the device with its index.

    Inside, gradients are on whatever mode the caller is in, autocast is off, and parameters are
    frozen, so that no ``.grad`` accumulates. On leaving, also by an error, ``requires_grad``, the
    global generators of torch (CPU and GPUs), numpy and Python, and Python's trace function (which
    AutoAttack's checks switch off) are as they were.

    Args:
        model: Eval-mode module, (N, C, H, W) images in [0, 1] -> (N, n_classes) logits.
        device: Where the model already is; it is never moved.

    Raises:
        InputError: The model is in training mode or not on `device`.
        InputTypeError: The model is not an ``nn.Module``.
    """
    device = torch.empty(0, device=device).device  # "cuda" -> "cuda:0"
    check_model(model, device)
    trainable = [p for p in model.parameters() if p.requires_grad]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - hosts draw from these
    trace = sys.gettrace()
    # All GPUs, unlike `preserved_generators`: AutoAttack seeds with torch.manual_seed.
    cuda: Any = torch.cuda
    gpus = range(cuda.device_count()) if cuda.is_initialized() else ()
    with (
        torch.inference_mode(False),  # implies the next one in torch 2.13, but no document says so
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.random.fork_rng(devices=gpus),
    ):
        try:
            for parameter in trainable:
                parameter.requires_grad_(False)
            yield device
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            if sys.gettrace() is not trace:
                sys.settrace(trace)


def check_model(model: nn.Module, device: torch.device) -> None:
    """Raise unless `model` is a module in evaluation mode whose every tensor is on `device`.

    Raises:
        InputError: The model is in training mode or not on `device`.
        InputTypeError: The model is not an ``nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            f"attacks need a torch.nn.Module, whose parameters can be frozen, got "
            f"{type(model).__name__}; wrap the callable in a module"
        )
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise InputError(f"expected eval mode, but {training[0]} is training: call model.eval()")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device != device:
            raise InputError(
                f"expected the model on {device}, but {name} is on {tensor.device}; "
                f"call model.to({str(device)!r}), this package never moves a model"
            )
