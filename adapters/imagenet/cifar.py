"""Images in arrays: the archives of CIFAR-10 and CIFAR-100, and the .npy files of CIFAR-C."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, file_version
from iaside_plugins.adapters.imagenet.remote import read_plain
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.errors import InputError, error_text
from iaside_plugins.integers import as_integer

ARCHIVES = {  # data set -> file of the test set, key of its labels
    "cifar10": ("cifar-10-batches-py/test_batch", b"labels"),
    "cifar100": ("cifar-100-python/test", b"fine_labels"),
}
CORRUPTED = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}
SIDE = 32
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class ArrayImages:
    """Rows of an array (N, H, W, C) uint8 as batches (images, labels, ids), in the order given.

    Rows are read batch by batch, also from an array that is mapped from disk. images:
    (N, C, H, W) float32 in [0, 1]; labels: (N,) int64.

    Args:
        pixels: The array.
        labels: (N,) class indices of the same rows.
        rows: Which rows, in order.
        ids: Name of each of them.
        batch_size: Images per batch.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        ids: Sequence[str],
        batch_size: int,
    ) -> None:
        self.pixels, self.labels, self.rows, self.ids = pixels, labels, rows, list(ids)
        self.batch_size = as_integer("batch_size", batch_size, 1)
        self.records = self.ids  # for the length of progress bars

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        for start in range(0, len(self.rows), self.batch_size):
            rows = self.rows[start : start + self.batch_size]
            pixels = np.ascontiguousarray(self.pixels[rows].transpose(0, 3, 1, 2))
            images = torch.from_numpy(pixels).float().div_(255)
            yield images, torch.from_numpy(self.labels[rows]), self.ids[start : start + len(rows)]


def read_cifar(root: Path, dataset: str) -> tuple[Any, Any] | None:
    """Return pixels (N, 32, 32, 3) uint8 and labels (N,) of a CIFAR test set, or None without one.

    Args:
        root: The folder that holds the unpacked archive's folder, or that folder itself.
        dataset: "cifar10" or "cifar100".

    Raises:
        InputError: The file is not the archive's; nothing in it but arrays and text is loaded.
    """
    file = archive_file(root, dataset)
    return None if file is None else _read_archive(file, dataset)


def archive_file(root: Path, dataset: str) -> Path | None:
    """Return the file of a CIFAR test set in a folder, or None; arguments as for `read_cifar`."""
    name, _ = ARCHIVES[dataset]
    return next((f for f in (root / name, root / Path(name).name) if f.is_file()), None)


def _read_archive(file: Path, dataset: str) -> tuple[Any, Any]:
    """Return pixels and labels of a CIFAR test set."""
    _, key = ARCHIVES[dataset]
    try:
        data = _ArraysOnly(io.BytesIO(read_plain(file, 2**30)), encoding="bytes").load()
        pixels, labels = np.asarray(data[b"data"]), np.asarray(data[key])
        if pixels.dtype != np.uint8 or labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise TypeError(f"pixels {pixels.dtype}, labels {labels.dtype} {labels.shape}")
        pixels, labels = pixels.reshape(-1, 3, SIDE, SIDE), labels.astype(np.int64)
    except Exception as error:  # a damaged pickle raises anything
        reason = error_text(error)
        raise InputError(f"{file} is not the test set of {dataset}: {reason}") from error
    if len(pixels) != len(labels) or not len(labels) or labels.min() < 0:
        least = f", the least {labels.min()}" if len(labels) else ""
        raise InputError(f"{file}: {len(pixels)} images and {len(labels)} labels{least}")
    return pixels.transpose(0, 2, 3, 1), labels


def read_cifar_c(
    root: Path, dataset: str, corruption: str, labels: Sequence[int] | npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Return the array (5 N, 32, 32, 3) of one corruption by severity, mapped from disk.

    Args:
        root: The folder that holds CIFAR-10-C or CIFAR-100-C, or that folder itself.
        dataset: "cifar10" or "cifar100".
        corruption: Name of its file, without .npy.
        labels: Labels of the clean images, which the corrupted ones must begin with.

    Raises:
        InputError: A file is missing or of another shape, or the labels differ.
    """
    folder = _corrupted_folder(root, dataset)
    for needed in (f"{corruption}.npy", "labels.npy"):
        if not (folder / needed).is_file():
            raise InputError(
                f"{folder} has no {needed}; it must hold the files of {CORRUPTED[dataset]}"
            )
    pixels: npt.NDArray[np.uint8] = _array(folder / f"{corruption}.npy")
    is_images = pixels.ndim == 4 and pixels.shape[1:] == (SIDE, SIDE, 3) and len(pixels) % 5 == 0
    if not is_images or pixels.dtype != np.uint8:
        raise InputError(
            f"{folder / corruption}.npy: expected (5 N, {SIDE}, {SIDE}, 3) uint8, got "
            f"{pixels.shape} {pixels.dtype}"
        )
    corrupted = np.ravel(_array(folder / "labels.npy"))[: len(labels)]
    if len(pixels) // 5 < len(labels) or not np.array_equal(corrupted, labels):
        raise InputError(
            f"{folder / 'labels.npy'} does not begin with the labels of the {len(labels)} clean "
            "images: these are not the same images"
        )
    return pixels


def corruptions_of_cifar_c(root: Path, dataset: str) -> dict[str, Path]:
    """Return the .npy file of each of the 15 corruptions that is there; `root` as above."""
    folder = _corrupted_folder(root, dataset)
    files = {corruption: folder / f"{corruption}.npy" for corruption in CORRUPTIONS}
    return {corruption: file for corruption, file in files.items() if file.is_file()}


def _corrupted_folder(root: Path, dataset: str) -> Path:
    """Return the folder of the .npy files: the data set's own one in a folder, or that itself."""
    own = root / CORRUPTED[dataset]
    return own if own.is_dir() else root


def _array(file: Path) -> Any:
    """Return the array of a .npy file, mapped from disk."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays (.npz)")
        return array
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} is not a sound .npy file: {error}") from error


@dataclass(frozen=True)
class ArchiveRow:
    """One image of a CIFAR test set, as a part of its file.

    Attributes:
        dataset: "cifar10" or "cifar100".
        row: Which image, from 0.
    """

    dataset: str
    row: int

    def read(self, path: Path) -> bytes:
        """Return the image as a PPM file; the archive is unpacked once a process."""
        try:
            return _as_ppm(_archive_pixels(path, file_version(path), self.dataset)[self.row])
        except (InputError, OSError, IndexError) as error:
            raise UnreadableImageError(f"cannot be read: {error}") from error


@dataclass(frozen=True)
class ArrayRow:
    """One image of a .npy file (N, H, W, 3) uint8, as a part of it.

    Attributes:
        row: Which image, from 0.
    """

    row: int

    def read(self, path: Path) -> bytes:
        """Return the image as a PPM file; the array is mapped from disk."""
        try:
            return _as_ppm(_mapped(path, file_version(path))[self.row])
        except (InputError, OSError, IndexError) as error:
            raise UnreadableImageError(f"cannot be read: {error}") from error


@lru_cache(maxsize=1)
def _archive_pixels(file: Path, version: Any, dataset: str) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = _read_archive(file, dataset)[0]
    return pixels


@lru_cache(maxsize=1)
def _mapped(file: Path, version: Any) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = _array(file)
    return pixels


def _as_ppm(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return pixels (H, W, 3) uint8 as a binary PPM file."""
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()


class _ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays, text and containers, and refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image archive needs")
