"""A model on images under conditions (clean, corrupted, attacked), stored image by image.

`StoredRows` looks rows up in a store, computes missing ones and stores them; `ConditionRunner` here
and the studies of spectra and of Foolbox attacks use it for rows of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.budgets import format_budget
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, check_labels, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import method_identity
from iaside_plugins.seeds import seed_of
from iaside_plugins.storage.provenance import image_digest, model_identity
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.progress import Progress, Work, times

Array = npt.NDArray[np.float64]
Batch = tuple[Tensor, Tensor, Sequence[str]]
Images = Iterable[Batch]
Perturb = Callable[[Tensor, Tensor, int], Sequence[Tensor]]
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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


def digests_of(images: Tensor, labels: Tensor) -> list[str]:
    """Return the digest of every image of a batch with its label."""
    return [image_digest(image, int(label)) for image, label in zip(images, labels, strict=True)]


def place_keys(first: int, digests: Sequence[str]) -> list[str]:
    """Return a key for every image of a batch that is attacked as a whole.

    Random starts are drawn for the batch at its place in the data, so rows belong to both.

    Args:
        first: Index of the first image in the data.
        digests: Of the batch's images.
    """
    batch = seed_of(first, *digests)
    return [f"{batch:x}-{k}" for k in range(len(digests))]


class Predictor:
    """A model's answers on batches of images.

    Args:
        model: (N, C, H, W) images in [0, 1] -> logits (N, n_classes).
        batch_size: "auto" to split batches where memory runs out; else they are run whole.
    """

    def __init__(self, model: Model, batch_size: int | str = 64) -> None:
        self.runner = ModelRunner(model, model_device(model), batch_size)

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
            raise InputError(
                "the model gives non-finite logits (NaN or infinite) for image "
                f"{ids[int(finite.int().argmin())]}; check the model's weights"
            )
        likelihood = self.runner.log_likelihood(logits, target).double().exp()
        predicted = logits.argmax(dim=1).double()
        return np.array(torch.stack([likelihood, predicted], dim=1).cpu().numpy())


class ConditionRunner:
    """Runs a model over conditions and stores finished images, so that a run can be resumed.

    Args:
        model: As for `Predictor`.
        resume: Folder of the run, or None to store nothing.
        bar: Progress, which counts what is done.
        batch_size: As for `Predictor`.
    """

    def __init__(
        self, model: Model, resume: Path | str | None, bar: Progress, batch_size: int | str = 64
    ) -> None:
        self.model = model
        self.bar = bar
        self.predict = Predictor(model, batch_size)
        folder = None if resume is None else Path(resume) / "conditions"
        identity = {**model_identity(model, folder), **method_identity()}
        self.store = RowStore(folder, identity, FLUSH_EVERY, width=2, finite=True)

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
            perturb: (images, labels, index of the first) -> images under every condition; not
                called for a batch whose rows are all stored.
            keep: Whether to store rows, and to use stored ones. Not if `perturb` reads images that
                may be others in the next run: their keys would be the same.
            work: Of one image, over all conditions; `perturb` may count its own as it goes.

        Raises:
            InputError: As `ConditionRows`.
        """
        self._describe(*conditions)
        names: list[str] = []
        with StoredRows(self.store if keep else RowStore(None, {})) as rows:
            for x, labels, ids in images:
                y = _checked(x, labels)
                places = place_keys(len(names), digests_of(x, y))
                keys = {
                    k: [f"{name}|{place}" for place in places] for k, name in enumerate(conditions)
                }
                attacked = _later(partial(perturb, x, y, len(names)))
                with self.bar.part(times(work, len(x))):
                    rows.batch(keys, partial(self._answers, attacked, y, ids))
                names += ids
        return _outcomes(rows, [names] * len(conditions))

    def look(
        self,
        condition: str,
        images: Images,
        rows_of: Callable[[Tensor, Tensor], Array],
        work: Work = PASS,
    ) -> tuple[tuple[str, ...], Array]:
        """Return the names of images and rows (K, 2) that a function makes of them, stored too.

        Args:
            condition: Its name, which with the digest of an image is the key of a stored row.
            images: Batches of (images, labels, ids).
            rows_of: (images, labels), on the model's device -> rows (N, 2).
            work: Of one image.

        Raises:
            InputError: As `ConditionRows`, and as `rows_of`.
        """
        self._describe(condition)
        names: list[str] = []
        device = self.predict.runner.device
        with StoredRows(self.store) as rows:
            for x, labels, ids in images:
                y = _checked(x, labels)
                keys = {0: [f"{condition}|{digest}" for digest in digests_of(x, y)]}
                rows.batch(keys, partial(_looked, rows_of, x.to(device), y.to(device)))
                names += ids
                self.bar.update(times(work, len(x)))
        if not names:
            raise InputError("no images: the data are empty")
        return tuple(names), rows.table(0)

    def _describe(self, first: str, *others: str) -> None:
        """Show the conditions, budgets of one attack, in front of the progress bar."""
        last = f" to {_label(others[-1]).rpartition(' ')[2]}" if others else ""
        self.bar.set_description(f"{_label(first)}{last}")

    def _answers(
        self, batches: Iterable[Tensor], labels: Tensor, ids: Sequence[str]
    ) -> Iterator[Array]:
        """Yield the rows (N, 2) of the same images under every condition."""
        for batch in batches:
            yield self.predict(batch, labels, ids)


