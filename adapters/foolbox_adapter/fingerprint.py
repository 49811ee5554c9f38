"""Which Foolbox model kept rows are of: what it holds, and what it answers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.adapters.foolbox_adapter.models import native
from iaside_plugins.adapters.isolation import same_logits
from iaside_plugins.storage.provenance import model_digest

Array = npt.NDArray[np.float64]
_N_MARKS = 3
_SAME = 1e-4  # of the greatest mark of an image: above float32 rounding on another machine


def fmodel_digest(fmodel: Any) -> str:
    """Digest of a Foolbox model, its wrappers and networks: numbers, text, bytes of tensors.

    Read from attributes and closures, so that code and what is held elsewhere are not seen:
    `logit_marks` tell those models apart.
    """
    text = repr(_described(fmodel, {}))
    return f"{type(fmodel).__name__}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def logit_marks(logits: Tensor) -> Array:
    """Three numbers an image (N, 3): fixed projections of its logits (N, n_classes)."""
    values = logits.detach().cpu().double()
    steps = torch.outer(torch.arange(values.shape[1]).double(), torch.arange(1.0, _N_MARKS + 1))
    return np.asarray((values @ steps.double().cos()).numpy())


def same_marks(kept: Array, now: Array) -> bool:
    """Whether logits were the same but for rounding."""
    return same_logits(kept, now, _SAME)


def _described(part: Any, seen: dict[int, Any]) -> Any:
    """Nested lists of text and numbers, the same in every process."""
    part = native(part)
    if part is None or isinstance(part, (bool, int, float, str, bytes)):
        return part
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, nn.Module):
        return model_digest(part)
    if isinstance(part, Tensor):
        raw = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return [kind, str(part.dtype), list(part.shape), hashlib.sha256(raw.tobytes()).hexdigest()]
    if isinstance(part, np.ndarray):
        return [kind, str(part.dtype), part.shape, hashlib.sha256(part.tobytes()).hexdigest()]
    if id(part) in seen or isinstance(part, type) or inspect.ismodule(part):
        return [kind, getattr(part, "__qualname__", "")]
    seen[id(part)] = part  # kept alive, so that no other object gets its id
    held: list[Any]
    if isinstance(part, Mapping):
        held = [[str(key), value] for key, value in part.items()]
    elif isinstance(part, (list, tuple)):
        held = [*part]
    elif isinstance(part, functools.partial):
        held = [part.func, part.args, part.keywords]
    elif inspect.ismethod(part):
        held = [part.__func__, part.__self__]
    elif inspect.isfunction(part):
        held = [part.__qualname__, part.__defaults__, part.__kwdefaults__]
        for cell in part.__closure__ or ():
            with contextlib.suppress(ValueError):  # an empty cell
                held.append(cell.cell_contents)
    else:
        held = [*getattr(part, "__dict__", {}).items()]
    return [kind, [_described(value, seen) for value in held]]
