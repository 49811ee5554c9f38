"""Image files as OpenCV, or Pillow with another filter, gives them to a model: systematic noise.

The geometry (length of the short side, centre crop) stays the model's own, so the pixels of one
image have one shape under all conditions. EXIF orientation is not applied, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.adapters.imagenet.decoding import (
    Pixels,
    UnreadableImageError,
    pillow,
    shaped,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.stream import FileReader, ImageStream, StreamGroup
from iaside_plugins.corruptions.systematic import (
    DECODER,
    OPENCV,
    OWN_DECODER,
    PILLOW,
    READINGS,
    other_readings,
    own_reading,
)
from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.evaluation.systematic import SystematicPlan

if TYPE_CHECKING:
    from PIL import Image

_JPEG = b"\xff\xd8\xff"  # how every JPEG file begins
_OPENCV_FLAGS = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "area": "INTER_AREA",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
}


def systematic(clean: ImageFolderData, own: Preprocessing) -> SystematicPlan:
    """Plan the readings of the same files that are not the model's own.

    Args:
        clean: The images, as the model takes them.
        own: The model's preprocessing.

    Raises:
        InputError: There is nothing to vary: the model takes images as they are, and none is a
            JPEG.
        MissingExtraError: OpenCV is not installed.
    """
    opencv()
    resizes = own.resize is not None
    jpeg = any(_is_jpeg(record) for record in clean.records)
    names = other_readings(own.interpolation if resizes else None, jpeg=jpeg)
    if not names:
        raise InputError(
            "systematic noise has nothing to vary here: the model takes images as they are "
            "(resize=None) and lossless files decode alike; leave systematic out"
        )
    left_out = []
    if not jpeg:
        left_out.append(f"{DECODER} (no image is a JPEG, and lossless files decode alike)")
    if not resizes:
        left_out.append("other resizes (the model takes images as they are)")

    def images(name: str) -> ImageStream:
        each = _OtherReader(own, clean.grey, names=names, name=name)
        return ImageStream(clean.records, each, clean.batch_size, clean.n_workers)

    own_name = own_reading(own.interpolation) if resizes else OWN_DECODER
    return SystematicPlan(own_name, names, images, tuple(left_out), StreamGroup)


@dataclass(frozen=True)
class _OtherReader(FileReader):
    """Reads an image under one condition; those of all conditions are made from one decoding.

    Attributes:
        names: All conditions.
        name: This one.
    """

    names: Sequence[str] = ()
    name: str = ""

    @property
    def key(self) -> Any:
        """What is taken of a file."""
        return self.preprocessing, self.grey, self.name

    def crops(self, image: Image.Image, data: bytes) -> dict[Any, Pixels]:
        """Return the pixels under every condition."""
        decoded = {PILLOW: image}
        is_jpeg = data.startswith(_JPEG)
        found: dict[Any, Pixels] = {}
        for name in self.names:
            reading = READINGS[name]
            decoder = reading.decoder if is_jpeg else PILLOW
            if decoder not in decoded:
                decoded[decoder] = decode_with_opencv(data, grey=self.grey)
            taken, resample = self.preprocessing, None
            if reading.resize is not None:
                library, interpolation = reading.resize
                if library == OPENCV:
                    resample = partial(resize_with_opencv, interpolation=interpolation)
                else:
                    taken = replace(taken, interpolation=interpolation)
            pixels = to_pixels(shaped(decoded[decoder], taken, resample))
            found[self.preprocessing, self.grey, name] = pixels
        return found


def opencv() -> Any:
    """Return OpenCV.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError.of("systematic noise needs OpenCV", "imagenet") from error
    return cv2


def decode_with_opencv(data: bytes, *, grey: bool = False) -> Image.Image:
    """Decode an image file to 8-bit RGB with OpenCV; alpha is dropped, orientation not applied.

    Args:
        data: Content of the file.
        grey: Convert to one channel afterwards, with Pillow: only the decoder varies.

    Raises:
        UnreadableImageError: OpenCV cannot decode it.
    """
    cv2 = opencv()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        blue_first = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableImageError(f"cannot be decoded by OpenCV: {error.err}") from error
    if blue_first is None:
        raise UnreadableImageError("cannot be decoded by OpenCV")
    image: Image.Image = pillow().Image.fromarray(np.ascontiguousarray(blue_first[..., ::-1]))
    return image.convert("L") if grey else image


def resize_with_opencv(
    image: Image.Image, size: tuple[int, int], interpolation: str
) -> Image.Image:
    """Resize an image to (width, height) with OpenCV, which does not antialias (but for "area").

    Args:
        image: Of mode "RGB" or "L".
        size: Width and height.
        interpolation: One of OpenCV's in `READINGS`.
    """
    cv2 = opencv()
    flag = getattr(cv2, _OPENCV_FLAGS[interpolation])
    resized: Image.Image = pillow().Image.fromarray(
        cv2.resize(np.asarray(image), size, interpolation=flag)
    )
    return resized


def _is_jpeg(record: ImageRecord) -> bool:
    """Whether an image is a JPEG file; not of one that cannot be read, which is left out later."""
    try:
        return record.read().startswith(_JPEG)
    except UnreadableImageError:
        return False
