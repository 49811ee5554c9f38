"""The space of our bands in which Foolbox models are explained, and models as functions of it.

Pixel space holds images (N, C, H, W) of PyTorch with the model's bounds mapped to [0, 1], before
any normalisation inside the model. Foolbox's own contract is small (`bounds` and a call on native
or EagerPy tensors), so that wrappers and custom models work too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.models import (
    Networks,
    bounds_of,
    find_networks,
    native,
)
from iaside_plugins.adapters.isolation import plain_passes
from iaside_plugins.errors import InputTypeError
from iaside_plugins.inference.checks import check_range


class PixelSpace:
    """Maps a Foolbox model's own inputs to pixel space, (N, C, H, W) in [0, 1], and back.

    Args:
        fmodel: The model; its bounds are mapped to [0, 1] (bounds of (0, 1) change no number), and
            channels that come last are moved to the front.
    """

    def __init__(self, fmodel: Any) -> None:
        self.bounds = bounds_of(fmodel)
        self.channels_last = getattr(fmodel, "data_format", None) == "channels_last"

    def enter(self, inputs: Tensor) -> Tensor:
        """Return the model's inputs as pixels."""
        lower, upper = self.bounds
        pixels = inputs if (lower, upper) == (0, 1) else (inputs - lower) / (upper - lower)
        return pixels.movedim(-1, 1) if self.channels_last else pixels

    def leave(self, pixels: Tensor) -> Tensor:
        """Return pixels as the model's inputs."""
        lower, upper = self.bounds
        inputs = pixels if (lower, upper) == (0, 1) else pixels * (upper - lower) + lower
        return inputs.movedim(1, -1) if self.channels_last else inputs


class PixelModel:
    """A Foolbox model as a function of pixels (N, C, H, W) in [0, 1] to logits."""

    def __init__(self, fmodel: Any, space: PixelSpace, half: torch.dtype | None) -> None:
        self._fmodel, self._space, self._half = fmodel, space, half

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return logits."""
        inputs = self._space.leave(pixels)
        out: Tensor = native(self._fmodel(inputs if self._half is None else inputs.to(self._half)))
        return out


@contextmanager
def pixel_model(
    fmodel: Any, space: PixelSpace, pixels: Tensor
) -> Iterator[tuple[PixelModel, torch.device]]:
    """Yield a Foolbox model of `plain_passes` as a function of pixels, and the device it takes.

    Args:
        fmodel: The model.
        space: Its pixel space.
        pixels: Images (N, C, H, W) in that space, of which the first is tried; N may be 0.

    Raises:
        InputError: As `find_networks`.
    """
    networks = Networks((), pixels.device, None)
    if len(pixels):
        networks = find_networks(fmodel, space.leave(pixels[:1]))
    with plain_passes(networks.modules):
        yield PixelModel(fmodel, space, networks.half), networks.device


def pixels_of(space: PixelSpace, images: Any, precision: str) -> Tensor:
    """Return images in pixel space, in the precision of a run, clipped to [0, 1].

    Args:
        space: Of the Foolbox model.
        images: Within its bounds, in its own layout.
        precision: "float64" for double precision.

    Raises:
        InputTypeError: Not PyTorch's floating-point tensors.
        InputError: Images out of bounds.
    """
    if not torch.is_tensor(images) or not images.is_floating_point():
        kind = images.dtype if torch.is_tensor(images) else type(images).__name__
        raise InputTypeError(f"expected floating-point PyTorch images, got {kind}")
    exact = images.detach().to(torch.float64 if precision == "float64" else torch.float32)
    check_range(exact, space.bounds)
    return space.enter(exact).clamp(0, 1)
