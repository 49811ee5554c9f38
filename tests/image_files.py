"""Small image files for the tests of the adapters that read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from iaside_plugins.adapters.imagenet.stream import ImageStream

WNIDS = ("n01440764", "n01443537", "n15075141")  # class indices 0, 1, 999


def random_pixels(seed: int, height: int = 40, width: int = 52) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8, uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(height: int, width: int | None = None, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A photo-like image: power falls with the frequency, all channels differ."""
    ndimage = pytest.importorskip("scipy.ndimage")
    random = np.random.RandomState(seed)
    noise = random.normal(size=(height, width or height, 3))
    smooth = sum(s * ndimage.gaussian_filter(noise, (s, s, 0), mode="wrap") for s in (0.5, 2, 6))
    return np.clip(128 + 90 * smooth / smooth.std() / 2, 0, 255).astype(np.uint8)


def save(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def save_floats(path: Path) -> Path:
    """A file of 32-bit floats, which have no fixed range; TIFF, whatever its ending."""
    Image.fromarray(np.ones((8, 8), np.float32)).save(path, "TIFF")
    return path


def make_tree(
    root: Path, folders: tuple[str, ...] = WNIDS, n: int = 3, height: int = 40, width: int = 52
) -> Path:
    """`n` PNG files of different noise in every folder; returns `root`."""
    for f, folder in enumerate(folders):
        for k in range(n):
            save(root / folder / f"img_{k}.png", random_pixels(100 * f + k, height, width))
    return root


def gathered(data: ImageStream) -> tuple[Tensor, Tensor, list[str]]:
    batches = list(data)
    return (
        torch.cat([images for images, _, _ in batches]),
        torch.cat([labels for _, labels, _ in batches]),
        [name for _, _, ids in batches for name in ids],
    )


class Darker(ImageStream):
    """Images of a stream, darker by a factor."""

    def __init__(self, data: ImageStream, factor: int) -> None:
        super().__init__(data.records, Darken(data.reader, factor), data.batch_size, 0)


@dataclass(frozen=True)
class Darken:
    """Its reader."""

    reader: Any
    factor: int

    def __call__(self, record: Any) -> Any:
        return self.reader(record) // self.factor
