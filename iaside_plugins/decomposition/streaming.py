"""A decomposition of images that something else reads, in whatever order they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.pairs import PairStream
from iaside_plugins.decomposition.protocols import check_protocol, engine_of
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.rows import Rows, result_of
from iaside_plugins.decomposition.run import row_store, run_identity
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import first_batch_size
from iaside_plugins.parallel.pool import Pool
from iaside_plugins.parallel.shards import RowJob, RowRequest, ShardRows
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import advance, times
from iaside_plugins.value_table.rows import (
    FinishedGroup,
    Group,
    images_a_pass,
    restore,
    stored_groups,
)

Versions = dict[Condition | None, tuple[Tensor, int]]


@dataclass
class PairCollector:
    """Images under several conditions, each given as groups for the engine once it is whole.

    They are held in 8 bits where they are of 8 bits.

    Attributes:
        engine: The engine's protocol.
        size: Pairs that share forward passes.
        conditions: All of them, in order; None stands for the clean images.
        places: Name of every image that is wanted -> its place in the decomposition.
    """

    engine: Protocol
    size: int
    conditions: tuple[Condition, ...]
    places: dict[str, int]
    _held: dict[str, Versions] = field(default_factory=dict)

    def take(
        self, condition: Condition | None, batch: tuple[Tensor, Any, Sequence[str]]
    ) -> Iterator[Group]:
        """Yield the groups of the images that are whole with a batch of one condition."""
        for image, label, name in zip(*batch, strict=True):
            if name not in self.places:
                continue
            versions = self._held.setdefault(name, {})
            versions[condition] = _small(image), int(label)
            if len(versions) > len(self.conditions):
                yield from self._groups(name, self._held.pop(name))

    def _groups(self, name: str, versions: Versions) -> Iterator[Group]:
        """Yield the groups of one image: those that it has in `error_decomposition`."""
        place = self.places[name]
        images = {which: _whole(image)[None] for which, (image, _) in versions.items()}
        clean, label = images.pop(None), torch.tensor([versions[None][1]])
        perturbed = {condition: images[condition] for condition in self.conditions}
        stream = PairStream([(clean, perturbed, label, [name])], self.engine.n_bands, None, place)
        yield from stream.groups(self.size, self.engine, range(place, place + 1))


class StreamingDecomposition:
    """`error_decomposition` of pairs whose images are handed to it, without a stop of its own.

    Args:
        model: As for `error_decomposition`; so are those that follow.
        pairs: Their `records` and `conditions`, two or more, are those of the decomposition; they
            are not iterated.
        protocol: Of the decomposition.
        batch_size: Rows in one forward pass, or "auto".
        precision: Of the passes.
        resume: Folder of the run.
        pool: Workers, who make the rows of the images that they read; None for this process.

    Attributes:
        collector: Holds images until they are whole.
        request: What rows are needed, and their store.

    Raises:
        InputError: For input that cannot be used.
    """

    def __init__(
        self,
        model: Model,
        pairs: Any,
        protocol: Protocol,
        *,
        batch_size: int | str,
        precision: str,
        resume: Path | str | None,
        pool: Pool | None,
    ) -> None:
        check_protocol(protocol)
        engine = engine_of(protocol)
        self._protocol = protocol
        self._game = Game.of(model, engine, model_device(model), batch_size, precision)
        self._game.runner.known_classes = KnownClasses.of(pairs)
        rows = self._game.runner.n_rows
        if pool is not None:
            rows = first_batch_size(batch_size, pool.device)
        layout = RowLayout(engine, protocol.estimator == "exact", paired=True)
        places = {record.image_id: k for k, record in enumerate(pairs.records)}
        size = images_a_pass(engine, rows, layout)
        self.collector = PairCollector(engine, size, tuple(pairs.conditions), places)
        self.request = RowRequest(
            engine,
            batch_size,
            precision,
            (),
            row_store(resume, run_identity(model, protocol, precision, resume), layout),
            layout,
            self._game.runner.known_classes,
        )
        restore(self._game.runner, self.request.store)
        self._groups: dict[int, list[FinishedGroup]] = {}
        self._work = {"coalition": layout.n_passes + 1 / len(self.collector.conditions)}

    @property
    def job(self) -> RowJob:
        """What a worker does with groups of `collector`."""
        r = self.request
        settings = r.protocol, r.batch_size, r.precision, r.layout, r.known_classes
        return RowJob(*settings, files=None, known=frozenset(r.store.rows), readers=0)

    def take(self, condition: Condition | None, batch: tuple[Tensor, Any, Sequence[str]]) -> None:
        """Take a batch of images under one condition, None for clean ones, and make its rows."""
        groups = self.collector.take(condition, batch)
        for group in stored_groups(self._game, groups, self.request.store, self.request.layout):
            self._add(group)

    def add(self, found: ShardRows) -> None:
        """Add what a worker made.

        Raises:
            InputError: The worker's.
        """
        for group in self.request.take(None, found):
            self._add(group)

    def _add(self, group: FinishedGroup) -> None:
        """Note which rows are of which image."""
        (donor, *_) = (note for note in group.donors if note is not None)
        self._groups.setdefault(self.collector.places[donor.name], []).append(group)
        advance(times(self._work, len(group.keys)))

    def result(self) -> ErrorDecomposition:
        """Return the decomposition of all images that were whole, in the order of the pairs.

        Raises:
            InputError: There were none.
        """
        request = self.request
        rows = Rows(request.layout or RowLayout(request.protocol))
        for place in sorted(self._groups):
            for group in self._groups[place]:
                rows.add(group, request.store)
        if not rows.rows:
            raise InputError("no images: none could be read under every condition")
        return result_of(
            self._protocol,
            [rows],
            self.collector.conditions,
            n_forward=request.n_forward + self._game.n_forward,
            precision=request.precision,
            forwards=tuple(request.forwards or self._game.runner.forward.choices()),
            label_space=getattr(request.known_classes, "name", ""),
        )


def _small(image: Tensor) -> Tensor:
    """Return an image (C, H, W) in 8 bits if that gives it back exactly, else a copy."""
    pixels = (image * 255).round().to(torch.uint8)
    return pixels if torch.equal(pixels.to(image.dtype) / 255, image) else image.clone()


def _whole(image: Tensor) -> Tensor:
    """Return the image of `_small`, as the readers of files make floats of 8 bits."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image
