"""Foolbox itself and Foolbox models: their bounds, the networks in them, and safe attacks on them.

Foolbox 3.3.4 draws from the global generators, accumulates gradients in the model's parameters,
moves the model to the first GPU unless told otherwise, and stops with bare assertions on bad input.
`guarded` and `safe` prevent all of that, for networks and for Foolbox models of the user's.
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
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from iaside_plugins.adapters.isolation import attack_mode, check_model, isolated, plain_passes
from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError, InputTypeError, MissingExtraError, first_line
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.running import model_failure
from iaside_plugins.value_table.progress import advance

HALVES = (torch.float16, torch.bfloat16)


def foolbox() -> Any:
    """Return the library, imported on first use.

    Raises:
        MissingExtraError: Foolbox is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Foolbox 3.3.4 reaches for a SciPy namespace that SciPy 1 only warns about.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("foolbox")
    except ImportError as error:
        raise MissingExtraError.of(
            f"adversarial attacks need Foolbox, which cannot be imported ({error})", "foolbox"
        ) from error


def check_installed() -> None:
    """Raise MissingExtraError if Foolbox is not installed."""
    foolbox()


@contextmanager
def guarded(model: nn.Module, device: torch.device | str) -> Iterator[Any]:
    """Yield the model as a Foolbox model with bounds [0, 1], inside `isolation.isolated`.

    Args:
        model: The model, as `isolated` takes it.
        device: Device on which the model is.

    Raises:
        InputError: As `isolated`.
        InputTypeError: As `isolated`.
        MissingExtraError: Foolbox is not installed.
    """
    with isolated(model, device) as where:
        yield _wrapped(model, where)


def native(values: Any) -> Any:
    """Return the native tensor of an EagerPy one; anything else as it is."""
    return values.raw if hasattr(values, "raw") and not torch.is_tensor(values) else values


def restorer(values: Any) -> Callable[[Any], Any]:
    """Return a function that turns results into EagerPy tensors if `values` is one, else native."""
    if native(values) is values:
        return native
    eagerpy = importlib.import_module("eagerpy")
    return lambda out: eagerpy.astensor(native(out))


def bounds_of(fmodel: Any) -> tuple[float, float]:
    """Return the least and greatest value of a pixel of a Foolbox model.

    Raises:
        InputTypeError: Not a Foolbox model: no call, or no pair of bounds.
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


def as_fmodel(model: Any) -> Any:
    """Return a Foolbox model; a bare network gets bounds [0, 1], and is not moved.

    Raises:
        InputError: The network is in training mode or on several devices.
        InputTypeError: Neither a Foolbox model nor a network.
    """
    if not isinstance(model, nn.Module):
        bounds_of(model)
        return model
    tensors = chain(model.parameters(), model.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    check_model(model, device)
    return _wrapped(model, device)


def _wrapped(model: nn.Module, device: torch.device) -> Any:
    """Return a network as a Foolbox model with bounds [0, 1].

    Raises:
        InputError: Foolbox cannot take it.
    """
    try:
        return foolbox().PyTorchModel(model, bounds=(0, 1), device=device)
    except AttributeError as error:  # a frozen script has no `training`
        raise InputError(
            f"Foolbox cannot take this network ({first_line(error)}): a frozen script "
            "cannot be attacked, give the module as it was before torch.jit.freeze"
        ) from error


class Counted:
    """A Foolbox model whose passes are counted as progress, with gradients or without.

    Args:
        fmodel: The model, which answers.
    """

    def __init__(self, fmodel: Any) -> None:
        self._fmodel = fmodel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fmodel, name)

    def __call__(self, images: Any) -> Any:
        """Return the model's answers."""
        kind = "gradient" if native(images).requires_grad else "forward"
        advance({kind: len(images)})
        return self._fmodel(images)


@dataclass(frozen=True)
class Networks:
    """The networks that a Foolbox model calls, found by `find_networks`.

    Attributes:
        parameters: Parameters of the modules that ran, and any other leaf that gets a gradient.
        device: Device on which the model takes its images.
        half: The half precision of its weights, or None.
        modules: The outermost modules that ran.
    """

    parameters: tuple[Tensor, ...]
    device: torch.device
    half: torch.dtype | None
    modules: tuple[nn.Module, ...] = ()


def find_networks(fmodel: Any, images: Tensor) -> Networks:
    """Run a Foolbox model on the first image and return the modules and parameters that take part.

    The network is found however the model holds it (attribute, closure, global name, bound method).
    A module in training mode is refused before it can change its statistics. Images that are not on
    the model's device are tried on every GPU.

    Raises:
        InputError: A network in training mode, or on several devices, or one that fails.
    """
    modules: list[nn.Module] = []
    failure: BaseException | None = None
    gpus = [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    for device in dict.fromkeys([images.device, *gpus]):
        for dtype in (images.dtype, *HALVES):
            half = dtype if dtype in HALVES else None
            if half and half != half_precision(modules):
                continue
            with attack_mode((), device), _watched(modules), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the next call of the model warns again
                probe = images[:1].detach().to(device, dtype, copy=True).requires_grad_()
                try:
                    out = native(fmodel(probe.clone()))  # a network may write into its input
                except InputError:
                    raise
                except (Exception, SystemExit) as error:  # also a wrong device or precision
                    if is_out_of_memory(error):
                        raise
                    failure = failure or error
                    continue
            own = (parameter for module in modules for parameter in module.parameters())
            leaves = (leaf for leaf in _leaves(out) if leaf is not probe)
            unique: dict[int, Tensor] = {id(tensor): tensor for tensor in (*own, *leaves)}
            return Networks(tuple(unique.values()), device, half_precision(modules), tuple(modules))
    raise model_failure("the model", None, images[:1], failure or RuntimeError("no device"))


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

    def after(module: nn.Module, _inputs: Any, output: Any) -> Any:
        return logits_in(output, module) if any(module is one for one in modules) else output

    handles = register_module_forward_pre_hook(before), register_module_forward_hook(after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leaves(out: Any) -> list[Tensor]:
    """Return the tensors in which a backward pass from `out` would leave a gradient."""
    waiting, visited, leaves = [getattr(out, "grad_fn", None)], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return leaves


@contextmanager
def safe(fmodel: Any, networks: Networks) -> Iterator[Any]:
    """Yield a Foolbox model on which attacks are safe: `isolation.attack_mode`, `plain_passes`.

    A network in half precision gets its inputs in its own precision and answers in single
    precision; any other model is yielded as it is.
    """
    passes = plain_passes(networks.modules)
    with attack_mode(networks.parameters, networks.device), passes:
        yield HalfModel(fmodel, networks.half) if networks.half else fmodel


def half_precision(modules: Iterable[nn.Module]) -> torch.dtype | None:
    """Return the half precision of the modules' weights, or None."""
    dtypes = {p.dtype for module in modules for p in module.parameters()} & set(HALVES)
    return next(iter(dtypes), None)


class HalfModel:
    """A Foolbox model of half precision that takes and gives single precision."""

    def __init__(self, fmodel: Any, dtype: torch.dtype) -> None:
        self._model, self._dtype = fmodel, dtype

    def __call__(self, inputs: Any) -> Any:
        """Return the logits of the inputs, float32."""
        out = native(self._model(native(inputs).to(self._dtype)))
        return restorer(inputs)(out.float())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
