"""The geometry of a run's images, by RobustBench's rules, and the reader that applies it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.imagenet.decoding import (
    decode,
    pillow,
    resized,
    shaped,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.models.classifier import Classifier
from iaside_plugins.adapters.models.robustbench_zoo import (
    Threat,
    check_zoo_name,
    in_zoo,
    timm_name,
    zoo,
)
from iaside_plugins.errors import InputError, first_line

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Geometry:
    """How a decoded image is resized and cropped.

    Attributes:
        name: Name for people and entries: RobustBench's key, or where the geometry comes from.
        preprocessing: Resize of the short side, centre crop, interpolation. As in torchvision, a
            crop larger than the image pads it with black.
        square: Side in pixels that both sides are resized to afterwards, with the interpolation
            of `preprocessing` and without keeping the aspect ratio; None for no such resize.
        transform: The caller's own function, PIL image -> (C, H, W) float tensor in [0, 1], used
            instead of the steps above.
        note: Where and why this departs from RobustBench; None if it does not.
    """

    name: str
    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    square: int | None = None
    transform: Callable[[Any], torch.Tensor] | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the ``preprocessing`` group of an entry's model, as JSON values."""
        entry = self.preprocessing.to_dict()
        if self.transform is not None:
            return {**entry, "interpolation": "the caller's own function"}
        if self.square is not None:
            how = f"{self.preprocessing.interpolation}, aspect ratio not kept"
            return {**entry, "resize": self.square, "crop": self.square, "interpolation": how}
        return entry

    def same_pixels(self, other: Geometry) -> bool:
        """Return whether both make the same pixels of every image."""
        plain = [dataclasses.replace(g, name="", note=None) for g in (self, other)]
        return plain[0] == plain[1]


KEYS = {
    "Res256Crop224": Geometry("Res256Crop224", Preprocessing(256, 224)),
    "Crop288": Geometry("Crop288", Preprocessing(None, 288)),
    None: Geometry("as the files are"),
    "Res224": Geometry("Res224", square=224),
    "BicubicRes256Crop224": Geometry("BicubicRes256Crop224", Preprocessing(256, 224, "bicubic")),
}
STANDARD = KEYS["Res256Crop224"]  # the geometry in which ImageNet-C was made


@dataclass(frozen=True)
class GeometryReader:
    """Reader of the pixels of a record: (H, W, 3) uint8, or float32 from a caller's function."""

    geometry: Geometry

    def __call__(self, record: ImageRecord) -> Any:
        """Decode an image, and resize and crop it.

        Raises:
            InputError: The caller's function fails, or returns no image tensor.
        """
        image = decode(record.read())
        geometry = self.geometry
        if geometry.transform is not None:
            return _transformed(geometry.transform, image)
        if geometry.preprocessing.crop is not None and geometry.preprocessing.resize is None:
            image = _padded(image, geometry.preprocessing.crop)
        pixels = to_pixels(shaped(image, geometry.preprocessing))
        if geometry.square is None:
            return pixels
        return resized(pixels, geometry.square, geometry.preprocessing.interpolation)


def resolve(threat: Threat, model: Any, model_name: str | None, preprocessing: Any) -> Geometry:
    """Return the geometry of the clean images, by RobustBench's rules.

    In this order: the caller's function; a key; no change for CIFAR images; the configuration of
    a model that RobustBench registers with timm; the key of RobustBench's zoo. A `Classifier` of
    this package has its own geometry.

    One departure: RobustBench looks for the timm configuration under the name with "_3d", where
    there is none, so the clean images of AlexNet and DeiT differ between 2D and 3D corruptions.
    Here both runs use those of the 2D run; `note` and a warning say so.

    Args:
        threat: Data set and threat model.
        model: The model.
        model_name: Name of the model in the zoo, or None.
        preprocessing: What the caller gave: a function, a key of `KEYS`, or None.

    Raises:
        InputError: Unknown key; ImageNet with a model that is not in the zoo and no
            preprocessing; nearest names are suggested.
    """
    if callable(preprocessing):
        return Geometry("the caller's own function", transform=preprocessing)
    if preprocessing is not None:
        if preprocessing not in KEYS:
            known = ", ".join(str(key) for key in KEYS if key)
            raise InputError(
                f"preprocessing must be one of {known}, or a function of a PIL image, "
                f"got {preprocessing!r}"
            )
        return KEYS[preprocessing]
    if isinstance(model, Classifier):
        info = model.info
        if info.source == "robustbench" and in_zoo(threat.dataset, threat.folder, info.name):
            return of_zoo(threat, info.name)
        return Geometry(f"that of {model.info.name}"[:150], _without_normalisation(model))
    if threat.dataset != "imagenet":
        return KEYS[None]
    if model_name is None:
        raise InputError(
            "ImageNet needs preprocessing=... (Res256Crop224, BicubicRes256Crop224, Crop288, "
            "Res224 or a function) for a model that is not in RobustBench's zoo, or its model_name"
        )
    return of_zoo(threat, model_name)


