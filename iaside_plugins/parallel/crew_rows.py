"""Rows of the value table made by several workers, the same as one process makes.

The parent reads the images, groups them as a single process would, and hands whole groups out; a
row depends on its group alone, so who makes it changes nothing. Rows come back in any order, are
kept as they come, and are given on in the order of the images. A worker may die at any moment:
what it held goes to another one.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from iaside_plugins.errors import InputError
from iaside_plugins.parallel.scheduler import Crew
from iaside_plugins.parallel.tasks import Array, Shard
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.rows import Pair, Seen, row_key
from iaside_plugins.value_table.stream import Item


@dataclass(eq=False)
class Run:
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
    groups: Iterable[list[Pair]]
    store: RowStore
    stopped: bool = False
    n_forward: int = 0
    choices: dict[str, Any] | None = None
    begun: set[str] = field(default_factory=set)  # keys that are in the store or will be

    def shard(self, group: list[Pair], first: int) -> Shard:
        """A group as it goes to a worker."""
        donors = [donor.image.numpy() for _, donor in group if donor is not None]
        return Shard(
            self.model, self.protocol, self.batch_size, self.precision, self.choices, first,
            images=np.stack([item.image.cpu().numpy() for item, _ in group]),
            donors=np.stack(donors) if donors else None,
            heads=tuple((item.label, item.digest, item.name) for item, _ in group),
        )  # fmt: skip


@dataclass
class _InLine:
    """A group that waits for its turn; its images are with the worker, their shape stays."""

    run: Run
    group: list[Pair]
    keys: list[str]
    rows: Array | None
    ready: bool


def computed_by(crew: Crew, runs: Iterable[Run]) -> Iterator[tuple[Run, list[Pair], list[str]]]:
    """What `rows.computed` gives for each run, one after the other, made by a crew.

    The next run begins while the last shards of the one before it are under way. Images of the
    groups that are given have a shape and no pixels.

    Raises:
        InputError: As `rows.computed` and `Crew.take`; what was under way is kept.
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
                run.store.add(key, row, Seen.of(item).to_json())

    def heads() -> Iterator[tuple[Run, list[Pair], list[str]]]:
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
                line.append(_InLine(run, [_shape_only(item) for item, _ in group], keys, None,
                                    ready))  # fmt: skip
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


def _shape_only(item: Item) -> Pair:
    return replace(item, image=item.image.to("meta")), None
