"""One image file -> uint8 array: strict decoding, then the geometry of torchvision, with Pillow.

EXIF orientation is not applied and colour profiles are ignored, as in the pipelines by which the
published ImageNet accuracies were measured.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.adapters.imagenet.preprocessing import INTERPOLATIONS, Preprocessing
from iaside_plugins.adapters.imagenet.remote import read_plain, remote_of
from iaside_plugins.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB or (H, W, 1) grey, uint8."""

Resample = Callable[["Image.Image", tuple[int, int]], "Image.Image"]
"""Image, (width, height) -> the image resized to that."""

_log = logging.getLogger(__name__)
_MOST_BYTES = 2**30  # of an image file
_MOST_PIXELS = 2 * 89_478_485  # of an image, also resized: where Pillow refuses to decode
_POSTSCRIPT = "EPS"  # the format for which Pillow starts another program, Ghostscript
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_BITS_PER_SAMPLE = 258  # tag of TIFF
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # a 32-bit mode read from these holds at most 16 bits


class UnreadableImageError(InputError):
    """A file that is missing, truncated or no image; a stream may leave it out."""


def pillow() -> Any:
    """Return the modules of Pillow.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        import PIL
        import PIL.Image
        import PIL.ImageFile
        import PIL.PngImagePlugin
    except ImportError as error:
        raise MissingExtraError.of("reading images needs Pillow", "imagenet") from error
    return PIL


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        UnreadableImageError: It cannot be read.
    """
    try:
        return read_plain(path, _MOST_BYTES)
    except OSError as error:
        raise UnreadableImageError(f"cannot be read: {error.strerror or error}") from error


