"""Rows of a run made by workers, shard by shard: the same, to the bit, as this process makes.

A shard is a range of the run's images. Where they are files, a worker reads its own and nothing
but their records and the finished rows travels; of any other images the pixels do, group by group.
A file that is unreadable leaves a gap: groups go by the places of the images, so that all others
are as they would be here. Only where `max_images` counts readable images too, the groups at its end
may be cut otherwise, which may move the last bit of their numbers.
"""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import starmap, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import KnownClasses, size_clash
from iaside_plugins.inference.forward import Model
from iaside_plugins.parallel.pool import Part, Pool
from iaside_plugins.parallel.processes import Devices, workers_of
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.rows import (
    FinishedGroup,
    Group,
    ImageNote,
    ImageWithDonor,
    restore,
    row_keys,
    stored_groups,
)
from iaside_plugins.value_table.stream import Item

Array = npt.NDArray[np.float64]
PASSES = 2048  # of a shard, about: a worker is asked for its next one so often
SHARDS = 8  # of a run for each worker, at least, so that all end at about the same time
SETTLED = ("forwards", "batch_size")  # choices that the first shard makes for all


class Files(typing.Protocol):
    """Images that a worker can read itself, such as an `ImageStream`.

    Attributes:
        records: The images, each with its `image_id`.
        can_be_parted: Whether it is so, true where it is missing.
        at_once: Images that must be read together, from the first one on; 1 where it is missing.
        readers: Processes that read, all workers together; 0 where it is missing.
        unread: What a worker could not read; for `note`.
    """

    records: Sequence[Any]
    unread: Any

    def part(self, start: int, stop: int) -> Any:
        """Return some of the images, for `with_part`: small, and can be pickled."""

    def with_part(
        self, part: Any, model: nn.Module | None = None, n_workers: int = 0
    ) -> Iterable[Any]:
        """Return the same with those images alone; it can be pickled.

        Args:
            part: Of `part`.
            model: That of the worker, where images are made with it.
            n_workers: Processes that read them; 0 for this one.
        """

    def note(self, unread: Any) -> None:
        """Take note of files that a worker could not read."""


Grouping = Callable[[Any, int, range], Iterator[Group]]
"""Images of `Files.with_part`, the place of the first, places of those that count -> groups."""


@dataclass
class Wanted:
    """How many images a run still needs; None for all there are."""

    left: int | None


