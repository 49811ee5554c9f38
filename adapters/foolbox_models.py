"""Foolbox models of the user's: the networks behind them, their bounds, and pixel space.

Pixel space is the space of our bands: images (N, C, H, W) of PyTorch with the model's bounds mapped
to [0, 1], before any normalisation inside the model. Foolbox's own contract is small (`bounds` and
a call on native or EagerPy tensors), so that wrappers and models of one's own work too.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_guards import foolbox
from iaside_plugins.adapters.isolation import attack_mode, check_model
from iaside_plugins.errors import InputError, InputTypeError

_DEPTH = 6  # wrappers around wrappers that are looked through
HALVES = (torch.float16, torch.bfloat16)


def native(values: Any) -> Any:
    """The native tensor of an EagerPy one; anything else as it is."""
    return values.raw if hasattr(values, "raw") and not torch.is_tensor(values) else values


def restorer(values: Any) -> Callable[[Any], Any]:
    """Turns results into what the caller gave: EagerPy tensors for EagerPy, else native."""
    if native(values) is values:
        return native
    eagerpy = importlib.import_module("eagerpy")
    return lambda out: eagerpy.astensor(native(out))


def bounds_of(fmodel: Any) -> tuple[float, float]:
    """Least and greatest value of a pixel of a Foolbox model.

    Raises:
        InputTypeError: It is no Foolbox model: no call, or no pair of bounds.
        InputError: The bounds are not ordered.
    """
    bounds = getattr(fmodel, "bounds", None)
    if not callable(fmodel) or bounds is None or len(bounds) != 2:
        raise InputTypeError(
            f"expected a Foolbox model, callable and with bounds, got {type(fmodel).__name__}; "
            "wrap a network: foolbox.PyTorchModel(network, bounds=(0, 1), device=...)"
        )
    lower, upper = float(bounds[0]), float(bounds[1])
    if not lower < upper:
        raise InputError(f"expected bounds with lower < upper, got ({lower:g}, {upper:g})")
    return lower, upper


def networks(fmodel: Any) -> list[nn.Module]:
    """The modules that a Foolbox model calls, as far as its attributes and closures show them."""
    found: list[nn.Module] = []
    layer, seen = [fmodel], {id(fmodel)}
    for _ in range(_DEPTH):
        following = []
        for one in layer:
            if isinstance(one, nn.Module):
                found.append(one)
                continue
            for part in _held(one):
                if callable(part) and not isinstance(part, type) and id(part) not in seen:
                    seen.add(id(part))
                    following.append(part)
        layer = following
    return found


def _held(one: Any) -> list[Any]:
    """What an object holds: attributes, members of collections among them, and closures."""
    held = [*vars(one).values()] if hasattr(one, "__dict__") else []
    for cell in getattr(one, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            held.append(cell.cell_contents)
    for part in [*held]:
        if isinstance(part, (list, tuple)):
            held += part
        elif isinstance(part, dict):
            held += part.values()
    return held


def device_of(fmodel: Any, images: Any) -> torch.device:
    """Where the networks of a Foolbox model are, or the images where it shows none."""
    tensors = chain.from_iterable(
        chain(network.parameters(), network.buffers()) for network in networks(fmodel)
    )
    first = next(tensors, None)
    return first.device if first is not None else torch.device(getattr(images, "device", "cpu"))


@contextmanager
def safe(fmodel: Any, device: torch.device) -> Iterator[Any]:
    """Yield a Foolbox model on which attacks are safe, see `isolation.attack_mode`.

    A network in half precision gets its inputs in its own precision and answers in single
    precision; any other model is yielded as it is.

    Raises:
        InputError: A network is in training mode or not on `device`.
        InputTypeError: It is no Foolbox model.
    """
    bounds_of(fmodel)
    found = networks(fmodel)
    for network in found:
        check_model(network, device)
    with attack_mode(found, device):
        yield HalfModel(fmodel, half) if (half := half_precision(found)) else fmodel


def half_precision(found: list[nn.Module]) -> torch.dtype | None:
    """The half precision of the networks' weights, or None."""
    dtypes = {p.dtype for network in found for p in network.parameters()} & set(HALVES)
    return next(iter(dtypes), None)


class HalfModel:
    """A Foolbox model of half precision as one of single precision."""

    def __init__(self, fmodel: Any, dtype: torch.dtype) -> None:
        self._model, self._dtype = fmodel, dtype

    def __call__(self, inputs: Any) -> Any:
        """Logits of the inputs, float32."""
        out = native(self._model(native(inputs).to(self._dtype)))
        return restorer(inputs)(out.float())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def labels_of(criterion: Any) -> Any:
    """The labels of a criterion: labels themselves, or Foolbox's `Misclassification`.

    Raises:
        InputError: For another criterion: the log-likelihood of the true class is explained.
    """
    criteria = foolbox().criteria
    if isinstance(criterion, criteria.Criterion):
        if not isinstance(criterion, criteria.Misclassification):
            raise InputError(
                f"expected labels or Misclassification(labels), got {type(criterion).__name__}: "
                "the true classes are what robustness is of"
            )
        criterion = criterion.labels
    return native(criterion)


class PixelSpace:
    """Between a Foolbox model's own inputs and pixel space, (N, C, H, W) in [0, 1].

    Args:
        fmodel: Its bounds are mapped to [0, 1] (bounds of (0, 1) touch no number), and channels
            that come last are moved to the front.
    """

    def __init__(self, fmodel: Any) -> None:
        self.bounds = bounds_of(fmodel)
        self.channels_last = getattr(fmodel, "data_format", None) == "channels_last"

    def enter(self, inputs: Tensor) -> Tensor:
        """The model's inputs as pixels."""
        lower, upper = self.bounds
        pixels = inputs if (lower, upper) == (0, 1) else (inputs - lower) / (upper - lower)
        return pixels.movedim(-1, 1) if self.channels_last else pixels

    def leave(self, pixels: Tensor) -> Tensor:
        """Pixels as the model's inputs."""
        lower, upper = self.bounds
        inputs = pixels if (lower, upper) == (0, 1) else pixels * (upper - lower) + lower
        return inputs.movedim(1, -1) if self.channels_last else inputs
