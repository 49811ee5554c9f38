"""Checks of what goes into a model, before any long work: the device, images and labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.spectral.partition import check_image_size

SINGLE_LOGIT = (
    "expected logits of at least 2 classes, got (N, 1): the likelihood of a single class is always "
    "1; return two logits, for example torch.cat([torch.zeros_like(z), z], dim=1)"
)


def model_device(model: Any, device: torch.device | str | None = None) -> torch.device:
    """The device to run on: the model's own; the model is never moved.

    Raises:
        InputError: If `device` is given and the model's weights are elsewhere, or if the model
            is in training mode.
    """
    wanted = None if device is None else torch.device(device)
    if not isinstance(model, nn.Module):
        return wanted or torch.device("cpu")
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise InputError(
            f"the model is in training mode ({training[0]}); call model.eval() first: batch norm "
            "and dropout would make every number depend on the batch"
        )
    tensors = [*model.parameters(), *model.buffers()]
    own = tensors[0].device if tensors else wanted or torch.device("cpu")
    if wanted is not None and (own.type, own.index or 0) != (wanted.type, wanted.index or 0):
        raise InputError(
            f"the model is on {own} and device={wanted} was asked for: move it with "
            f"model.to('{wanted}') or leave device out"
        )
    return own


def check_images(images: Tensor, n_bands: int | None = None) -> None:
    """Raise unless images are (N, C, H, W), floating point, finite and in [0, 1].

    Raises:
        InputTypeError: For integer images.
        InputError: For another shape, for images below 2 * n_bands (if given), or for values
            outside [0, 1] by more than 1e-6 (rounding of float32 arithmetic is let through).
    """
    if not torch.is_tensor(images) or not images.is_floating_point():
        kind = images.dtype if torch.is_tensor(images) else type(images).__name__
        raise InputTypeError(
            f"expected float images in [0, 1], got {kind}; for uint8 use images.float() / 255"
        )
    if images.ndim != 4:
        raise InputError(f"expected images of shape (N, C, H, W), got {tuple(images.shape)}")
    low, high = (float(end) for end in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(
            f"expected images in [0, 1], got values in [{low:.4g}, {high:.4g}]; if they are "
            "already normalised, undo it and let the model normalise (normalisation belongs "
            "inside the model); if they are 0..255, divide by 255"
        )
    if n_bands is not None:
        check_image_size(images.shape[2], images.shape[3], n_bands)


def check_labels(labels: Tensor, n_images: int) -> Tensor:
    """Labels as int64 (N,).

    Raises:
        InputError: For another shape, or negative or fractional labels.
    """
    labels = torch.as_tensor(labels)
    if labels.shape != (n_images,):
        raise InputError(
            f"expected labels of shape ({n_images},), one an image, got {tuple(labels.shape)}"
        )
    whole = labels.to(torch.int64)
    if not torch.equal(whole.to(labels.dtype), labels) or (len(whole) and int(whole.min()) < 0):
        raise InputError("expected labels that are class indices 0, 1, 2, ...")
    return whole


def check_in_range(label: int, n_classes: int) -> None:
    """Raise InputError for a label that the model has no output for."""
    if label >= n_classes:
        raise InputError(
            f"label {label} is out of range: the model has {n_classes} outputs "
            f"(labels 0 to {n_classes - 1}); check the class map of the data"
        )
