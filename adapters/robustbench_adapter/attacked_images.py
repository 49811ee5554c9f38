"""Adversarial images that a finished attack left on disk, in place of the clean ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.storage.files import read_npz
from iaside_plugins.storage.provenance import image_digest


@dataclass
class AdversarialImages:
    """What a run of AutoAttack found; the images stay on disk.

    Attributes:
        epsilon: The budget.
        accuracy_after: Accuracy on the clean images and after each attack, in order.
        places: Digest of an image -> the file and row of its adversarial version; images that
            survived, or were misclassified already, have none and stand for themselves.
        n_computed: Batches that were computed and not found on disk.
    """

    epsilon: float
    accuracy_after: dict[str, float] = field(default_factory=dict)
    places: dict[str, tuple[Path, int]] = field(default_factory=dict)
    n_computed: int = 0
    _open: dict[str, tuple[Path, Any]] = field(default_factory=dict)

    def batch(self, images: Tensor, labels: Tensor) -> Tensor:
        """The adversarial images of a batch of clean ones, (N, C, H, W) float32 on the CPU."""
        out = images.to("cpu", torch.float32, copy=True)
        for k, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            place = self.places.get(image_digest(image, int(label)))
            if place is not None:
                out[k] = torch.from_numpy(self._images(place[0])[place[1]])
        return out

    def _images(self, path: Path) -> Any:
        """Images of a file; of each attack the last file used is kept open."""
        attack = path.name.rpartition("-")[0]
        if attack not in self._open or self._open[attack][0] != path:
            self._open[attack] = (path, read_npz(path)["images"])
        return self._open[attack][1]


class AttackedImages:
    """A stream of clean images as their adversarial versions: (images, labels, ids) batches."""

    def __init__(self, images: Images, attacked: AdversarialImages) -> None:
        self.images, self.attacked = images, attacked
        self.records = getattr(images, "records", None) or ()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Sequence[str]]]:
        for x, y, ids in self.images:
            yield self.attacked.batch(x, y), y, ids


@contextmanager
def attack_log(path: str | Path | None) -> Iterator[None]:
    """Append what AutoAttack logs to a file, every level of it, and put its logger back after.

    Raises:
        InputError: The file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    logger = logging.getLogger("auto-attack")
    level = logger.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
