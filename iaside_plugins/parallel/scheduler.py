"""Workers that may die: which worker has which task, who gets the next one, what is tried again."""

from __future__ import annotations

import contextlib
import logging
import typing
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from iaside_plugins.errors import InputError
from iaside_plugins.parallel.tasks import Array, Task, TaskResult, WorkerMessage
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.rows import Group, ImageWithDonor, row_keys, store_rows
from iaside_plugins.value_table.stream import Item

RETRIES = 2  # how often a task is tried again after the worker that ran it died
TASKS_PER_WORKER = 2  # the next task is there when the current one is done
_log = logging.getLogger(__name__)


class Workers(typing.Protocol):
    """Processes or actors, numbered 0, 1, ...; each says when it is ready."""

    def start(self, worker: int) -> None:
        """Begin to start a worker; the one that had its number is dead."""

    def send(self, worker: int, task: Task) -> None:
        """Send a task to a worker, which carries tasks out in the order sent."""

    def receive(self) -> list[tuple[int, WorkerMessage]]:
        """Wait for messages of one worker or several."""


class Scheduler:
    """Hands tasks to workers, `TASKS_PER_WORKER` at most, and starts dead workers again.

    Args:
        workers: Who works.
        n_workers: How many.
        retries: How often a task is tried again after the worker that ran it died.

    Attributes:
        broken: True once a worker could not be restarted, or a task killed every worker that tried
            it: results can no longer be waited for.

    Raises:
        InputError: From `finished`, where a task killed every worker that tried it (the images are
            named), or workers die before they are ready.
    """

    def __init__(self, workers: Workers, n_workers: int, retries: int = RETRIES) -> None:
        self.workers, self.n_workers, self.retries = workers, n_workers, retries
        self._assigned: dict[int, deque[Task]] = {}  # by worker, of those that are ready
        self._queue: deque[Task] = deque()  # tasks that no worker has yet
        self._deaths: dict[int, int] = {}  # workers that died on a task, by its id()
        self._failed_starts = 0
        self.broken = False
        for worker in range(n_workers):
            workers.start(worker)

    @property
    def n_unfinished(self) -> int:
        """Number of tasks that were submitted and have no result yet."""
        return len(self._queue) + sum(map(len, self._assigned.values()))

    @property
    def full(self) -> bool:
        """Whether every worker has enough: wait for results before submitting more."""
        return self.n_unfinished >= TASKS_PER_WORKER * self.n_workers

    def submit(self, task: Task) -> None:
        """Hand a task to a worker, now or as soon as one is ready."""
        self._queue.append(task)
        self._assign()

    def finished(self) -> list[tuple[Task, TaskResult]]:
        """Wait for results, and return them with their tasks in the order they came."""
        done: list[tuple[Task, TaskResult]] = []
        while not done and self.n_unfinished:
            for worker, message in self.workers.receive():
                if message.died is not None:
                    self._restart(worker, message.died)
                elif message.error is not None:
                    self._assigned[worker].popleft()
                    raise message.error
                elif message.result is not None:
                    task = self._assigned[worker].popleft()
                    self._deaths.pop(id(task), None)
                    done.append((task, message.result))
                else:
                    self._assigned[worker] = deque()
                    self._failed_starts = 0
            self._assign()
        return done

    def _assign(self) -> None:
        """Send queued tasks to the workers that have the fewest."""
        while self._queue and self._assigned:
            worker = min(self._assigned, key=lambda k: len(self._assigned[k]))
            if len(self._assigned[worker]) >= TASKS_PER_WORKER:
                return
            task = self._queue.popleft()
            self._assigned[worker].append(task)
            self.workers.send(worker, task)

    def _restart(self, worker: int, why: str) -> None:
        """Queue a dead worker's tasks again, and start another worker in its place."""
        if worker not in self._assigned:
            self._failed_starts += 1
            if self._failed_starts > self.retries:
                self.broken = True
                raise InputError(f"worker {worker} does not start: {why}")
        tasks = self._assigned.pop(worker, deque())
        if tasks:
            task = tasks[0]  # the others had not begun
            self._deaths[id(task)] = self._deaths.get(id(task), 0) + 1
            names = ", ".join(task.names[:5])
            if self._deaths[id(task)] > self.retries:
                self.broken = True
                raise InputError(
                    f"{self.retries + 1} workers died one after the other on the images {names} "
                    f"({why}); lower batch_size where memory is short, or take the images out"
                )
            _log.warning("worker %d died (%s): images %s go to another", worker, why, names)
        self._queue.extendleft(reversed(tasks))
        self.workers.start(worker)


