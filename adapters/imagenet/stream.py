"""Batches of images in the order of their records, decoded in worker processes.

Unreadable files are left out, logged and listed; more than 1 % of them stop the run, so among fewer
than 100 images a single one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

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
from iaside_plugins.adapters.imagenet.record import ImageRecord, of_image
from iaside_plugins.allocator import keep_freed_memory
from iaside_plugins.errors import InputError, first_names
from iaside_plugins.inference.checks import size_clash
from iaside_plugins.integers import as_integer
from iaside_plugins.parallel.processes import without_interrupts

if TYPE_CHECKING:
    from PIL import Image

Reader = Callable[[ImageRecord], Any]
"""Record of an image -> its pixels (H, W, C), uint8, or float32 in [0, 1]; can be pickled."""

Batch = tuple[Tensor, Tensor, list[str]]
_N_LISTED = 10  # how many unreadable files the error lists
_SMALL = 2**19  # bytes below which pixels go through a pipe: shared memory costs more
_N_AHEAD = 4  # parts of batches that each worker makes ahead

_logger = logging.getLogger(__name__)


class _File(NamedTuple):
    """A file that is read already: its bytes, and what was taken of it, by the readers' keys."""

    record: ImageRecord
    data: bytes
    taken: dict[Any, Pixels]


