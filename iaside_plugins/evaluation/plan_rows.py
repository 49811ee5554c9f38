"""One reading of the images of an evaluation: what it reads, and the rows it leaves.

Attacks read theirs themselves: what they make depends on batches of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.taken import TakenPairs
from iaside_plugins.evaluation.conditions import (
    ConditionRows,
    ConditionRunner,
    Images,
    StoredRows,
    condition_keys,
)
from iaside_plugins.evaluation.corruption import CorruptedRows
from iaside_plugins.evaluation.reading import OneReading, Stream, in_turn
from iaside_plugins.evaluation.systematic import SystematicRows
from iaside_plugins.evaluation.worked import Batch, PairsJob, Worked, answers, worked_by
from iaside_plugins.importance.chance import chance_warning
from iaside_plugins.inference.forward import Model
from iaside_plugins.parallel.pool import Pool
from iaside_plugins.storage.row_store import RowStore
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
        plan: Any,
        bar: Progress,
        *,
        batch_size: int | str,
        resume: Path | str | None,
        forwards: str = "plain",
        pool: Pool | None = None,
        pairs: TakenPairs | None = None,
    ) -> None:
        self._plan = plan
        workers = None if pool is None else (pool, pool.put_model(model))
        self.runner = ConditionRunner(model, resume, bar, batch_size, workers, forwards)
        self.clean = ConditionRows(self.runner, "clean")
        self._told = False
        self.corruption: CorruptedRows | None = None
        self.systematic: SystematicRows | None = None
        streams: list[Stream] = [(plan.clean, self._take_clean)]
        tags = [[self.clean.condition]]
        stores = [self.runner.store]
        if plan.corruptions is not None:
            self.corruption = CorruptedRows(self.runner, plan.corruptions)
            streams += self.corruption.streams
            plain = self.corruption.plain
            each = self.corruption.rows if plain is None else [plain, *self.corruption.rows]
            tags += [[rows.condition] for rows in each]
        roles = self._roles(pairs, streams)
        if plan.systematic is not None:
            folder = None if resume is None else Path(resume) / "systematic"
            others = ConditionRunner(model, folder, bar, batch_size, forwards=forwards)
            self.systematic = SystematicRows(others, plan.systematic)
            streams += self.systematic.streams
            tags[0].append(self.systematic.own.condition)
            tags += [[rows.condition] for rows in self.systematic.rows[1:]]
            stores.append(others.store)
        ways = [p.together for p in (plan.corruptions, plan.systematic) if p is not None]
        together = next((way for way in ways if None not in ways), None) or in_turn
        reading: Iterable[Batch] = OneReading(streams, together)
        self._by_workers = workers is not None and all(are_files(images) for images, _ in streams)
        if workers is not None and self._by_workers:
            keys = [partial(condition_keys, conditions) for conditions in tags]
            job = self.runner.job([images for images, _ in streams], together, answers, keys)
            if pairs is not None:
                job = replace(job, pairs=PairsJob(pairs.collector, pairs.job, roles))
            known = chain.from_iterable(store.rows for store in stores)
            reading = _taken(streams, worked_by(*workers, job, known, self.runner.store, pairs))
        self._images = _stored(reading, stores + [p.request.store for p in (pairs,) if p])

    def _roles(
        self, pairs: TakenPairs | None, streams: list[Stream]
    ) -> dict[int, Condition | None]:
        """Let a decomposition take batches too; return the conditions that streams are to it.

        Args:
            pairs: The decomposition, or None.
            streams: The clean images and those of the corruptions, in their order.
        """
        corruption = self.corruption
        if pairs is None or corruption is None:
            return {}
        clean = 0 if corruption.plain is None else 1
        own = [Condition(*cell) for cell in corruption.cells]
        each: list[tuple[int, Condition | None]] = [(clean, None), *enumerate(own, clean + 1)]
        roles = {k: one for k, one in each if one is None or one in pairs.collector.conditions}
        for k, role in roles.items():
            images, take = streams[k]
            streams[k] = images, partial(_both, take, partial(pairs.take, role))
        return roles

    def spectral(self) -> Images:
        """Return the images of the importance, which read everything else while they are iterated.

        Where they are not among the clean ones, in their order, or workers read them, they are
        those of the plan.
        """
        wanted = self._plan.spectral
        if self._by_workers:
            return wanted  # type: ignore[no-any-return]
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

    def _take_clean(self, batch: Batch | Worked) -> None:
        """Take a batch of the model's own input; judge the accuracy before there are many."""
        before = len(self.clean.ids)
        self.clean.take(batch)
        if self.systematic is not None:
            self.systematic.own.take(batch)
        if before < N_JUDGED <= len(self.clean.ids):
            self._judge(self.runner.predict.runner.n_classes)

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


def _taken(streams: Sequence[Stream], found: Iterable[tuple[int, Worked]]) -> Iterator[Batch]:
    """Give every batch to what takes it; yields nothing."""
    for k, one in found:
        streams[k][1](one)
    yield from ()


def _both(
    take: Callable[[Any], None], pairs: Callable[[Batch], None], batch: Batch | Worked
) -> None:
    """Let both take a batch; of one without pixels, workers made what the pairs need."""
    take(batch)
    if not isinstance(batch, Worked):
        pairs(batch)


def _stored(images: Iterable[Batch], stores: Sequence[RowStore]) -> Generator[Batch, None, None]:
    """Yield the images; merge the files of stores at the end, also by an error."""
    with ExitStack() as stack:
        for store in stores:
            stack.enter_context(StoredRows(store))
        yield from images
