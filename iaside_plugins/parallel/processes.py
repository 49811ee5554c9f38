"""Worker processes on this machine, one a device: a copy of the model in each, images by pipe.

A worker ends with its parent, however that ends; the parent ends its workers when it is done.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import nn

from iaside_plugins.allocator import keep_freed_memory
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.forward import Model
from iaside_plugins.parallel.scheduler import RowRequest, Scheduler, scheduled_groups
from iaside_plugins.parallel.tasks import StartedTask, Task, WorkerMessage, WorkerSession
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.rows import Group, groups_ahead, stored_groups

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
POLL = 1.0  # seconds between two looks at who is silent
ALIVE = b""  # what a worker sends every `BEAT` seconds
BEAT = 5.0
SILENT = 60.0  # seconds of waiting without a word, after which a worker is ended
SILENT_START = 300.0  # the same while it starts: it imports libraries, and reads the model
_log = logging.getLogger(__name__)
Devices = torch.device | str | Sequence[torch.device | str] | None


def one_or_several(device: Devices) -> tuple[torch.device | None, list[torch.device]]:
    """Return a single device (or None, as given), or several of a list or of "cuda:0,cuda:1".

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


def finished_groups(
    model: Model, game: Game, requests: Sequence[RowRequest], devices: Sequence[torch.device]
) -> Generator[tuple[RowRequest, Group, list[str]], None, None]:
    """Yield each request's groups with the keys of their rows, made here or by a process a device.

    Args:
        model: The model.
        game: Runs it here, where there are not several devices.
        requests: The groups, what their rows hold, and where finished ones are.
        devices: Several, or none for the game's own.
    """
    if not devices:
        for request in requests:
            for group, keys in stored_groups(game, request.groups, request.store, request.layout):
                yield request, group, keys
        return
    with device_workers(model, devices) as scheduler:
        yield from scheduled_groups(scheduler, requests)


@contextlib.contextmanager
def device_workers(model: Model, devices: Sequence[torch.device]) -> Iterator[Scheduler]:
    """Start one process a device, and yield their scheduler; they end with the context.

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


class _Worker:
    """A process; threads write to and read from its pipe, so that this one never waits for it.

    Attributes:
        silent: For how many seconds of waiting it has said nothing.
        started: Whether it is ready.
    """

    def __init__(self, process: Any, pipe: Connection, model: bytes, inbox: Inbox) -> None:
        self.process, self.pipe = process, pipe
        self.silent, self.started, self.warned = 0.0, False, False
        self.outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self.outbox.put(model)
        self.threads = [
            threading.Thread(target=self._write, daemon=True),
            threading.Thread(target=self._read, args=(inbox,), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # it is dead: `_read` says so
            while (data := self.outbox.get()) is not None:
                self.pipe.send_bytes(data)

    def _read(self, inbox: Inbox) -> None:
        try:
            while True:
                inbox.put((self, self.pipe.recv_bytes()))
        except (EOFError, OSError):
            inbox.put((self, None))

    def end(self, seconds: float = 5.0) -> int | None:
        """Kill the process; return its exit code, None if it hangs in a driver."""
        self.process.kill()  # nothing, if it is dead already
        self.process.join(seconds)
        code: int | None = self.process.exitcode
        self.outbox.put(None)
        if code is not None:
            self.process.close()
            for thread in self.threads:
                thread.join(seconds)
            if not any(thread.is_alive() for thread in self.threads):
                self.pipe.close()
        return code


Inbox = SimpleQueue[tuple[_Worker, bytes | None]]  # what workers say; None: it is dead


class Processes:
    """Worker processes, numbered as their devices; see `scheduler.Workers`.

    One that gives no sign of life for a while (it was stopped, or its driver stands still) is
    ended, as if it had died.
    """

    def __init__(self, model: Model, devices: Sequence[torch.device]) -> None:
        self.devices = devices
        # The workers share the threads that this process has.
        threads = max(1, torch.get_num_threads() // len(devices))
        self._model, self._environment = packed(model), WorkerEnvironment.current(threads)
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, _Worker] = {}
        self._inbox: Inbox = SimpleQueue()

    def start(self, worker: int) -> None:
        """Start a process; Ctrl-C reaches the parent alone, which ends its workers."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self.devices[worker], self._environment), daemon=True
        )
        with without_interrupts():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        # The model is no argument, which would be written to a pipe that this process holds open
        # for reading: with a worker that dies first, that would never end.
        self._running[worker] = _Worker(process, ours, self._model, self._inbox)

    def send(self, worker: int, task: Task) -> None:
        """Send a task; if the worker is dead, `receive` will say so."""
        # As bytes: torch would put the tensors of its own objects into shared memory.
        self._running[worker].outbox.put(pickle.dumps(task))

    def receive(self) -> list[tuple[int, WorkerMessage]]:
        """Wait for a message of a worker, or for one to be silent for too long."""
        while True:
            before = time.monotonic()
            with contextlib.suppress(Empty):
                one, held = self._inbox.get(timeout=POLL)
                one.silent = 0.0
                worker = next((n for n, known in self._running.items() if known is one), None)
                if worker is not None and held is None:
                    return [(worker, WorkerMessage(died=self._cause_of_death(worker)))]
                if worker is not None and held:
                    one.started = True
                    return [(worker, pickle.loads(held))]
            # No more than a moment each time: all of this may have stood still with its workers.
            silent = self._silent(min(time.monotonic() - before, 2 * POLL))
            if silent is not None:
                return [silent]

    def _silent(self, waited: float) -> tuple[int, WorkerMessage] | None:
        """Count a time of waiting; end a worker that has been silent for too long."""
        for worker, one in self._running.items():
            one.silent += waited
            if one.silent >= (SILENT if one.started else SILENT_START):
                del self._running[worker]
                one.end()
                why = f"no sign of life for {one.silent:.0f} seconds"
                return worker, WorkerMessage(died=why)
            if one.silent >= SILENT and not one.warned:
                one.warned = True
                _log.warning(
                    "worker %d gives no sign of life since %.0f seconds; it is ended after %.0f",
                    worker,
                    one.silent,
                    SILENT_START,
                )
        return None

    def _cause_of_death(self, worker: int) -> str:
        """Clean up after a dead process, and say how it ended."""
        code = self._running.pop(worker).end()
        if code is not None and code < 0:
            return f"killed by signal {-code}"
        return f"exit code {code}; {DIED_EARLY}"

    def stop(self) -> None:
        """End all processes, whatever they do."""
        for one in self._running.values():
            one.process.kill()
        for one in self._running.values():
            one.end()
        self._running = {}


