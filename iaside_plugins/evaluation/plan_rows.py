"""One reading of the images of an evaluation: what it reads, and the rows it leaves.

Attacks read theirs themselves: what they make depends on batches of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from iaside_plugins.decomposition.streaming import StreamingDecomposition
from iaside_plugins.evaluation.batches import (
    Batch,
    BatchJob,
    BatchRows,
    PairsJob,
    answers,
    worker_batches,
)
from iaside_plugins.evaluation.conditions import (
    ConditionRows,
    ConditionRunner,
    Images,
    StoredRows,
    condition_keys,
)
from iaside_plugins.evaluation.corruption import CorruptedRows
from iaside_plugins.evaluation.plan import EvaluationPlan
from iaside_plugins.evaluation.reading import ConditionStream, SharedReader, in_turn
from iaside_plugins.evaluation.systematic import SystematicRows
from iaside_plugins.importance.chance import chance_warning
from iaside_plugins.inference.forward import Model
from iaside_plugins.parallel.pool import Pool
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.value_table.stream import are_files

N_JUDGED = 100  # clean images after which an accuracy at chance is said
_log = logging.getLogger(__name__)


class PlanRows:
    """The rows of a model on all images of an `EvaluationPlan` but attacked ones and `perturbed`.

    Args:
        model: As for `evaluate`.
        plan: The plan.
        bar: Progress, which counts what is done.
        batch_size: As for `evaluate`.
        resume: As for `evaluate`.
        forwards: As for `Predictor`.
        pool: Workers, who read the images where all of them are files; None for this process.
        pairs: Takes the images of the plan's `explained`, or None.

    Attributes:
        runner: Runs the model under the conditions.
        clean: The rows of the clean images.
        corruption: Those under corruptions, or None.
        systematic: Those of other readings of the files, or None.
    """

    def __init__(
        self,
        model: Model,
        plan: EvaluationPlan,
        bar: Progress,
        *,
        batch_size: int | str,
        resume: Path | str | None,
        forwards: str = "plain",
        pool: Pool | None = None,
        pairs: StreamingDecomposition | None = None,
    ) -> None:
        self._plan, self._pairs, self._told = plan, pairs, False
        workers = None if pool is None else (pool, pool.put_model(model))
        self.runner = ConditionRunner(model, resume, bar, batch_size, workers, forwards)
        self.clean = ConditionRows(self.runner, "clean")
        self.corruption: CorruptedRows | None = None
        self.systematic: SystematicRows | None = None
        own, others = [self.clean], []
        if plan.corruptions is not None:
            self.corruption = CorruptedRows(self.runner, plan.corruptions)
            others += self.corruption.streams
        if plan.systematic is not None:
            folder = None if resume is None else Path(resume) / "systematic"
            runner = ConditionRunner(model, folder, bar, batch_size, forwards=forwards)
            self.systematic = SystematicRows(runner, plan.systematic)
            own.append(self.systematic.own)
            others += self.systematic.streams
        self._streams = [ConditionStream(plan.clean, tuple(own)), *others]
        ways = [p.together for p in (plan.corruptions, plan.systematic) if p is not None]
        self._together = next((way for way in ways if None not in ways), None) or in_turn
        are_all_files = all(are_files(stream.images) for stream in self._streams)
        self._workers = workers if are_all_files else None
        self._images = self._read()

    def _read(self) -> Generator[Batch, None, None]:
        """Give every batch to what takes it; yield the clean images one by one if read here.

        Files of the stores are merged at the end, also by an error.
        """
        stores = dict.fromkeys(rows.store for stream in self._streams for rows in stream.rows)
        of_pairs = [] if self._pairs is None else [self._pairs.request.store]
        with ExitStack() as stack:
            for store in (*stores, *of_pairs):
                stack.enter_context(StoredRows(store))
            if self._workers is None:
                yield from SharedReader(self._streams, self._together, self._take)
                return
            known = chain.from_iterable(store.rows for store in stores)
            store = self.runner.store
            for k, one in worker_batches(*self._workers, self._job(), known, store, self._pairs):
                self._take(self._streams[k], one)

    def _job(self) -> BatchJob:
        """Return what workers do with every stream."""
        images, keys = [], []
        for stream in self._streams:
            images.append(stream.images)
            keys.append(partial(condition_keys, [rows.condition for rows in stream.rows]))
        job = self.runner.job(images, self._together, answers, keys)
        if self._pairs is None:
            return job
        conditions = {k: s.condition for k, s in enumerate(self._streams) if self._is_paired(s)}
        return replace(job, pairs=PairsJob(self._pairs.collector, self._pairs.job, conditions))

    def _take(self, stream: ConditionStream, batch: Batch | BatchRows) -> None:
        """Take a batch of a stream; judge the clean accuracy before there are many."""
        before = len(self.clean.ids)
        stream.take(batch)
        if before < N_JUDGED <= len(self.clean.ids):
            self._judge(self.runner.predict.runner.n_classes)
        if self._pairs is None or isinstance(batch, BatchRows):  # workers made what pairs need
            return
        if self._is_paired(stream):
            self._pairs.take(stream.condition, batch)

    def _is_paired(self, stream: ConditionStream) -> bool:
        """Return whether a decomposition takes the images of a stream."""
        if self._pairs is None or self.corruption is None:
            return False
        if stream.condition is not None:
            return stream.condition in self._pairs.collector.conditions
        return (self.corruption.plain or self.clean) in stream.rows

    def spectral(self) -> Images:
        """Return the images of the importance, which read everything else while they are iterated.

        Where they are not among the clean ones, in their order, or workers read them, they are
        those of the plan.
        """
        wanted = self._plan.spectral
        if self._workers is not None:
            return wanted
        is_one = members(wanted, self._plan.clean)
        return wanted if is_one is None else Among(wanted, self._images, is_one)

    def finish(self, n_classes: int | None) -> None:
        """Read what is not read yet, and say if the clean accuracy is at chance.

        Args:
            n_classes: Outputs of the model, by default those of the passes made here.
        """
        for _ in self._images:
            pass
        self._judge(n_classes or self.runner.predict.runner.n_classes)

    def close(self) -> None:
        """End the reading, with the processes that read."""
        self._images.close()

    def _judge(self, n_classes: int | None) -> None:
        """Log an accuracy at chance on the clean images so far, once."""
        outcome = self.clean.outcome()
        if n_classes is None or self._told:
            return
        text = chance_warning(int(outcome.correct.sum()), len(outcome.ids), n_classes)
        self._told = bool(text)
        if text:
            _log.warning("%s", text)


class Among:
    """Some of the images that a reading gives; in all else they are the images of a plan.

    Args:
        images: Those of the plan.
        reading: Gives them among others, one by one.
        is_one: Id -> whether it is one of them.
    """

    def __init__(
        self, images: Images, reading: Iterator[Batch], is_one: Callable[[str], bool]
    ) -> None:
        self._images, self._reading, self._is_one = images, reading, is_one

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches of one image."""
        return (batch for batch in self._reading if self._is_one(batch[2][0]))

    def __getattr__(self, name: str) -> Any:
        """Return what the images of the plan know: `records`, `label_space`."""
        return getattr(self._images, name)


def members(images: Any, clean: Any) -> Callable[[str], bool] | None:
    """Return what tells the ids of images that come among the clean ones, in the same order.

    Returns:
        Id -> whether it is one of them; None if they do not, or if that is not known.
    """
    if images is clean:
        return lambda name: True
    records, reader = getattr(images, "records", ()), getattr(images, "reader", None)
    rest = iter(getattr(clean, "records", ()))
    if reader is None or reader != getattr(clean, "reader", None):
        return None
    if not all(record in rest for record in records):
        return None
    return {record.image_id for record in records}.__contains__
