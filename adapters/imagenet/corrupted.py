"""Clean images corrupted as they are read, in the workers, with an optional folder of results."""

from __future__ import annotations

import hashlib
import io
import json
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.adapters.imagenet.decoding import (
    Pixels,
    UnreadableImageError,
    decode,
    pillow,
    read_bytes,
    resized,
    shaped,
    to_image,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import ImageRecord
from iaside_plugins.adapters.imagenet.stream import ImageStream
from iaside_plugins.corruptions.apply import CORRUPTIONS, PIXELS_VERSION, corrupt, corruption_seed
from iaside_plugins.corruptions.frost import HOW_TO_GET_TEXTURES, load_frost_textures
from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import write_atomic

Textures = str | os.PathLike[str] | Sequence[npt.NDArray[np.uint8]]
"""A folder with the frost textures, or the textures, (h, w, 3) uint8 RGB."""

# The files of the distributed ImageNet-C; a test holds them against `corrupt(jpeg=True)`.
_JPEG: dict[str, Any] = {"quality": 85, "optimize": True, "subsampling": "4:2:0"}


@dataclass(frozen=True)
class _Corruption:
    """What is done to one image of uint8 pixels, apart from its own seed."""

    name: str
    severity: int
    seed: int
    textures: tuple[npt.NDArray[np.uint8], ...] | None

    def __call__(self, pixels: Pixels, image_id: str, *, jpeg: bool) -> Pixels:
        seed = corruption_seed(self.seed, image_id, self.name, self.severity)
        return corrupt(
            pixels, self.name, self.severity, seed=seed, jpeg=jpeg, frost_textures=self.textures
        )


@dataclass(frozen=True)
class _Reader:
    """Reads, shapes and corrupts one image; keeps the result if there is a folder for it."""

    preprocessing: Preprocessing
    grey: bool
    corruption: _Corruption | None
    jpeg: bool
    output_size: int | None
    output_interpolation: str
    folder: Path | None  # of this corruption and severity
    textures_digest: str

    def __call__(self, record: ImageRecord) -> Pixels:
        data = read_bytes(record.path)
        if self.corruption is None:
            pixels = self._clean(data)
        elif self.folder is None:
            pixels = self.corruption(self._clean(data), record.image_id, jpeg=self.jpeg)
        else:
            pixels = self._cached(self.folder, self.corruption, data, record.image_id)
        if self.output_size is None:
            return pixels
        return resized(pixels, self.output_size, self.output_interpolation)

    def _clean(self, data: bytes) -> Pixels:
        return to_pixels(shaped(decode(data, grey=self.grey), self.preprocessing))

    def _cached(self, folder: Path, corruption: _Corruption, data: bytes, image_id: str) -> Pixels:
        # With JPEG, files are named as the images: the folder is an ImageNet-C tree. Grey images
        # are corrupted and saved in colour and averaged afterwards, which no JPEG file holds.
        as_jpeg = self.jpeg and not self.grey
        path = folder / (image_id if as_jpeg else f"{image_id}.png")
        # Written into the file: another source under the same id must not get this result.
        source = hashlib.sha256(data + self.textures_digest.encode()).hexdigest()
        kept = _kept(path, source, self.grey)
        if kept is not None:
            return kept
        pixels = corruption(self._clean(data), image_id, jpeg=self.jpeg and not as_jpeg)
        encoded = _encoded(pixels, source, as_jpeg)
        write_atomic(path, encoded)
        return to_pixels(decode(encoded, grey=self.grey))


class CorruptedData(ImageStream):
    """The images of `records`, corrupted; iterates as `ImageStream` says.

    Each image is decoded, resized and cropped to the size at which the corruption's constants are
    defined, corrupted with a seed of its own (`corruptions.corruption_seed`), and then resized to
    the model's input. So the result depends neither on the batches nor on the other images.

    Args:
        records: The clean images.
        corruption: One of `corruptions.CORRUPTIONS`, or None for the uncorrupted images with the
            same geometry (neither corrupted nor saved as JPEG).
        severity: 1 to 5; ignored without corruption.
        resize: The short side is resized to this, pixels; None for as it is.
        crop: Side of the centre crop, pixels: 224, or 32 for CIFAR; None for none.
        output_size: Side of the model's input, pixels; None for as it is.
        interpolation: Of the first resize; ImageNet-C was made with "bilinear".
        output_interpolation: Of the resize to `output_size`; None for `interpolation`.
        jpeg: Whether the images are saved as JPEG and decoded, as ImageNet-C was and CIFAR-10-C
            was not.
        seed: Of the corruptions.
        frost_textures: For "frost": a folder, or the textures.
        cache: Folder in which the corrupted images are kept (without the resize to
            `output_size`), below a key of all that determines them: as JPEG files with `jpeg`,
            else as PNG. What is read back equals what was made; damaged files are made anew.
        batch_size: Images per batch.
        n_workers: Worker processes that decode and corrupt; 0 does it in this one.
        grey: One channel instead of three; corrupted as three equal ones and averaged.

    Raises:
        InputError: Unknown corruption or severity, sizes out of range, frost without textures, a
            cache that cannot be written; while iterating, see `ImageStream`.
        MissingExtraError: A library of the extra `imagenet` is not installed.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        corruption: str | None,
        severity: int,
        *,
        resize: int | None = 256,
        crop: int | None = 224,
        output_size: int | None = None,
        interpolation: str = "bilinear",
        output_interpolation: str | None = None,
        jpeg: bool = True,
        seed: int = 0,
        frost_textures: Textures | None = None,
        cache: Path | str | None = None,
        batch_size: int = 64,
        n_workers: int = 0,
        grey: bool = False,
    ) -> None:
        pillow()
        preprocessing = Preprocessing(resize, crop, interpolation)
        # Checks the output size too, which is a length in pixels like a resize.
        output = Preprocessing(output_size, None, output_interpolation or interpolation)
        if crop is None and output_size is not None:
            raise InputError("output_size needs a crop: only square images are resized to it")
        step = _checked(corruption, severity, seed, frost_textures)
        folder = None
        if cache is not None and step is not None:
            key = cache_key(preprocessing, jpeg=jpeg, seed=seed, grey=grey)
            folder = Path(cache) / key / step.name / str(step.severity)
        reader = _Reader(
            preprocessing,
            grey,
            step,
            jpeg,
            output_size,
            output.interpolation,
            folder,
            _digest(step),
        )
        super().__init__(records, reader, batch_size, n_workers)


def cache_key(preprocessing: Preprocessing, *, jpeg: bool, seed: int, grey: bool = False) -> str:
    """Return the name of the cache's folder: a hash of all that determines pixels but the image.

    Args:
        preprocessing: Resize, crop and interpolation before the corruption.
        jpeg: Whether the images are saved as JPEG.
        seed: Seed of the corruptions.
        grey: Whether the images have one channel.

    Returns:
        12 hexadecimal digits; they change with `PIXELS_VERSION`.
    """
    taken = [preprocessing.resize, preprocessing.crop, preprocessing.interpolation]
    text = json.dumps([*taken, jpeg, operator.index(seed), grey, PIXELS_VERSION])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def _checked(
    name: str | None, severity: int, seed: int, textures: Textures | None
) -> _Corruption | None:
    """The corruption, its arguments checked before any worker starts."""
    if name is None:
        return None
    if name not in CORRUPTIONS:
        raise InputError(f"unknown corruption {name!r}; known are {', '.join(CORRUPTIONS)}")
    if severity not in range(1, 6):
        raise InputError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}")
    if name != "frost":
        return _Corruption(name, int(severity), seed, None)
    if textures is None:
        raise InputError(
            f"the corruption frost needs textures (frost_textures=...): {HOW_TO_GET_TEXTURES}"
        )
    if isinstance(textures, (str, os.PathLike)):
        textures = load_frost_textures(textures)
    return _Corruption(name, int(severity), seed, tuple(textures))


def _digest(step: _Corruption | None) -> str:
    """Digest of the textures, empty where none are used."""
    if step is None or step.textures is None:
        return ""
    content = b"".join(str(texture.shape).encode() + texture.tobytes() for texture in step.textures)
    return hashlib.sha256(content).hexdigest()


def _kept(path: Path, source: str, grey: bool) -> Pixels | None:
    """The image kept in a file, or None if there is none, it is damaged, or of another source."""
    try:
        image = decode(read_bytes(path), grey=grey)
    except UnreadableImageError:
        return None
    comment = image.info.get("comment", b"")
    comment = comment.encode() if isinstance(comment, str) else comment
    return to_pixels(image) if comment == source.encode() else None


def _encoded(pixels: Pixels, source: str, as_jpeg: bool) -> bytes:
    """A JPEG file as those of ImageNet-C, or a PNG file, with `source` as its comment."""
    buffer = io.BytesIO()
    image = to_image(pixels)
    if as_jpeg:
        image.save(buffer, format="JPEG", comment=source, **_JPEG)
    else:
        comment = pillow().PngImagePlugin.PngInfo()
        comment.add_text("comment", source)
        image.save(buffer, format="PNG", pnginfo=comment)
    return buffer.getvalue()