def packed(model: Model, pickle_module: Any = pickle) -> bytes:
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
    """Return the model of `packed`, on a device; only for bytes that this program made itself."""
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


def _work(pipe: Connection, device: torch.device, environment: WorkerEnvironment) -> None:
    """Carry out tasks, until the process is ended."""
    keep_freed_memory()
    tasks: SimpleQueue[Task] = SimpleQueue()
    sending = threading.Lock()

    def send(data: bytes) -> None:
        with sending:
            pipe.send_bytes(data)

    with contextlib.suppress(OSError, EOFError):  # the parent is gone
        send(ALIVE)
        threading.Thread(target=_beat, args=(send,), daemon=True).start()
        model = pipe.recv_bytes()
        threading.Thread(target=_read, args=(pipe, tasks), daemon=True).start()
        environment.apply()
        session = WorkerSession(unpacked(model, device), device)
        del model
        send(pickle.dumps(WorkerMessage()))
        started: deque[StartedTask | BaseException] = deque()
        while True:  # on a GPU the next task is started before the last one is waited for
            while not started or (len(started) <= groups_ahead(device) and not tasks.empty()):
                try:
                    started.append(session.start(tasks.get()))
                except Exception as error:  # noqa: BLE001  the parent raises it
                    started.append(error)
            send(session.message(started.popleft()))


def _beat(send: Callable[[bytes], None]) -> None:
    """Give signs of life, until the process is ended."""
    with contextlib.suppress(OSError):
        while True:
            time.sleep(BEAT)
            send(ALIVE)


def _read(pipe: Connection, tasks: SimpleQueue[Task]) -> None:
    """Take tasks off the pipe, so that the parent never waits; end with the parent."""
    try:
        while True:
            tasks.put(pickle.loads(pipe.recv_bytes()))
    finally:
        os._exit(1)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Block SIGINT here meanwhile, and for good in a process that is started."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
