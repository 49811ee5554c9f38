"""The 15 ImageNet-C corruptions, regenerated from their published formulas, seeded per image.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019. The distributed data set was made without a seed, so images generated
here are other draws of the same corruptions: results on them are to be called regenerated and never
mixed with results on the distributed files. With the same draws as the published script, 224 x 224
outputs are byte-identical or differ by single grey levels (`tests/corruptions`).

The distributed ImageNet-C consists of JPEG files, whose compression removes a quarter of the noise:
`corrupt` therefore ends with that save by default. CIFAR-10-C (32 x 32) was distributed without.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from iaside_plugins.corruptions.filters import jpeg_round_trip
from iaside_plugins.corruptions.frost import (
    HOW_TO_GET_TEXTURES,
    load_frost_textures,
)
from iaside_plugins.corruptions.functions import SCALES, TABLE, RandomDraws, constants_size
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.seeds import seed_of_text

CORRUPTIONS: tuple[str, ...] = tuple(TABLE)
"""The 15 names, in the official order."""

CORRUPTION_GROUPS: Mapping[str, str] = MappingProxyType(
    {name: corruption.group for name, corruption in TABLE.items()}
)
"""Corruption -> its group: noise, blur, weather or digital."""

PIXELS_VERSION = "c10783229186"
"""Digest of what `corrupt` gives for fixed images: part of the key of cached images.

A test computes it anew (`tests/corruptions/test_golden.py`): when pixels change, it
fails until the new digest stands here.
"""

_SMALLEST_SIDE = 16  # pixels; below it the blurs' kernels and glass blur's margins cover the image
_DATASET_QUALITY = 85  # of the JPEG files of the distributed ImageNet-C

FrostTextures = str | os.PathLike[str] | Sequence[npt.NDArray[np.uint8]]
"""A folder with the textures, or the textures already loaded, (h, w, 3) uint8 RGB."""


def corrupt(
    image: npt.NDArray[np.uint8],
    name: str,
    severity: int,
    *,
    seed: int,
    jpeg: bool = True,
    frost_textures: FrostTextures | None = None,
) -> npt.NDArray[np.uint8]:
    """Corrupt one image.

    The constants are those published for 224 x 224 or for 32 x 32 (see `constants_size`). At other
    sizes lengths that the script states in pixels stay as they are, and what it derives from the
    size follows the image: elastic transform's units, the scale of the frost textures, the fog's
    map (the next power of two), all with the shorter side. Such sizes have no published constants.

    Args:
        image: (H, W, 3) RGB, or (H, W) or (H, W, 1) grey, uint8, at least 16 pixels a side. Grey
            images are corrupted as three equal channels and averaged back.
        name: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: In [0, 2**32), of the `numpy.random.RandomState` that all draws come from, in the
            order of the published script; see `corruption_seed`. No global state is touched.
        jpeg: Whether the result is saved as a JPEG (quality 85, 4:2:0) and decoded, as the
            distributed ImageNet-C was; CIFAR-10-C was not.
        frost_textures: Needed by the corruption "frost" only: a folder, or the textures loaded by
            `load_frost_textures` (faster: a folder is read anew at every call).

    Returns:
        New array of the shape of `image`, uint8.

    Raises:
        InputError: For an unknown name, a severity or a seed out of range, an image of the wrong
            type or shape, or frost without textures.
        MissingExtraError: If a library of the extra `imagenet` is not installed.
    """
    check_name(name)
    severity = _integer(severity, "severity", 1, 5)
    random = np.random.RandomState(_integer(seed, "seed", 0, 2**32 - 1))
    colour = _checked_colour(image)
    size = constants_size(*colour.shape[:2])
    textures = texture_arrays(frost_textures) if name == "frost" else ()
    draw = RandomDraws(TABLE[name].constants(size, severity), SCALES[size], random, textures)
    result = TABLE[name].function(colour, draw)
    if jpeg:
        result = jpeg_round_trip(result, _DATASET_QUALITY, optimize=True)
    if image.shape == result.shape:
        return result
    grey: npt.NDArray[np.uint8] = np.rint(result.mean(axis=-1)).astype(np.uint8)
    return grey.reshape(image.shape)


def check_name(name: str) -> None:
    """Raise InputError unless there is a corruption of that name."""
    if name not in TABLE:
        raise InputError(f"unknown corruption {name!r}; known are {', '.join(CORRUPTIONS)}")


def corruption_seed(seed: int, image_id: str, name: str, severity: int) -> int:
    """Return the seed of one corruption of one image: the same in every process and order.

    Args:
        seed: Seed of the whole evaluation, any integer.
        image_id: Name of the image within its data set.
        name: Corruption.
        severity: 1 to 5.

    Returns:
        Integer in [0, 2**32): the first four bytes of a SHA-256 of the arguments.
    """
    key = json.dumps([operator.index(seed), image_id, name, operator.index(severity)])
    return seed_of_text(key, 32)


def _integer(value: SupportsIndex, what: str, lowest: int, highest: int) -> int:
    """Return `value` as an int within [lowest, highest]."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputTypeError(f"{what} must be an integer, got {value!r}") from error
    if not lowest <= number <= highest:
        raise InputError(f"{what} must lie in {lowest} .. {highest}, got {number}")
    return number


def _checked_colour(image: Any) -> npt.NDArray[np.uint8]:
    """Return the image as (H, W, 3); grey ones repeated three times."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = getattr(image, "dtype", type(image).__name__)
        raise InputTypeError(
            f"expected a numpy array of uint8 (0 .. 255), got {got}; "
            "floats in [0, 1] become one by (255 * x).round().astype(np.uint8)"
        )
    shape = image.shape
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3)):
        raise InputError(
            f"expected an image of shape (H, W, 3), (H, W, 1) or (H, W), got {shape}; "
            "channels come last and batches are corrupted image by image"
        )
    if min(shape[:2]) < _SMALLEST_SIDE:
        raise InputError(f"images must have at least {_SMALLEST_SIDE} pixels a side, got {shape}")
    if image.ndim == 3 and shape[2] == 3:
        return np.ascontiguousarray(image)
    return np.repeat(image.reshape(*shape[:2], 1), 3, axis=2)


def texture_arrays(textures: FrostTextures | None) -> Sequence[npt.NDArray[np.uint8]]:
    """Return the frost textures as arrays, (h, w, 3) uint8.

    Raises:
        InputError: No textures, a folder without them, or arrays of another type or shape.
    """
    if textures is None:
        raise InputError(
            f"the corruption frost needs textures (frost_textures=...): {HOW_TO_GET_TEXTURES}"
        )
    if isinstance(textures, (str, os.PathLike)):
        return load_frost_textures(textures)
    arrays = [np.asarray(texture) for texture in textures]
    for array in arrays:
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise InputError(
                "frost textures must be uint8 arrays of shape (h, w, 3), "
                f"got {array.dtype} {array.shape}"
            )
    return arrays
