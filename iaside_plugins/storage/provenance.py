"""Where a number comes from: versions, commit, digests; never paths or users."""

from __future__ import annotations

import enum
import hashlib
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iaside_plugins._version import __version__
from iaside_plugins.storage.code import model_code
from iaside_plugins.storage.held import held, integers, may_count
from iaside_plugins.storage.row_store import INTEGERS

RECORDED = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "pillow",
    "opencv-python-headless",
    "foolbox",
    "captum",
    "scikit-learn",
    "robustbench",
    "pyautoattack",
)


def state_digest(module: nn.Module) -> str:
    """Return the SHA-256 (hex) of a module's state: names, dtypes, shapes and bytes, in order."""
    return _tensors_digest(module.state_dict())


def _tensors_digest(state: Mapping[str, Any], inside: frozenset[int] = frozenset()) -> str:
    digest = hashlib.sha256()
    for name, value in state.items():
        for part in _parts(value, inside):
            digest.update(part if isinstance(part, bytes) else f"{name}|{part}|".encode())
    return digest.hexdigest()


def _parts(value: Any, inside: frozenset[int] = frozenset()) -> Iterator[str | bytes]:
    """Yield what decides an entry of a state: of a quantised tensor its integers and their scale.

    Modules of 8 bits keep pairs of tensors and types (`_packed_params`) among their tensors.

    Args:
        value: The entry.
        inside: Ids of the modules that hold it: one of them is not looked into again.
    """
    if torch.is_tensor(value) and value.is_quantized:
        per_channel = value.qscheme() in (
            torch.per_channel_affine,
            torch.per_channel_affine_float_qparams,
        )
        yield from _parts(value.int_repr())
        yield from _parts(
            (value.q_per_channel_scales(), value.q_per_channel_zero_points())
            if per_channel
            else (value.q_scale(), value.q_zero_point())
        )
    elif torch.is_tensor(value):
        array = value.detach().cpu().contiguous()
        yield f"{array.dtype}|{tuple(array.shape)}"
        yield array.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, nn.Module):
        yield "itself" if id(value) in inside else _digest_of(value, inside)
    elif isinstance(value, (np.ndarray, np.generic)):
        yield f"{value.dtype}|{value.shape}"
        yield repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from _parts(one, inside)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _parts(one, inside)
    elif isinstance(value, (str, bytes, int, float, complex, torch.dtype, type(None))):
        yield value if isinstance(value, bytes) else repr(value)
    elif isinstance(value, enum.Enum):
        yield str(value)
    else:  # its text may hold an address
        yield type(value).__qualname__


def model_digest(model: Any) -> str:
    """Return a digest of what decides a model's outputs, as far as it can be read.

    For an ``nn.Module``: its class, its modules as they print, its state, buffers that the state
    leaves out, and constants of the user's own classes; the code of its forward method is not read
    (see `model_identity`). For another callable: its qualified name, and the modules and constants
    that it holds (see `held`), but for integers (see `integers`).
    """
    return _digest_of(model, frozenset())


def _digest_of(model: Any, inside: frozenset[int]) -> str:
    """Return the digest of a model that others hold, see `_parts`."""
    kind = type(model)
    known = {} if hasattr(model, "code_sha256") else held(model)
    more = {key: value for key, value in known.items() if not may_count(value)}
    if isinstance(model, nn.Module):
        text = repr(model)
        more = {**model.state_dict(), **dict(model.named_buffers()), **more}
    else:
        text = f"callable:{getattr(model, '__qualname__', kind.__qualname__)}"
    text = f"{text}|{_tensors_digest(more, inside | {id(model)})}"
    return f"{kind.__qualname__}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def model_identity(model: Any, folder: Any) -> dict[str, Any]:
    """Return what the identity of a run says of its model: its digest and the user's own code.

    Integers that the model holds stand beside them.

    Args:
        model: Any callable. Of one that knows the digest of its code (`code_sha256`), that is in
            its digest.
        folder: Of the run; None where nothing is stored, and nothing has to be read.
    """
    if folder is None:
        return {"model": None}
    found: dict[str, Any] = {"model": model_digest(model)}
    if hasattr(model, "code_sha256"):
        return found
    beside = {"code": model_code(model), INTEGERS: integers(model)}
    return found | {key: value for key, value in beside.items() if value}


def image_digest(image: torch.Tensor, label: int) -> str:
    """Return 16 hex digits of the SHA-256 of one image's float32 pixels, shape and label."""
    pixels = np.ascontiguousarray(image.detach().to("cpu", torch.float32).numpy())
    head = f"{pixels.shape}|{label}|".encode()
    return hashlib.sha256(head + pixels.tobytes()).hexdigest()[:16]


def ids_digest(ids: Iterable[str]) -> str:
    """Return SHA-256 (hex) of image ids in their order, one a line."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _git(*arguments: str) -> str | None:
    """Return git's output in the package's own checkout, or None where there is none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return versions, commit, date and device class of this run, as plain JSON values.

    ``git_commit`` and ``git_dirty`` are null outside a checkout of this package: the commit of
    whatever repository the caller happens to stand in would be a wrong answer.
    """
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    status = _git("status", "--porcelain")
    device = torch.device(device)
    named = device.type == "cuda" and torch.cuda.is_available()  # not of the workers of a cluster
    return {
        "iaside_plugins": __version__,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "versions": versions,
        "device": torch.cuda.get_device_name(device) if named else device.type,
        "machine": platform.machine(),
    }
