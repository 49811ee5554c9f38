"""Batch norms folded into the convolutions and linear layers before them: fewer passes over memory.

In evaluation mode a batch norm is an affine map of every channel, so that of a convolution's
output goes into its weights: ``w' = w g / sqrt(var + eps)``, ``b' = (b - mean) g / sqrt(var + eps)
+ beta`` (torch.nn.utils.fusion computes it). torch.fx finds the pairs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import fusion

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy of a model with its batch norms folded, and how many were; the model stays as it is.

    What torch.fx cannot trace is traced part by part; what it cannot trace at all keeps its batch
    norms. A traced part is frozen as it runs in evaluation mode, so compare outputs before use.

    Args:
        model: In evaluation mode.
    """
    copied = copy.deepcopy(model)
    traced = _traced(copied)
    if traced is not None:
        return traced, _fold(traced)
    return copied, _fold_below(copied)


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
    """The module as a graph, or None where its code does not allow it."""
    try:
        graph = _Tracer().trace(module)
    except Exception:  # noqa: BLE001  a model's own code may raise anything on a proxy
        return None
    traced = fx.GraphModule(module, graph, type(module).__name__)
    for node in list(traced.graph.nodes):
        if node.op == "call_function" and node.target is torch._assert:
            traced.graph.erase_node(node)  # of shapes: it counts as another reader of a layer
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _fold(traced: fx.GraphModule) -> int:
    """Fold every batch norm whose input is a layer that nothing else reads; how many there were."""
    parts = dict(traced.named_modules())
    uses: dict[str, int] = {}  # of every layer: one that runs twice cannot take two batch norms
    for node in traced.graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1
    folded = 0
    for node in list(traced.graph.nodes):
        norm = _norm(node, traced, parts)
        if norm is None:
            continue
        before = node.args[0]
        alone = (
            isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1
        )
        layer = parts.get(before.target) if alone else None
        if not isinstance(layer, LAYERS) or uses[before.target] != 1:
            continue
        weight, bias = _fused(layer, norm)
        layer.weight, layer.bias = weight, bias
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
        folded += 1
    if folded:
        traced.graph.eliminate_dead_code()
        traced.delete_all_unused_submodules()
        traced.recompile()
    return folded


def _fused(layer: Any, norm: tuple[Any, ...]) -> tuple[nn.Parameter, nn.Parameter]:
    mean, var, eps, scale, shift = norm
    if isinstance(layer, nn.Linear):
        return fusion.fuse_linear_bn_weights(layer.weight, layer.bias, mean, var, eps, scale, shift)
    return fusion.fuse_conv_bn_weights(layer.weight, layer.bias, mean, var, eps, scale, shift)


def _norm(
    node: fx.Node, traced: fx.GraphModule, parts: dict[str, nn.Module]
) -> tuple[Any, ...] | None:
    """Mean, variance, epsilon, scale and shift of a node that normalises by fixed statistics."""
    if node.op == "call_module":
        part: Any = parts[str(node.target)]
        if type(part) not in NORMS or part.running_mean is None:
            return None
        return part.running_mean, part.running_var, part.eps, part.weight, part.bias
    if node.op != "call_function" or node.target is not torch.nn.functional.batch_norm:
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
    """The tensor that a node reads from the module, or None."""
    if not isinstance(given, fx.Node) or given.op != "get_attr":
        return None
    found: Any = traced
    for name in str(given.target).split("."):
        found = getattr(found, name)
    return found
