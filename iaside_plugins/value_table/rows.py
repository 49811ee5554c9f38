"""Groups of images to finished rows: of the value table, or of an estimate from some coalitions.

A row is hit, n_classes, then all values (exact), or empty, grand and the Shapley values.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.errors import InputError, shown
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.seeds import seed_of
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.spectral.absence import ABSENCES, ImageContext
from iaside_plugins.storage.files import parse_json
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.reference_script import script_table
from iaside_plugins.value_table.sampling import Draw, draw
from iaside_plugins.value_table.stream import Item
from iaside_plugins.value_table.table import ValueTable

Array = npt.NDArray[np.float64]
PendingRows = Callable[[], Array]  # waits for the rows of a group and returns them
ImageWithDonor = tuple[Item, "Item | None"]
Group = list[ImageWithDonor]  # images that share forward passes


@dataclass(frozen=True)
class ImageNote:
    """What is stored of an image beside its row: class, name, height and width."""

    label: int
    name: str
    size: tuple[int, int]

    @classmethod
    def of(cls, item: Item) -> ImageNote:
        """Return the note of an image (C, H, W)."""
        height, width = item.image.shape[1:]
        return cls(item.label, item.name, (height, width))

    def to_json(self) -> str:
        """Return the note as it is stored with the row."""
        return json.dumps([self.label, self.name, *self.size])

    @classmethod
    def from_json(cls, note: str) -> ImageNote:
        """Return the note that `to_json` wrote.

        Raises:
            InputError: For anything else.
        """
        try:
            label, name, height, width = parse_json(note)
            return cls(int(label), str(name), (int(height), int(width)))
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"a stored row without its image's label and name: {shown(note)}"
            ) from error


# ---- groups of images ----------------------------------------------------------------------
def image_groups(stream: Iterator[Item], protocol: Protocol, batch_size: int) -> Iterator[Group]:
    """Yield images with their donors (None without one), in groups that share forward passes."""
    pairs: Iterator[ImageWithDonor] = ((item, None) for item in stream)
    size = 1
    if protocol.is_script:
        size = protocol.image_batch
    elif protocol.estimator == "exact":
        size = max(1, batch_size // 2**protocol.n_bands)
    if protocol.needs_all_images:
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


def _with_donors(everything: list[Item], protocol: Protocol) -> Group:
    """Return every image with the image that stands in for its missing bands, if there is one."""
    choose = ABSENCES[protocol.absence].donors
    if choose is None:
        return [(item, None) for item in everything]
    name = f"absence={protocol.absence!r}"
    if len(everything) < 2:
        raise InputError(f"{name} needs at least two images")
    if len({item.image.shape for item in everything}) > 1:
        raise InputError(f"{name} needs images of one size; crop them first")
    donors = choose([item.digest for item in everything], protocol.seed)
    return [(item, everything[k]) for item, k in zip(everything, donors, strict=True)]


def row_keys(protocol: Protocol, group: Group, first: int) -> list[str]:
    """Return the key of each row: what it depends on beside model and protocol.

    Args:
        protocol: The choices that change a number.
        group: The images.
        first: Position of the first one in the data set.
    """
    digests = [item.digest for item, _ in group]
    if protocol.is_script:  # rescaled together: the row depends on the whole batch
        place = first if "seed" in ABSENCES[protocol.absence].fields else 0
        return [f"{one}-{seed_of(k, place, *digests):x}" for k, one in enumerate(digests)]
    return [
        item.digest if donor is None else f"{item.digest}-{donor.digest}" for item, donor in group
    ]


# ---- rows of a group -----------------------------------------------------------------------
@torch.no_grad()  # inference_mode would leave tensors in the model that cannot be trained with
def start_rows(game: Game, group: Group, first: int) -> PendingRows:
    """Start the passes of a group; call the result to wait for its rows (G, 2 + ...).

    Args:
        game: Model and protocol.
        group: The images with their donors.
        first: Position of the first one in the data set.
    """
    protocol = game.protocol
    images = torch.stack([item.image for item, _ in group])
    labels = torch.tensor([item.label for item, _ in group])
    names = [f"image {item.name}" for item, _ in group]
    drawn = draw(protocol, group[0][0].digest)
    if protocol.is_script:
        table = script_table(game, images, labels, names, first)
    else:
        contexts = [
            ImageContext(
                item.digest,
                protocol.seed,
                protocol.absence_std,
                None if donor is None else donor.image,
            )
            for item, donor in group
        ]
        baselines = ABSENCES[protocol.absence].baselines(list(images), contexts)
        table = game.start(images, baselines, labels, drawn.coalitions, names)
    return lambda: _pack_rows(game, table, drawn)


def _pack_rows(game: Game, table: ValueTable, drawn: Draw) -> Array:
    """Wait for a table and return its rows: hit, n_classes, then values or an estimate."""
    found, hits = table.wait()
    values = found.numpy()
    head = np.stack([hits.numpy(), np.full(len(hits), game.runner.n_classes or 0)], axis=1)
    if game.protocol.estimator != "exact":
        psi = np.stack([drawn.shapley_values(one) for one in values])
        values = np.concatenate([values[:, [0, -1]], psi], axis=1)
    return np.concatenate([head.astype(np.float64), values], axis=1)


def unpack_rows(protocol: Protocol, rows: Array) -> tuple[Array | None, Array, Array]:
    """Return values (or None), ends (K, 2) and Shapley values (K, M) of rows from column 2 on."""
    if protocol.estimator == "exact":
        return rows, rows[:, [0, -1]], shapley_values(rows)
    return None, rows[:, :2], rows[:, 2:]


# ---- rows of a run -------------------------------------------------------------------------
def groups_ahead(device: torch.device) -> int:
    """Return how many groups to start before waiting for the one before: a GPU needs one."""
    return int(device.type == "cuda")


def prepare_store(store: RowStore, protocol: Protocol) -> None:
    """Note a run's beta in its store, and that the order of its images is not known yet."""
    if store.choices.get("beta") != protocol.beta:
        store.record_choice("beta", protocol.beta)
    store.write_order([])  # until this run ends, the store says what there is


