"""Checkpoints of the library `robustness` (Engstrom et al. 2019), as on the hub by madrylab.

They hold the network twice, as `model` and inside `attacker`, and its normalisation once in each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

NETWORK = "model."
ATTACKER = "attacker."
NORMALISER = "normalizer."
_MEAN, _STD = f"{NORMALISER}new_mean", f"{NORMALISER}new_std"

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def is_robustness(state: Mapping[str, torch.Tensor]) -> bool:
    """Return whether a state dict, without the prefix `module.`, has the names of that library."""
    known = (NETWORK, ATTACKER, NORMALISER)
    return {_MEAN, _STD} <= set(state) and all(name.startswith(known) for name in state)


def network_of(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the network's own tensors; the attacker's are the same ones again."""
    start = len(NETWORK)
    return {name[start:]: one for name, one in state.items() if name.startswith(NETWORK)}


def normalisation_of(state: Mapping[str, torch.Tensor]) -> Normalisation:
    """Return the mean and the standard deviation per channel, of pixels in [0, 1]."""
    mean, std = (
        tuple(round(float(value), 6) for value in state[name].flatten()) for name in (_MEAN, _STD)
    )
    return mean, std
