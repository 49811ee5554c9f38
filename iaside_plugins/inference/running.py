"""A model's pass over images, and what to do where it fails."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError, first_line
from iaside_plugins.inference.quantised import is_quantised


def run_model(model: Any, images: Tensor, *further: Any) -> Any:
    """Return what a model gives; whatever else it raises becomes an InputError with its cause.

    Args:
        model: Called with the images and the further arguments.
        images: (N, C, H, W).
        further: Its other arguments.

    Raises:
        InputError: The model fails; out of memory is raised as it is, for others to try less.
    """
    try:
        return model(images, *further)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise model_failure("the model", model, images, error) from error


def model_failure(name: str, model: Any, images: Tensor, error: BaseException) -> InputError:
    """Return the error for a model that failed on images: what it said, and what to do.

    Args:
        name: What the model is called.
        model: The model, which may be asked once more to find the cause.
        images: (N, C, H, W).
        error: What it raised.
    """
    reason = first_line(error)[:300]
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        kind, reason = "it called exit()", "a model must return logits"
    said = reason if type(error) is RuntimeError else f"{kind}: {reason}"
    return InputError(
        f"{name} failed on images of shape {tuple(images.shape)}: {said.rstrip('.')}; "
        + _remedy(model, images, error)
    )


def _remedy(model: Any, images: Tensor, error: BaseException) -> str:
    """Return what to do about a model that failed."""
    if is_out_of_memory(error):
        return "lower batch_size, or use smaller images: check resize and crop"
    if precision := _other_precision(model, images):
        return precision
    if takes_pixel_values(model):
        return "it takes its images by name: give lambda x: model(pixel_values=x).logits instead"
    again = not isinstance(error, SystemExit)
    if again and len(images) == 1 and _runs(model, images.repeat(2, *[1] * (images.ndim - 1))):
        return (
            "it runs on two images and fails on a single one: keep the axis of images, for "
            "example flatten(1) instead of squeeze()"
        )
    if again and images.ndim == 4 and images.shape[1] == 3 and _runs(model, images[:, :1]):
        return (
            "it runs on images of one channel: give it those; commands read images in grey where "
            "the network says net.in_channels = 1"
        )
    return "check resize and crop, or lower batch_size where memory is short"


def _runs(model: Any, images: Tensor) -> bool:
    """Return whether a model takes these images, whatever it makes of them."""
    try:
        with torch.no_grad():
            model(images.detach())
    except (Exception, SystemExit):  # noqa: BLE001  it fails on others too
        return False
    return True


def takes_pixel_values(model: Any) -> bool:
    """Return whether a model takes images as `pixel_values`, and not as its first argument."""
    try:
        given = inspect.signature(getattr(model, "forward", model)).parameters
    except (TypeError, ValueError):  # a program without a signature
        return False
    if "pixel_values" not in given:
        return False
    by_name = given["pixel_values"].kind is inspect.Parameter.KEYWORD_ONLY
    return by_name or next(iter(given)) != "pixel_values"


def _other_precision(model: Any, images: Tensor) -> str:
    """Return what to do where no weight has the images' precision; empty if one has."""
    if not isinstance(model, nn.Module):
        return ""
    if is_quantised(model) and images.dtype != torch.float32:
        return "it computes with 8-bit integers, from float32 images: use precision='float32'"
    found = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    if not found or images.dtype in found:
        return ""
    own = str(next(iter(found))).removeprefix("torch.")
    ways = f"precision='{own}'" if own in ("float64", "float16", "bfloat16") else ""
    return (
        f"its weights are {own} and the images {str(images.dtype).removeprefix('torch.')}: "
        "call model.float() before" + (f", or use {ways}" if ways else "")
    )
