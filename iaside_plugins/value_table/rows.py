"""Groups of images to finished rows: of the value table, or of an estimate from some coalitions.

`layout.RowLayout` says what a row holds.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError, shown
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.seeds import seed_of
from iaside_plugins.spectral.absence import ABSENCES, ImageContext
from iaside_plugins.storage.files import parse_json
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.reference_script import script_table
from iaside_plugins.value_table.stream import Item

Array = npt.NDArray[np.float64]
PendingRows = Callable[[], Array]  # waits for the rows of a group and returns them
ImageWithDonor = tuple[Item, "Item | None"]
Group = list[ImageWithDonor]  # images that share forward passes


@dataclass(frozen=True, slots=True)
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
    size = images_a_group(protocol, batch_size)
    if not protocol.needs_all_images:
        yield from split_by_shape(((item, None) for item in stream), size, protocol)
        return
    everything = list(stream)
    pairs = _with_donors([replace(item, place=k) for k, item in enumerate(everything)], protocol)
    size = len(everything) if protocol.shuffled else size
    yield from split_by_shape(iter(pairs), size, protocol)


def images_a_group(protocol: Protocol, batch_size: int) -> int:
    """Return how many images come in one group of `image_groups`, if all images are at hand."""
    return protocol.image_batch if protocol.is_script else images_a_pass(protocol, batch_size)


def images_a_pass(protocol: Protocol, batch_size: int, layout: RowLayout | None = None) -> int:
    """Return how many images share a pass of `batch_size` rows, at least one."""
    drawn = (layout or RowLayout(protocol)).draw("")
    return max(1, batch_size // len(drawn.coalitions))


def split_by_shape(
    pairs: Iterator[ImageWithDonor], size: int, protocol: Protocol, first: int = 0
) -> Iterator[Group]:
    """Yield groups of `size` images; one of images of several sizes comes image by image.

    The groups are those of the images' places: a file that is unreadable makes its own group
    smaller, and no other one.

    Args:
        pairs: The images.
        size: Places of one group.
        protocol: The choices that change a number.
        first: Place with which the first group begins.

    Raises:
        InputError: For images of several sizes that the protocol rescales together.
    """
    for group in _by_place(pairs, size, first):
        shapes = [item.image.shape for item, _ in group]
        if len(set(shapes)) == 1:
            yield group
        elif protocol.is_script:
            raise InputError(f"images of one batch must be of one size, got {set(shapes)}")
        else:
            yield from ([pair] for pair in group)


def _by_place(pairs: Iterator[ImageWithDonor], size: int, first: int) -> Iterator[Group]:
    """Yield the images of each `size` places together, as soon as the last of them is there."""
    group: Group = []
    end = first
    for pair in pairs:
        place = pair[0].place
        if group and place >= end:
            yield group
            group = []
        group.append(pair)
        end = place - (place - first) % size + size
        if place == end - 1:
            yield group
            group = []
    if group:
        yield group


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


def row_keys(protocol: Protocol, group: Group) -> list[str]:
    """Return the key of each row: what it depends on beside model and protocol."""
    digests = [item.digest for item, _ in group]
    if protocol.is_script:  # rescaled together: the row depends on the whole batch
        place = group[0][0].place if "seed" in ABSENCES[protocol.absence].fields else 0
        return [f"{one}-{seed_of(k, place, *digests):x}" for k, one in enumerate(digests)]
    return [
        item.digest if donor is None else f"{item.digest}-{donor.digest}" for item, donor in group
    ]


# ---- rows of a group -----------------------------------------------------------------------
@torch.no_grad()  # inference_mode would leave tensors in the model that cannot be trained with
def start_rows(game: Game, group: Group, layout: RowLayout | None = None) -> PendingRows:
    """Start the passes of a group; call the result to wait for its rows (G, width).

    Args:
        game: Model and protocol.
        group: The images with their donors.
        layout: What the rows hold; by default values and hits alone.
    """
    protocol, layout = game.protocol, layout or RowLayout(game.protocol)
    images = torch.stack([item.image for item, _ in group])
    labels = torch.tensor([item.label for item, _ in group])
    names = [f"image {item.name}" for item, _ in group]
    drawn = [layout.draw(item.digest) for item, _ in group]
    if len({len(one.coalitions) for one in drawn}) > 1:  # chains of a second cycle may share some
        each = [start_rows(game, [pair], layout) for pair in group]
        return lambda: np.concatenate([rows() for rows in each])
    if protocol.is_script:
        table = script_table(game, images, labels, names, group[0][0].place)
    else:
        coalitions = drawn[0].coalitions
        if protocol.estimator != "exact":
            coalitions = np.stack([one.coalitions for one in drawn])
        shared = layout.paired and all(donor is group[0][1] for _, donor in group)
        baselines = _baselines(protocol, group[:1] if shared else group)
        table = game.start(images, baselines, labels, coalitions, names, shared=shared)
    return lambda: layout.pack(game.runner.n_classes or 0, drawn, *table.wait())


def _baselines(protocol: Protocol, group: Group) -> Tensor | None:
    """Return the absence baselines of a group (G, C, H, W), or None where they are black."""
    contexts = [
        ImageContext(
            item.digest,
            protocol.seed,
            protocol.absence_std,
            None if donor is None else donor.image,
        )
        for item, donor in group
    ]
    return ABSENCES[protocol.absence].baselines([item.image for item, _ in group], contexts)


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
    runner.choices = store.choices.get("forwards", runner.choices)
    if runner.batch_size == "auto" and "batch_size" in store.choices:
        runner.set_rows(store.choices["batch_size"])


def record_choices(runner: ModelRunner, store: RowStore) -> None:
    """Store how this run runs the model, which a resumed run must repeat."""
    if runner.tuned and "forwards" not in store.choices:
        runner.choices = runner.forward.choices()
        store.record_choice("forwards", runner.choices)
        store.record_choice("steps", runner.forward.to_list())
    if runner.batch_size == "auto" and runner.n_rows != store.choices.get("batch_size"):
        store.record_choice("batch_size", runner.n_rows)


@dataclass(frozen=True)
class FinishedGroup:
    """A group whose rows are stored: their keys, the notes of its images and of their donors."""

    keys: list[str]
    notes: list[ImageNote]
    donors: list[ImageNote | None]

    @classmethod
    def of(cls, group: Group, keys: list[str]) -> FinishedGroup:
        """Return what is kept of a group: no pixels."""
        donors = [None if donor is None else ImageNote.of(donor) for _, donor in group]
        return cls(keys, [ImageNote.of(item) for item, _ in group], donors)

    def store(self, store: RowStore, rows: Array) -> None:
        """Add its rows (G, width) to a store, with the note of every image."""
        for key, row, note in zip(self.keys, rows, self.notes, strict=True):
            store.add(key, row, note.to_json())


def stored_groups(
    game: Game,
    groups: Iterable[Group],
    store: RowStore,
    layout: RowLayout | None = None,
    known: Set[str] = frozenset(),
) -> Iterator[FinishedGroup]:
    """Yield each group once its rows are stored.

    On a GPU a group is read and started before the one before it is waited for.

    Args:
        game: Model and protocol.
        groups: Of `image_groups`.
        store: Where finished rows are.
        layout: What the rows hold; by default values and hits alone.
        known: Keys of further rows that are not to be made again.
    """
    ahead = groups_ahead(game.runner.device)
    started: deque[tuple[FinishedGroup, PendingRows | None]] = deque()

    def finish() -> FinishedGroup:
        group, rows = started.popleft()
        if rows is not None:
            group.store(store, rows())
        return group

    try:
        for group in groups:
            keys = row_keys(game.protocol, group)
            there = all(key in store.rows or key in known for key in keys)
            rows = None if there else start_rows(game, group, layout)
            started.append((FinishedGroup.of(group, keys), rows))
            record_choices(game.runner, store)
            while len(started) > ahead:
                yield finish()
    except InputError:
        while started:  # the groups before the bad image are stored
            finish()
        raise
    while started:
        yield finish()
