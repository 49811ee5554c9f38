"""Worker processes on this machine, one a device: a copy of the model in each.

A worker ends with its parent, however that ends; the parent ends its workers when it is done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from iaside_plugins.allocator import keep_freed_memory
from iaside_plugins.errors import InputError
from iaside_plugins.parallel.pool import DiedError, Pool
from iaside_plugins.parallel.session import IN_A_MODULE, Session, WorkerEnvironment

READY = b"ready"
ALIVE = b""  # what a worker sends every `BEAT` seconds
BEAT = 5.0
SILENT = 60  # seconds of waiting without a word, after which a worker is ended
SILENT_START = 300  # the same while it starts: it imports libraries
Devices = torch.device | str | Sequence[torch.device | str] | Pool | None


def one_or_several(device: Devices) -> tuple[torch.device | None, list[torch.device]]:
    """Return a single device (or None, as given), or several of a list or of "cuda:0,cuda:1".

    Args:
        device: One, several, or workers, whose kind of device is returned as if it were several.

    Raises:
        InputError: For the name of no device.
    """
    if device is None or isinstance(device, Pool):
        return None, [] if device is None else [device.device]
    names = device.split(",") if isinstance(device, str) else device
    names = [names] if isinstance(names, torch.device) else names
    try:
        found = [torch.device(n.strip() if isinstance(n, str) else n) for n in names]
    except (RuntimeError, TypeError) as error:
        raise InputError(f"expected devices such as cuda:0,cuda:1, got {device!r}") from error
    return (found[0], []) if len(found) == 1 else (None, found)


@contextlib.contextmanager
def workers_of(device: Devices) -> Iterator[Pool | None]:
    """Yield the workers that several devices mean, which end with the context; None for one device.

    A pool is yielded as it is, and goes on.
    """
    _, devices = one_or_several(device)
    if isinstance(device, Pool) or not devices:
        yield device if isinstance(device, Pool) else None
        return
    with device_pool(devices) as pool:
        yield pool


@contextlib.contextmanager
def device_pool(devices: Sequence[torch.device]) -> Iterator[Pool]:
    """Start one process a device, and yield their pool; they end with the context.

    The workers share the threads that this process has.
    """
    threads = max(1, torch.get_num_threads() // len(devices))
    environment = WorkerEnvironment.current(threads)
    with tempfile.TemporaryDirectory(prefix="iaside-workers-") as folder:
        workers = [DeviceProcess(device, environment, folder) for device in devices]

        def share(data: bytes) -> str:
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(data)
            return file.name

        with Pool(workers, devices[0], share) as pool:
            yield pool


class DeviceProcess:
    """A worker process, see `pool.Worker`.

    Args:
        device: Where its model is.
        environment: What it copies of this process.
        folder: Of what is shared, which it removes if this process is killed.
    """

    def __init__(self, device: torch.device, environment: WorkerEnvironment, folder: str) -> None:
        self._arguments = device, environment, folder
        self._process: Any = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Start the process; Ctrl-C reaches the parent alone, which ends its workers."""
        self._end()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # Not a daemon, which could not have processes that read for it.
        way = multiprocessing.get_start_method(allow_none=True)
        process = context.Process(target=_work, args=(theirs, way, *self._arguments), daemon=False)
        with without_interrupts():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        self._process = process
        self._receive(SILENT_START)

    def run(self, model: str, job: str, data: bytes) -> bytes:
        """Return what the process makes of a part."""
        with contextlib.suppress(OSError):  # it is dead: `_receive` says so
            self._open_pipe.send((model, job, data))
        return self._receive(SILENT)

    def stop(self) -> None:
        """Kill the process, and wait until it is gone, unless it hangs in a driver."""
        if self._process is not None:
            self._process.kill()
            self._process.join(5.0)

    @property
    def _open_pipe(self) -> Connection:
        if self._pipe is None:
            raise DiedError("not started")
        return self._pipe

    def _receive(self, seconds: int) -> bytes:
        """Return the next message; end a process that gives no sign of life for so long.

        Seconds of waiting are counted one by one: this process may have stood still too.
        """
        try:
            while any(self._open_pipe.poll(1.0) for _ in range(seconds)):
                if (message := self._open_pipe.recv_bytes()) != ALIVE:
                    return message
        except (EOFError, OSError):
            code = self._end()
            how = f"exit code {code}; {IN_A_MODULE}"
            if code is not None and code < 0:
                how = f"killed by signal {-code}"
            raise DiedError(how) from None
        self._end()
        raise DiedError(f"no sign of life for {seconds} seconds")

    def _end(self) -> int | None:
        """Kill the process; return its exit code, None if there is none or it hangs in a driver."""
        code = None
        if self._process is not None:
            self._process.join(1.0)  # it may be about to end: how it does counts
            self.stop()
            code = self._process.exitcode
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None
        return code


def _work(
    pipe: Connection,
    start_method: str | None,
    device: torch.device,
    environment: WorkerEnvironment,
    folder: str,
) -> None:
    """Do parts of jobs, until the process is ended."""
    keep_freed_memory()
    # Of processes that read, as in the parent: here it would be that by which this one was started,
    # and each of them would import torch anew.
    multiprocessing.set_start_method(start_method, force=True)
    environment.apply()
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    sending = threading.Lock()

    def send(data: bytes) -> None:
        with sending:
            pipe.send_bytes(data)

    def beat() -> None:
        with contextlib.suppress(OSError):
            while True:
                time.sleep(BEAT)
                send(ALIVE)

    threading.Thread(target=beat, daemon=True).start()
    session = Session(device, lambda path: Path(path).read_bytes())
    with contextlib.suppress(OSError, EOFError):  # the parent is gone
        send(READY)
        while True:
            send(session.run(*pipe.recv()))
    _end_with_parent(folder)


def _end_with_parent(folder: str) -> None:
    """Wait for the parent's end, however it comes, and take away what it shared."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Block SIGINT here meanwhile, and for good in a process that is started."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which unblocks SIGINT where it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
