"""Conditions: what a model makes of each image, clean, corrupted or attacked, kept as it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, check_labels, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.seeds import seed_of
from iaside_plugins.storage.provenance import image_digest, model_digest
from iaside_plugins.storage.row_store import RowStore

Array = npt.NDArray[np.float64]
Batch = tuple[Tensor, Tensor, Sequence[str]]
Images = Iterable[Batch]
Perturb = Callable[[Tensor, Tensor, int], Sequence[Tensor]]


@dataclass(frozen=True)
class Outcome:
    """Per image under one condition: probability of the true class, and whether it is right."""

    ids: tuple[str, ...]
    probability: Array
    correct: npt.NDArray[np.bool_]

    def among(self, others: Outcome) -> Outcome:
        """The outcome on the images that `others` has too (a file may be unreadable in one)."""
        known = set(others.ids)
        return self.at([name for name in self.ids if name in known])

    def at(self, ids: Sequence[str]) -> Outcome:
        """The outcome on some of the images, in their order; all of `ids` must be there."""
        place = {name: k for k, name in enumerate(self.ids)}
        rows = [place[name] for name in ids]
        return Outcome(tuple(ids), self.probability[rows], self.correct[rows])


class ConditionRunner:
    """Runs a model over conditions and keeps finished images, so that a run can be resumed."""

    def __init__(
        self, model: Model, resume: Path | str | None, bar: tqdm[Any], batch_size: int | str = 64
    ) -> None:
        self.model = model
        self.bar = bar
        self.runner = ModelRunner(model, model_device(model), batch_size)
        folder = None if resume is None else Path(resume) / "conditions"
        identity = {"model": model_digest(model) if folder is not None else None}
        self.store = RowStore(folder, identity, flush_every=512)

    def run(self, condition: str, images: Images) -> Outcome:
        """Outcome on clean or corrupted images."""
        return self.collect([condition], images)[0]

    def collect(
        self,
        conditions: Sequence[str],
        images: Images,
        perturb: Perturb | None = None,
        *,
        keep: bool = True,
    ) -> list[Outcome]:
        """Outcomes under several conditions of one pass over the images.

        Args:
            conditions: Their names, which with the digest of an image (of its whole batch, where
                it is perturbed) are the key of a kept row.
            images: Batches of (images, labels, ids).
            perturb: (images, labels, index of the first) -> images under every condition; not
                called for a batch whose rows are all kept.
            keep: Whether to keep rows, and to take those that are kept. Not where `perturb` reads
                images that may be others in the next run: their keys would be the same.
        """
        rows: list[list[Array]] = [[] for _ in conditions]
        names: list[str] = []
        try:
            self.bar.set_description(conditions[0].split("|")[-1], refresh=False)
            for x, labels, ids in images:
                check_images(x)
                y = check_labels(labels, len(x))
                digests = [
                    image_digest(image, int(label)) for image, label in zip(x, y, strict=True)
                ]
                if perturb is not None:  # drawn for the batch at its place: rows belong to both
                    batch = seed_of(len(names), *digests)
                    digests = [f"{batch:x}-{k}" for k in range(len(digests))]
                keys = [[f"{name}|{digest}" for digest in digests] for name in conditions]
                found = self.store.rows if keep else {}
                if any(key not in found for row in keys for key in row):
                    batches = [x] if perturb is None else perturb(x, y, len(names))
                    for row, perturbed in zip(keys, batches, strict=True):
                        for key, values in zip(row, self._predict(perturbed, y, ids), strict=True):
                            found[key] = values
                            if keep:
                                self.store.add(key, values)
                    self.store.flush()  # a kill costs the batch under way, no more
                for out, row in zip(rows, keys, strict=True):
                    out += [found[key] for key in row]
                names += ids
                self.bar.update(len(x))
        finally:
            self.store.compact()
        if not names:
            raise InputError("no images: the data are empty")
        return [Outcome(tuple(names), *_columns(out)) for out in rows]

    @torch.no_grad()
    def _predict(self, images: Tensor, labels: Tensor, ids: Sequence[str]) -> Array:
        """Rows (N, 2): probability of the true class, and 1.0 where it is the prediction."""
        logits = self.runner.batch_logits(images.to(self.runner.device), int(labels.max()))
        target = labels.to(self.runner.device)
        finite = torch.isfinite(logits).all(dim=1)
        if not bool(finite.all()):
            raise InputError(
                "the model gives non-finite logits (NaN or infinite) for image "
                f"{ids[int(finite.int().argmin())]}; check the model's weights"
            )
        likelihood = self.runner.log_likelihood(logits, target).double().exp()
        hits = (logits.argmax(dim=1) == target).double()
        return np.asarray(torch.stack([likelihood, hits], dim=1).cpu().numpy())


def _columns(rows: list[Array]) -> tuple[Array, npt.NDArray[np.bool_]]:
    table = np.stack(rows)
    return table[:, 0], table[:, 1] > 0
