"""Workers that may die: who holds which group, who gets the next one, who tries again."""

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
from iaside_plugins.parallel.tasks import Array, Task, TaskResult
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.rows import ImageNote, ImageWithDonor, row_key
from iaside_plugins.value_table.stream import Item

RETRIES = 2  # how often a group is tried again after the worker that ran it died
HELD = 2  # groups a worker holds: the next one is there when the one under way is done
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerMessage:
    """News of a worker: ready, rows (`made`), an `error` of its own, or its death (`died`: why)."""

    made: TaskResult | None = None
    error: BaseException | None = None
    died: str | None = None


class Workers(typing.Protocol):
    """Processes or actors, by their places 0, 1, ...; each says when it is ready."""

    def start(self, place: int) -> None:
        """Begin to start the worker of a place; the one that was there is dead."""

    def give(self, place: int, shard: Task) -> None:
        """Give a worker a shard; they are made in the order given."""

    def hear(self) -> list[tuple[int, WorkerMessage]]:
        """Wait for news of one worker or several."""


class Scheduler:
    """Hands shards to workers, at most `HELD` to each, and starts dead workers anew.

    Args:
        workers: Who works.
        n_workers: How many.
        retries: How often a shard is tried again after the worker that ran it died.

    Raises:
        InputError: From `take`, where a shard killed every worker that tried it (the images are
            named), or workers die before they are ready.
    """

    def __init__(self, workers: Workers, n_workers: int, retries: int = RETRIES) -> None:
        self.workers, self.n_workers, self.retries = workers, n_workers, retries
        self._held: dict[int, deque[Task]] = {}  # of the workers that are ready
        self._queue: deque[Task] = deque()  # given, at no worker yet
        self._tries: dict[int, int] = {}  # by the shard's identity
        self._failed_starts = 0
        self.broken = False  # whether it lacks a worker for good: nothing more can be waited for
        for place in range(n_workers):
            workers.start(place)

    @property
    def n_under_way(self) -> int:
        """Shards that were given and not taken."""
        return len(self._queue) + sum(map(len, self._held.values()))

    @property
    def full(self) -> bool:
        """Whether every worker has enough: take before giving more."""
        return self.n_under_way >= HELD * self.n_workers

    def give(self, shard: Task) -> None:
        """Hand a shard out, now or as soon as a worker is ready."""
        self._queue.append(shard)
        self._hand_out()

    def take(self) -> list[tuple[Task, TaskResult]]:
        """Wait for finished shards, in the order they finish."""
        done: list[tuple[Task, TaskResult]] = []
        while not done and self.n_under_way:
            for place, heard in self.workers.hear():
                if heard.died is not None:
                    self._died(place, heard.died)
                elif heard.error is not None:
                    self._held[place].popleft()
                    raise heard.error
                elif heard.made is not None:
                    shard = self._held[place].popleft()
                    self._tries.pop(id(shard), None)
                    done.append((shard, heard.made))
                else:
                    self._held[place] = deque()
                    self._failed_starts = 0
            self._hand_out()
        return done

    def _hand_out(self) -> None:
        while self._queue and self._held:
            place = min(self._held, key=lambda k: len(self._held[k]))
            if len(self._held[place]) >= HELD:
                return
            shard = self._queue.popleft()
            self._held[place].append(shard)
            self.workers.give(place, shard)

    def _died(self, place: int, why: str) -> None:
        """Put back what a dead worker held, and start another one in its place."""
        if place not in self._held:
            self._failed_starts += 1
            if self._failed_starts > self.retries:
                self.broken = True
                raise InputError(f"worker {place} does not start: {why}")
        held = self._held.pop(place, deque())
        if held:
            tried = held[0]  # the others only stood in line behind it
            self._tries[id(tried)] = self._tries.get(id(tried), 0) + 1
            names = ", ".join(name for _, _, name in tried.heads[:5])
            if self._tries[id(tried)] > self.retries:
                self.broken = True
                raise InputError(
                    f"{self.retries + 1} workers died one after the other on the images {names} "
                    f"({why}); lower batch_size where memory is short, or take the images out"
                )
            _log.warning("worker %d died (%s): images %s go to another", place, why, names)
        self._queue.extendleft(reversed(held))
        self.workers.start(place)


