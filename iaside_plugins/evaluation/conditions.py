"""A model on images under conditions (clean, corrupted, attacked), stored image by image.

`StoredRows` looks rows up in a store, computes missing ones and stores them; `ConditionRunner` here
and the studies of spectra and of Foolbox attacks use it for rows of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from iaside_plugins.budgets import format_budget
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.batches import (
    Batch,
    BatchJob,
    BatchRows,
    Keys,
    Make,
    Predictor,
    answers,
    local_batch,
    worker_batches,
)
from iaside_plugins.inference.forward import Model
from iaside_plugins.parallel.pool import Pool
from iaside_plugins.protocol import method_identity
from iaside_plugins.seeds import seed_of
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import Progress, Work, times
from iaside_plugins.value_table.rows import record_choices, restore
from iaside_plugins.value_table.stream import are_files, places_of

Array = npt.NDArray[np.float64]
Images = Iterable[Batch]
Perturb = Callable[[Model, Tensor, Tensor, int], Sequence[Tensor]]
FLUSH_EVERY = 512  # rows of one file of the store
PASS: Work = {"forward": 1}


@dataclass(frozen=True)
class Outcome:
    """A model's answers on images under one condition.

    Attributes:
        ids: Names of the K images.
        probability: Probability of the true class (K,), in [0, 1].
        correct: Whether the true class is the prediction (K,).
    """

    ids: tuple[str, ...]
    probability: Array
    correct: npt.NDArray[np.bool_]

    def among(self, others: Outcome) -> Outcome:
        """Return the outcome on the images that `others` has too (files may be unreadable)."""
        known = set(others.ids)
        return self.at([name for name in self.ids if name in known])

    def at(self, ids: Sequence[str]) -> Outcome:
        """Return the outcome on some of the images, in their order; all of `ids` must be there."""
        place = {name: k for k, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        return Outcome(tuple(ids), self.probability[rows], self.correct[rows])


@dataclass(frozen=True)
class Answers:
    """What a model answers to images under one condition.

    Attributes:
        ids: Names of the K images.
        probability: Probability of the true class (K,), in [0, 1].
        prediction: The predicted class (K,).
        label: The true class (K,).
    """

    ids: tuple[str, ...]
    probability: Array
    prediction: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the true class is the prediction (K,)."""
        return np.asarray(self.prediction == self.label)

    def at(self, ids: Sequence[str]) -> Answers:
        """Return the answers to some of the images, in their order; all of `ids` must be there."""
        place = {name: k for k, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        return Answers(tuple(ids), self.probability[rows], self.prediction[rows], self.label[rows])


class StoredRows:
    """Rows of images under conditions: read from a store, or computed batch by batch and stored.

    A context manager, which merges the files of the store on leaving, also by an error.

    Args:
        store: Holds the rows of earlier runs, and takes new ones.
    """

    def __init__(self, store: RowStore) -> None:
        self.store = store
        self._rows: dict[Hashable, list[Array]] = {}

    def __enter__(self) -> StoredRows:
        return self

    def __exit__(self, *_error: object) -> None:
        self.store.compact()

    def batch(
        self,
        keys: Mapping[Any, Sequence[str]],
        compute: Callable[[], Iterable[Array]],
        is_valid: Callable[[Array], bool] = lambda rows: True,
    ) -> None:
        """Add the rows of one batch of images.

        Args:
            keys: Condition -> the key of each image's row.
            compute: Returns rows (N, R) for every condition, in the order of `keys`; called unless
                the store has valid rows for all of them.
            is_valid: Whether stored rows (N, R) may be used.
        """
        rows = self.store.rows
        known = all(key in rows for part in keys.values() for key in part)
        if not known or not all(
            is_valid(np.stack([rows[key] for key in part])) for part in keys.values()
        ):
            for part, computed in zip(keys.values(), compute(), strict=True):
                for key, row in zip(part, computed, strict=True):
                    self.store.add(key, row)
            self.store.flush()  # a killed run repeats the batch in progress, no more
        for condition, part in keys.items():
            self._rows.setdefault(condition, []).extend(rows[key] for key in part)

    def table(self, condition: Hashable) -> Array:
        """Return the rows (K, R) of all images under one condition, in the order of the batches."""
        return np.stack(self._rows[condition])


def place_keys(first: int, digests: Sequence[str]) -> list[str]:
    """Return a key for every image of a batch that is attacked as a whole.

    Random starts are drawn for the batch at its place in the data, so rows belong to both.

    Args:
        first: Index of the first image in the data.
        digests: Of the batch's images.
    """
    batch = seed_of(first, *digests)
    return [f"{batch:x}-{k}" for k in range(len(digests))]


class ConditionRunner:
    """Runs a model over conditions and stores finished images, so that a run can be resumed.

    Args:
        model: As for `Predictor`.
        resume: Folder of the run, or None to store nothing.
        bar: Progress, which counts what is done.
        batch_size: As for `Predictor`.
        workers: Who makes rows of images that workers can read, and by what they know the model;
            None for this process.
        forwards: As for `Predictor`; a resumed run repeats what the first one chose.
    """

    def __init__(
        self,
        model: Model,
        resume: Path | str | None,
        bar: Progress,
        batch_size: int | str = 64,
        workers: tuple[Pool, Any] | None = None,
        forwards: str = "plain",
    ) -> None:
        self.model, self.workers = model, workers
        self.bar = bar
        self.predict = Predictor(model, batch_size, forwards)
        folder = None if resume is None else Path(resume) / "conditions"
        identity = {**model_identity(model, folder), **method_identity()}
        if forwards != "plain":
            identity["forwards"] = forwards
        self.store = RowStore(folder, identity, FLUSH_EVERY, width=2, finite=True)
        restore(self.predict.runner, self.store)

    def run(self, condition: str, images: Images, work: Work = PASS) -> Outcome:
        """Return the outcome on the images of one condition; `work` is that of one image.

        Raises:
            InputError: As `ConditionRows`.
        """
        rows = ConditionRows(self, condition, work)
        with StoredRows(self.store):
            for batch in images:
                rows.take(batch)
        return rows.outcome()

    def attack(
        self,
        conditions: Sequence[str],
        images: Images,
        perturb: Perturb,
        *,
        keep: bool = True,
        work: Work = PASS,
    ) -> list[Outcome]:
        """Return the outcomes under an attack at several budgets, from one pass over the images.

        Args:
            conditions: Their names, which with the digest of an image's whole batch are the key of
                a stored row.
            images: Batches of (images, labels, ids).
            perturb: (model, images, labels, place of the first) -> images under every condition;
                not called for a batch whose rows are all stored.
            keep: Whether to store rows, and to use stored ones. Not if `perturb` reads images that
                may be others in the next run: their keys would be the same.
            work: Of one image, over all conditions; `perturb` may count its own as it goes.

        Raises:
            InputError: As `ConditionRows`.
        """
        self._describe(*conditions)
        names: list[str] = []
        make, keys_of = partial(_attacked_rows, perturb), partial(_place_keys, conditions)
        with StoredRows(self.store if keep else RowStore(None, {})) as rows:
            for one in self._batches(images, make, keys_of, rows.store):
                n, keys = len(one.ids), keys_of(one)
                with self.bar.part(times(work, n)):
                    rows.batch(
                        {k: keys[k * n : (k + 1) * n] for k in range(len(conditions))}, one.rows
                    )
                names += one.ids
        return _outcomes(rows, [names] * len(conditions))

    def rows_of(
        self,
        condition: str,
        images: Images,
        made: Callable[[Model, Tensor, Tensor], Array],
        work: Work = PASS,
    ) -> tuple[tuple[str, ...], Array]:
        """Return the names of images and rows (K, 2) that a function makes of them, stored too.

        Args:
            condition: Its name, which with the digest of an image is the key of a stored row.
            images: Batches of (images, labels, ids).
            made: (model, images, labels), on the model's device -> rows (N, 2).
            work: Of one image.

        Raises:
            InputError: As `ConditionRows`, and as `made`.
        """
        self._describe(condition)
        names: list[str] = []
        make, keys_of = partial(_made_rows, made), partial(condition_keys, [condition])
        with StoredRows(self.store) as rows:
            for one in self._batches(images, make, keys_of, self.store):
                rows.batch({0: keys_of(one)}, one.rows)
                names += one.ids
                self.bar.update(times(work, len(one.ids)))
        if not names:
            raise InputError("no images: the data are empty")
        return tuple(names), rows.table(0)

    def _batches(
        self, images: Images, make: Make, keys: Keys, store: RowStore
    ) -> Iterator[BatchRows]:
        """Yield batches with what makes their rows, or what workers made."""
        if self.workers is None or not are_files(images):
            place = places_of(images)
            return (local_batch(batch, make, self.predict, place) for batch in images)
        job = self.job([images], None, make, [keys])
        return (one for _, one in worker_batches(*self.workers, job, store.rows, self.store))

    def job(
        self, streams: Sequence[Any], together: Any, make: Make, keys: Sequence[Keys]
    ) -> BatchJob:
        """Return a `BatchJob` that answers as `predict` does."""
        runner = self.predict.runner
        return BatchJob(streams, together, make, keys, runner.batch_size, runner.forwards)

    def _describe(self, first: str, *others: str) -> None:
        """Show the conditions, budgets of one attack, in front of the progress bar."""
        last = f" to {_label(others[-1]).rpartition(' ')[2]}" if others else ""
        self.bar.set_description(f"{_label(first)}{last}")


class ConditionRows:
    """A model's rows on the images under one condition, added batch by batch.

    Args:
        runner: Runs the model and stores the rows.
        condition: Its name, which with the digest of an image is the key of a stored row.
        work: Of one image.
        predicted: Whether a row holds the predicted class, for `answers`, instead of whether it is
            the true one; names of such conditions are others.

    Attributes:
        condition: Its name.
        store: Where the rows are stored.
        ids: Names of the images so far; the other lists are as long.
        labels: Their classes.
        rows: Probability of the true class, and the prediction or whether it is right (2,).

    Raises:
        InputError: No images, images or labels that cannot be used, non-finite logits.
    """

    def __init__(
        self, runner: ConditionRunner, condition: str, work: Work = PASS, *, predicted: bool = False
    ) -> None:
        self.condition, self.store = condition, runner.store
        self._runner, self._work = runner, work
        self._predicted = predicted
        self.ids: list[str] = []
        self.labels: list[int] = []
        self.rows: list[Array] = []

    def take(self, batch: Batch | BatchRows) -> None:
        """Add the rows of the next batch, stored or computed, here or by a worker."""
        runner = self._runner
        runner._describe(self.condition)
        one = batch
        if not isinstance(one, BatchRows):
            one = local_batch(one, answers, runner.predict)
        found = StoredRows(runner.store)
        found.batch({0: condition_keys([self.condition], one)}, partial(self._rows_of, one))
        record_choices(runner.predict.runner, runner.store)
        self.rows += list(found.table(0))
        self.ids += one.ids
        self.labels += one.labels
        runner.bar.update(times(self._work, len(one.ids)))

    def _rows_of(self, one: BatchRows) -> Iterator[Array]:
        for rows in one.rows():
            if self._predicted:
                yield rows
                continue
            own = rows.copy()  # another condition may take those of a worker too
            own[:, 1] = rows[:, 1] == np.array(one.labels)
            yield own

    def outcome(self) -> Outcome:
        """Return the outcome on all images."""
        table = self._table()
        return Outcome(tuple(self.ids), table[:, 0], table[:, 1] > 0)

    def answers(self) -> Answers:
        """Return the answers to all images."""
        table, labels = self._table(), np.array(self.labels)
        return Answers(tuple(self.ids), table[:, 0], table[:, 1].astype(np.int64), labels)

    def _table(self) -> Array:
        if not self.ids:
            raise InputError("no images: the data are empty")
        return np.stack(self.rows)


def _label(condition: str) -> str:
    """Return the condition as people read it: its budget as 8/255."""
    name, space, budget = condition.split("|")[-1].rpartition(" ")
    try:
        return f"{name}{space}{format_budget(float(budget))}"
    except ValueError:
        return f"{name}{space}{budget}".replace("-", " ")


def _made_rows(
    made: Callable[[Model, Tensor, Tensor], Array],
    predict: Predictor,
    images: Tensor,
    labels: Tensor,
    *_batch: Any,
) -> Iterator[Array]:
    """Yield the rows of one batch, see `batches.Make`."""
    runner = predict.runner
    yield made(runner.model, images.to(runner.device), labels.to(runner.device))


def _attacked_rows(
    perturb: Perturb,
    predict: Predictor,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    first: int,
) -> Iterator[Array]:
    """Yield the rows (N, 2) of one batch under every condition, see `batches.Make`."""
    for batch in perturb(predict.runner.model, images, labels, first):
        yield predict(batch, labels, ids)


def condition_keys(conditions: Sequence[str], one: BatchRows) -> list[str]:
    """Return the keys of a batch under some conditions, those of the first one first."""
    return [f"{condition}|{digest}" for condition in conditions for digest in one.digests]


def _place_keys(conditions: Sequence[str], one: BatchRows) -> list[str]:
    """Return the keys of a batch that is attacked as a whole."""
    places = place_keys(one.first, one.digests)
    return [f"{condition}|{place}" for condition in conditions for place in places]


def _outcomes(rows: StoredRows, names: Sequence[Sequence[str]]) -> list[Outcome]:
    """Return the outcome of every condition, given the ids of its images."""
    if not all(names):
        raise InputError("no images: the data are empty")
    tables = [rows.table(k) for k in range(len(names))]
    return [
        Outcome(tuple(ids), table[:, 0], table[:, 1] > 0)
        for ids, table in zip(names, tables, strict=True)
    ]


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as they stand in the name of a condition, and so in the keys of its rows."""
    return "-".join(f"{key}={value}" for key, value in sorted(settings.items()))
