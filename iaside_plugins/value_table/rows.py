"""Groups of images to finished rows: of the value table, or of an estimate from some coalitions.

A row is hit, n_classes, then all values (exact), or empty, grand and the Shapley values.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.spectral.absence import derangement, gaussian_baseline, seed_of
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.reference_script import script_rows
from iaside_plugins.value_table.sampling import Draw, draw
from iaside_plugins.value_table.stream import Item

Array = npt.NDArray[np.float64]
Rows = Callable[[], Array]
ImageWithDonor = tuple[Item, "Item | None"]  # an image and its donor


def groups_ahead(device: torch.device) -> int:
    """Groups that are begun before the one ahead of them is waited for: a GPU works meanwhile."""
    return int(device.type == "cuda")


def restore(game: Game, store: RowStore) -> None:
    """What an earlier part of this run settled on, and what is known from the start."""
    game.choices = store.settled.get("forwards")
    if game.batch_size == "auto" and "batch_size" in store.settled:
        game.n_rows, game.sized = store.settled["batch_size"], True
    if store.settled.get("beta") != game.protocol.beta:
        store.settle("beta", game.protocol.beta)
    store.write_order([])  # until this run ends, the store says what there is


def _settle(game: Game, store: RowStore) -> None:
    """Keep what this run has settled on, which a resumed one must repeat."""
    if game.choices is None and game.probed:
        game.choices = game.forward.choices()
        store.settle("forwards", game.choices)
        store.settle("steps", game.forward.to_list())
    if game.batch_size == "auto" and game.n_rows != store.settled.get("batch_size"):
        store.settle("batch_size", game.n_rows)


def computed(
    game: Game, groups: Iterable[list[ImageWithDonor]], store: RowStore
) -> Iterator[tuple[list[ImageWithDonor], list[str]]]:
    """Groups with the keys of their rows, which are in the store by then.

    On a GPU a group is read and begun before the one ahead of it is waited for.
    """
    behind = groups_ahead(game.device)
    begun: deque[tuple[list[ImageWithDonor], list[str], Rows | None]] = deque()

    def end() -> tuple[list[ImageWithDonor], list[str]]:
        group, keys, rows = begun.popleft()
        if rows is not None:
            for key, row, (item, _) in zip(keys, rows(), group, strict=True):
                store.add(key, row, ImageNote.of(item).to_json())
        return group, keys

    first = 0
    try:
        for group in groups:
            keys = [row_key(game.protocol, group, k, first) for k in range(len(group))]
            there = all(key in store.rows for key in keys)
            begun.append((group, keys, None if there else begin(game, group, first)))
            _settle(game, store)
            first += len(group)
            while len(begun) > behind:
                yield end()
    except InputError:
        while begun:  # what was begun before the bad image is not lost
            end()
        raise
    while begun:
        yield end()


@dataclass(frozen=True)
class ImageNote:
    """What is kept of an image once its row is finished."""

    label: int
    name: str
    size: tuple[int, int]

    @classmethod
    def of(cls, item: Item) -> ImageNote:
        """Of an image (C, H, W)."""
        height, width = item.image.shape[1:]
        return cls(item.label, item.name, (height, width))

    def to_json(self) -> str:
        """As the note of a stored row."""
        return json.dumps([self.label, self.name, *self.size])

    @classmethod
    def from_json(cls, note: str) -> ImageNote:
        """What `to_json` wrote.

        Raises:
            InputError: For anything else.
        """
        try:
            label, name, height, width = json.loads(note)
            return cls(int(label), str(name), (int(height), int(width)))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"a stored row without its image's label and name: {note!r}"
            ) from error


def image_groups(
    stream: Iterator[Item], protocol: Protocol, batch_size: int
) -> Iterator[list[ImageWithDonor]]:
    """Images with their donors (None unless replaced), in groups that share forward passes."""
    pairs: Iterator[ImageWithDonor] = ((item, None) for item in stream)
    size = 1
    if protocol.is_script:
        size = protocol.image_batch
    elif protocol.estimator == "exact":
        size = max(1, batch_size // 2**protocol.n_bands)
    if protocol.shuffled or protocol.absence == "replacement":
        everything = list(stream)
        size = len(everything) if protocol.shuffled else size
        pairs = iter(_with_donors(everything, protocol))
    while group := list(islice(pairs, size)):
        shapes = [item.image.shape for item, _ in group]
        if len(set(shapes)) == 1:
            yield group
        elif protocol.is_script:
            raise InputError(f"images of one batch must be of one size, got {set(shapes)}")
        else:
            yield from ([pair] for pair in group)


def _with_donors(everything: list[Item], protocol: Protocol) -> list[ImageWithDonor]:
    """Every image with the image that stands in for its missing bands."""
    if protocol.absence != "replacement":
        return [(item, None) for item in everything]
    if len(everything) < 2:
        raise InputError("absence='replacement' needs at least two images")
    if len({item.image.shape for item in everything}) > 1:
        raise InputError("absence='replacement' needs images of one size; crop them first")
    donors = derangement([item.digest for item in everything], protocol.seed)
    return [(item, everything[k]) for item, k in zip(everything, donors, strict=True)]


def row_key(protocol: Protocol, group: list[ImageWithDonor], k: int, first: int) -> str:
    """What the row of the group's k-th image depends on, beside model and protocol."""
    item, donor = group[k]
    if protocol.is_script:  # rescaled together: the row depends on the whole batch
        place = 0 if protocol.absence == "zero" else first  # which seeds the batch's noise
        return f"{item.digest}-{seed_of(k, place, *(other.digest for other, _ in group)):x}"
    return item.digest if donor is None else f"{item.digest}-{donor.digest}"