class ConditionRows:
    """A model's rows on the images under one condition, added batch by batch.

    Args:
        runner: Runs the model and stores the rows.
        condition: Its name, which with the digest of an image is the key of a stored row.
        work: Of one image.
        predicted: Whether a row holds the predicted class, for `answers`, instead of whether it is
            the true one; names of such conditions are others.

    Attributes:
        ids: Names of the images so far; the other lists are as long.
        labels: Their classes.
        rows: Probability of the true class, and the prediction or whether it is right (2,).

    Raises:
        InputError: No images, images or labels that cannot be used, non-finite logits.
    """

    def __init__(
        self, runner: ConditionRunner, condition: str, work: Work = PASS, *, predicted: bool = False
    ) -> None:
        self.condition, self._runner, self._work = condition, runner, work
        self._predict = runner.predict.answers if predicted else runner.predict
        self.ids: list[str] = []
        self.labels: list[int] = []
        self.rows: list[Array] = []

    def take(self, batch: Batch) -> None:
        """Add the rows of the next batch, stored or computed."""
        x, labels, ids = batch
        runner = self._runner
        runner._describe(self.condition)
        y = _checked(x, labels)
        found = StoredRows(runner.store)
        keys = {0: [f"{self.condition}|{digest}" for digest in digests_of(x, y)]}
        found.batch(keys, lambda: [self._predict(x, y, ids)])
        self.rows += list(found.table(0))
        self.ids += ids
        self.labels += y.tolist()
        runner.bar.update(times(self._work, len(x)))

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


def _looked(
    rows_of: Callable[[Tensor, Tensor], Array], images: Tensor, labels: Tensor
) -> Iterator[Array]:
    """Yield the rows of one batch."""
    yield rows_of(images, labels)


def _later(perturb: Callable[[], Sequence[Tensor]]) -> Iterator[Tensor]:
    """Yield the perturbed images; they are made when the first one is asked for."""
    yield from perturb()


def _checked(images: Tensor, labels: Tensor) -> Tensor:
    """Return the labels of a batch as int64, once images and labels are checked."""
    check_images(images)
    return check_labels(labels, len(images))


def _outcomes(rows: StoredRows, names: Sequence[Sequence[str]]) -> list[Outcome]:
    """Return the outcome of every condition, given the ids of its images."""
    if not all(names):
        raise InputError("no images: the data are empty")
    tables = [rows.table(k) for k in range(len(names))]
    return [
        Outcome(tuple(ids), table[:, 0], table[:, 1] > 0)
        for ids, table in zip(names, tables, strict=True)
    ]
