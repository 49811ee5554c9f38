"""What Foolbox attacks are given, checked: images within bounds, labels, and the logits of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.models import foolbox, native
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.checks import check_labels, check_range, non_finite
from iaside_plugins.inference.logits import described


def labels_of(criterion: Any) -> Any:
    """Return the labels of a criterion: labels, or Foolbox's `Misclassification`.

    Raises:
        InputError: For another criterion, which has no true classes.
    """
    criteria = foolbox().criteria
    if isinstance(criterion, criteria.Criterion):
        if not isinstance(criterion, criteria.Misclassification):
            raise InputError(
                f"expected labels or Misclassification(labels), got {type(criterion).__name__}: "
                "the true classes are what robustness is of"
            )
        criterion = criterion.labels
    return native(criterion)


def checked_batch(
    images: Any, labels: Any, device: torch.device, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Return a float32 copy of the images and int64 labels on `device`, checked.

    Args:
        images: (N, C, H, W) floats within `bounds` (rounding beyond them is cut off); N may be 0.
        labels: (N,) integers of any type, tensor, array or list.
        device: Device of the copies.
        bounds: Least and greatest value of a pixel.

    Raises:
        InputError: Images out of bounds (by how much), labels that do not fit.
        InputTypeError: Images or labels of the wrong type.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputTypeError(
            f"expected images as a float tensor in [{bounds[0]:g}, {bounds[1]:g}], got {kind}"
        )
    if images.ndim != 4:
        raise InputError(f"expected images of shape (N, C, H, W), got {tuple(images.shape)}")
    # Always copied: copies are no inference tensors, and results do not share memory with them.
    x = images.detach().to(device, torch.float32, copy=True)
    check_range(x, bounds)
    x.clamp_(*bounds)
    return x, checked_labels(labels, len(x)).to(device, copy=True)


def checked_labels(labels: Any, n_images: int, n_classes: int | None = None) -> Tensor:
    """Return the labels as int64 (N,), on their own device.

    Args:
        labels: Integers of any type, tensor, array or list.
        n_images: Number of images N; may be 0.
        n_classes: Number of the model's outputs, or None.

    Raises:
        InputError: Not one label for each image, or a label without an output.
        InputTypeError: Labels that are not integers.
    """
    y = torch.as_tensor(labels).detach()
    if n_images == 0 and y.numel() == 0:
        return torch.zeros(0, dtype=torch.int64)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputTypeError(f"expected integer class labels, got {y.dtype}")
    # Negative ones are refused: with -100 the cross-entropy would ignore the image.
    return check_labels(y, n_images, n_classes)


def checked_logits(logits: Any, labels: Tensor) -> Tensor:
    """Return the logits (N, n_classes) of a clean batch, checked against its labels.

    Raises:
        InputError: Another shape, logits that are not finite, or a label without an output.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
        raise InputError(
            f"expected logits of shape ({len(labels)}, n_classes), got {described(logits)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise non_finite("clean images")
    checked_labels(labels, len(labels), logits.shape[1])
    return logits