@dataclass
class FileRange:
    """Files of which a run takes some, one after the other.

    Attributes:
        files: The images.
        grouping: Makes groups of them; can be pickled.
        size: Images of a group.
        passes: Forward passes of an image.
        wanted: How many images are needed, of this and of other ranges.
        rows: Rows of an image.
        place: The next image.
        last: The image before which the range ends at the latest.
        end: The same if all files can be read.
    """

    files: Files
    grouping: Grouping
    size: int
    passes: int
    wanted: Wanted
    rows: int = 1
    place: int = 0
    last: int = sys.maxsize
    end: int = field(init=False)

    def __post_init__(self) -> None:
        self._origin = self.place if self.size > 1 else 0  # where a group begins
        self._first: ImageNote | None = None
        self.last = self.end = min(self.last, len(self.files.records))
        if self.wanted.left is not None:
            self.end = min(self.last, self.wanted.left)

    def extend(self) -> bool:
        """Go on with as many files as were unreadable; return whether there are any."""
        self.end = min(self.last, self.end + (self.wanted.left or 0))
        return self.place < self.end

    def step(self, n_workers: int) -> int:
        """Return how many images make a shard."""
        least = math.lcm(self.size, self.at_once)
        few = len(self.files.records) // (SHARDS * n_workers)
        return least * max(1, min(PASSES // self.passes, few) // least)

    def check_size(self, notes: Sequence[ImageNote]) -> None:
        """Raise InputError unless images are of one size: no worker sees those of the others."""
        for note in notes:
            first = self._first = self._first or note
            if note.size != first.size:
                raise size_clash(first.name, first.size, note.name, note.size)

    @property
    def empty(self) -> Any:
        """The files for workers, who fill in those of each shard."""
        return self.files.with_part(self.files.part(0, 1))

    @property
    def at_once(self) -> int:
        """Images that must be read together."""
        return int(getattr(self.files, "at_once", 1))

    def shards(self, n_workers: int) -> Iterator[tuple[Any, list[str]]]:
        """Yield `Shard.images` and some of their names, until the end."""
        step, at_once = self.step(n_workers), self.at_once
        while (start := self.place) < self.end:
            self.place = min(self.end, start - (start - self._origin) % step + step)
            first, stop = start // at_once * at_once, -(-self.place // at_once) * at_once
            names = [record.image_id for record in self.files.records[start : self.place][:5]]
            yield (first, self.files.part(first, stop), range(start, self.place)), names


@dataclass(eq=False)
class RowRequest:
    """One model's run over one stream of images.

    Attributes:
        protocol: The choices that change a number.
        batch_size: As `ModelRunner.batch_size`.
        precision: As `ModelRunner.precision`.
        groups: Of `image_groups`; not read where workers read `files`.
        store: Where finished rows are.
        layout: What the rows hold; by default values and hits alone.
        known_classes: As `ModelRunner.known_classes`.
        files: The images, where workers can read them.
        model: Of `Pool.put_model`; None again once it is not needed any more.
        stopped: Set where no more images are needed.
        n_forward: Images that went through the model, at workers.
    """

    protocol: Protocol
    batch_size: int | str
    precision: str
    groups: Iterable[Group]
    store: RowStore
    layout: RowLayout | None = None
    known_classes: KnownClasses | None = None
    files: FileRange | None = None
    model: Any = None
    stopped: bool = False
    n_forward: int = 0

    @property
    def unsettled(self) -> bool:
        """Whether the next shard has to say first how the model is run."""
        plain = self.protocol.forwards == "plain" and self.precision in ("float32", "float64")
        return not (plain and self.batch_size != "auto") and not self.settled

    @property
    def forwards(self) -> dict[str, Any]:
        """How workers run the model, `Forward.choices`."""
        return self.store.choices.get("forwards") or {}

    @property
    def settled(self) -> dict[str, Any]:
        """What is settled of how the model is run, of `SETTLED`."""
        choices = self.store.choices
        return {name: choices[name] for name in SETTLED if name in choices}

    def parts(self, pool: Pool) -> Iterator[Part]:
        """Yield the shards of the images that are left."""
        files = self.files
        job = RowJob(
            self.protocol,
            self.batch_size,
            self.precision,
            self.layout,
            self.known_classes,
            None if files is None else (files.empty, files.grouping),
            frozenset() if files is None else frozenset(self.store.rows),
            0 if files is None else getattr(files.files, "readers", 0) // pool.n_workers,
        )
        name = pool.put(job)

        def part(images: Any, names: list[str], finished: FinishedGroup | None = None) -> Part:
            data = None if images is None else Shard(images, self.settled)
            return Part(self.model, name, data, names, (self, finished), alone=self.unsettled)

        if files is not None:
            each = starmap(part, files.shards(pool.n_workers))
        else:
            each = starmap(part, self._of_pixels())
        yield from takewhile(lambda _: not self.stopped, each)

    def _of_pixels(self) -> Iterator[tuple[Group | None, list[str], FinishedGroup]]:
        """Yield groups with their pixels, or None where its rows will be there in its turn."""
        asked = set(self.store.rows)  # keys of rows that are there, or will be in time
        for group in self.groups:
            finished = FinishedGroup.of(group, row_keys(self.protocol, group))
            new = not asked.issuperset(finished.keys)
            asked.update(finished.keys)
            names = [item.name for item, _ in group]
            yield _converted(group, _array) if new else None, names, finished

    def release(self) -> None:
        """Let go of the model once all rows are there, unless more files may be needed."""
        if self.stopped or self.files is None or not self.files.wanted.left:
            self.model = None

    def take(
        self, finished: FinishedGroup | None, found: ShardRows | None
    ) -> Iterator[FinishedGroup]:
        """Store the rows of a shard, and yield its groups until no more are needed.

        Args:
            finished: The group, where nothing was to do for it.
            found: What a worker made of the shard.

        Raises:
            InputError: The worker's, and of too many unreadable files.
        """
        if found is None:
            yield from [] if finished is None or self.stopped else [finished]
            return
        self.n_forward += found.n_forward
        for name, value in found.choices.items():
            if self.store.choices.get(name) != value:
                self.store.record_choice(name, value)
        for group, rows in found.groups:
            if self.stopped:
                return
            if rows is not None and not all(key in self.store.rows for key in group.keys):
                group.store(self.store, rows)
            if self.files is not None:
                self.files.check_size(group.notes)
            yield group
        if self.files is not None:
            if self.files.wanted.left is not None:
                n_rows = sum(len(group.keys) for group, _ in found.groups)
                self.files.wanted.left -= n_rows // self.files.rows
            self.files.files.note(found.unread)
        if found.error is not None:
            raise found.error


def finished_groups(
    model: Model, game: Game, requests: Sequence[RowRequest], device: Devices
) -> Generator[tuple[RowRequest, FinishedGroup], None, None]:
    """Yield each request's groups once their rows are stored, made here or by workers.

    Args:
        model: The model.
        game: Runs it here.
        requests: What rows are needed of it.
        device: Several devices or a pool, or a single device: the game's own.
    """
    with workers_of(device) as pool:
        if pool is not None:
            name = pool.put_model(model)
            for request in requests:
                request.model = name
            yield from worker_groups(pool, requests)
            return
    for request in requests:
        for group in stored_groups(game, request.groups, request.store, request.layout):
            yield request, group


def worker_groups(
    pool: Pool, requests: Iterable[RowRequest]
) -> Iterator[tuple[RowRequest, FinishedGroup]]:
    """Yield each request's groups in order, once their rows are stored.

    Workers begin with the next request while the last shards of the one before are under way.

    Raises:
        InputError: As `rows.stored_groups` and `Pool.results`; the rows before it are stored.
    """
    while requests:
        begun: list[RowRequest] = []
        last: RowRequest | None = None
        for part, found in pool.results(_parts(pool, requests, begun)):
            request, finished = part.tag
            if last is not None and last is not request:
                last.release()
            last = request
            for group in request.take(finished, found):
                yield request, group
        requests = [one for one in begun if not one.stopped and one.files and one.files.extend()]


def _parts(pool: Pool, requests: Iterable[RowRequest], begun: list[RowRequest]) -> Iterator[Part]:
    for request in requests:
        begun.append(request)
        yield from request.parts(pool)


# ---- in a worker -----------------------------------------------------------------------------
@dataclass(frozen=True)
class Shard:
    """Images to make rows of.

    Attributes:
        images: A group of images with their pixels as arrays; or the place of the first file, a
            part of `Files`, and the places of those that count.
        choices: How the model is run, of `SETTLED`.
    """

    images: Any
    choices: dict[str, Any]


@dataclass(frozen=True)
class ShardRows:
    """What a worker made of a shard.

    Attributes:
        groups: Its groups, each with its rows (G, width), or None where they were known before.
        n_forward: Rows that went through the model.
        choices: How the model is run.
        unread: Files that could not be read.
        error: What stopped it after these groups.
    """

    groups: list[tuple[FinishedGroup, Array | None]]
    n_forward: int
    choices: dict[str, Any]
    unread: Any
    error: InputError | None


@dataclass(frozen=True)
class RowJob:
    """Making rows of one model under one protocol, see `session.Job`.

    Attributes:
        protocol: As of a `RowRequest`; so are those that follow.
        files: Of the images that this process reads: `Files` and their `FileRange.grouping`, or
            None.
        known: Keys of rows that are not to be made.
        readers: Processes that read the files of a worker.
    """

    protocol: Protocol
    batch_size: int | str
    precision: str
    layout: RowLayout | None
    known_classes: KnownClasses | None
    files: tuple[Any, Grouping] | None
    known: frozenset[str]
    readers: int

    def begin(self, model: nn.Module, device: torch.device) -> RowMaker:
        """Return the function that makes the rows of a shard."""
        game = Game.of(model, self.protocol, device, self.batch_size, self.precision)
        game.runner.known_classes = self.known_classes
        return RowMaker(self, model, game)


@dataclass
class RowMaker:
    """Makes the rows of a job.

    Attributes:
        job: The job.
        model: The model.
        game: Runs it.
    """

    job: RowJob
    model: nn.Module
    game: Game
    _began: bool = field(default=False)

    def __call__(self, shard: Shard) -> ShardRows:
        """Return the rows of a shard."""
        if self.job.files is None:
            return self.made([_converted(shard.images, _tensor)], shard.choices)
        files, grouped = self.job.files
        first, part, places = shard.images
        images = files.with_part(part, self.model, self.job.readers)
        found = self.made(grouped(images, first, places), shard.choices)
        return replace(found, unread=getattr(images, "unread", None))

    def made(self, groups: Iterable[Group], choices: dict[str, Any]) -> ShardRows:
        """Return the rows of groups, by the code that makes all rows.

        Args:
            groups: Read as they are needed.
            choices: How the model is run, of `SETTLED`.
        """
        job, game, store = self.job, self.game, RowStore(None, {})
        store.choices = dict(choices)
        if not self._began:
            restore(game.runner, store)
            self._began = True
        before, error = game.n_forward, None
        found: list[tuple[FinishedGroup, Array | None]] = []
        try:
            for group in stored_groups(game, groups, store, job.layout, job.known):
                rows = [store.rows[key] for key in group.keys if key in store.rows]
                whole = len(rows) == len(group.keys)
                found.append((group, np.stack(rows) if whole else None))
        except InputError as raised:
            error = raised
        return ShardRows(found, game.n_forward - before, store.choices, None, error)


def _converted(group: Group, convert: Callable[[Any], Any]) -> Group:
    """Return a group with other pixels; an image that is in it several times stays one image."""
    known: dict[int, Item] = {}

    def one(item: Item) -> Item:
        if id(item) not in known:
            known[id(item)] = replace(item, image=convert(item.image))
        return known[id(item)]

    found: list[ImageWithDonor] = []
    for item, donor in group:
        found.append((one(item), None if donor is None else one(donor)))
    return found


def _array(pixels: torch.Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray(pixels.cpu().numpy())


def _tensor(pixels: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(pixels)