def file_version(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written again: its place, length in bytes and time (ns).

    Of a remote file always the same: it would be asked for every image.

    Raises:
        OSError: There is no such file.
    """
    if remote_of(path) is not None:
        return 0, 0, 0
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def decode(data: bytes, *, grey: bool = False) -> Image.Image:
    """Decode an image file completely.

    Palettes, CMYK, grey and other modes become RGB; alpha is dropped. Of 16-bit images the high
    byte is kept, which is also what Pillow does to 16-bit RGB; of TIFF files of 12 bits a pixel the
    high 8 bits. Grey images of 16 bits whose values need no more than 12 are said, once a process.

    Args:
        data: Content of the file.
        grey: Convert to one channel (ITU-R 601 luma) instead of RGB.

    Returns:
        Image of mode "RGB" or "L"; `info` holds the file's comments.

    Raises:
        UnreadableImageError: Not an image, damaged, or truncated, even if Pillow is set to accept
            truncated files.
        InputError: Pixels that have no fixed range: 32-bit integers or floats.
        MissingExtraError: Pillow is not installed.
    """
    library = pillow()
    # What Pillow's decoders raise for damaged files: OSError mostly, the others format by format.
    damaged = (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        EOFError,
        IndexError,
        KeyError,
        OverflowError,
        struct.error,
        library.Image.DecompressionBombError,
    )
    with _strict(library):
        try:
            image = library.Image.open(io.BytesIO(data), formats=_formats())
            image.load()
        except MemoryError as error:
            raise UnreadableImageError("cannot be decoded: larger than the memory") from error
        except damaged as error:
            unknown = isinstance(error, library.UnidentifiedImageError)
            reason = "no known image format" if unknown else str(error) or type(error).__name__
            if data.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
                reason = "it is PostScript, a program; convert it to an image"
            raise UnreadableImageError(f"cannot be decoded: {reason}") from error
        image = _eight_bits(image, library)
        if image.mode == "LAB":  # which Pillow converts to colour alone
            image = image.convert("RGB")
        converted: Image.Image = image.convert("L" if grey else "RGB")
        return converted


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads by itself, in its own order."""
    library = pillow()
    library.Image.preinit()
    library.Image.init()
    return tuple(name for name in library.Image.ID if name != _POSTSCRIPT)


@contextmanager
def _strict(library: Any) -> Iterator[None]:
    """Make truncated files errors and silence Pillow's warnings on metadata, inside the context."""
    tolerant = library.ImageFile.LOAD_TRUNCATED_IMAGES
    library.ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _eight_bits(image: Any, library: Any) -> Any:
    """Return images of 12 or 16 bits by their high 8 bits; all others as they are."""
    from_32 = image.mode == "I" and image.format in _SIXTEEN_BIT_FORMATS
    if image.mode in _SIXTEEN_BITS or from_32:
        pixels = np.asarray(image).astype(np.uint32)
        tags = getattr(image, "tag_v2", {})  # of TIFF, whose 12 bits Pillow leaves as they are
        n_bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        if n_bits == 16 and 0 < pixels.max(initial=0) < 2**12:
            _say_few_bits()
        return library.Image.fromarray((pixels >> n_bits - 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(
            f"expected pixels of 8 or 16 bits, got {image.format} of mode {image.mode!r} "
            "(32 bits, no fixed range); save the images with 8 bits"
        )
    return image


@cache
def _say_few_bits() -> None:
    """Log a doubt about 16-bit images, once a process and not once an image."""
    _log.warning(
        "an image of 16 bits a pixel has no value above 4,095: it is very dark, or holds 12 bits "
        "or fewer and becomes almost black, as only the high byte is kept; if so, multiply the "
        "values (12 bits: by 16) and save the images again"
    )


def shaped(
    image: Image.Image, preprocessing: Preprocessing, resample: Resample | None = None
) -> Image.Image:
    """Resize and centre crop, as torchvision's Resize and CenterCrop do with Pillow images.

    The short side becomes `resize`, the long one int(resize * long / short), antialiased; nothing
    is resampled where the short side has that length already. The crop starts at
    round((size - crop) / 2), halves to even. Nothing is padded.

    Args:
        image: Decoded image.
        preprocessing: Its resize, crop and interpolation are used, mean and std are not.
        resample: Resizes an image to (width, height) instead of Pillow with that interpolation.

    Raises:
        UnreadableImageError: The image is so long and thin that no memory holds it resized.
        InputError: The crop is larger than the image.
    """
    width, height = image.size
    short, resize, crop = min(width, height), preprocessing.resize, preprocessing.crop
    if resize is not None and short != resize:
        width, height = (
            resize if side == short else int(resize * side / short) for side in (width, height)
        )
        if width * height > _MOST_PIXELS:
            raise UnreadableImageError(
                f"is too long and thin: {image.size[0]} x {image.size[1]} pixels would become "
                f"{width} x {height} (width x height)"
            )
        if resample is None:
            image = image.resize((width, height), _filter(preprocessing.interpolation))
        else:
            image = resample(image, (width, height))
    if crop is None:
        return image
    if crop > min(width, height):
        raise InputError(
            f"the crop of {crop} x {crop} pixels is larger than the image of {width} x {height} "
            "(width x height); resize first or crop less: nothing is padded"
        )
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def resized(pixels: Pixels, size: int, interpolation: str) -> Pixels:
    """Return an image resized to `size` x `size`, antialiased, or unchanged if it has that size."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return to_pixels(to_image(pixels).resize((size, size), _filter(interpolation)))


def to_image(pixels: Pixels) -> Image.Image:
    """Return the image of mode "RGB" or "L" of an array (H, W, 3) or (H, W, 1) uint8."""
    image: Image.Image = pillow().Image.fromarray(
        pixels[..., 0] if pixels.shape[2] == 1 else pixels
    )
    return image


def to_pixels(image: Image.Image) -> Pixels:
    """Return the array (H, W, C) uint8 of an image of mode "RGB" or "L"."""
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _filter(interpolation: str) -> Any:
    return getattr(pillow().Image.Resampling, INTERPOLATIONS[interpolation])
