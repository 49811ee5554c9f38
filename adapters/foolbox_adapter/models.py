"""Foolbox models of the user's: the networks behind them, their bounds, and pixel space.

Pixel space is the space of our bands: images (N, C, H, W) of PyTorch with the model's bounds mapped
to [0, 1], before any normalisation inside the model. Foolbox's own contract is small (`bounds` and
a call on native or EagerPy tensors), so that wrappers and models of one's own work too.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from iaside_plugins.adapters.foolbox_adapter.guards import foolbox
from iaside_plugins.adapters.isolation import attack_mode, check_model
from iaside_plugins.errors import InputError, InputTypeError

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


@dataclass(frozen=True)
class Networks:
    """What a Foolbox model calls, as `find_networks` saw it run.

    Attributes:
        parameters: Of the modules that ran, and whatever else a gradient would reach.
        device: Where the model takes its images.
        half: The half precision of its weights, or None.
    """

    parameters: tuple[Tensor, ...]
    device: torch.device
    half: torch.dtype | None


def find_networks(fmodel: Any, images: Tensor) -> Networks:
    """Run a Foolbox model on the first image and see which modules and parameters take part.

    However the model holds its network (attribute, closure, global name, bound method), it is
    found. A module in training mode stops the run before it can change a statistic. Images that
    are not on the model's device are tried on every GPU.

    Raises:
        InputError: A network in training mode, or on several devices.
    """
    modules: list[nn.Module] = []
    failure: Exception | None = None
    gpus = [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    for device in dict.fromkeys([images.device, *gpus]):
        for dtype in (images.dtype, *HALVES):
            half = dtype if dtype in HALVES else None
            if half and half != half_precision(modules):
                continue
            with attack_mode((), device), _watched(modules), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # whoever calls the model next hears of it
                probe = images[:1].detach().to(device, dtype, copy=True).requires_grad_()
                try:
                    out = native(fmodel(probe))
                except (RuntimeError, AssertionError) as error:  # wrong device or precision
                    failure = failure or error
                    continue
            own = (parameter for module in modules for parameter in module.parameters())
            reached = (leaf for leaf in _leaves(out) if leaf is not probe)
            unique: dict[int, Tensor] = {id(tensor): tensor for tensor in (*own, *reached)}
            return Networks(tuple(unique.values()), device, half_precision(modules))
    raise failure or RuntimeError("no device to run on")


@contextmanager
def _watched(modules: list[nn.Module]) -> Iterator[None]:
    """Collect the outermost modules that run inside, each checked before its first run."""
    known: set[int] = set()

    def before(module: nn.Module, inputs: Any) -> None:
        if id(module) not in known:
            known.update(id(part) for part in module.modules())
            modules.append(module)
            tensors = (t for m in modules for t in chain(m.parameters(), m.buffers()))
            check_model(module, next((t.device for t in tensors), torch.device("cpu")))

    handle = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def _leaves(out: Any) -> list[Tensor]:
    """The tensors in which going back from `out` would leave a gradient."""
    waiting, seen, found = [getattr(out, "grad_fn", None)], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found


@contextmanager
def safe(fmodel: Any, networks: Networks) -> Iterator[Any]:
    """Yield a Foolbox model on which attacks are safe, see `isolation.attack_mode`.

    A network in half precision gets its inputs in its own precision and answers in single
    precision; any other model is yielded as it is.
    """
    with attack_mode(networks.parameters, networks.device):
        yield HalfModel(fmodel, networks.half) if networks.half else fmodel


def half_precision(modules: Iterable[nn.Module]) -> torch.dtype | None:
    """The half precision of the modules' weights, or None."""
    dtypes = {p.dtype for module in modules for p in module.parameters()} & set(HALVES)
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
