"""Batch norms folded into the convolutions and linear layers before them: fewer passes over memory.

In evaluation mode a batch norm is an affine map of every channel, so that of a convolution's
output goes into its weights: ``w' = w g / sqrt(var + eps)``, ``b' = (b - mean) g / sqrt(var + eps)
+ beta`` (torch.nn.utils.fusion computes it). torch.fx finds the pairs. A folded layer is a new one:
whatever else reads the old one still finds it as it was.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import fusion

from iaside_plugins.errors import InputError

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PURE = ("torch", "_operator", "operator", "builtins", "math")  # modules of known functions
_WRITING = ("setitem", "delitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow")


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy that shares no module with the model.

    Raises:
        InputError: If the model's own way of copying shares some of them.
    """
    found = copy.deepcopy(model)
    if {id(module) for module in model.modules()} & {id(module) for module in found.modules()}:
        raise InputError("a copy of the model shares modules with it")
    return found


def fold_batch_norms(model: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy of a model with its batch norms folded, and how many were folded.

    The model itself stays as it is.

    What torch.fx cannot trace is traced part by part; what it cannot trace at all keeps its batch
    norms. A traced part is frozen as it runs in evaluation mode, so compare outputs before use.

    Args:
        model: In evaluation mode.

    Raises:
        InputError: If the model cannot be copied.
    """
    found = copied(model)
    traced = _traced(found)
    if traced is not None:
        return traced, _fold(traced)
    return found, _fold_below(found)


def _fold_below(module: nn.Module) -> int:
    """Fold inside the children of a module that cannot be traced itself."""
    folded = 0
    for name, child in module.named_children():
        if isinstance(child, (*LAYERS, *NORMS)) or not list(child.children()):
            continue
        traced = _traced(child)
        if traced is None:
            folded += _fold_below(child)
        elif count := _fold(traced):
            setattr(module, name, traced)
            folded += count
    return folded


class _Tracer(fx.Tracer):
    """Stops at layers of any kind; goes into subclasses of batch norms (one with an activation)."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (*LAYERS, *NORMS)):
            return isinstance(m, LAYERS) or type(m) in NORMS
        return super().is_leaf_module(m, module_qualified_name)


def _traced(module: nn.Module) -> fx.GraphModule | None:
    """Return the module as a graph, or None if it cannot be traced or hooks would be lost."""
    if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
        return None
    try:
        graph = _Tracer().trace(module)
    except Exception:  # noqa: BLE001  a model's own code may raise anything on a proxy
        return None
    traced = fx.GraphModule(module, graph, type(module).__name__)
    traced.graph.eliminate_dead_code(_may_write)  # as of text for messages only
    return traced


def _may_write(node: fx.Node) -> bool:
    """Return whether a call may do more than return a value, so that it must stay.

    It may write into a tensor (`x.sub_(m)`, an activation in place), or be of code that torch does
    not know.
    """
    if node.is_impure():
        return True
    if any(node.kwargs.get(name) not in (None, False) for name in ("inplace", "out")):
        return True
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") or name == "__setitem__"
    if node.op == "call_module":
        graph = node.graph.owning_module
        part = None if graph is None else graph.get_submodule(str(node.target))
        return bool(getattr(part, "inplace", False))
    if node.op == "call_function":
        name, home = getattr(node.target, "__name__", ""), getattr(node.target, "__module__", "")
        known = (home or "torch").partition(".")[0] in _PURE
        in_place = name in _WRITING or (name.endswith("_") and not name.endswith("__"))
        return not known or in_place or (True in node.args and _takes_inplace(node))
    return False


def _takes_inplace(node: fx.Node) -> bool:
    """Return whether a function of torch has an argument `inplace`, which may be given by place."""
    try:
        return "inplace" in inspect.signature(node.target).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _fold(traced: fx.GraphModule) -> int:
    """Fold every batch norm whose input is a layer that nothing else reads; how many there were."""
    folded = 0
    for node in list(traced.graph.nodes):
        parts = dict(traced.named_modules())
        norm = _norm(node, traced, parts)
        if norm is None:
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        layer = parts.get(str(before.target))
        if not isinstance(layer, LAYERS) or any(
            user is not node and not _only_checks(user) for user in before.users
        ):
            continue
        fresh = _fused(layer, norm)
        if fresh is None:
            continue
        before.target = f"folded_{folded}"
        traced.add_module(before.target, fresh)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        folded += 1
    if folded:
        traced.graph.eliminate_dead_code(_may_write)
        traced.delete_all_unused_submodules()
        traced.recompile()
    return folded


def _only_checks(node: fx.Node) -> bool:
    """Return whether a node leads to assertions alone, of a shape that folding does not change."""
    if node.op == "call_function" and node.target is torch._assert:
        return True
    return bool(node.users) and all(_only_checks(user) for user in node.users)


@torch.no_grad()
def _fused(layer: Any, norm: tuple[Any, ...]) -> nn.Module | None:
    """Return one layer that computes a layer and its norm, or None if that is impossible.

    A layer of a kind of its own may do more with its weight than multiply by it (standardise it,
    say); so the two ways are compared on a small random input.
    """
    mean, var, eps, scale, shift = norm
    linear = isinstance(layer, nn.Linear)
    fuse = fusion.fuse_linear_bn_weights if linear else fusion.fuse_conv_bn_weights
    try:
        fresh = copy.copy(layer)
        fresh._parameters = dict(layer._parameters)
        weight, bias = fuse(layer.weight, layer.bias, mean, var, eps, scale, shift)
        fresh.weight, fresh.bias = weight, bias
        generator = torch.Generator().manual_seed(0)
        shape: tuple[int, ...] = (2, layer.weight.shape[1])
        if not linear:
            extent = [
                d * (k - 1) + 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
            ]
            shape = (2, layer.in_channels, *extent)
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(layer.weight)
        expected = nn.functional.batch_norm(layer(x), mean, var, scale, shift, False, 0.0, eps)
        close = torch.allclose(
            fresh(x), expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max())
        )
    except Exception:  # noqa: BLE001  parametrised weights, and others that cannot be set or copied
        return None
    return fresh if close else None


def _norm(
    node: fx.Node, traced: fx.GraphModule, parts: dict[str, nn.Module]
) -> tuple[Any, ...] | None:
    """Return mean, variance, eps, scale and shift of a node that is a batch norm in evaluation."""
    if node.op == "call_module":
        part: Any = parts[str(node.target)]
        if type(part) not in NORMS or part.running_mean is None:
            return None
        return part.running_mean, part.running_var, part.eps, part.weight, part.bias
    if node.op != "call_function" or node.target is not nn.functional.batch_norm:
        return None
    names = (
        "input",
        "running_mean",
        "running_var",
        "weight",
        "bias",
        "training",
        "momentum",
        "eps",
    )
    given = {"training": False, "eps": 1e-5} | dict(zip(names, node.args, strict=False))
    given |= node.kwargs
    tensors = [_value(given.get(name), traced) for name in names[1:5]]
    if given["training"] is not False or tensors[0] is None or tensors[1] is None:
        return None
    return tensors[0], tensors[1], given["eps"], tensors[2], tensors[3]


def _value(given: Any, traced: fx.GraphModule) -> Any:
    """Return the tensor that a node reads from the module, or None."""
    if not isinstance(given, fx.Node) or given.op != "get_attr":
        return None
    found: Any = traced
    for name in str(given.target).split("."):
        found = getattr(found, name)
    return found
