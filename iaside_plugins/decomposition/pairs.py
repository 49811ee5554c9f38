"""Clean images with their perturbed versions, checked, as groups for the engine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from torch import Tensor

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, check_labels, unpaired_warning
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.provenance import image_digest
from iaside_plugins.value_table.rows import Group, ImageWithDonor, split_by_shape
from iaside_plugins.value_table.stream import Item, named_fields, names_of, places_of, tensor

_log = logging.getLogger(__name__)


class PairStream:
    """Clean images with their perturbed versions, checked, as groups for the engine.

    Args:
        pairs: As for `error_decomposition`.
        n_bands: Bands that every image must be able to hold.
        max_images: Stops after so many images.
        first: Place of the first one.

    Attributes:
        conditions: The conditions, once the first batch was read.
    """

    def __init__(self, pairs: Any, n_bands: int, max_images: int | None, first: int = 0) -> None:
        self._pairs, self._n_bands, self._first = pairs, n_bands, first
        self._stream: Iterator[list[ImageWithDonor]] = islice(self._images(), max_images)
        self.conditions: tuple[Condition, ...] = ()
        self._told = False

    def groups(
        self, size: int, protocol: Protocol, places: range, origin: int | None = None
    ) -> Iterator[Group]:
        """Yield groups of pairs that share forward passes, image by image, `size` at most.

        A group is of one image under several conditions, so that its clean version runs once; of
        a single condition it is of several images.

        Args:
            size: Pairs in one group.
            protocol: The engine's.
            places: Which images; the next call goes on with the image after them.
            origin: Place with which the first group of a single condition begins, by default that
                of the places.
        """
        images = self._within(places)
        first = next(images, None)
        if first is None:
            return
        if len(first) == 1:
            flat = (pair for image in chain([first], images) for pair in image)
            begin = places.start if origin is None else origin
            yield from split_by_shape(flat, size, protocol, begin)
            return
        n_groups = -(-len(first) // size)
        for image in chain([first], images):
            for k in range(n_groups):
                yield image[k * len(image) // n_groups : (k + 1) * len(image) // n_groups]

    def _within(self, places: range) -> Iterator[list[ImageWithDonor]]:
        """Yield the images of some places; one after them is left to the next call."""
        for image in self._stream:
            place = image[0][0].place
            if place >= places.stop:
                self._stream = chain([image], self._stream)
                return
            if place >= places.start:
                yield image
            if place == places.stop - 1:
                return

    def _images(self) -> Iterator[list[ImageWithDonor]]:
        """Yield every image as its perturbed versions, each with the clean one as its donor."""
        place_of = places_of(self._pairs, self._first)
        for batch in _batches(self._pairs):
            clean = tensor(batch[0])
            check_images(clean, self._n_bands)
            labels = check_labels(tensor(batch[2]), len(clean)).tolist()
            perturbed = self._by_condition(batch[1], clean)
            self._judge(clean, perturbed)
            names = names_of(batch[3], len(clean)) if len(batch) > 3 else None
            for k, (image, label) in enumerate(zip(clean, labels, strict=True)):
                digest = image_digest(image, label)
                name = digest if names is None else names[k]
                place = place_of(name)
                donor = Item(image, label, digest, name, place)
                yield [
                    (
                        Item(x[k], label, image_digest(x[k], label), f"{name} under {c}", place),
                        donor,
                    )
                    for c, x in perturbed.items()
                ]

    def _judge(self, clean: Tensor, perturbed: Mapping[Condition, Tensor]) -> None:
        """Log once where clean and perturbed images seem to be no pairs, unless names made them."""
        if self._told or hasattr(self._pairs, "conditions"):
            return
        texts = (unpaired_warning(clean, x, str(one)) for one, x in perturbed.items())
        if text := next(filter(None, texts), ""):
            self._told = True
            _log.warning("%s", text)

    def _by_condition(self, given: Any, clean: Tensor) -> dict[Condition, Tensor]:
        """Return the perturbed images (N, C, H, W) of a batch by condition, checked."""
        mapping = given if isinstance(given, Mapping) else {"perturbed": given}
        found = {Condition.of(key): tensor(images) for key, images in mapping.items()}
        self.conditions = self.conditions or tuple(found)
        if set(found) != set(self.conditions):
            raise InputError(
                "expected the same conditions in every batch, got "
                f"{', '.join(map(str, found)) or 'none'} after "
                f"{', '.join(map(str, self.conditions))}"
            )
        if not found:
            raise InputError("expected at least one condition, got an empty mapping")
        for condition, images in found.items():
            if tuple(images.shape) != tuple(clean.shape):
                raise InputError(
                    f"expected perturbed images of the clean ones' shape {tuple(clean.shape)}, got "
                    f"{tuple(images.shape)} under {condition}"
                )
            check_images(images)
        return {condition: found[condition] for condition in self.conditions}


def _batches(pairs: Any) -> Iterator[Sequence[Any]]:
    """Yield batches (clean, perturbed, labels[, ids]); mappings of these names are taken too.

    Raises:
        InputError: For anything else.
    """
    arrays = (Tensor, np.ndarray)
    is_one = (
        isinstance(pairs, (tuple, list)) and len(pairs) in (3, 4) and isinstance(pairs[0], arrays)
    )
    found = [pairs] if is_one else pairs
    expected = "expected (clean, perturbed, labels), or an iterable of batches of them"
    if not isinstance(found, Iterable):
        raise InputError(f"{expected}; got {type(pairs).__name__}")
    for given in found:
        batch = named_fields(given, ("clean", "perturbed", "labels"))
        if not isinstance(batch, Sequence) or len(batch) not in (3, 4):
            raise InputError(f"{expected} (with ids if you like); got {type(batch).__name__}")
        yield batch