def restore(runner: ModelRunner, store: RowStore) -> None:
    """Restore the batch size and forward settings of the run being resumed."""
    runner.choices = store.choices.get("forwards")
    if runner.batch_size == "auto" and "batch_size" in store.choices:
        runner.set_rows(store.choices["batch_size"])


def _record_choices(runner: ModelRunner, store: RowStore) -> None:
    """Store how this run runs the model, which a resumed run must repeat."""
    if runner.choices is None and runner.tuned:
        runner.choices = runner.forward.choices()
        store.record_choice("forwards", runner.choices)
        store.record_choice("steps", runner.forward.to_list())
    if runner.batch_size == "auto" and runner.n_rows != store.choices.get("batch_size"):
        store.record_choice("batch_size", runner.n_rows)


def store_rows(store: RowStore, group: Group, keys: Sequence[str], rows: Array) -> None:
    """Add the rows of a group to the store, with a note of every image."""
    for key, row, (item, _) in zip(keys, rows, group, strict=True):
        store.add(key, row, ImageNote.of(item).to_json())


def stored_groups(
    game: Game, groups: Iterable[Group], store: RowStore
) -> Iterator[tuple[Group, list[str]]]:
    """Yield each group once its rows are stored, with their keys.

    On a GPU a group is read and started before the one before it is waited for.
    """
    ahead = groups_ahead(game.runner.device)
    started: deque[tuple[Group, list[str], PendingRows | None]] = deque()

    def finish() -> tuple[Group, list[str]]:
        group, keys, rows = started.popleft()
        if rows is not None:
            store_rows(store, group, keys, rows())
        return group, keys

    first = 0
    try:
        for group in groups:
            keys = row_keys(game.protocol, group, first)
            known = all(key in store.rows for key in keys)
            started.append((group, keys, None if known else start_rows(game, group, first)))
            _record_choices(game.runner, store)
            first += len(group)
            while len(started) > ahead:
                yield finish()
    except InputError:
        while started:  # the groups before the bad image are stored
            finish()
        raise
    while started:
        yield finish()
