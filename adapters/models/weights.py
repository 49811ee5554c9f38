"""Weight files: read one without running code from it, and load it into a network strictly."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import logging
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iaside_plugins.adapters.models.file_kinds import check_is_weights
from iaside_plugins.adapters.models.robustness_checkpoints import (
    Normalisation,
    is_robustness,
    network_of,
    normalisation_of,
)
from iaside_plugins.errors import InputError, MissingExtraError, first_names

WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights")
EMA_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
MEMBERS = ("model.", "net.", "network.")  # a trainer's module holds the network under such a name
PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these before every name
_SHOWN = 10
_log = logging.getLogger(__name__)
_EXPORT = "torch.save(model.state_dict(), 'weights.pth')"


@dataclass(frozen=True)
class Weights:
    """What a weights file says.

    Attributes:
        state: Tensors by name, in the file's order.
        normalisation: Mean and standard deviation per channel, if the file has them.
    """

    state: dict[str, torch.Tensor]
    normalisation: Normalisation | None = None


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of `read_weights`."""
    return read_weights(path).state


def read_weights(path: str | Path) -> Weights:
    """Read a weights file, on the CPU, without running any code stored in it.

    Args:
        path: A `.safetensors` file, or anything `torch.load(weights_only=True)` reads. The state
            dict may be under one key of `WRAPPERS` or, without one, `EMA_WRAPPERS`, and all its
            names may have prefixes of `PREFIXES`; both are removed. Of a checkpoint of the
            library `robustness` the network's tensors are taken, and its normalisation.

    Raises:
        InputError: The file does not exist, is a web page or not readable as weights, is refused
            because it holds Python objects, or holds no tensors.
        MissingExtraError: A `.safetensors` file without the safetensors library.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights file at {path}; give the path of an existing file")
    check_is_weights(path)
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = plain_names(_tensors(loaded, path))
    if is_robustness(state):
        return Weights(network_of(state), normalisation_of(state))
    return Weights(state)


def put_state(net: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Copy a state dict of the same names and shapes into a network; dtypes are cast.

    Where the names fit only without a common prefix of `MEMBERS`, as PyTorch Lightning writes it,
    it is left out. Counters of batches (`num_batches_tracked`) may be missing, as in old files;
    evaluation does not use them.

    Args:
        net: The network, changed in place.
        state: Tensors by name.
        source: Name of the state dict in messages, for example that of the file.

    Raises:
        InputError: Names are missing or unexpected, or shapes differ; lists the first ten of each.
    """
    own = net.state_dict()
    if found := differences(net, state):
        raise InputError(
            f"{source} does not fit {type(net).__name__}: {found}. Give weights of this very "
            "architecture and number of classes, or build your own network with "
            "python:module:factory"
        )
    state = _without_member(own, state)
    full = OrderedDict((k, state.get(k, v)) for k, v in own.items())
    # Without version numbers some layers would take the file for one of their oldest versions.
    full._metadata = own._metadata  # type: ignore[attr-defined]
    net.load_state_dict(full)


