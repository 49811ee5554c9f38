"""What can be said of a request by its arguments alone, before anything is looked up."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaside_plugins.adapters.models.robustbench_names import Threat
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.protocol import Protocol

if TYPE_CHECKING:
    from iaside_plugins.adapters.robustbench_adapter.request import Request

GREATEST_SEED = 2**32 - 1  # of numpy's old generator, which AutoAttack seeds
_PATHS = (
    "log_path",
    "aa_state_path",
    "resume",
    "entry_path",
    "bundle",
    "cache",
    "corruptions_data_dir",
)
_FLAGS = ("to_disk", "spectral", "profiles", "show_progress")
_TEXTS = ("model_name", "note")


def check_words(request: Request, threat: Threat) -> None:
    """Refuse what can be refused by the arguments alone: their types, ranges and combinations.

    Raises:
        InputError: For the first of them.
    """
    _check_types(request)
    if isinstance(request.device, (list, tuple)):
        raise InputError("one device at a time: device must not be a list")
    if threat.is_attack and request.eps is None:
        raise InputError(
            f"threat_model {threat.model} needs eps=..., in pixel units of [0, 1] images; "
            "RobustBench's are 8/255 (CIFAR) and 4/255 (ImageNet) for Linf, 0.5 for L2"
        )
    if not threat.is_attack and request.eps is not None:
        raise InputError(
            f"eps is for Linf and L2, got eps={request.eps} with {threat.model}; leave it out"
        )
    if threat.is_attack and request.reference_errors is not None:
        raise InputError("reference_errors are for corruptions; leave them out for Linf and L2")
    if not threat.is_attack and request.attacks is not None:
        raise InputError(f"attacks are for Linf and L2, got some with {threat.model}")
    if request.to_disk and not request.model_name:
        raise InputError("to_disk=True needs model_name=..., the name of the files")
    if not request.spectral and (request.entry_path or request.bundle):
        raise InputError("an entry holds the spectral importance: not with spectral=False")
    if request.bundle and not request.model_name:
        raise InputError("bundle=... needs model_name=..., the name of the files")
    name = request.model_name
    if name and (re.search(r"[/\\]|^\.", name) or not name.isprintable()):
        raise InputError(f"model_name must be the name of a file, got {request.model_name!r}")
    if request.protocol is not None and request.n_bands is not None:
        raise InputError("give protocol=... or n_bands=..., not both")
    state = request.aa_state_path
    if state is not None and Path(state).is_file():
        raise InputError(
            f"aa_state_path: {state} is a file; RobustBench's state files cannot be resumed from, "
            "give a folder (finished batches are kept in it)"
        )


def _check_types(request: Request) -> None:
    """Types, and the ranges of numbers."""
    for name in ("data_dir", "model_info_dir"):
        _check_type(request, name, (str, os.PathLike), "a path")
    for name in _PATHS:
        _check_type(request, name, (str, os.PathLike, type(None)), "a path or None")
    for name in _FLAGS:
        _check_type(request, name, bool, "True or False")
    for name in _TEXTS:
        _check_type(request, name, (str, type(None)), "text or None")
    _check_type(request, "precision", str, "text such as 'float32'")
    _check_type(request, "protocol", (Protocol, type(None)), "an iaside_plugins.Protocol or None")
    given = request.preprocessing
    if not (given is None or isinstance(getattr(given, "value", given), str) or callable(given)):
        raise InputTypeError(
            "preprocessing: expected a key of RobustBench such as 'Res256Crop224', a function or "
            f"None, got {given!r}"
        )
    for name, least, most in (
        ("n_examples", 1, None),
        ("batch_size", 1, None),
        ("workers", 0, None),
        ("seed", 0, GREATEST_SEED),
    ):
        value = getattr(request, name)
        if type(value) is not int or value < least or (most is not None and value > most):
            top = "" if most is None else f" and at most {most}"
            raise InputError(f"{name} must be an integer of at least {least}{top}, got {value!r}")
    attacks = request.attacks
    if attacks is not None and (isinstance(attacks, str) or not isinstance(attacks, Sequence)):
        raise InputTypeError(
            f"attacks: expected a list of names such as ['apgd-ce', 'square'], got {attacks!r}"
        )


def _check_type(request: Request, name: str, kinds: type | tuple[type, ...], expected: str) -> None:
    value = getattr(request, name)
    if not isinstance(value, kinds):
        raise InputTypeError(f"{name}: expected {expected}, got {value!r}")
