"""The logits in what a model returned: a tensor, a mapping, a tuple.

All doors of the project read outputs here, so that each is met in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from iaside_plugins.errors import InputError

_log = logging.getLogger(__name__)
_told: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()  # warnings by model


def logits_in(output: Any, model: Any = None) -> Any:
    """Return the logits of what a model returned; said once where it returned more than a tensor.

    A `ModelOutput` of Hugging Face or a mapping gives its `logits`, a tuple or list its first
    tensor; integers become floats. Anything else is returned as it is, for the caller to check.

    Args:
        output: Of the model.
        model: For the message.

    Raises:
        InputError: For complex numbers.
    """
    if torch.is_tensor(output):
        return _floats(output)
    found, what = None, ""
    if isinstance(output, Mapping):
        found, what = output.get("logits"), f"{_one(output)} with {_keys(output)}"
        where = "its 'logits'"
    elif torch.is_tensor(getattr(output, "logits", None)):
        found, what, where = output.logits, _one(output), "its logits"
    elif isinstance(output, (tuple, list)) and output:
        found, what = output[0], f"{_one(output)} of {len(output)}"
        where = "the first of them"
    if not torch.is_tensor(found):
        return output
    say_once(model, f"{_called(model)} returns {what}: {where} is taken as the logits")
    return _floats(found)


def _floats(logits: Tensor) -> Tensor:
    if logits.is_complex():
        raise InputError(
            f"expected logits that are real numbers, got {logits.dtype}; return one real number a "
            "class, for example logits.abs() or logits.real"
        )
    if logits.is_quantized:
        return logits.dequantize()
    return logits if logits.is_floating_point() else logits.to(torch.get_default_dtype())


def described(output: Any) -> str:
    """Return shape or type of an output, for messages."""
    if torch.is_tensor(output):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {_keys(output)} and no tensor 'logits'"
    return type(output).__name__


def _keys(output: Mapping[Any, Any]) -> str:
    names = [repr(key) for key in output][:5]
    return f"the keys {', '.join(names)}" if names else "no keys"


def _one(output: Any) -> str:
    name = type(output).__name__
    return f"an {name}" if name[0] in "AEIOUaeiou" else f"a {name}"


def _called(model: Any) -> str:
    return "the model" if model is None else f"the model ({type(model).__name__})"


def say_once(model: Any, text: str, kind: str = "") -> None:
    """Log a warning once for every model, also where a run is made of several."""
    kind = kind or text
    try:
        if kind in (told := _told.setdefault(model, set())):
            return
        told.add(kind)
    except TypeError:  # a model without a weak reference
        pass
    _log.warning("%s", text)
