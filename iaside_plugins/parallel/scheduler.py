"""Workers that may die: who holds which group, who gets the next one, who tries again."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from iaside_plugins.errors import InputError
from iaside_plugins.parallel.tasks import Made, Shard

RETRIES = 2  # how often a group is tried again after the worker that ran it died
HELD = 2  # groups a worker holds: the next one is there when the one under way is done
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """News of a worker: ready, rows (`made`), an `error` of its own, or its death (`died`: why)."""

    made: Made | None = None
    error: BaseException | None = None
    died: str | None = None


class Workers(Protocol):
    """Processes or actors, by their places 0, 1, ...; each says when it is ready."""

    def start(self, place: int) -> None:
        """Begin to start the worker of a place; the one that was there is dead."""

    def give(self, place: int, shard: Shard) -> None:
        """Give a worker a shard; they are made in the order given."""

    def hear(self) -> list[tuple[int, Heard]]:
        """Wait for news of one worker or several."""


class Crew:
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
        self._held: dict[int, deque[Shard]] = {}  # of the workers that are ready
        self._queue: deque[Shard] = deque()  # given, at no worker yet
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

    def give(self, shard: Shard) -> None:
        """Hand a shard out, now or as soon as a worker is ready."""
        self._queue.append(shard)
        self._hand_out()

    def take(self) -> list[tuple[Shard, Made]]:
        """Wait for finished shards, in the order they finish."""
        done: list[tuple[Shard, Made]] = []
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
