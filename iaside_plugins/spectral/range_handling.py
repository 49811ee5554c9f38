"""Range handlings: what is done with coalition images outside [0, 1].

`RANGE_HANDLINGS` is the only list of them: `Protocol`, the command line, the sensitivity study and
the value table all read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, where


@dataclass(frozen=True)
class RangeHandling:
    """One range handling.

    Attributes:
        apply: Coalition images (N, C, H, W), which may be changed in place, to the model's input.
            The released script's takes complex images.
        whole_batch: Whether an image's result depends on the others of its batch, as in the
            released script.
        changes_images: Whether it changes images that are in [0, 1] already.
    """

    apply: Callable[[Tensor], Tensor]
    whole_batch: bool = False
    changes_images: bool = False


def rescale_(images: Tensor) -> Tensor:
    """Move each image's minimum and maximum to 0 and 1, in place; a constant image becomes 0."""
    axes = (1, 2, 3)
    low, high = images.amin(dim=axes, keepdim=True), images.amax(dim=axes, keepdim=True)
    span = where(high > low, high - low, high.new_ones(()))
    return images.sub_(low).div_(span)


def batch_modulus(images: Tensor) -> Tensor:
    """Return the modulus of complex images, with the batch's minimum and maximum moved to 0 and 1.

    The minimum and the maximum are those of all images and channels.
    """
    x = images.abs()
    x = x - x.min()
    return (x / x.max()).nan_to_num(0.0).clamp(0, 1)


RANGE_HANDLINGS: Mapping[str, RangeHandling] = MappingProxyType(
    {
        "none": RangeHandling(lambda images: images),
        "clip": RangeHandling(lambda images: images.clamp_(0, 1)),
        "rescale": RangeHandling(rescale_, changes_images=True),
        "batch_modulus": RangeHandling(batch_modulus, whole_batch=True, changes_images=True),
    }
)