def _without_member(
    own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Return a state dict without a common prefix of `MEMBERS`, if its names fit only so."""
    for prefix in MEMBERS:
        if state and all(name.startswith(prefix) for name in state) and not set(own) & set(state):
            bare = {name[len(prefix) :]: value for name, value in state.items()}
            state = bare if set(own) & set(bare) else state
    return state


def other_classes(net: nn.Module, state: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of classes of a state dict that differs from a network in it alone.

    Args:
        net: A network.
        state: Tensors by name.

    Returns:
        The number of outputs, if the shapes that differ do so in the number of outputs, and all by
        the same two numbers; None if nothing differs, or other things do.
    """
    own = net.state_dict()
    state = _without_member(own, state)
    shapes = [(own[k].shape, state[k].shape) for k in own if k in state]
    changed = {(a[:1], b[:1]) for a, b in shapes if a != b}
    same_inside = all(a[1:] == b[1:] and len(a) == len(b) for a, b in shapes)
    if len(changed) != 1 or not same_inside:
        return None
    (_, outputs) = changed.pop()
    return int(outputs[0]) if outputs and outputs[0] > 0 else None


def differences(net: nn.Module, state: Mapping[str, torch.Tensor]) -> str:
    """Return how a state dict differs from a network's in names and shapes; empty if it fits."""
    own = net.state_dict()
    state = _without_member(own, state)
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    shapes = [
        f"{k}: the file has {tuple(state[k].shape)}, the model {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    kinds = {
        "missing from the file": missing,
        "unexpected in the file": unexpected,
        "other shape": shapes,
    }
    return "; ".join(_listed(kind, names) for kind, names in kinds.items() if names)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _listed(what: str, names: Sequence[str]) -> str:
    """Return the count and the first names, for a message."""
    return f"{len(names)} {what} ({first_names(names, _SHOWN)})"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file."""
    try:
        safetensors = importlib.import_module("safetensors")
        load_file = importlib.import_module("safetensors.torch").load_file
    except ModuleNotFoundError as error:
        raise MissingExtraError.of(f"reading {path.name} needs safetensors", "imagenet") from error
    try:
        tensors: dict[str, torch.Tensor] = load_file(str(path), device="cpu")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path.name} is not a readable safetensors file: {error}") from error
    return tensors


def _read_pickle(path: Path) -> Any:
    """Read a file of `torch.save`; refuse it if reading it could run code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch also warns of what is raised or refused below
            with _harmless_allowed():
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises anything on a damaged file
        text = str(error)
        part = f"torch.save(torch.load({path.name!r}, weights_only=False)['model'], 'weights.pth')"
        otherwise = f", or the part of it that holds the weights, as in {part}"
        if "TorchScript" in text:
            held = "is a TorchScript archive, which holds a program"
            otherwise = ", or run it as the model torchscript:FILE"
        elif re.search("GLOBAL|Can only (create|build)|Trying to", text):  # torch's refusals
            found = re.search(r"GLOBAL ([\w.]+)", text)
            held = "holds Python objects" + (f" (first: {found[1]})" if found else "")
        else:
            raise InputError(
                f"{path.name} is not a readable PyTorch weights file "
                f"({type(error).__name__}); give a .safetensors file or one saved by {_EXPORT}"
            ) from error
        raise InputError(
            f"{path.name} was refused: it {held}, and reading those can run code. Where you "
            f"trust it, load it yourself and export a plain state dict: {_EXPORT}"
            f"{otherwise}"
        ) from error


def _harmless_allowed() -> contextlib.AbstractContextManager[None]:
    """Let a file hold what trainers write beside weights and cannot run: options, NumPy numbers.

    PyTorch before 2.5 has no such list for a while only, and refuses them.
    """
    if not hasattr(torch.serialization, "safe_globals"):
        return contextlib.nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.bool_)]
    allowed: Any = [argparse.Namespace, scalar, np.dtype, *kinds]
    allowed.append((scalar, "numpy.core.multiarray.scalar"))  # as NumPy before 2 wrote it
    return torch.serialization.safe_globals(allowed)


def _tensors(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a loaded file, taken out of at most one wrapper."""
    if isinstance(loaded, Mapping):
        inside = [key for key in (*WRAPPERS, *EMA_WRAPPERS) if _holds_tensors(loaded.get(key))]
        if inside:
            _say_which(path, inside)
            loaded = loaded[inside[0]]
        if any(map(torch.is_tensor, loaded.values())):
            others = [str(k) for k, v in loaded.items() if not torch.is_tensor(v)]
            if not others:
                _check_plain(loaded, path)
                return dict(loaded)
            raise InputError(
                f"{path.name} is no plain state dict: {_listed('entries are no tensors', others)}; "
                f"export it with {_EXPORT}"
            )
    raise InputError(
        f"{path.name} holds no tensors by name (it holds {_contents(loaded)}); expected a "
        f"state dict, bare or under one of {', '.join(WRAPPERS)}, as saved by {_EXPORT}"
    )


def _holds_tensors(part: Any) -> bool:
    return isinstance(part, Mapping) and any(map(torch.is_tensor, part.values()))


def _say_which(path: Path, inside: Sequence[str]) -> None:
    """Log which of several state dicts in a file is taken."""
    if inside[0] in EMA_WRAPPERS:
        _log.warning("%s: the averaged weights (%r) are taken", path.name, inside[0])
    elif len(inside) > 1:
        others = ", ".join(map(repr, inside[1:]))
        _log.warning(
            "%s holds %s beside %r, which is taken; to evaluate others, save them alone",
            path.name,
            others,
            inside[0],
        )


def _check_plain(state: Mapping[Any, torch.Tensor], path: Path) -> None:
    """Raise InputError for names that are no text, and tensors that are no plain arrays."""
    wrong = [repr(name)[:40] for name in state if not isinstance(name, str)]
    if wrong:
        raise InputError(
            f"{path.name} is no plain state dict: {_listed('names are no text', wrong)}; export it "
            f"with {_EXPORT}"
        )
    for name, one in state.items():
        plain = one.layout == torch.strided and not one.is_quantized and not one.is_nested
        if not plain or one.device.type == "meta":
            raise InputError(
                f"{path.name}: {name[:80]} is no plain tensor (sparse, nested, quantised or "
                f"without data); make it dense, and export it with {_EXPORT}"
            )


def _contents(loaded: Any) -> str:
    """Return what a file holds, for messages: its keys, if it has any."""
    if not isinstance(loaded, Mapping) or not loaded:
        return f"a {type(loaded).__name__}"
    keys = [repr(key)[:40] for key in loaded]
    return f"a {type(loaded).__name__} with {first_names(keys, _SHOWN)}"


def plain_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove common prefixes, and respell the names of torchvision's published DenseNet files."""
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return plain_names({name[len(prefix) :]: tensor for name, tensor in state.items()})
    # Those files were saved when `conv1` could still be spelled `conv.1`.
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    return {old.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
