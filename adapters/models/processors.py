"""What an image processor of transformers does to an image, measured on images that tell.

Every kind of processor has its own settings and rules, so none is read: constant images give mean
and standard deviation, a ramp along each axis gives the size of the resize and the crop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.adapters.imagenet.decoding import pillow
from iaside_plugins.adapters.imagenet.preprocessing import INTERPOLATIONS, Preprocessing
from iaside_plugins.errors import InputError, error_text, shown

PROCESSOR_FILE = "preprocessor_config.json"
_HEIGHT, _WIDTH = 400, 500  # of the images that are measured with
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # as Pillow counts them
_log = logging.getLogger(__name__)
Process = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def measured(library: Any, folder: Path, name: str) -> Preprocessing | None:
    """Return the preprocessing of the processor in a folder; None where there is none.

    Where it departs from a resize that keeps the aspect ratio and a crop at the centre, a warning
    says so.

    Args:
        library: The module transformers.
        folder: With the processor's file.
        name: Of the model, for messages.

    Raises:
        InputError: The processor cannot be run, or does more than a resize, a crop and a
            normalisation.
    """
    if not (folder / PROCESSOR_FILE).is_file():
        return None
    process, processor = _processor(library, folder, name)
    mean, std = _normalisation(process, processor, name)
    interpolation = _interpolation(processor, name)
    resize, crop = _geometry(process, mean, std, name)
    return Preprocessing(resize, crop, interpolation, mean, std)


def _processor(library: Any, folder: Path, name: str) -> tuple[Process, Any]:
    """Return the processor as a function of one uint8 image (H, W, 3), and itself."""
    image_of = pillow().Image.fromarray
    try:
        processor = library.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # its file names a class that this version does not have
        reason = error_text(error, 200)
        raise InputError(
            f"{name}: its {PROCESSOR_FILE} cannot be read ({type(error).__name__}: {reason})"
        ) from error

    def process(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        try:
            out = processor(images=image_of(pixels), return_tensors="pt")["pixel_values"]
            array: np.ndarray[Any, Any] = out[0].double().numpy()
        except Exception as error:  # settings that no image can have, each with its own kind
            reason = error_text(error, 200)
            raise InputError(
                f"{name}: the processor of its {PROCESSOR_FILE} fails on an image "
                f"({type(error).__name__}: {reason})"
            ) from error
        if array.ndim != 3 or len(array) != 3:
            raise InputError(f"{name}: expected one image (3, H, W) of its processor")
        return array

    return process, processor


def _interpolation(processor: Any, name: str) -> str:
    """Return the interpolation of a processor's resize: Pillow's number of it, or its name."""
    given = getattr(processor, "resample", None)
    given = getattr(given, "value", given)  # of an enumeration
    if given is None:
        return "bilinear"
    if isinstance(given, int) and 0 <= given < len(_FILTERS):
        return _FILTERS[given]
    if given in INTERPOLATIONS:
        return str(given)
    raise InputError(f"{name}: its {PROCESSOR_FILE} has an unknown resample, {shown(given)}")


def _normalisation(
    process: Process, processor: Any, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel: black becomes -mean / std, and white (1 - mean) / std."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [51, 102, 153]], np.uint8)
    flat = np.ones((_HEIGHT, _WIDTH, 3), np.uint8)
    low, high, other = (
        np.median(process(flat * colour).reshape(3, -1), axis=1) for colour in colours
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        std = 1 / (high - low)
    mean = -low * std + 0.0
    if not np.allclose(other * std + mean, colours[2] / 255, atol=1e-3):
        raise InputError(
            f"{name}: its processor does more than a resize, a crop and a normalisation (another "
            "order of the channels?); prepare the images yourself, and load the network by "
            "python:module:factory"
        )
    said: list[Any] = [getattr(processor, f"image_{which}", None) for which in ("mean", "std")]
    found = [tuple(float(f"{value:.6g}") for value in one) for one in (mean, std)]
    for place, values in enumerate(said):  # as said, where that is what it does
        if np.shape(values) == (3,) and np.allclose(values, found[place], rtol=0, atol=1e-5):
            found[place] = tuple(map(float, values))
    return found[0], found[1]


def _geometry(
    process: Process, mean: tuple[float, ...], std: tuple[float, ...], name: str
) -> tuple[int | None, int | None]:
    """Return the short side after the resize, and the side of the crop; warn where it is another.

    Of a linear ramp over the whole image, resized and cropped, the slope tells the resize.
    """
    rows, columns = np.meshgrid(np.arange(_HEIGHT), np.arange(_WIDTH), indexing="ij")
    ramps = np.stack([columns / (_WIDTH - 1), rows / (_HEIGHT - 1), 0 * rows], axis=-1)
    # Each pixel is rounded after a shift of its own, so that averages are finer than 1 / 255.
    shift = np.random.default_rng(0).random(ramps.shape)
    out = process(np.minimum(ramps * 255 + shift, 255).astype(np.uint8))
    out = out * np.reshape(std, (3, 1, 1)) + np.reshape(mean, (3, 1, 1))
    height, width = out.shape[1:]
    if (height, width) == (_HEIGHT, _WIDTH):
        return None, None
    covered = process(np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8))[0] * std[0] + mean[0] > 0.5
    across, x = _line(out[0][covered.any(axis=1)].mean(axis=0), covered.any(axis=0))
    down, y = _line(out[1][:, covered.any(axis=0)].mean(axis=1), covered.any(axis=1))
    wide, high = _WIDTH / (across * (_WIDTH - 1)), _HEIGHT / (down * (_HEIGHT - 1))
    crop, short = min(height, width), round(min(wide, high))
    notes = []
    if height != width:
        notes.append(f"it gives {height} x {width} images, here the crop is square")
    if abs(wide / _WIDTH - high / _HEIGHT) > 0.01 * high / _HEIGHT:
        notes.append(
            "it resizes without keeping the aspect ratio; here that is kept, and the centre cropped"
        )
    if max(abs(x - 0.5), abs(y - 0.5)) > 0.01:
        notes.append("its crop is not at the centre, here it is")
    if short < crop:
        notes.append(f"it pads from {short} to {crop}, here the short side is resized to {crop}")
    if notes:
        _log.warning("%s: its processor prepares images in another way: %s", name, "; ".join(notes))
    return max(short, crop), crop


def _line(values: np.ndarray[Any, Any], covered: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return slope per pixel and middle value of a line, fitted to 80 % of the covered pixels."""
    where = np.flatnonzero(covered)
    inner = where[len(where) // 10 : len(where) - len(where) // 10]
    slope, middle = np.polyfit(inner - (len(values) - 1) / 2, values[inner], 1)
    return max(float(slope), 1e-9), float(middle)
