"""Batches of images in the order of their records, decoded in worker processes.

Unreadable files are left out, logged and listed; more than 1 % of them stop the run, so among fewer
than 100 images a single one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iaside_plugins.adapters.imagenet.decoding import (
    Pixels,
    UnreadableImageError,
    decode,
    read_bytes,
    resized,
    shaped,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import ImageRecord
from iaside_plugins.errors import InputError

Reader = Callable[[ImageRecord], Any]
"""Record of an image -> its pixels (H, W, C), uint8, or float32 in [0, 1]; can be pickled."""

_N_LISTED = 10  # how many unreadable files the error lists

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileReader:
    """Reads an image file: decode, resize and crop, then resize to the model's own input size.

    Attributes:
        preprocessing: Resize, crop and interpolation.
        grey: One channel instead of three.
        output_size: Side of the model's input, pixels; None for the size after the crop.
        output_interpolation: Interpolation of the resize to `output_size`.
    """

    preprocessing: Preprocessing
    grey: bool = False
    output_size: int | None = None
    output_interpolation: str = "bilinear"

    def __call__(self, record: ImageRecord) -> Pixels:
        """Return the pixels of a record's image."""
        pixels = self.pixels(read_bytes(record.path), record.image_id)
        if self.output_size is None:
            return pixels
        return resized(pixels, self.output_size, self.output_interpolation)

    def pixels(self, data: bytes, image_id: str) -> Pixels:
        """Return the pixels of a file's content before the resize to `output_size`."""
        return self.cropped(data)

    def cropped(self, data: bytes) -> Pixels:
        """Return the decoded image, resized and cropped."""
        return to_pixels(shaped(decode(data, grey=self.grey), self.preprocessing))


class ImageStream:
    """Batches `(images, labels, ids)`; can be iterated any number of times.

    images: (N, C, H, W) float32 in [0, 1]; labels: (N,) int64; ids: list of N image ids. Batches
    follow the order of the records and do not depend on `n_workers`; one that holds an unreadable
    file is smaller.

    Args:
        records: The images, at least one.
        reader: Reads the pixels of one record.
        batch_size: Images per batch.
        n_workers: Worker processes that decode; 0 decodes in this one.

    Attributes:
        records: As given.
        batch_size: As given.
        n_workers: As given.
        unreadable: Ids of the unreadable images found so far.

    Raises:
        InputError: No records, or a size out of range; while iterating, more than 1 % unreadable
            files, images of different sizes, and what `reader` raises.
    """

    def __init__(
        self, records: Sequence[ImageRecord], reader: Reader, batch_size: int, n_workers: int
    ) -> None:
        if not records:
            raise InputError("there are no images: the list of records is empty")
        for name, value, lowest in (("batch_size", batch_size, 1), ("n_workers", n_workers, 0)):
            if type(value) is not int or value < lowest:
                raise InputError(f"{name} must be an integer >= {lowest}, got {value!r}")
        self.records = list(records)
        self.unreadable: list[str] = []
        self.batch_size, self.n_workers = batch_size, n_workers
        starts = range(0, len(self.records), batch_size)
        batches = [self.records[start : start + batch_size] for start in starts]
        self._chunks = _Chunks(batches, reader)

    def __len__(self) -> int:
        """Return the number of images, including unreadable ones."""
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        """Yield the batches in order."""
        loader: DataLoader[_Chunk] = DataLoader(
            self._chunks,
            batch_size=None,  # a chunk is a batch already
            num_workers=self.n_workers,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # otherwise each pass would draw from the global one
        )
        first: _Chunk | None = None
        for chunk in loader:
            self._note(chunk.unreadable)
            if chunk.error is not None:
                raise chunk.error
            if chunk.images is None:
                continue
            first = first or chunk
            _check_same_size(first, chunk)
            images = chunk.images.permute(0, 3, 1, 2).contiguous()
            if images.dtype == torch.uint8:
                images = images.float().div_(255)
            yield images, torch.tensor(chunk.labels), chunk.ids

    def _note(self, unreadable: Sequence[tuple[str, str]]) -> None:
        """List and log unreadable files, and stop if they are too many."""
        new: list[tuple[str, str]] = []
        for image_id, reason in unreadable:
            if image_id not in self.unreadable:
                self.unreadable.append(image_id)
                new.append((image_id, reason))
        if 100 * len(self.unreadable) > len(self.records):
            listed = ", ".join(self.unreadable[:_N_LISTED])
            more = ", ..." if len(self.unreadable) > _N_LISTED else ""
            reason = f" (the last one {unreadable[-1][1]})" if unreadable else ""
            raise InputError(
                f"{len(self.unreadable)} of {len(self.records)} images are unreadable, more than "
                f"1 %: {listed}{more}{reason}; restore the files or take them out of the data"
            )
        for image_id, reason in new:
            _logger.warning("left out the unreadable image %s: it %s", image_id, reason)


@dataclass(frozen=True)
class _Chunk:
    """One batch as a worker returns it; an error is a value here, which keeps its message."""

    images: Tensor | None  # (N, H, W, C); None if there are none or an error occurred
    labels: list[int]
    ids: list[str]
    unreadable: list[tuple[str, str]]  # (image id, reason)
    error: InputError | None = None


class _Chunks(Dataset[_Chunk]):
    """The batches by number; defined at module level so that it can be pickled for workers."""

    def __init__(self, batches: list[list[ImageRecord]], reader: Reader) -> None:
        self._batches = batches
        self._reader = reader

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> _Chunk:
        pixels: list[Any] = []
        records: list[ImageRecord] = []
        unreadable: list[tuple[str, str]] = []
        for record in self._batches[number]:
            try:
                image = self._reader(record)
            except UnreadableImageError as error:
                unreadable.append((record.image_id, str(error)))
                continue
            except InputError as error:
                named = type(error)(f"image {record.image_id}: {error}")
                return _Chunk(None, [], [], unreadable, named)
            if pixels and image.shape != pixels[0].shape:
                clash = _clash(records[0].image_id, pixels[0].shape, record.image_id, image.shape)
                return _Chunk(None, [], [], unreadable, clash)
            pixels.append(image)
            records.append(record)
        return _Chunk(
            torch.from_numpy(np.stack(pixels)) if pixels else None,
            [record.label for record in records],
            [record.image_id for record in records],
            unreadable,
        )


def _unchanged(chunk: Any) -> Any:
    return chunk


def _check_same_size(first: _Chunk, chunk: _Chunk) -> None:
    if first.images is not None and chunk.images is not None:
        shapes = first.images.shape[1:], chunk.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise _clash(first.ids[0], shapes[0], chunk.ids[0], shapes[1])


def _clash(id_a: str, shape_a: Sequence[int], id_b: str, shape_b: Sequence[int]) -> InputError:
    (height_a, width_a), (height_b, width_b) = shape_a[:2], shape_b[:2]
    return InputError(
        f"images must have one size; {id_a} is {height_a} x {width_a}, {id_b} is "
        f"{height_b} x {width_b} (height x width); give a crop"
    )
