"""Batches of images in the order of their records, decoded in worker processes.

Unreadable files are left out, logged and listed; more than 1 % of them stop the run, so among fewer
than 100 images a single one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from iaside_plugins.adapters.imagenet.decoding import (
    Pixels,
    UnreadableImageError,
    decode,
    resized,
    shaped,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.errors import InputError
from iaside_plugins.parallel.processes import without_interrupts

Reader = Callable[[ImageRecord], Any]
"""Record of an image -> its pixels (H, W, C), uint8, or float32 in [0, 1]; can be pickled."""

_N_LISTED = 10  # how many unreadable files the error lists

_logger = logging.getLogger(__name__)


class OpenFiles:
    """The files of one batch: each is read and decoded once, however many streams use it."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[ImageRecord, bytes, dict[Any, Pixels]]] = {}

    def data(self, record: ImageRecord) -> bytes:
        """Return the content of a record's file.

        Raises:
            UnreadableImageError: It cannot be read.
        """
        return self._file(record)[1]

    def cropped(self, record: ImageRecord, preprocessing: Preprocessing, grey: bool) -> Pixels:
        """Return a record's image decoded, resized and cropped; read-only.

        Raises:
            UnreadableImageError: It cannot be read or decoded.
            InputError: The crop is larger than the image.
        """
        key = preprocessing, grey

        def crop(data: bytes) -> dict[Any, Pixels]:
            return {key: to_pixels(shaped(decode(data, grey=grey), preprocessing))}

        return self.made(record, key, crop)

    def made(
        self, record: ImageRecord, key: Any, make: Callable[[bytes], Mapping[Any, Pixels]]
    ) -> Pixels:
        """Return what is made of a record's file under a key; read-only, and made once.

        Args:
            record: The image.
            key: What is wanted.
            make: Content of the file -> pixels by key, that of `key` among them; all are kept.

        Raises:
            UnreadableImageError: It cannot be read, and what `make` raises.
        """
        _, data, known = self._file(record)
        if key not in known:
            for name, pixels in make(data).items():
                pixels.flags.writeable = False
                known[name] = pixels
        return known[key]

    def _file(self, record: ImageRecord) -> tuple[ImageRecord, bytes, dict[Any, Pixels]]:
        """Return the file of a record; of each image only the last file is kept in memory."""
        known = self._files.get(record.image_id)
        if known is None or (known[0].path, known[0].part) != (record.path, record.part):
            known = record, record.read(), {}
            self._files[record.image_id] = known
        return known


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

    def __call__(self, record: ImageRecord, files: OpenFiles | None = None) -> Pixels:
        """Return the pixels of a record's image.

        Args:
            record: The image.
            files: Files of the batch that are read already, or None.
        """
        pixels = self.pixels(record, files or OpenFiles())
        if self.output_size is None:
            return pixels
        return resized(pixels, self.output_size, self.output_interpolation)

    def pixels(self, record: ImageRecord, files: OpenFiles) -> Pixels:
        """Return the pixels of an image before the resize to `output_size`."""
        return files.cropped(record, self.preprocessing, self.grey)


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
        reader: As given.
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
        self.reader = reader

    def __len__(self) -> int:
        """Return the number of images, including unreadable ones."""
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        """Yield the batches in order."""
        for _, batch in StreamGroup([self]):
            yield batch

    def part(self, start: int, stop: int) -> list[ImageRecord]:
        """Return some of the records, for `with_part`."""
        return self.records[start:stop]

    def with_part(self, part: Sequence[ImageRecord], _model: Any = None) -> PartOfStream:
        """Return the stream of some of the records, read in this process; it can be pickled."""
        return PartOfStream(part, self.reader, self.batch_size, 0)

    def note(self, unreadable: Sequence[tuple[str, str]]) -> None:
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


class PartOfStream(ImageStream):
    """Some images of a stream, for a worker: unreadable ones are left to the whole stream to judge.

    Attributes:
        unread: Unreadable images, for `ImageStream.note` of the whole stream.
    """

    unread: Sequence[tuple[str, str]] = ()

    def note(self, unreadable: Sequence[tuple[str, str]]) -> None:
        """List unreadable files."""
        self.unread = (*self.unread, *unreadable)


class StreamGroup:
    """Several streams of the same images, read together.

    Worker processes are started once, and streams of the same files read and decode each file once.
    Yields (index of the stream, batch); the batches of each stream are its own, in its order.

    Args:
        streams: The streams, with as many images and the same batch size.

    Raises:
        InputError: No streams, or streams that differ in length or batch size; while iterating, as
            `ImageStream`.
    """

    def __init__(self, streams: Sequence[ImageStream]) -> None:
        if len({(len(stream), stream.batch_size) for stream in streams}) != 1:
            raise InputError("expected streams of as many images each, with the same batch size")
        self.streams = list(streams)

    def __iter__(self) -> Iterator[tuple[int, tuple[Tensor, Tensor, list[str]]]]:
        loader: DataLoader[tuple[int, _Chunk]] = DataLoader(
            _Chunks(
                [(stream.records, stream.reader) for stream in self.streams],
                self.streams[0].batch_size,
            ),
            batch_size=None,  # a chunk is a batch already
            num_workers=self.streams[0].n_workers,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # otherwise each pass would draw from the global one
        )
        first: dict[int, _Chunk] = {}
        with without_interrupts():  # Ctrl-C reaches this process alone, which ends its workers
            chunks = iter(loader)
        for k, chunk in chunks:
            self.streams[k].note(chunk.unreadable)
            if chunk.error is not None:
                raise chunk.error
            if chunk.images is None:
                continue
            _check_same_size(first.setdefault(k, chunk), chunk)
            images = chunk.images.permute(0, 3, 1, 2).contiguous()
            if images.dtype == torch.uint8:
                images = images.float().div_(255)
            yield k, (images, torch.tensor(chunk.labels), chunk.ids)


@dataclass(frozen=True)
class _Chunk:
    """One batch as a worker returns it; an error is a value here, which keeps its message."""

    images: Tensor | None  # (N, H, W, C); None if there are none or an error occurred
    labels: list[int]
    ids: list[str]
    unreadable: list[tuple[str, str]]  # (image id, reason)
    error: InputError | None = None


class _Chunks(IterableDataset[tuple[int, _Chunk]]):
    """The batches of several streams, each worker's share; can be pickled for workers.

    A worker takes every n-th batch, of all streams in turn. Workers are asked in turn too, so the
    batches of each stream come in order.
    """

    def __init__(self, streams: list[tuple[list[ImageRecord], Reader]], batch_size: int) -> None:
        self._streams, self._batch_size = streams, batch_size

    def __iter__(self) -> Iterator[tuple[int, _Chunk]]:
        worker = get_worker_info()
        number, n_workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        size = self._batch_size
        for start in range(number * size, len(self._streams[0][0]), n_workers * size):
            files = OpenFiles()
            for k, (records, reader) in enumerate(self._streams):
                yield k, _read_chunk(records[start : start + size], reader, files)


def _read_chunk(batch: Sequence[ImageRecord], reader: Reader, files: OpenFiles) -> _Chunk:
    """Return the images of one batch of one stream."""
    pixels: list[Any] = []
    records: list[ImageRecord] = []
    unreadable: list[tuple[str, str]] = []
    for record in batch:
        try:
            image = reader(record, files) if isinstance(reader, FileReader) else reader(record)
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
