"""Guards around Foolbox: its import, the modes it needs, the state it would leave behind.

Foolbox 3.3.4 draws from the global generators, accumulates gradients in the model's parameters,
moves the model to the first GPU unless told otherwise, and stops with bare assertions on bad input.
Here all of that is kept from the caller, for networks of ours and for Foolbox models of the user's.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.adapters.isolation import isolated
from iaside_plugins.errors import InputError, InputTypeError, MissingExtraError
from iaside_plugins.inference.checks import check_labels, check_range


def foolbox() -> Any:
    """The library, imported on first use.

    Raises:
        MissingExtraError: Foolbox is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Foolbox 3.3.4 reaches for a SciPy namespace that SciPy 1 only warns about.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("foolbox")
    except ImportError as error:
        raise MissingExtraError(
            f"adversarial attacks need Foolbox, which cannot be imported ({error}): "
            "pip install 'iaside-plugins[foolbox]'"
        ) from error


def check_installed() -> None:
    """Raise MissingExtraError where Foolbox is not installed, before any work is done."""
    foolbox()


@contextmanager
def guarded(model: nn.Module, device: torch.device | str) -> Iterator[Any]:
    """Yield the model as a Foolbox model with bounds [0, 1], `isolated`.

    Args:
        model: Eval-mode module, (N, C, H, W) images in [0, 1] -> (N, n_classes) logits.
        device: Where the model already is; it is never moved.

    Raises:
        InputError: The model is in training mode or not on `device`.
        InputTypeError: The model is not an ``nn.Module``.
        MissingExtraError: Foolbox is not installed.
    """
    with isolated(model, device) as where:
        yield foolbox().PyTorchModel(model, bounds=(0, 1), device=where)


def checked_batch(
    images: Any, labels: Any, device: torch.device, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Own float32 copy of the images and int64 labels on `device`, checked.

    Args:
        images: (N, C, H, W) floats within `bounds` (rounding beyond them is cut off); N may be 0.
        labels: (N,) integers of any type, tensor, array or list.
        device: Where they go.
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
    # Copies even where nothing is cast: they are no inference tensors, and results never alias.
    x = images.detach().to(device, torch.float32, copy=True)
    check_range(x, bounds)
    x.clamp_(*bounds)
    return x, checked_labels(labels, len(x)).to(device, copy=True)


def checked_labels(labels: Any, n_images: int, n_classes: int | None = None) -> Tensor:
    """Labels as int64 (N,), where they are.

    Args:
        labels: Integers of any type, tensor, array or list.
        n_images: Number of images N; may be 0.
        n_classes: Number of the model's outputs, once known.

    Raises:
        InputError: Not one label an image, or one that the model has no output for.
        InputTypeError: Labels that are no integers.
    """
    y = torch.as_tensor(labels).detach()
    if n_images == 0 and y.numel() == 0:
        return torch.zeros(0, dtype=torch.int64)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputTypeError(f"expected integer class labels, got {y.dtype}")
    # Negative ones too: of -100 the cross-entropy ignores the image, an attack of nothing.
    return check_labels(y, n_images, n_classes)


def checked_logits(logits: Any, labels: Tensor) -> Tensor:
    """Logits (N, n_classes) of a clean batch, checked against its labels.

    Raises:
        InputError: Another shape, or a label that there is no output for.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"expected logits of shape ({len(labels)}, n_classes), got {got}")
    checked_labels(labels, len(labels), logits.shape[1])
    return logits
