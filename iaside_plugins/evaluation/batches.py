"""Batches of images with the rows that a model makes of them, here or by workers that read.

A worker does whole batches of the stream, so that every pass is that of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.streaming import PairCollector, StreamingDecomposition
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import (
    check_images,
    check_labels,
    model_device,
    non_finite,
    size_clash,
)
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.parallel.pool import Part, Pool
from iaside_plugins.parallel.shards import RowJob, RowMaker, ShardRows
from iaside_plugins.storage.provenance import image_digest
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.rows import record_choices, restore
from iaside_plugins.value_table.stream import places_of

Array = npt.NDArray[np.float64]
Batch = tuple[Tensor, Tensor, Sequence[str]]
Make = Callable[[Any, Tensor, Tensor, Sequence[str], int], Iterable[Array]]
"""(predictor, images, labels, ids, place of the first) -> rows (N, R) of every condition."""

Keys = Callable[["BatchRows"], Sequence[str]]
"""A batch -> the keys of its rows, by which a store knows them."""


class Predictor:
    """A model's answers on batches of images.

    Args:
        model: (N, C, H, W) images in [0, 1] -> logits (N, n_classes).
        batch_size: "auto" to split batches where memory runs out; else they are run whole.
        forwards: As of a `Protocol`; where they are not plain, they are chosen by the first batch.
    """

    def __init__(self, model: Model, batch_size: int | str = 64, forwards: str = "plain") -> None:
        self.runner = ModelRunner(model, model_device(model), batch_size, forwards=forwards)

    def __call__(self, images: Tensor, labels: Tensor, ids: Sequence[str]) -> Array:
        """Return rows (N, 2): probability of the true class, and 1.0 if it is the prediction.

        Raises:
            InputError: As `answers`.
        """
        rows = self.answers(images, labels, ids)
        rows[:, 1] = rows[:, 1] == labels.cpu().numpy()
        return rows

    @torch.no_grad()
    def answers(self, images: Tensor, labels: Tensor, ids: Sequence[str]) -> Array:
        """Return rows (N, 2): probability of the true class, and the predicted class.

        Raises:
            InputError: For non-finite logits (which image), or labels without an output.
        """
        logits = self.runner.batch_logits(images.to(self.runner.device), int(labels.max()))
        target = labels.to(self.runner.device)
        finite = torch.isfinite(logits).all(dim=1)
        if not bool(finite.all()):
            raise non_finite(f"image {ids[int(finite.int().argmin())]}")
        likelihood = self.runner.log_likelihood(logits, target).double().exp()
        predicted = logits.argmax(dim=1).double()
        return np.array(torch.stack([likelihood, predicted], dim=1).cpu().numpy())


@dataclass(frozen=True)
class BatchRows:
    """A batch of images without their pixels.

    Attributes:
        ids: Names of the images.
        labels: Their classes.
        digests: Their digests.
        first: Place of the first one.
        size: Their height and width.
        rows: Makes, or returns, their rows under every condition.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    digests: Sequence[str]
    first: int
    size: tuple[int, ...]
    rows: Callable[[], Iterable[Array]]


def local_batch(
    batch: Batch, make: Make, predict: Predictor, place: Callable[[str], int] = lambda _name: 0
) -> BatchRows:
    """Return a batch whose rows are made when they are asked for.

    Args:
        batch: (images, labels, ids).
        make: Makes rows.
        predict: Answers here.
        place: Name of the next image -> its place, where that matters.

    Raises:
        InputError: Images or labels that cannot be used.
    """
    images, labels, ids = batch
    check_images(images)
    y = check_labels(labels, len(images))
    first, *_ = map(place, ids)
    rows = partial(make, predict, images, y, ids, first)
    return BatchRows(ids, y.tolist(), digests_of(images, y), first, tuple(images.shape[2:]), rows)


def answers(
    predict: Predictor, images: Tensor, labels: Tensor, ids: Sequence[str], _first: int
) -> list[Array]:
    """Return the rows of a batch under its one condition, see `Make`."""
    return [predict.answers(images, labels, ids)]


def worker_batches(
    pool: Pool,
    model: Any,
    job: BatchJob,
    known: Iterable[str],
    store: RowStore,
    pairs: StreamingDecomposition | None = None,
) -> Iterator[tuple[int, BatchRows]]:
    """Yield the batches of a job, with the number of their stream, as workers made their rows.

    Args:
        pool: The workers.
        model: By what they know the model.
        job: What is to be done.
        known: Keys whose rows need not be made: those of their batches are not there.
        store: Takes note of how the first worker runs the model, which the others repeat.
        pairs: Takes what workers make of the job's `pairs`.

    Raises:
        InputError: As `Pool.results`, and too many unreadable files.
    """
    streams, size = job.streams, job.streams[0].batch_size
    readers = 0 if job.together is None else streams[0].n_workers // pool.n_workers
    sent = job.without_files(frozenset(known), readers)
    records, name = streams[0].records, pool.put(sent)

    def parts() -> Iterator[Part]:
        for start in range(0, len(records), size):
            part = [stream.part(start, start + size) for stream in streams]
            names = [record.image_id for record in records[start : start + 5]]
            unsettled = job.forwards != "plain" and "forwards" not in store.choices
            settled: dict[str, Any] = {}
            if pairs is not None:
                unsettled, settled = unsettled or pairs.request.unsettled, pairs.request.settled
            data = start, part, dict(store.choices), settled
            yield Part(model, name, data, names, alone=unsettled)

    before: dict[int, BatchRows] = {}
    for _, made in pool.results(parts()):
        for key, value in made.choices.items():
            if key not in store.choices:
                store.record_choice(key, value)
        for k, one in made.batches:
            seen = before.setdefault(k, one)
            if one.size != seen.size:  # no worker sees those of the others
                raise size_clash(seen.ids[0], seen.size, one.ids[0], one.size)
        yield from made.batches
        if pairs is not None:
            for rows in made.pairs:
                pairs.add(rows)
        for stream, unread in zip(streams, made.unread, strict=True):
            stream.note(unread)
        if made.error is not None:
            raise made.error


