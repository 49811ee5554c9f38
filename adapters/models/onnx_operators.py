"""Operators of newer ONNX files for onnx2torch, added by its own `add_converter`.

onnx2torch 1.5.15 ends at the operators of 2022, and today's exporters write later versions of them.
Most of those differ in the types that they take. So the last version it knows stands in for later
ones; where that is wrong, the logits differ from onnxruntime's and the network is not used.
"""

from __future__ import annotations

import contextlib
import importlib
from collections import defaultdict
from typing import Any

import torch
from torch import nn

_REDUCTIONS: dict[str, Any] = {
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}
_AXES_ARE_AN_INPUT = 18  # the version in which reductions take their axes as an input


class Reduction(nn.Module):
    """A mean, greatest or least value over fixed axes.

    Args:
        kind: ONNX's name of the operator.
        axes: The axes; empty for all.
        keep: Whether the axes stay, of length 1.
    """

    def __init__(self, kind: str, axes: tuple[int, ...], keep: bool) -> None:
        super().__init__()
        self.kind, self.axes, self.keep = kind, axes, keep

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.kind!r}, axes={self.axes}, keep={self.keep}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the reduced tensor."""
        axes = self.axes or tuple(range(x.ndim))
        reduced: torch.Tensor = _REDUCTIONS[self.kind](x, dim=axes, keepdim=self.keep)
        return reduced


def add_newer_operators() -> None:
    """Register a converter for every version of an operator that onnx2torch has none for."""
    registry = importlib.import_module("onnx2torch.node_converters.registry")
    known = registry._CONVERTER_REGISTRY  # its only list; the public function adds to it
    _add(registry, "Gelu", 20, _gelu)
    for kind in _REDUCTIONS:
        _add(registry, kind, _AXES_ARE_AN_INPUT, _reduction)
    versions: dict[str, list[int]] = defaultdict(list)
    for one in known:
        if one.domain == "":
            versions[one.operation_type].append(one.version)
    for schema in importlib.import_module("onnx.defs").get_all_schemas_with_history():
        earlier = [v for v in versions.get(schema.name, ()) if v < schema.since_version]
        if schema.domain == "" and earlier:
            same = next(
                found
                for one, found in known.items()
                if (one.domain, one.operation_type, one.version) == ("", schema.name, max(earlier))
            )
            _add(registry, schema.name, schema.since_version, same)


def _add(registry: Any, kind: str, version: int, converter: Any) -> None:
    """Register a converter, unless there is one."""
    with contextlib.suppress(ValueError):
        registry.add_converter(kind, version)(converter)


def _gelu(node: Any, graph: Any) -> Any:
    """Convert Gelu-20."""
    common = importlib.import_module("onnx2torch.utils.common")
    return common.OperationConverterResult(
        torch_module=nn.GELU(approximate=node.attributes.get("approximate", "none")),
        onnx_mapping=common.onnx_mapping_from_node(node),
    )


def _reduction(node: Any, graph: Any) -> Any:
    """Convert a reduction whose axes are a constant input."""
    common = importlib.import_module("onnx2torch.utils.common")
    inputs = [name for name in node.input_values if name]
    axes: tuple[int, ...] = ()
    if len(inputs) > 1:
        axes = tuple(map(int, common.get_const_value(inputs[1], graph)))
    elif node.attributes.get("noop_with_empty_axes", 0):
        raise NotImplementedError(f"{node.operation_type} without axes that does nothing")
    return common.OperationConverterResult(
        torch_module=Reduction(node.operation_type, axes, bool(node.attributes.get("keepdims", 1))),
        onnx_mapping=common.OnnxMapping(inputs=(inputs[0],), outputs=node.output_values),
    )
