"""Workers that may die: parts of jobs go to whoever is free, and their results come in order.

A thread each drives a worker: a process of this machine (`processes`), or an actor of a cluster
(`adapters.ray_adapter`). The part of one that dies goes to whoever is free next.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, PriorityQueue
from typing import Any

import torch

from iaside_plugins.errors import InputError
from iaside_plugins.inference.forward import Model
from iaside_plugins.parallel.session import packed

RETRIES = 2  # how often a part is tried again after the worker that did it died
AHEAD = 4  # parts a worker that are handed out before the first of them is taken back
_log = logging.getLogger(__name__)


class DiedError(Exception):
    """A worker died, or gives no sign of life; its text says how."""


class Worker(typing.Protocol):
    """A process somewhere in which a `session.Session` does parts of jobs."""

    def start(self) -> None:
        """Start it, or start it again, and wait until it is ready; raise DiedError otherwise."""

    def run(self, model: Any, job: Any, data: bytes) -> bytes:
        """Return what `Session.run` gives; raise DiedError otherwise."""

    def stop(self) -> None:
        """End it, whatever it does: a call that is under way raises DiedError."""


@dataclass(frozen=True)
class Part:
    """A part of a job.

    Attributes:
        model: The model, of `Pool.put_model`.
        job: A `session.Job`, of `Pool.put`.
        data: What the job is done on, or None where nothing is to do: its result is None.
        names: Names of images in it.
        tag: Whatever the caller knows it by; it stays here.
        alone: Whether its result is taken before the next part is asked for.
    """

    model: Any
    job: Any
    data: Any
    names: Sequence[str] = ()
    tag: Any = None
    alone: bool = False


@dataclass(order=True)
class _Task:
    number: float
    part: Part | None = field(compare=False)  # None: there are no more
    data: bytes = field(compare=False, default=b"")
    deaths: int = field(compare=False, default=0)
    future: Future[Any] = field(compare=False, default_factory=Future)


class Pool:
    """Does parts of jobs by several workers; a context manager, with which they end.

    Args:
        workers: Who works.
        device: Of each of them; those of one kind compute the same.
        share: Puts bytes where every worker finds them, once: -> what it finds them by.
        retries: How often a part is tried again after the worker that did it died.
        pickler: The module that pickles models and jobs.

    Attributes:
        device: As given.
        n_workers: How many.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        device: torch.device,
        share: Callable[[bytes], Any],
        retries: int = RETRIES,
        pickler: Any = pickle,
    ) -> None:
        self.device, self.n_workers = device, len(workers)
        self._workers, self._retries = workers, retries
        self._share, self._pickler = share, pickler
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._numbers = itertools.count()
        self._broken: Exception | None = None
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in workers
        ]

    def __enter__(self) -> Pool:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        for _ in range(100):  # ten seconds: a process may hang in a driver
            for worker in self._workers:
                worker.stop()  # again: one may have been about to start
                self._tasks.put(_Task(-1, None))  # before all others
            for thread in self._threads:
                thread.join(0.1 / self.n_workers)
            if not any(thread.is_alive() for thread in self._threads):
                break

    def put_model(self, model: Model) -> Any:
        """Return by what parts name a model, of which every worker gets a copy.

        Raises:
            InputError: As `session.packed`.
            InputTypeError: As `session.packed`.
        """
        return self._share(packed(model, self._pickler))

    def put(self, job: Any) -> Any:
        """Return by what parts name a job, which every worker gets once.

        Raises:
            InputError: It cannot be pickled.
        """
        try:
            return self._share(self._pickler.dumps(job))
        except Exception as error:  # whatever a class of the user's raises
            raise InputError(
                f"the images cannot be sent to another process ({error}); define their class at "
                "the top of a module"
            ) from error

    def results(self, parts: Iterable[Part]) -> Iterator[tuple[Part, Any]]:
        """Yield the parts with their results, in order; they are asked for as workers need them.

        Raises:
            InputError: A part killed every worker that tried it (its images are named), or workers
                die before they are ready; the results before it were yielded.
            Exception: What a job raises, at its turn.
        """
        waiting: deque[tuple[Part, Future[Any]]] = deque()
        each, end = iter(parts), None
        try:
            while end is None:
                part = None
                try:
                    part = next(each)
                    waiting.append((part, self._submit(part)))
                except (StopIteration, InputError) as raised:
                    end = raised  # what is under way comes first
                hold = part is None or part.alone
                while waiting and (hold or self._full(waiting) or waiting[0][1].done()):
                    first, future = waiting.popleft()
                    yield first, future.result()
            if isinstance(end, InputError):
                raise end
        finally:
            for _, future in waiting:
                future.cancel()

    def _full(self, waiting: Sized) -> bool:
        return len(waiting) >= AHEAD * self.n_workers

    def _submit(self, part: Part) -> Future[Any]:
        task = _Task(next(self._numbers), part)
        if part.data is None:
            task.future.set_result(None)
            return task.future
        task.data = pickle.dumps(part.data)
        self._tasks.put(task)
        if self._broken is not None:
            self._refuse_all(self._broken)
        return task.future

    def _serve(self, worker: Worker) -> None:
        """Drive a worker, until there are no more tasks."""
        failed_starts = 0
        while not self._ending.is_set():
            task = None
            try:
                worker.start()
                failed_starts = 0
                while (task := self._tasks.get()).part is not None:
                    _do(worker, task, task.part)
            except DiedError as error:
                if task is not None and task.part is not None:
                    self._try_again(task, task.part, str(error))
                elif (failed_starts := failed_starts + 1) > self._retries:
                    return self._refuse_all(InputError(f"a worker does not start: {error}"))
            except Exception as error:  # noqa: BLE001  raised where results are waited for
                return self._refuse_all(error)
        return worker.stop()

    def _try_again(self, task: _Task, part: Part, why: str) -> None:
        """Queue the task of a dead worker again."""
        if self._ending.is_set():
            return
        task.deaths += 1
        names = ", ".join(part.names[:5])
        if task.deaths > self._retries:
            error = InputError(
                f"{task.deaths} workers died one after the other on the images {names} "
                f"({why}); lower batch_size where memory is short, or take the images out"
            )
            task.future.set_exception(error)
            return
        _log.warning("a worker died (%s): images %s go to another", why, names)
        self._tasks.put(task)

    def _refuse_all(self, error: Exception) -> None:
        """Let all tasks fail that nobody has begun, and those to come."""
        self._broken = error
        while True:
            try:
                task = self._tasks.get_nowait()
            except Empty:
                return
            with suppress(InvalidStateError):  # nobody waits for it any more
                task.future.set_exception(error)


def _do(worker: Worker, task: _Task, part: Part) -> None:
    """Do a task by a worker, unless nobody waits for it any more."""
    if task.deaths == 0 and not task.future.set_running_or_notify_cancel():
        return
    try:
        result, error = pickle.loads(worker.run(part.model, part.job, task.data))
    except DiedError:
        raise
    except Exception as unforeseen:  # noqa: BLE001  raised where the result is waited for
        result, error = None, unforeseen
    if error is None:
        task.future.set_result(result)
    else:
        task.future.set_exception(error)