@dataclass(eq=False)
class RowRequest:
    """One model's run over one stream of images.

    Attributes:
        model: Name of the model, for the workers.
        protocol: The choices that change a number.
        batch_size: As `ModelRunner.batch_size`.
        precision: As `ModelRunner.precision`.
        groups: Of `image_groups`.
        store: Where finished rows are.
        layout: What the rows hold; by default values and hits alone.
        stopped: Set where no more images are needed.
        n_forward: Images that went through the model.
        choices: How the model is run, once that is known (`Forward.choices`).
    """

    model: str
    protocol: Protocol
    batch_size: int | str
    precision: str
    groups: Iterable[Group]
    store: RowStore
    layout: RowLayout | None = None
    stopped: bool = False
    n_forward: int = 0
    choices: dict[str, Any] | None = None
    _requested: set[str] = field(default_factory=set)  # keys that are in the store or will be

    def request(self, keys: list[str]) -> bool:
        """Note that these rows are requested; return whether any of them was not before."""
        new = not self._requested.issuperset(keys)
        self._requested.update(keys)
        return new

    def task(self, group: Group, first: int) -> Task:
        """Return a group as it goes to a worker."""
        each = [donor for _, donor in group if donor is not None]
        each = each[:1] if all(donor is each[0] for donor in each) else each
        donors = [donor.image.numpy() for donor in each]
        return Task(
            self.model,
            self.protocol,
            self.batch_size,
            self.precision,
            self.choices,
            first,
            images=np.stack([item.image.cpu().numpy() for item, _ in group]),
            donors=np.stack(donors) if donors else None,
            labels=tuple(item.label for item, _ in group),
            digests=tuple(item.digest for item, _ in group),
            names=tuple(item.name for item, _ in group),
            layout=self.layout,
        )

    def take_result(self, result: TaskResult, group: Group, keys: list[str]) -> None:
        """Store the rows of a group; the first result says how the model is run."""
        self.n_forward += result.n_forward
        if self.choices is None:
            self.choices = result.choices or {}
            if result.choices is not None:
                self.store.record_choice("forwards", result.choices)
                self.store.record_choice("steps", result.steps)
        store_rows(self.store, group, keys, result.rows)


@dataclass
class _QueuedGroup:
    """A group that waits for its turn; its images have a shape and no pixels."""

    request: RowRequest
    group: Group
    keys: list[str]
    rows: Array | None
    ready: bool


def scheduled_groups(
    scheduler: Scheduler, requests: Iterable[RowRequest]
) -> Iterator[tuple[RowRequest, Group, list[str]]]:
    """Yield what `rows.stored_groups` yields for each request, one after the other.

    Workers make the rows. The next request begins while the last tasks of the one before it are
    under way. The images in the groups have a shape and no pixels.

    Raises:
        InputError: As `rows.stored_groups` and `Scheduler.finished`; the rows of tasks that are
            under way are stored first.
    """
    queue: deque[_QueuedGroup] = deque()
    waiting: dict[int, _QueuedGroup] = {}  # by the id() of the task

    def receive() -> None:
        for task, result in scheduler.finished():
            one = waiting.pop(id(task))
            one.rows, one.ready = result.rows, True
            one.request.take_result(result, one.group, one.keys)

    def ready() -> Iterator[tuple[RowRequest, Group, list[str]]]:
        while queue and queue[0].ready:
            one = queue.popleft()
            if one.rows is not None:  # another group may hold one of these images too
                one.request.store.rows.update(zip(one.keys, one.rows, strict=True))
            if not one.request.stopped:
                yield one.request, one.group, one.keys

    try:
        for request in requests:
            request.request(list(request.store.rows))
            request.choices, first = request.store.choices.get("forwards"), 0
            tuned = request.protocol.forwards != "plain"
            for group in request.groups:
                keys = row_keys(request.protocol, group, first)
                new = request.request(keys)  # if not, a group ahead in the queue makes the rows
                shapes = [_shape_only(item) for item, _ in group]
                queue.append(_QueuedGroup(request, shapes, keys, None, ready=not new))
                if new:
                    task = request.task(group, first)
                    waiting[id(task)] = queue[-1]
                    scheduler.submit(task)
                while scheduler.full or (waiting and tuned and request.choices is None):
                    receive()
                    yield from ready()
                yield from ready()
                first += len(group)
                if request.stopped:
                    break
        while waiting:
            receive()
            yield from ready()
        yield from ready()
    except InputError:
        while waiting and not scheduler.broken:
            with contextlib.suppress(InputError):  # the first one is raised
                receive()
            if not scheduler.n_unfinished:
                break
        raise


def _shape_only(item: Item) -> ImageWithDonor:
    return replace(item, image=item.image.to("meta")), None