@dataclass(frozen=True)
class WorkerBatch:
    """What a worker made of one batch of every stream.

    Attributes:
        batches: Batches with their stream's number.
        pairs: Rows of a decomposition.
        unread: What was unreadable, by stream.
        error: What stopped it.
        choices: How the model is run.
    """

    batches: list[tuple[int, BatchRows]]
    pairs: list[ShardRows]
    unread: list[Any]
    error: InputError | None
    choices: dict[str, Any]


@dataclass(frozen=True)
class PairsJob:
    """A decomposition beside the rows of a `BatchJob`; it can be pickled.

    Attributes:
        collector: Holds images until they are whole.
        rows: Makes its rows.
        conditions: Number of a stream -> its condition, None for clean images.
    """

    collector: PairCollector
    rows: RowJob
    conditions: Mapping[int, Condition | None]


@dataclass(frozen=True)
class BatchJob:
    """Reading streams, and making rows of their batches, see `parallel.session.Job`.

    Attributes:
        streams: `parallel.shards.Files` of the same images, of one batch size.
        together: Reads several in one pass, None for a single one.
        make: Makes rows.
        keys: Of each stream, of the rows of a batch.
        batch_size: As of a `Predictor`; so are `forwards`.
        known: Keys whose rows need not be made.
        readers: Processes that read the files of a worker.
        pairs: Of a decomposition of the same images, or None.
    """

    streams: Sequence[Any]
    together: Callable[[Sequence[Any]], Iterable[tuple[int, Batch]]] | None
    make: Make
    keys: Sequence[Keys]
    batch_size: int | str
    forwards: str
    known: frozenset[str] = frozenset()
    readers: int = 0
    pairs: PairsJob | None = None

    def without_files(self, known: frozenset[str], readers: int) -> BatchJob:
        """Return the job as it is sent: files come with the parts."""
        streams = [one.with_part(one.part(0, 1)) for one in self.streams]
        return replace(self, streams=streams, known=known, readers=readers)

    def begin(self, model: nn.Module, device: torch.device) -> Callable[[Any], Any]:
        """Return the function that does one batch of every stream."""
        predict = Predictor(model, self.batch_size, self.forwards)
        maker = None if self.pairs is None else self.pairs.rows.begin(model, device)
        return partial(self._do, predict, maker)

    def _do(
        self,
        predict: Predictor,
        maker: RowMaker | None,
        data: tuple[int, list[Any], dict[str, Any], dict[str, Any]],
    ) -> WorkerBatch:
        """Return what is made of one batch of every stream.

        Args:
            predict: Answers.
            maker: Makes the rows of `pairs`.
            data: Place of the first image, a part of each stream, and how the model is run, here
                and by `maker`.
        """
        first, parts, choices, settled = data
        store = RowStore(None, {})
        store.choices = choices
        if predict.runner.needs_tuning:
            restore(predict.runner, store)
        each = zip(self.streams, parts, strict=True)
        streams = [one.with_part(part, None, self.readers) for one, part in each]
        places = [places_of(stream, first) for stream in streams]
        read = self.together or (lambda each: ((0, batch) for batch in each[0]))
        batches: list[tuple[int, BatchRows]] = []
        pairs: list[ShardRows] = []
        error = None
        try:
            for k, batch in read(streams):
                one = local_batch(batch, self.make, predict, places[k])
                there = self.known.issuperset(self.keys[k](one))
                rows = [] if there else list(one.rows())
                batches.append((k, replace(one, rows=partial(list, rows))))
                if self.pairs is not None and maker is not None and k in self.pairs.conditions:
                    groups = self.pairs.collector.take(self.pairs.conditions[k], batch)
                    pairs.append(maker.made(groups, pairs[-1].choices if pairs else settled))
                    if pairs[-1].error is not None:
                        break
        except InputError as raised:
            error = raised
        record_choices(predict.runner, store)
        return WorkerBatch(batches, pairs, [one.unread for one in streams], error, store.choices)


def digests_of(images: Tensor, labels: Tensor) -> list[str]:
    """Return the digest of every image of a batch with its label."""
    return [image_digest(image, int(label)) for image, label in zip(images, labels, strict=True)]