def of_zoo(threat: Threat, model_name: str) -> Geometry:
    """Return the geometry of a model of RobustBench's zoo.

    Raises:
        InputError: The zoo has no such model; nearest names are suggested.
        MissingExtraError: RobustBench is not installed.
    """
    check_zoo_name(threat.dataset, threat.folder, model_name)
    registered = timm_name(threat.dataset, threat.folder, model_name)
    entry = zoo(threat.dataset, threat.folder).get(model_name, {})
    listed = KEYS.get(entry.get("preprocessing"), KEYS[None])
    if registered is None:
        return listed
    own = _of_timm(registered)
    if threat.model != threat.folder and not own.same_pixels(listed):
        note = (
            f"RobustBench prepares the clean images of {model_name} for {threat.model} by "
            f"{listed.name} and for {threat.folder} by {own.name}; here {own.name} for both"
        )
        _log.warning("%s", note)
        return dataclasses.replace(own, note=note)
    return own


def _of_timm(registered: str) -> Geometry:
    """Return the geometry that RobustBench reads from a model's configuration in timm."""
    import_robustbench()
    from robustbench.data import get_timm_model_preprocessing

    with torch.random.fork_rng(devices=()):  # RobustBench builds the whole network for it
        resize, crop, _ = get_timm_model_preprocessing(registered).transforms
    size, side = int(resize.size), int(crop.size[0])
    own = Preprocessing(size, side, resize.interpolation.value)
    return Geometry(f"Resize {size}, CenterCrop {side}, {own.interpolation}", own)


def of_corrupted(threat: Threat, model: Any, preprocessing: Any) -> Geometry:
    """Return the geometry of distributed corrupted images, which are 224 x 224 crops already.

    RobustBench resizes them to 224 x 224 for every model. Here a `Classifier` of another input
    size gets that size, unless the caller gives a preprocessing.
    """
    if threat.dataset != "imagenet":
        return KEYS[None]
    crop = model.info.preprocessing.crop if isinstance(model, Classifier) else None
    if preprocessing is None and crop not in (None, 224):
        own = Preprocessing(interpolation=model.info.preprocessing.interpolation)
        return Geometry(f"resized to {crop} x {crop}", own, square=crop)
    return KEYS["Res224"]


def _without_normalisation(model: Classifier) -> Preprocessing:
    """Return the resize and crop of a classifier; its normalisation is inside the model."""
    own = model.info.preprocessing
    return Preprocessing(own.resize, own.crop, own.interpolation)


def _transformed(transform: Callable[[Any], torch.Tensor], image: Any) -> Any:
    """Return an image as the caller's function makes it, (H, W, C) float32."""
    try:
        tensor = torch.as_tensor(transform(image)).detach().to("cpu", torch.float32)
    except Exception as error:
        reason = first_line(error)
        raise InputError(
            f"the preprocessing function failed: {type(error).__name__}: {reason}"
        ) from error
    if tensor.ndim != 3:
        raise InputError(
            f"the preprocessing function must return a tensor (C, H, W), got {tuple(tensor.shape)}"
        )
    return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())


def _padded(image: Any, crop: int) -> Any:
    """Pad an image that is smaller than the crop with black, as torchvision does."""
    width, height = image.size
    if min(width, height) >= crop:
        return image
    wide, high = max(width, crop), max(height, crop)
    canvas = pillow().Image.new("RGB", (wide, high))
    canvas.paste(image, ((wide - width) // 2, (high - height) // 2))
    return canvas
