"""Every file of an evaluation read once: each batch goes to what takes it, as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.evaluation.batches import Batch, BatchRows
from iaside_plugins.evaluation.conditions import ConditionRows, Images

Together = Callable[[Sequence[Any]], Iterable[tuple[int, Batch]]]
"""Reads several streams in one pass: -> (index, batch), the batches of each stream in its order.

What it returns may have `ready()`, whether the next batch is there, and `close()`.
"""


@dataclass(frozen=True, eq=False)
class ConditionStream:
    """Images under one condition, and what takes their batches.

    Attributes:
        images: Batches of (images, labels, ids).
        rows: Take every batch; their names are those of the keys, their stores hold the rows.
        condition: What a decomposition calls the perturbation; None without one.
    """

    images: Images
    rows: tuple[ConditionRows, ...]
    condition: Condition | None = None

    def take(self, batch: Batch | BatchRows) -> None:
        """Add the rows of the next batch, stored or computed, here or by a worker."""
        for rows in self.rows:
            rows.take(batch)


def in_turn(streams: Sequence[Images]) -> Iterator[tuple[int, Batch]]:
    """Yield the batches of streams, one stream after another, with the number of the stream."""
    for k, images in enumerate(streams):
        yield from ((k, batch) for batch in images)


class SharedReader:
    """The images of the first stream, one by one, while all streams are read and taken.

    What iterates works on an image while the next batches are made: an image is given whenever no
    batch is ready, and those of one batch at the latest before the next one of the first stream,
    so few are held.

    Args:
        streams: All of them.
        together: Reads them.
        take: Takes every batch, with its stream.
    """

    def __init__(
        self,
        streams: Sequence[ConditionStream],
        together: Together,
        take: Callable[[ConditionStream, Batch], None] = ConditionStream.take,
    ) -> None:
        self._streams, self._together, self._take = streams, together, take

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches (images, labels, ids) of one image."""
        waiting: deque[Batch] = deque()
        with ExitStack() as stack:
            coming = iter(self._together([stream.images for stream in self._streams]))
            stack.callback(getattr(coming, "close", lambda: None))
            is_ready = getattr(coming, "ready", lambda: False)
            while True:
                while waiting and not is_ready():
                    yield waiting.popleft()
                if (found := next(coming, None)) is None:
                    break
                k, batch = found
                if k == 0:
                    yield from waiting
                    waiting = deque(_each(batch))
                self._take(self._streams[k], batch)
        yield from waiting


def _each(batch: Batch) -> Iterator[Batch]:
    """Yield the images of a batch one by one."""
    images, labels, ids = batch
    for k, name in enumerate(ids):
        yield images[k : k + 1], labels[k : k + 1], [name]
