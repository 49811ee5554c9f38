"""Images of any source as one stream of checked items: pairs of tensors, loaders, batches."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, check_labels
from iaside_plugins.inference.logits import say_once
from iaside_plugins.integers import as_integer
from iaside_plugins.storage.provenance import image_digest

FIELDS = {
    "images": ("images", "image", "pixel_values", "img"),
    "labels": ("labels", "label", "targets", "target", "fine_label", "cls"),
    "clean": ("clean", "clean_images"),
    "perturbed": ("perturbed", "perturbed_images", "corrupted"),
    "ids": ("ids", "id", "image_ids", "image_id"),
}
"""What a batch has -> the names it may have in batches that are mappings; only one of them."""

FEWEST_SORTED = 10  # images whose order tells
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One image (C, H, W) in [0, 1], its label, its digest, its name (or digest), and its place."""

    image: Tensor
    label: int
    digest: str
    name: str
    place: int = 0  # in the data, where an unreadable file keeps its own


def items(data: Any, n_bands: int, max_images: int | None = None, first: int = 0) -> Iterator[Item]:
    """Yield checked images of `data`, at most `max_images`, one at a time.

    Args:
        data: A pair of (images, labels), or an iterable of (images, labels) or
            (images, labels, ids) batches; torch tensors or numpy arrays.
        n_bands: Bands that every image must be able to hold.
        max_images: Stops after so many images.
        first: Place of the first one.

    Raises:
        InputError: For malformed batches, images outside [0, 1] or too small, bad labels.
        InputTypeError: For integer images.
    """
    return islice(_items(data, n_bands, first), max_images)


def batches(data: Any) -> Iterator[Sequence[Any]]:
    """Yield batches (images, labels) or (images, labels, ids) of `data`, their values unchecked.

    Batches may be mappings with the names of `FIELDS`. Of tuples of more than three fields the
    first two are taken, which is said.

    Raises:
        InputError: For anything but a pair of arrays or an iterable of such batches.
    """
    found: Iterable[Any] = [data] if _is_pair(data) or isinstance(data, Mapping) else data
    if not isinstance(found, Iterable):
        raise InputError(
            "expected data as (images, labels) or an iterable of (images, labels) batches, got "
            f"{type(data).__name__}"
        )
    n_fields = 3
    for given in found:
        batch = named_fields(given, ("images", "labels"))
        if not isinstance(batch, Sequence) or len(batch) < 2:
            one = f" of {len(batch)}" if isinstance(batch, Sequence) else ""
            raise InputError(
                "expected batches of (images, labels) or (images, labels, ids), got "
                f"{type(batch).__name__}{one}; labels are needed"
            )
        if len(batch) > n_fields:
            n_fields = len(batch)
            _log.warning("of batches of %d fields the first two are images and labels", n_fields)
        yield batch if len(batch) <= 3 else batch[:2]


def named_fields(batch: Any, needed: Sequence[str]) -> Any:
    """Return the fields of a mapping in order, with "ids" behind them if it has any.

    Args:
        batch: A mapping such as {"pixel_values": ..., "labels": ...}; all else is returned as it
            is.
        needed: Some of `FIELDS`.

    Raises:
        InputError: A field is missing, or may be any of several.
    """
    if not isinstance(batch, Mapping):
        return batch
    there = {field: [name for name in FIELDS[field] if name in batch] for field in FIELDS}
    if several := next((there[field] for field in needed if len(there[field]) > 1), None):
        raise InputError(
            f"a batch has {' and '.join(several)}, and only one of them can be meant: leave out "
            "the other"
        )
    found = {field: names[0] if names else None for field, names in there.items()}
    if missing := [field for field in needed if found[field] is None]:
        raise InputError(
            f"expected batches with {' and '.join(needed)}, got a mapping of "
            f"{', '.join(map(str, batch)) or 'nothing'}: give the {missing[0]} as one of "
            f"{', '.join(FIELDS[missing[0]])}"
        )
    names = [found[field] for field in (*needed, "ids")]
    return [batch[name] for name in names if name is not None]


def are_files(data: Any) -> bool:
    """Return whether workers can read the images themselves, see `parallel.shards.Files`."""
    return hasattr(data, "with_part") and getattr(data, "can_be_parted", True)


