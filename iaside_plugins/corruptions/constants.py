"""The published constants of the 15 corruptions: one set for 224 x 224 images, one for 32 x 32.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019, and the scripts published with it (ImageNet-C and CIFAR-10-C). Each entry
lists severities 1 to 5; what the numbers of an entry mean is said at the function of that name in
`iaside_plugins.corruptions.functions`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Row = tuple[float, ...]


@dataclass(frozen=True)
class ConstantSet:
    """The constants made for square images of one size.

    Attributes:
        size: Side of the images the constants were published for, pixels.
        elastic_unit: Pixels that the elastic constants multiply, at that size. It is 244 for 224:
            a slip of the authors that is part of the benchmark.
        frost_scale: Factor by which the frost textures are resized, at that size.
        rows: Corruption -> one tuple of constants per severity 1 to 5.
    """

    size: int
    elastic_unit: float
    frost_scale: float
    rows: Mapping[str, tuple[Row, ...]]


def _single(*values: float) -> tuple[Row, ...]:
    """Severities that have one constant each."""
    return tuple((value,) for value in values)


_IMAGENET = {
    "gaussian_noise": _single(0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": _single(60, 25, 12, 5, 3),
    "impulse_noise": _single(0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": _single(0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": _single(0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
    "pixelate": _single(0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": _single(25, 18, 15, 10, 7),
}

_CIFAR = {
    "gaussian_noise": _single(0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": _single(500, 250, 100, 75, 50),
    "impulse_noise": _single(0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": _single(0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": _single(0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": _single(0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": _single(80, 65, 58, 50, 40),
}

CONSTANT_SETS: Mapping[int, ConstantSet] = MappingProxyType(
    {
        224: ConstantSet(224, 244.0, 1.0, MappingProxyType(_IMAGENET)),
        32: ConstantSet(32, 32.0, 0.2, MappingProxyType(_CIFAR)),
    }
)


def constants_size(height: int, width: int) -> int:
    """The size whose published constants an image gets: 224, or 32 for small images.

    The set nearest in the logarithm of the shorter side is used, so 32 up to 84 pixels and 224 from
    85 on. Only at 224 x 224 and 32 x 32 are the constants those that were published for the size;
    callers should record which set was used.

    Args:
        height: Rows of the image, pixels.
        width: Columns of the image, pixels.

    Returns:
        224 or 32.
    """
    side = math.log(min(height, width))
    return min(CONSTANT_SETS, key=lambda size: abs(math.log(size) - side))
