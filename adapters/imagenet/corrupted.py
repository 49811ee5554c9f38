"""Clean images corrupted as they are read, in the workers, with an optional cache folder."""

from __future__ import annotations

import hashlib
import io
import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.adapters.imagenet.decoding import (
    Pixels,
    UnreadableImageError,
    decode,
    pillow,
    read_bytes,
    to_image,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.stream import FileReader, ImageStream, OpenFiles
from iaside_plugins.corruptions.apply import (
    PIXELS_VERSION,
    FrostTextures,
    check_name,
    corrupt,
    corruption_seed,
    texture_arrays,
)
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.errors import InputError
from iaside_plugins.storage.files import write_atomic

# The files of the distributed ImageNet-C; a test holds them against `corrupt(jpeg=True)`.
_JPEG: dict[str, Any] = {"quality": 85, "optimize": True, "subsampling": "4:2:0"}
_CHECKSUM = 32  # bytes at the end of a cached file


@dataclass(frozen=True)
class _Corruption:
    """A corruption of uint8 pixels at one severity, seeded by the id of each image."""

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
class _CorruptingReader(FileReader):
    """Reads, crops and corrupts one image; stores the result if there is a folder for it."""

    corruption: _Corruption | None = None
    jpeg: bool = True
    folder: Path | None = None  # of this corruption and severity
    textures_digest: str = ""

    def pixels(self, record: ImageRecord, files: OpenFiles) -> Pixels:
        """Return the corrupted pixels of an image."""
        image_id, corruption = record.image_id, self.corruption

        def made(jpeg: bool) -> Pixels:
            cropped = files.cropped(record, self)
            return cropped if corruption is None else corruption(cropped, image_id, jpeg=jpeg)

        if corruption is None or self.folder is None:
            return made(self.jpeg)
        # With JPEG, files are named as the images: the folder is an ImageNet-C tree. Grey images
        # are corrupted and saved in colour and averaged afterwards, which no JPEG file holds.
        as_jpeg = self.jpeg and not self.grey
        name = PurePosixPath(image_id if as_jpeg else f"{image_id}.png")
        if name.is_absolute() or ".." in name.parts:
            raise InputError("its id names a file of the cache, and must not lead out of it")
        path = self.folder / name
        # Written into the file: another source with the same id must not get this result.
        source = hashlib.sha256(files.data(record) + self.textures_digest.encode()).hexdigest()
        cached = _cached(path, source, self.grey)
        if cached is not None:
            return cached
        encoded = _encoded(made(self.jpeg and not as_jpeg), source, as_jpeg)
        # Behind the end of the image, where decoders do not look: a JPEG has no checksum.
        write_atomic(path, encoded + _checksum(encoded))
        return to_pixels(decode(encoded, grey=self.grey))


class CorruptedData(ImageStream):
    """The images of `records`, corrupted; iterates like any `ImageStream`.

    Each image is decoded, resized and cropped to the size at which the corruption's constants are
    defined, corrupted with a seed of its own (`corruptions.corruption_seed`), and then resized to
    the model's input. The result depends neither on the batches nor on the other images.

    Args:
        records: The clean images.
        corruption: One of `corruptions.CORRUPTIONS`, or None for the uncorrupted images with the
            same geometry (neither corrupted nor saved as JPEG).
        severity: 1 to 5; ignored without corruption.
        resize: The short side is resized to this, pixels; None for as it is.
        crop: Side of the centre crop, pixels: 224, or 32 for CIFAR; None for none.
        output_size: Side of the model's input, pixels; None for as it is.
        interpolation: Interpolation of the first resize; ImageNet-C was made with "bilinear".
        output_interpolation: The same of the resize to `output_size`; None for `interpolation`.
        jpeg: Whether the images are saved as JPEG and decoded, as ImageNet-C was and CIFAR-10-C
            was not.
        seed: Seed of the corruptions.
        frost_textures: For "frost": a folder, or the textures.
        cache: Folder that stores the corrupted images (without the resize to `output_size`),
            below a key of all that determines them: as JPEG files with `jpeg`, else as PNG. Images
            read back equal those made; damaged files are made again.
        batch_size: Images per batch.
        n_workers: Worker processes that decode and corrupt; 0 does it in this one.
        grey: One channel instead of three; corrupted as three equal ones and averaged.

    Raises:
        InputError: Unknown corruption or severity, sizes out of range, frost without textures, a
            cache that cannot be written; while iterating, see `ImageStream`.
        MissingExtraError: A library of the extra `imagenet` is not installed.
    """

    def __init__(  # noqa: PLR0913  the public signature
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
        frost_textures: FrostTextures | None = None,
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
        reader = _CorruptingReader(
            preprocessing,
            grey,
            output_size,
            output.interpolation,
            step,
            jpeg,
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
    name: str | None, severity: int, seed: int, textures: FrostTextures | None
) -> _Corruption | None:
    """Return the corruption, its arguments checked before any worker starts."""
    if name is None:
        return None
    check_name(name)
    if severity not in SEVERITIES:
        raise InputError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}")
    used = tuple(texture_arrays(textures)) if name == "frost" else None
    return _Corruption(name, int(severity), seed, used)


def _digest(step: _Corruption | None) -> str:
    """Return the digest of the textures, empty if none are used."""
    if step is None or step.textures is None:
        return ""
    content = b"".join(str(texture.shape).encode() + texture.tobytes() for texture in step.textures)
    return hashlib.sha256(content).hexdigest()


def _cached(path: Path, source: str, grey: bool) -> Pixels | None:
    """Return a cached image, or None if it is missing, damaged or of another source."""
    try:
        held = read_bytes(path)
        encoded = held[:-_CHECKSUM]
        if held[-_CHECKSUM:] != _checksum(encoded):
            return None
        image = decode(encoded, grey=grey)
    except UnreadableImageError:
        return None
    comment = image.info.get("comment", b"")
    comment = comment.encode() if isinstance(comment, str) else comment
    return to_pixels(image) if comment == source.encode() else None


def _checksum(encoded: bytes) -> bytes:
    """Return the SHA-256 of bytes, 32 bytes."""
    return hashlib.sha256(encoded).digest()


def _encoded(pixels: Pixels, source: str, as_jpeg: bool) -> bytes:
    """Return a JPEG file like those of ImageNet-C, or a PNG file, with `source` as its comment."""
    buffer = io.BytesIO()
    image = to_image(pixels)
    if as_jpeg:
        image.save(buffer, format="JPEG", comment=source, **_JPEG)
    else:
        comment = pillow().PngImagePlugin.PngInfo()
        comment.add_text("comment", source)
        image.save(buffer, format="PNG", pnginfo=comment)
    return buffer.getvalue()