@torch.no_grad()  # inference_mode would leave tensors in the model that cannot be trained with
def begin(game: Game, group: list[ImageWithDonor], first: int) -> Rows:
    """Begin a group; what is returned waits for its rows (G, 2 + ...).

    A row is hit, n_classes, then values or an estimate.
    """
    protocol = game.protocol
    images = torch.stack([item.image for item, _ in group])
    labels = torch.tensor([item.label for item, _ in group])
    if protocol.is_script:
        return partial(_table_rows, game, script_rows(game, images, labels, first))
    names = [item.name for item, _ in group]
    baselines = _baselines(protocol, group)
    if protocol.estimator == "exact":
        coalitions = all_coalitions(protocol.n_bands)
        launched = game.launch(images, baselines, labels, coalitions, names)
        return lambda: _table_rows(game, launched.finish())
    drawn = draw(protocol, group[0][0].digest)
    launched = game.launch(images, baselines, labels, drawn.coalitions, names)
    return lambda: _sampled_rows(_table_rows(game, launched.finish()), drawn)


def _table_rows(game: Game, found: tuple[Tensor, Tensor]) -> Array:
    """Rows of hit, n_classes, values."""
    values, hits = found
    head = torch.stack([hits.double(), torch.full((len(hits),), float(game.n_classes or 0))])
    return np.asarray(torch.cat([head.T.double(), values], dim=1).numpy())


def _sampled_rows(rows: Array, drawn: Draw) -> Array:
    """Rows of hit, n_classes, empty, grand, Shapley values, from those of the drawn coalitions."""
    psi = np.stack([drawn.shapley_values(values) for values in rows[:, 2:]])
    return np.concatenate([rows[:, :3], rows[:, -1:], psi], axis=1)


def _baselines(protocol: Protocol, group: list[ImageWithDonor]) -> Tensor | None:
    """Absence baselines (G, C, H, W) of a group, or None for zero."""
    if protocol.absence == "zero":
        return None
    if protocol.absence == "replacement":
        return torch.stack([donor.image for _, donor in group if donor is not None])
    std, seed = protocol.absence_std, protocol.seed
    return torch.stack([gaussian_baseline(i.image, std, seed, i.digest) for i, _ in group])


def split_rows(protocol: Protocol, rows: Array) -> tuple[Array | None, Array, Array]:
    """Values (or None), ends (K, 2) and Shapley values (K, M) of rows without their heads."""
    if protocol.estimator == "exact":
        return rows, rows[:, [0, -1]], shapley_values(rows)
    return None, rows[:, :2], rows[:, 2:]
