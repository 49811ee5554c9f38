"""What travels between the scheduler and its workers, and how a worker carries out a task."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.inference.forward import Model
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.rows import Group, PendingRows, start_rows
from iaside_plugins.value_table.stream import Item

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One group of images whose rows a worker makes; everything in it can be pickled.

    Attributes:
        model: Which model.
        protocol: The choices that change a number.
        batch_size: As `ModelRunner.batch_size`.
        precision: As `ModelRunner.precision`.
        choices: As `ModelRunner.choices`.
        first: Position of the group's first image in the stream.
        images: (G, C, H, W).
        donors: Their donors (G, C, H, W), or (1, C, H, W) for one that all share, or None.
        labels: Class of every image.
        digests: Digest of every image.
        names: Name of every image.
        layout: What the rows hold; by default values and hits alone.
    """

    model: str
    protocol: Protocol
    batch_size: int | str
    precision: str
    choices: dict[str, Any] | None
    first: int
    images: npt.NDArray[Any]
    donors: npt.NDArray[Any] | None
    labels: tuple[int, ...]
    digests: tuple[str, ...]
    names: tuple[str, ...]
    layout: RowLayout | None = None

    def group(self) -> Group:
        """Return the images with their donors, as `image_groups` gave them."""
        donors: list[Item | None] = [None] * len(self.images)
        if self.donors is not None:  # only their pixels count
            sent = [Item(torch.from_numpy(pixels), 0, "", "") for pixels in self.donors]
            donors = [*sent] if len(sent) == len(self.images) else [*sent] * len(self.images)
        fields = (self.images, self.labels, self.digests, self.names, donors)
        return [
            (Item(torch.from_numpy(pixels), label, digest, name), donor)
            for pixels, label, digest, name, donor in zip(*fields, strict=True)
        ]


@dataclass(frozen=True)
class TaskResult:
    """A task's rows (G, ...), the number of rows that ran, and how the worker runs the model."""

    rows: Array
    n_forward: int
    choices: dict[str, Any] | None
    steps: list[dict[str, Any]]


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker says: it is ready (nothing set), a result, an error, or why it died."""

    result: TaskResult | None = None
    error: BaseException | None = None
    died: str | None = None


@dataclass(frozen=True)
class StartedTask:
    """A task whose passes were started."""

    rows: PendingRows
    game: Game
    n_forward_before: int


class WorkerSession:
    """A worker's model, and the game that it plays from task to task."""

    def __init__(self, model: Model, device: torch.device) -> None:
        self.model, self.device = model, device
        self._game: tuple[Any, Game] | None = None

    def start(self, task: Task) -> StartedTask:
        """Start the passes of a task."""
        kind = (task.protocol, task.batch_size, task.precision)
        if self._game is None or self._game[0] != kind:
            game = Game.of(self.model, task.protocol, self.device, *kind[1:], task.choices)
            self._game = kind, game
        game = self._game[1]
        before = game.n_forward
        return StartedTask(start_rows(game, task.group(), task.first, task.layout), game, before)

    def finish(self, started: StartedTask) -> TaskResult:
        """Wait for the rows of a task."""
        game, rows = started.game, started.rows()
        forward = game.runner.forward
        choices = forward.choices() if game.runner.tuned else None
        n_forward = game.n_forward - started.n_forward_before
        return TaskResult(rows, n_forward, choices, forward.to_list())

    def message(self, started: StartedTask | BaseException) -> bytes:
        """Return the pickled `WorkerMessage` about a task, or about the error that stopped it."""
        try:
            if isinstance(started, BaseException):
                raise started
            return pickle.dumps(WorkerMessage(result=self.finish(started)))
        except Exception as error:  # noqa: BLE001  the scheduler raises it
            try:
                return pickle.dumps(WorkerMessage(error=error))
            except Exception:  # noqa: BLE001  an error that holds what cannot be sent
                plain = RuntimeError(f"{type(error).__name__}: {error}")
                return pickle.dumps(WorkerMessage(error=plain))