@dataclass(eq=False)
class RowRequest:
    """One model's run over one stream of images.

    Attributes:
        model: Name of the model, for the workers.
        protocol: The choices that change a number.
        batch_size: As `Game.batch_size`.
        precision: As `Game.precision`.
        groups: Of `image_groups`.
        store: Where finished rows are.
        stopped: Set where no more images are needed.
        n_forward: Images that went through the model.
        choices: How the model is run, once that is settled.
    """

    model: str
    protocol: Protocol
    batch_size: int | str
    precision: str
    groups: Iterable[list[ImageWithDonor]]
    store: RowStore
    stopped: bool = False
    n_forward: int = 0
    choices: dict[str, Any] | None = None
    begun: set[str] = field(default_factory=set)  # keys that are in the store or will be

    def shard(self, group: list[ImageWithDonor], first: int) -> Task:
        """A group as it goes to a worker."""
        donors = [donor.image.numpy() for _, donor in group if donor is not None]
        return Task(
            self.model,
            self.protocol,
            self.batch_size,
            self.precision,
            self.choices,
            first,
            images=np.stack([item.image.cpu().numpy() for item, _ in group]),
            donors=np.stack(donors) if donors else None,
            heads=tuple((item.label, item.digest, item.name) for item, _ in group),
        )


@dataclass
class _InLine:
    """A group that waits for its turn; its images are with the worker, their shape stays."""

    run: RowRequest
    group: list[ImageWithDonor]
    keys: list[str]
    rows: Array | None
    ready: bool


def computed_by(
    crew: Scheduler, runs: Iterable[RowRequest]
) -> Iterator[tuple[RowRequest, list[ImageWithDonor], list[str]]]:
    """What `rows.computed` gives for each run, one after the other, made by a crew.

    The next run begins while the last shards of the one before it are under way. Images of the
    groups that are given have a shape and no pixels.

    Raises:
        InputError: As `rows.computed` and `Scheduler.take`; what was under way is kept.
    """
    line: deque[_InLine] = deque()
    waiting: dict[int, _InLine] = {}

    def arrive() -> None:
        for shard, made in crew.take():
            place = waiting.pop(id(shard))
            run, place.rows, place.ready = place.run, made.rows, True
            run.n_forward += made.n_forward
            if run.choices is None:  # the first one settles for all
                run.choices = made.choices or {}
                if made.choices is not None:
                    run.store.settle("forwards", made.choices)
                    run.store.settle("steps", made.steps)
            for key, row, (item, _) in zip(place.keys, made.rows, place.group, strict=True):
                run.store.add(key, row, ImageNote.of(item).to_json())

    def heads() -> Iterator[tuple[RowRequest, list[ImageWithDonor], list[str]]]:
        while line and line[0].ready:
            head = line.popleft()
            if head.rows is not None:  # another group may hold one of these images too
                head.run.store.rows.update(zip(head.keys, head.rows, strict=True))
            if not head.run.stopped:
                yield head.run, head.group, head.keys

    try:
        for run in runs:
            run.begun |= set(run.store.rows)
            run.choices, first = run.store.settled.get("forwards"), 0
            for group in run.groups:
                keys = [row_key(run.protocol, group, k, first) for k in range(len(group))]
                ready = run.begun.issuperset(keys)  # if begun, then by a group ahead in line
                run.begun.update(keys)
                line.append(
                    _InLine(run, [_shape_only(item) for item, _ in group], keys, None, ready)
                )
                if not ready:
                    shard = run.shard(group, first)
                    waiting[id(shard)] = line[-1]
                    crew.give(shard)
                plain = run.protocol.forwards == "plain"
                while crew.full or (waiting and not plain and run.choices is None):
                    arrive()
                    yield from heads()
                yield from heads()
                first += len(group)
                if run.stopped:
                    break
        while waiting:
            arrive()
            yield from heads()
        yield from heads()
    except InputError:
        while waiting and not crew.broken:
            with contextlib.suppress(InputError):  # the first one is raised
                arrive()
            if not crew.n_under_way:
                break
        raise


def _shape_only(item: Item) -> ImageWithDonor:
    return replace(item, image=item.image.to("meta")), None
