"""A network as its source built it, and the few helpers that the sources share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.errors import InputError


@dataclass(frozen=True)
class Built:
    """A network and what its source says of it; `file` is the weights file where it is known.

    `code` is the file of the code that built it, for models of the user's own.
    """

    net: nn.Module
    name: str
    architecture: str
    preprocessing: Preprocessing
    weights: str
    dataset: str | None = None
    training: str | None = None
    licence: str | None = None
    file: Path | None = None
    code: Path | None = None


def unknown_name(where: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that a source does not have, with the closest ones it has."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if len(known) <= 20:
        hint = f"known: {', '.join(known) or 'none'}"
    elif close:
        hint = f"close names: {', '.join(close)}"
    else:
        hint = f"none of its {len(known)} names is close"
    return InputError(f"unknown {where} name {name!r}; {hint}")


def last_width(net: nn.Module) -> int | None:
    """Outputs of the last linear or convolution layer: the number of logits of usual networks."""
    for module in reversed(list(net.modules())):
        if isinstance(module, nn.Linear):
            return module.out_features
        if isinstance(module, nn.Conv2d):
            return module.out_channels
    return None
