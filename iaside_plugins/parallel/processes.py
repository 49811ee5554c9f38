"""Worker processes on this machine, one a device: a copy of the model in each, images by pipe.

A worker ends with its parent, however that ends; the parent ends its workers when it is done.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import nn

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.parallel.scheduler import Scheduler, WorkerMessage
from iaside_plugins.parallel.tasks import Task, WorkerSession
from iaside_plugins.value_table.game import Model
from iaside_plugins.value_table.rows import Rows, groups_ahead

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
DIED_EARLY = (
    "scripts that use several devices keep their own work under `if __name__ == '__main__':`, and "
    "the model's class in a module"
)
PendingTask = tuple[Rows, Any, int]


Devices = torch.device | str | Sequence[torch.device | str] | None


def one_or_several(device: Devices) -> tuple[torch.device | None, list[torch.device]]:
    """A single device (or None, as given), or several of a list or a text "cuda:0,cuda:1".

    Raises:
        InputError: For the name of no device.
    """
    if device is None:
        return None, []
    names = device.split(",") if isinstance(device, str) else device
    names = [names] if isinstance(names, torch.device) else names
    try:
        found = [torch.device(n.strip() if isinstance(n, str) else n) for n in names]
    except (RuntimeError, TypeError) as error:
        raise InputError(f"expected devices such as cuda:0,cuda:1, got {device!r}") from error
    return (found[0], []) if len(found) == 1 else (None, found)


@contextlib.contextmanager
def device_workers(model: Model, devices: Sequence[torch.device]) -> Iterator[Scheduler]:
    """A crew of one process a device; the processes end with the context.

    Args:
        model: A module that can be pickled, or that has `rebuild`, a function without arguments
            that can be: its weights are sent then. The model here is not touched.
        devices: One may be named several times.

    Raises:
        InputError: The model cannot be sent to another process.
        InputTypeError: It is no module: it would stay on its own device.
    """
    workers = Processes(model, devices)
    try:
        yield Scheduler(workers, len(devices))
    finally:
        workers.stop()


class Processes:
    """The processes, by their places in `devices`; see `crew.Workers`."""

    def __init__(self, model: Model, devices: Sequence[torch.device]) -> None:
        self.devices = devices
        # Threads that there are, shared by the workers.
        threads = max(1, torch.get_num_threads() // len(devices))
        self._setting = (packed(model), WorkerEnvironment.here(threads))
        self._context = multiprocessing.get_context("spawn")
        self._there: dict[int, tuple[Any, Connection]] = {}

    def start(self, place: int) -> None:
        """Start a process; Ctrl-C reaches the parent alone, which ends its workers."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self.devices[place], *self._setting), daemon=True
        )
        with _without_interrupts():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        self._there[place] = process, ours

    def give(self, place: int, shard: Task) -> None:
        """Send a shard; to a dead worker in vain, of which `hear` will tell."""
        with contextlib.suppress(OSError):
            # As bytes: torch would put the tensors of its own objects into shared memory.
            self._there[place][1].send_bytes(pickle.dumps(shard))

    def hear(self) -> list[tuple[int, WorkerMessage]]:
        """News of at least one worker."""
        places = {pipe: place for place, (_, pipe) in self._there.items()}
        found = []
        for pipe in wait(list(places)):
            place = places[pipe]  # type: ignore[index]
            try:
                found.append((place, pickle.loads(self._there[place][1].recv_bytes())))
            except (EOFError, OSError):
                found.append((place, WorkerMessage(died=self._why(place))))
        return found

    def _why(self, place: int) -> str:
        process, pipe = self._there.pop(place)
        pipe.close()
        process.join(5)
        code = process.exitcode
        process.close() if code is not None else process.kill()
        if code is not None and code < 0:
            return f"killed by signal {-code}"
        return f"exit code {code}; {DIED_EARLY}"

    def stop(self) -> None:
        """End all processes, whatever they do."""
        for process, pipe in self._there.values():
            process.kill()
            pipe.close()
        for process, _ in self._there.values():
            process.join()
            process.close()
        self._there = {}


