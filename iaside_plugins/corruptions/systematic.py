"""Systematic noise: the same file read by another library, so decoded and resized otherwise.

No pixel is corrupted: Pillow antialiases where it makes an image smaller and OpenCV does not (but
for "area"), their filters and their rounding differ, and so may their JPEG decoders. Source:
ImageNet-S of Wang et al., "RobustART", arXiv 2109.05211; also Xiao et al., "RobustMQ", arXiv
2308.02350. FFmpeg, their third decoder, is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

PILLOW, OPENCV = "pillow", "opencv"
LIBRARIES = {PILLOW: "Pillow", OPENCV: "OpenCV"}
DECODER = f"{OPENCV} decoder"
"""The condition in which OpenCV decodes and the model's own resize follows."""


OWN_DECODER = f"{PILLOW} decoder"
"""The reading of a model that takes images as they are, without a resize."""


class Reading(NamedTuple):
    """Who decodes a file, and how it is resized.

    Attributes:
        decoder: Library that decodes JPEG; other files are decoded by Pillow, see `READINGS`.
        resize: Library that resizes and its interpolation; None for the model's own.
    """

    decoder: str
    resize: tuple[str, str] | None

    @property
    def words(self) -> str:
        """The reading as part of a sentence, for example "OpenCV (bilinear resize)"."""
        if self.resize is None:
            return f"{LIBRARIES[self.decoder]}'s decoder"
        library, interpolation = self.resize
        return f"{LIBRARIES[library]} ({interpolation} resize)"


_METHODS = {
    PILLOW: ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
    OPENCV: ("nearest", "bilinear", "area", "bicubic", "lanczos"),
}

READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        f"{library} {method}": Reading(library, (library, method))
        for library, methods in _METHODS.items()
        for method in methods
    }
    | {DECODER: Reading(OPENCV, None)}
)
"""Condition -> how files are read under it: a library's own decoder and resize, as programs do.

The last one is the decoder alone. Decoders only matter to JPEG: lossless files decode alike.
"""


def own_reading(interpolation: str) -> str:
    """Return the name of the reading of a model that takes images with Pillow's interpolation."""
    return f"{PILLOW} {interpolation.removesuffix('-exact')}"


def other_readings(interpolation: str | None, *, jpeg: bool) -> tuple[str, ...]:
    """Return the conditions in which files are read otherwise than a model reads them.

    Args:
        interpolation: Of the model's resize, by Pillow; None if it takes images as they are.
        jpeg: Whether any file is a JPEG.
    """
    names: tuple[str, ...] = ()
    if interpolation is not None:
        own = own_reading(interpolation)
        names = tuple(name for name, one in READINGS.items() if one.resize and name != own)
    return (*names, DECODER) if jpeg else names
