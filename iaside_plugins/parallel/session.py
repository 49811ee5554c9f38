"""Inside a worker: the state of the parent that it copies, its model, and the job that it does."""

from __future__ import annotations

import io
import pickle
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.forward import Model

# What decides how torch rounds or which of its algorithms it takes, where this version has it.
FLAGS = (
    "backends.fp32_precision",
    "backends.cuda.matmul.fp32_precision",
    "backends.cudnn.conv.fp32_precision",
    "backends.mkldnn.matmul.fp32_precision",
    "backends.mkldnn.conv.fp32_precision",
    "backends.cudnn.enabled",
    "backends.cudnn.benchmark",
    "backends.cudnn.deterministic",
)
IN_A_MODULE = (
    "scripts that use several devices keep their own work under `if __name__ == '__main__':`, and "
    "the model's class in a module"
)


class Job(typing.Protocol):
    """Something to do with a model; it can be pickled."""

    def begin(self, model: nn.Module, device: torch.device) -> Callable[[Any], Any]:
        """Return the function that does parts of it: data -> result; both can be pickled."""


class Session:
    """A worker's model and the job that it does, kept from part to part.

    Args:
        device: Where models go.
        fetch: What a model or a job is named by -> its bytes.
    """

    def __init__(self, device: torch.device, fetch: Callable[[Any], bytes]) -> None:
        self._device, self._fetch = device, fetch
        self._model: tuple[Any, nn.Module] | None = None
        self._job: tuple[Any, Callable[[Any], Any]] | None = None

    def run(self, model: Any, job: Any, data: bytes) -> bytes:
        """Return a part's result and None, or None and the error that it raised, pickled."""
        try:
            return pickle.dumps((self._doing(model, job)(pickle.loads(data)), None))
        except Exception as error:  # noqa: BLE001  the parent raises it
            try:
                reply = pickle.dumps((None, error))
                pickle.loads(reply)
            except Exception:  # noqa: BLE001  an error that cannot be sent
                return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
            return reply

    def _doing(self, model: Any, job: Any) -> Callable[[Any], Any]:
        """Return the function that does parts of a job, with the model it is for."""
        if self._model is None or self._model[0] != model:
            self._model = self._job = None  # frees the memory for the next model
            self._model = model, unpacked(self._fetch(model), self._device)
        if self._job is None or self._job[0] != job:
            begun: Job = pickle.loads(self._fetch(job))
            self._job = job, begun.begin(self._model[1], self._device)
        return self._job[1]


def packed(model: Model, pickler: Any = pickle) -> bytes:
    """Return a model as bytes for `unpacked`, by another pickle module where one is given.

    Raises:
        InputError: It cannot be pickled and says no other way to build it.
        InputTypeError: It is no module.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            f"several workers need a torch.nn.Module, of which each has a copy, got "
            f"{type(model).__name__}"
        )
    file = io.BytesIO()
    try:
        try:
            torch.save(model, file, pickler)
        except Exception:
            rebuild = getattr(model, "rebuild", None)
            if rebuild is None:
                raise
            file = io.BytesIO()
            torch.save((rebuild, model.state_dict()), file, pickler)
    except Exception as error:  # whatever a class of the user's raises
        raise InputError(
            f"the model cannot be sent to another process ({error}); define its class at the top "
            "of a module"
        ) from error
    return file.getvalue()


def unpacked(data: bytes, device: torch.device) -> nn.Module:
    """Return the model of `packed`, on a device; only for bytes that this program made itself.

    Raises:
        InputError: It cannot be built here.
    """
    try:
        found = torch.load(io.BytesIO(data), map_location=device, weights_only=False)
        if isinstance(found, nn.Module):
            return found
        rebuild, state = found
        model: nn.Module = rebuild().to(device)
        if any(tensor.dtype == torch.float64 for tensor in state.values()):
            model = model.double()
        model.load_state_dict(state)
    except InputError:
        raise
    except Exception as error:  # whatever a class of the user's raises
        raise InputError(f"a worker cannot build the model ({error}); {IN_A_MODULE}") from error
    return model


@dataclass(frozen=True)
class WorkerEnvironment:
    """The state of this process that a worker copies, so that it computes the same.

    Attributes:
        threads: Threads of the CPU.
        flags: Values of `FLAGS`.
        path: Where the parent finds modules, the user's own among them.
    """

    threads: int
    flags: dict[str, Any]
    path: tuple[str, ...]

    @classmethod
    def current(cls, threads: int) -> WorkerEnvironment:
        """Return that of this process, with another number of threads."""
        found = {}
        for path in FLAGS:
            value: Any = torch
            for name in path.split("."):
                value = getattr(value, name, None)
            if value is not None:
                found[path] = value
        return cls(threads, found, (*sys.path, str(Path.cwd())))

    def apply(self) -> None:
        """Set threads, flags and module path of this process."""
        sys.path += [folder for folder in self.path if folder not in sys.path]
        torch.set_num_threads(self.threads)
        for path, value in self.flags.items():
            owner: Any = torch
            *names, last = path.split(".")
            for name in names:
                owner = getattr(owner, name)
            if getattr(owner, last) != value:
                setattr(owner, last, value)