def packed(model: Model, pickle_module: Any = pickle) -> bytes:
    """A model as bytes for `unpacked`, by another pickle module where one is given.

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
            torch.save(model, file, pickle_module)
        except Exception:
            rebuild = getattr(model, "rebuild", None)
            if rebuild is None:
                raise
            file = io.BytesIO()
            torch.save((rebuild, model.state_dict()), file, pickle_module)
    except Exception as error:  # whatever a class of the user's raises
        raise InputError(
            f"the model cannot be sent to another process ({error}); define its class at the top "
            "of a module"
        ) from error
    return file.getvalue()


def unpacked(data: bytes, device: torch.device) -> nn.Module:
    """The model of `packed`, on a device; only for bytes that this program made itself."""
    found = torch.load(io.BytesIO(data), map_location=device, weights_only=False)
    if isinstance(found, nn.Module):
        return found
    rebuild, state = found
    model: nn.Module = rebuild().to(device)
    if any(tensor.dtype == torch.float64 for tensor in state.values()):
        model = model.double()
    model.load_state_dict(state)
    return model


@dataclass(frozen=True)
class WorkerEnvironment:
    """What a worker takes over from its parent.

    Attributes:
        threads: Of the CPU.
        flags: Values of `FLAGS`.
        path: Where the parent finds modules, the user's own among them.
    """

    threads: int
    flags: dict[str, Any]
    path: tuple[str, ...]

    @classmethod
    def here(cls, threads: int) -> WorkerEnvironment:
        """Those of this process, with so many threads."""
        found = {}
        for path in FLAGS:
            value: Any = torch
            for name in path.split("."):
                value = getattr(value, name, None)
            if value is not None:
                found[path] = value
        return cls(threads, found, (*sys.path, str(Path.cwd())))

    def take_over(self) -> None:
        """Make them those of this process."""
        sys.path += [folder for folder in self.path if folder not in sys.path]
        torch.set_num_threads(self.threads)
        for path, value in self.flags.items():
            owner: Any = torch
            *names, last = path.split(".")
            for name in names:
                owner = getattr(owner, name)
            if getattr(owner, last) != value:
                setattr(owner, last, value)


def _work(
    pipe: Connection, device: torch.device, model: bytes, surroundings: WorkerEnvironment
) -> None:
    """What a worker process does until it is ended."""
    shards: SimpleQueue[Task] = SimpleQueue()
    threading.Thread(target=_read, args=(pipe, shards), daemon=True).start()
    surroundings.take_over()
    desk = WorkerSession(unpacked(model, device), device)
    with contextlib.suppress(OSError):  # the parent is gone
        pipe.send_bytes(pickle.dumps(WorkerMessage()))
        begun: deque[PendingTask | BaseException] = deque()
        while True:  # on a GPU the next one is begun before the last one is waited for
            while not begun or (len(begun) <= groups_ahead(device) and not shards.empty()):
                try:
                    begun.append(desk.begin(shards.get()))
                except Exception as error:  # noqa: BLE001  the parent raises it
                    begun.append(error)
            pipe.send_bytes(news(desk, begun.popleft()))


def _read(pipe: Connection, shards: SimpleQueue[Task]) -> None:
    """Take shards off the pipe, so that the parent never waits; end with the parent."""
    try:
        while True:
            shards.put(pickle.loads(pipe.recv_bytes()))
    finally:
        os._exit(1)


def news(desk: WorkerSession, begun: PendingTask | BaseException) -> bytes:
    """What became of a shard, as the bytes of a `WorkerMessage`."""
    try:
        if isinstance(begun, BaseException):
            raise begun
        return pickle.dumps(WorkerMessage(made=desk.end(begun)))
    except Exception as error:  # noqa: BLE001  the parent raises it
        try:
            return pickle.dumps(WorkerMessage(error=error))
        except Exception:  # noqa: BLE001  an error that holds what cannot be sent
            return pickle.dumps(
                WorkerMessage(error=RuntimeError(f"{type(error).__name__}: {error}"))
            )


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """SIGINT is held back here meanwhile, and for good in a process that is started."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
