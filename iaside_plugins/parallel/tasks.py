"""Groups of images as they travel to a worker, and what the worker makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.game import Game, Model
from iaside_plugins.value_table.rows import ImageWithDonor, Rows, begin
from iaside_plugins.value_table.stream import Item

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One group of images on its way to a worker; everything in it can be pickled.

    Attributes:
        model: Which model.
        protocol: The choices that change a number.
        batch_size: As `Game.batch_size`.
        precision: As `Game.precision`.
        choices: As `Game.choices`.
        first: Position of the group's first image in the stream.
        images: (G, C, H, W).
        donors: Their donors, or None.
        heads: Label, digest and name of every image.
    """

    model: str
    protocol: Protocol
    batch_size: int | str
    precision: str
    choices: dict[str, Any] | None
    first: int
    images: npt.NDArray[Any]
    donors: npt.NDArray[Any] | None
    heads: tuple[tuple[int, str, str], ...]

    def group(self) -> list[ImageWithDonor]:
        """The images with their donors, as `image_groups` gave them."""
        pairs: list[ImageWithDonor] = []
        for k, (image, (label, digest, name)) in enumerate(
            zip(self.images, self.heads, strict=True)
        ):
            donor = None
            if self.donors is not None:  # only its pixels count
                donor = Item(torch.from_numpy(self.donors[k]), 0, "", "")
            pairs.append((Item(torch.from_numpy(image), label, digest, name), donor))
        return pairs

    def game(self, model: Model, device: torch.device) -> Game:
        """What runs the model as this shard's run wants it."""
        game = Game(model, self.protocol, device, self.batch_size, self.precision)
        game.choices = self.choices
        return game


@dataclass(frozen=True)
class TaskResult:
    """What a worker made of a shard: rows (G, ...), passes, and how it ran the model."""

    rows: Array
    n_forward: int
    choices: dict[str, Any] | None
    steps: list[dict[str, Any]]


class WorkerSession:
    """Where a worker makes rows: one model, kept with what `Game` keeps between groups."""

    def __init__(self, model: Model, device: torch.device) -> None:
        self.model, self.device = model, device
        self._game: tuple[Any, Game] | None = None

    def begin(self, shard: Task) -> tuple[Rows, Game, int]:
        """Begin a shard; the rows are waited for by `end`."""
        kind = (shard.protocol, shard.batch_size, shard.precision)
        if self._game is None or self._game[0] != kind:
            self._game = (kind, shard.game(self.model, self.device))
        game = self._game[1]
        before = game.n_forward
        return begin(game, shard.group(), shard.first), game, before

    def end(self, begun: tuple[Rows, Game, int]) -> TaskResult:
        """What a begun shard gave."""
        rows, game, before = begun
        choices = game.forward.choices() if game.probed else None
        return TaskResult(rows(), game.n_forward - before, choices, game.forward.to_list())