def places_of(data: Any, first: int = 0) -> Callable[[str | None], int]:
    """Return a function from the names of the images, one after the other, to their places.

    Args:
        data: Where it `are_files`, one that is unreadable keeps its place among the records;
            otherwise images are counted.
        first: Place of the first image.
    """
    count = itertools.count(first)
    if not are_files(data):
        return lambda _name: next(count)
    records = zip(count, data.records, strict=False)
    return lambda name: next(place for place, record in records if record.image_id == name)


def _items(data: Any, n_bands: int, first: int) -> Iterator[Item]:
    place = places_of(data, first)
    for batch in batches(data):
        images = tensor(batch[0])
        check_images(images, n_bands)
        labels = check_labels(tensor(batch[1]), len(images))
        n = len(images)
        names = [None] * n if len(batch) == 2 else names_of(batch[2], n)
        for image, label, name in zip(images, labels.tolist(), names, strict=True):
            digest = image_digest(image, label)
            yield Item(image, label, digest, digest if name is None else name, place(name))


def check_max_images(max_images: int | None) -> None:
    """Raise InputError unless it is None or an integer of at least 1."""
    if max_images is not None:
        as_integer("max_images", max_images, 1)


def tensor(values: Any) -> Tensor:
    """Return a tensor without gradient; arrays are copied, whatever their memory layout.

    Raises:
        InputError: For what is no array of numbers.
    """
    try:
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.array(values, order="C"))
        return torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "expected images and labels as tensors, arrays or lists of numbers, got "
            f"{_shown(values)} ({error})"
        ) from error


def _shown(values: Any) -> str:
    """Return the type of what should be numbers, with that of its first element."""
    kind = type(values).__name__
    if isinstance(values, (list, tuple)) and values:
        return f"a {kind} that begins with {values[0]!r:.40}"
    return f"a {kind}"


def names_of(ids: Any, n_images: int) -> list[str]:
    """Return the ids of a batch as text; tensors and arrays of numbers by their values.

    Raises:
        InputError: They are not one an image.
    """
    names = [str(name.tolist() if torch.is_tensor(name) else name) for name in ids]
    if len(names) != n_images:
        raise InputError(f"got {len(names)} ids for {n_images} images")
    return names


def say_copies(digests: Sequence[str]) -> None:
    """Log a warning where one image in a hundred or more is a copy of another, by their digests."""
    n, n_copies = len(digests), len(digests) - len(set(digests))
    if n_copies and 100 * n_copies >= n:
        _log.warning(
            "%d of %d images are copies of others: each counts as often as it comes, and intervals "
            "are too narrow, as they take copies for other images",
            *(n_copies, n),
        )


def say_if_by_class(
    model: Any, data: Any, labels: Sequence[int], n_classes: int, *, limited: bool
) -> None:
    """Log, once a model, that a run which stopped early saw only some classes, one after another.

    Args:
        model: What was run.
        data: What was given.
        labels: Classes of the images that were taken, in order.
        n_classes: Classes that there are.
        limited: Whether the run was to stop before the end of the data.
    """
    n, n_seen, known = len(labels), len(set(labels)), count(data)
    if not limited or n == known or n < FEWEST_SORTED or n_seen == n_classes:
        return
    if list(labels) == sorted(labels):
        say_once(
            model,
            f"the {n} images that were taken come class by class, and are of {n_seen} of "
            f"{n_classes} classes: a run that stops early needs the data in random order",
        )


def numbered(ids: Iterable[str]) -> list[tuple[str, int]]:
    """Return ids, each with how often it came before: images of one id are told apart."""
    before: Counter[str] = Counter()
    found = []
    for name in ids:
        found.append((name, before[name]))
        before[name] += 1
    return found


def _is_pair(data: Any) -> bool:
    """Whether data are (images, labels) or (images, labels, ids), and no list of batches."""
    arrays = (Tensor, np.ndarray)
    return (
        isinstance(data, (tuple, list))
        and len(data) in (2, 3)
        and isinstance(data[0], arrays)
        and isinstance(data[1], (*arrays, list, tuple))
    )


def count(data: Any, max_images: int | None = None) -> int | None:
    """Return the number of images for a progress bar, or None if it is not known."""
    known: int | None = None
    if _is_pair(data):
        known = len(data[0])
    elif hasattr(data, "dataset") and hasattr(data.dataset, "__len__"):
        known = len(data.dataset)
    elif hasattr(data, "records"):
        known = len(data.records)
    if known is None or max_images is None:
        return known if max_images is None else max_images
    return min(known, max_images)