class OpenFiles:
    """The files of one batch: each is read and decoded once, however many streams use it.

    Attributes:
        readers: Those of all streams that read the same files; what each takes of a file is made
            when the first one needs it.
    """

    def __init__(self) -> None:
        self.readers: Sequence[FileReader] = ()
        self._files: dict[str, _File] = {}

    def data(self, record: ImageRecord) -> bytes:
        """Return the content of a record's file.

        Raises:
            UnreadableImageError: It cannot be read.
        """
        return self._file(record).data

    def cropped(self, record: ImageRecord, reader: FileReader) -> Pixels:
        """Return what a reader takes of a record's file; read-only.

        Raises:
            UnreadableImageError: It cannot be read or decoded.
            InputError: The crop is larger than the image.
        """
        _, data, taken = self._file(record)
        if reader.key not in taken:
            image = decode(data, grey=reader.grey)
            for other in self.readers:
                if other.grey == reader.grey and other.key not in (*taken, reader.key):
                    with suppress(InputError, UnreadableImageError):  # it says so itself
                        taken |= other.crops(image, data)
            if reader.key not in taken:
                taken |= reader.crops(image, data)
            for pixels in taken.values():
                pixels.flags.writeable = False
        return taken[reader.key]

    def _file(self, record: ImageRecord) -> _File:
        """Return the file of a record; of each image only the last file is kept in memory."""
        known = self._files.get(record.image_id)
        if known is None or (known.record.path, known.record.part) != (record.path, record.part):
            known = _File(record, record.read(), {})
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
        return files.cropped(record, self)

    @property
    def key(self) -> Any:
        """What is taken of a file, which readers of the same key share."""
        return self.preprocessing, self.grey

    def crops(self, image: Image.Image, _data: bytes) -> dict[Any, Pixels]:
        """Return pixels by key, that of this reader among them.

        Args:
            image: The image decoded.
            _data: Content of its file, for other decoders.

        Raises:
            InputError: The crop is larger than the image.
        """
        return {self.key: to_pixels(shaped(image, self.preprocessing))}


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
        self.records = list(records)
        self.unreadable: list[str] = []
        self.batch_size = as_integer("batch_size", batch_size, 1)
        self.n_workers = as_integer("n_workers", n_workers, 0)
        self.reader = reader

    def __len__(self) -> int:
        """Return the number of images, including unreadable ones."""
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        """Yield the batches in order."""
        with closing(iter(StreamGroup([self]))) as batches:
            for _, batch in batches:
                yield batch

    def part(self, start: int, stop: int) -> list[ImageRecord]:
        """Return some of the records, for `with_part`; a worker may be in another folder."""
        return [
            record if record.path.is_absolute() else replace(record, path=record.path.absolute())
            for record in self.records[start:stop]
        ]

    def with_part(
        self, part: Sequence[ImageRecord], _model: Any = None, n_workers: int = 0
    ) -> PartOfStream:
        """Return the stream of some of the records, see `parallel.shards.Files`."""
        return PartOfStream(part, self.reader, self.batch_size, n_workers)

    def note(self, unreadable: Sequence[tuple[str, str]]) -> None:
        """List and log unreadable files, and stop if they are too many."""
        new: list[tuple[str, str]] = []
        for image_id, reason in unreadable:
            if image_id not in self.unreadable:
                self.unreadable.append(image_id)
                new.append((image_id, reason))
        if 100 * len(self.unreadable) > len(self.records):
            listed = first_names(self.unreadable, _N_LISTED)
            reason = f" (the last one {unreadable[-1][1]})" if unreadable else ""
            raise InputError(
                f"{len(self.unreadable)} of {len(self.records)} images are unreadable, more than "
                f"1 %: {listed}{reason}; restore the files or take them out of the data"
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

    Worker processes are started once, each makes a part of every batch, and streams of the same
    files read and decode each file once. Iterating gives `Batches`; the batches of each stream are
    its own, in its order.

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

    def __iter__(self) -> Batches:
        """Start the workers, and return what gives (index of the stream, batch)."""
        return Batches(self.streams)


class Batches(Iterator[tuple[int, Batch]]):
    """The batches of a `StreamGroup`, while its workers make the next ones.

    Args:
        streams: Those of the group.
    """

    def __init__(self, streams: Sequence[ImageStream]) -> None:
        size, n_workers = streams[0].batch_size, streams[0].n_workers
        self._streams, self._n_parts = streams, max(1, min(size, n_workers))
        parts = [(stream.records, stream.reader) for stream in streams]
        loader: DataLoader[_Chunk] = DataLoader(
            _Chunks(parts, size, self._n_parts),
            batch_size=None,  # a chunk is a part of a batch already
            num_workers=n_workers - n_workers % self._n_parts,
            prefetch_factor=_N_AHEAD if n_workers else None,
            collate_fn=_unchanged,
            worker_init_fn=_start_worker if n_workers else None,
            generator=torch.Generator(),  # otherwise each pass would draw from the global one
        )
        with without_interrupts():  # Ctrl-C reaches this process alone, which ends its workers
            self._chunks: Iterator[_Chunk] = iter(loader)
        self._first: dict[int, tuple[str, Sequence[int]]] = {}  # id and shape, by stream
        # A thread waits for the workers, so that `ready` knows whether there is a batch.
        self._reader = ThreadPoolExecutor(1) if n_workers else None
        self._next = None if self._reader is None else self._reader.submit(self._read)

    def ready(self) -> bool:
        """Return whether the next batch is there; always without workers, which make it ahead."""
        return self._next is None or self._next.done()

    def close(self) -> None:
        """End the workers; nothing can be read any more."""
        if self._reader is not None:
            self._reader.shutdown()
        self._reader, self._next, self._chunks = None, None, iter(())

    def __next__(self) -> tuple[int, Batch]:
        """Return (index of the stream, batch), once it is there."""
        while parts := self._parts():
            k = parts[0].stream
            for chunk in parts:
                self._streams[k].note(chunk.unreadable)
                if chunk.error is not None:
                    raise chunk.error
            pixels = [torch.as_tensor(one.images) for one in parts if one.images is not None]
            for chunk in parts:
                self._check_same_size(chunk)
            if pixels:
                images = pixels[0] if len(pixels) == 1 else torch.cat(pixels)
                images = images.permute(0, 3, 1, 2).contiguous()
                if images.dtype == torch.uint8:
                    images = images.float().div_(255)
                labels = [label for chunk in parts for label in chunk.labels]
                ids = [name for chunk in parts for name in chunk.ids]
                return k, (images, torch.tensor(labels), ids)
        raise StopIteration

    def _check_same_size(self, chunk: _Chunk) -> None:
        """Raise InputError unless images are of the size of the first ones of their stream."""
        if chunk.images is not None:
            own = chunk.ids[0], tuple(chunk.images.shape[1:])
            first = self._first.setdefault(chunk.stream, own)
            if first[1] != own[1]:
                raise size_clash(*first, *own)

    def _parts(self) -> list[_Chunk]:
        """Return all parts of the next batch; nothing at the end."""
        if self._reader is None or self._next is None:
            return self._read()
        parts, self._next = self._next.result(), self._reader.submit(self._read)
        return parts

    def _read(self) -> list[_Chunk]:
        return list(islice(self._chunks, self._n_parts))


@dataclass(frozen=True)
class _Chunk:
    """A part of a batch as a worker returns it; an error is a value, which keeps its message."""

    stream: int
    images: Any  # (N, H, W, C), array or tensor; None if there are none or an error occurred
    labels: list[int]
    ids: list[str]
    unreadable: list[tuple[str, str]]  # (image id, reason)
    error: InputError | None = None


class _Chunks(IterableDataset[_Chunk]):
    """The batches of several streams in parts, each worker's share; can be pickled for workers.

    A worker takes its part of a batch from all streams in turn, then that of its next batch.
    Workers are asked in turn too, so the parts of a batch come one after the other, and the batches
    of each stream in order.
    """

    def __init__(
        self, streams: list[tuple[list[ImageRecord], Reader]], batch_size: int, n_parts: int
    ) -> None:
        self._streams, self._batch_size, self._n_parts = streams, batch_size, n_parts
        self._readers = _same_files(streams)

    def __iter__(self) -> Iterator[_Chunk]:
        worker = get_worker_info()
        number, n_workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        first, part = divmod(number, self._n_parts)
        size, step = self._batch_size, self._batch_size * (n_workers // self._n_parts)
        for start in range(first * size, len(self._streams[0][0]), step):
            files = OpenFiles()
            for k, (records, reader) in enumerate(self._streams):
                files.readers = self._readers[k]
                batch = records[start : start + size]
                own = slice(*(p * len(batch) // self._n_parts for p in (part, part + 1)))
                yield _read_chunk(k, batch[own], reader, files)


def _same_files(streams: list[tuple[list[ImageRecord], Reader]]) -> list[list[FileReader]]:
    """Return for every stream the readers of all streams of the same records, one a key."""
    groups: list[tuple[list[ImageRecord], dict[Any, FileReader]]] = []
    own = []
    for records, reader in streams:
        found = next((known for others, known in groups if others == records), None)
        if found is None:
            found = {}
            groups.append((records, found))
        if isinstance(reader, FileReader):
            found.setdefault(reader.key, reader)
        own.append(found)
    return [list(found.values()) for found in own]


def _read_chunk(
    stream: int, batch: Sequence[ImageRecord], reader: Reader, files: OpenFiles
) -> _Chunk:
    """Return the images of a part of one batch of one stream."""
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
            return _Chunk(stream, None, [], [], unreadable, of_image(error, record))
        if pixels and image.shape != pixels[0].shape:
            clash = size_clash(records[0].image_id, pixels[0].shape, record.image_id, image.shape)
            return _Chunk(stream, None, [], [], unreadable, clash)
        pixels.append(image)
        records.append(record)
    images: Any = np.stack(pixels) if pixels else None
    return _Chunk(
        stream,
        torch.from_numpy(images) if pixels and images.nbytes > _SMALL else images,
        [record.label for record in records],
        [record.image_id for record in records],
        unreadable,
    )


def _start_worker(_number: int) -> None:
    """Keep freed memory, and one thread a worker, of BLAS too where `threadpoolctl` is installed.

    Corruptions ask for large blocks all the time, and threads that wait for each other on busy
    cores cost many times what they compute.
    """
    keep_freed_memory()
    with suppress(ImportError):
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)


def _unchanged(chunk: Any) -> Any:
    return chunk
