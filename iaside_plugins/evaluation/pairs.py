"""Clean images with the same images under several conditions, read together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.evaluation.batches import Batch
from iaside_plugins.evaluation.conditions import Images
from iaside_plugins.evaluation.reading import Together
from iaside_plugins.value_table.stream import are_files


class AlignedImages:
    """Batches for `error_decomposition`, from streams of the same images in the same order.

    An image that is unreadable under one condition is left out under all; the streams say which.

    Args:
        clean: Batches of (images, labels, ids).
        perturbed: Condition -> the same for the perturbed images.
        together: Reads several streams in one pass: -> (index, batch), the batches of each stream
            in its order; None to take a batch of each in turn.
    """

    def __init__(
        self, clean: Images, perturbed: Mapping[Condition, Images], together: Together | None = None
    ) -> None:
        self.conditions = tuple(perturbed)
        self._streams: list[Any] = [clean, *perturbed.values()]
        self._together = together
        self.records: Sequence[Any] = getattr(clean, "records", ())
        self.can_be_parted = all(are_files(stream) for stream in self._streams)

    def part(self, start: int, stop: int) -> list[Any]:
        """Return some images, see `parallel.shards.Files`."""
        return [stream.part(start, stop) for stream in self._streams]

    def with_part(
        self, part: Sequence[Any], _model: Any = None, n_workers: int = 0
    ) -> AlignedImages:
        """Return the same with those images, see `parallel.shards.Files`."""
        pairs = zip(self._streams, part, strict=True)
        clean, *others = (stream.with_part(one, None, n_workers) for stream, one in pairs)
        perturbed = dict(zip(self.conditions, others, strict=True))
        return AlignedImages(clean, perturbed, self._together)

    @property
    def readers(self) -> int:
        """Processes that read; one stream by itself is read sooner than they start."""
        n_workers: int = self._streams[0].n_workers
        return n_workers if self._together is not None else 0

    @property
    def unread(self) -> list[Any]:
        """What each stream could not read, for `note`."""
        return [stream.unread for stream in self._streams]

    def note(self, unread: Sequence[Any]) -> None:
        """Let each stream note what a worker could not read of it."""
        for stream, one in zip(self._streams, unread, strict=True):
            stream.note(one)

    def __iter__(self) -> Iterator[tuple[Tensor, dict[Condition, Tensor], Tensor, list[str]]]:
        """Yield (clean images, condition -> perturbed images, labels, ids)."""
        n = len(self._streams)
        waiting: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        for k, (images, labels, ids) in self._batches():
            for image, label, name in zip(images, labels, ids, strict=True):
                waiting.setdefault(name, {})[k] = image, label
            whole = [name for name in ids if len(waiting[name]) == n]
            if whole:
                each = [waiting.pop(name) for name in whole]
                stacks = [torch.stack([one[s][0] for one in each]) for s in range(n)]
                perturbed = dict(zip(self.conditions, stacks[1:], strict=True))
                yield stacks[0], perturbed, torch.stack([one[0][1] for one in each]), whole

    def _batches(self) -> Iterator[tuple[int, Batch]]:
        """Yield batches of all streams in turn, with the number of their stream."""
        if self._together is not None:
            yield from self._together(self._streams)
            return
        for batches in zip_longest(*self._streams):
            yield from ((k, batch) for k, batch in enumerate(batches) if batch is not None)
