"""How an image becomes a model's input: resize, crop and normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.integers import index_or_none

INTERPOLATIONS = {
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",  # Pillow's own is the exact one
    "box": "BOX",
    "bilinear": "BILINEAR",
    "hamming": "HAMMING",
    "bicubic": "BICUBIC",
    "lanczos": "LANCZOS",
}
"""Interpolation -> Pillow's filter."""

MOST = {"mean": 1.0, "std": 2.0}
"""Greatest values that can be meant of pixels in [0, 1]."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's input.

    Attributes:
        resize: Length in pixels that the short side is resized to, None for no resize.
        crop: Side in pixels of the centre crop, None for the image as it is.
        interpolation: One of `INTERPOLATIONS`, used by the resize.
        mean: Per channel, or one for all; subtracted from pixels in [0, 1] inside the model.
        std: Per channel, or one for all; divides after the subtraction.

    Raises:
        InputError: A value is out of its range.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Check the values and turn lists into tuples."""
        for name in ("resize", "crop"):
            given = getattr(self, name)
            side = index_or_none(given)
            if given is not None and (side is None or side < 1):
                raise InputError(f"{name} must be a number of pixels >= 1 or None, got {given!r}")
            object.__setattr__(self, name, side)
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise InputError(
                f"crop ({self.crop}) must not exceed resize ({self.resize}): there is no padding"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, "
                f"got {self.interpolation!r}"
            )
        # Lists are accepted; object.__setattr__, because the class is frozen.
        n_channels = max(len(self.mean), len(self.std))
        for name, least in (("mean", -math.inf), ("std", 0.0)):
            values = tuple(float(v) for v in getattr(self, name))
            if not values or not all(least < v < math.inf for v in values):
                raise InputError(
                    f"{name} must be {'numbers' if least else 'numbers above 0'}, one a channel "
                    f"or one for all, got {listed(values)}"
                )
            if max(values) > MOST[name]:
                raise InputError(
                    f"{name} is of pixels in [0, 1], got {listed(values)}: divide what is of 0 to "
                    "255 by 255"
                )
            values *= n_channels if len(values) == 1 else 1
            object.__setattr__(self, name, values)
        if len(self.mean) != len(self.std):
            raise InputError(
                f"mean='{listed(self.mean)}' and std='{listed(self.std)}' are of different "
                "numbers of channels: give one value a channel in both, or one for all"
            )

    @property
    def normalises(self) -> bool:
        """Whether mean and std change the pixels at all."""
        return set(self.mean) != {0.0} or set(self.std) != {1.0}

    @classmethod
    def of(cls, given: Preprocessing | Mapping[str, Any]) -> Preprocessing:
        """Return a Preprocessing as it is, or one from a mapping of its attributes."""
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise InputTypeError(f"preprocessing must be a mapping, got {type(given).__name__}")
        if unknown := set(given) - set(cls.__dataclass_fields__):
            raise InputError(
                f"unknown preprocessing {', '.join(sorted(map(str, unknown)))}; "
                f"known: {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}


def listed(values: Sequence[float]) -> str:
    """Return the numbers of all channels, as the command line takes them."""
    return ",".join(f"{value:g}" for value in values) or "none"
