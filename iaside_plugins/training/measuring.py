"""A model in training measured between two steps, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from iaside_plugins.seeds import preserved_generators


@contextmanager
def measured(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a model into evaluation mode without gradients; on leaving all is as before.

    That is the mode of each of its modules, the gradient mode, and the global generators of torch,
    numpy and Python. Weights, gradients and optimisers are not touched.

    Args:
        model: The model that is trained.
        device: Where it is.
    """
    before = [(part, part.training) for part in model.modules()]
    with preserved_generators(device), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            model.train(before[0][1])  # a module's own `train` may do more than set the flag
            for part, mode in before:
                part.training = mode
