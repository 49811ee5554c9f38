"""A classifier on images in [0, 1], and what is known about it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.errors import InputError, InputTypeError


@dataclass(frozen=True)
class ModelInfo:
    """What is known about a loaded model; nothing here is a path.

    Attributes:
        spec: The specification it was loaded by.
        name: The model's own name, for example "resnet18_pqf".
        source: "timm", "torchvision", "kit" or "python".
        architecture: The host's name of the architecture, or the class's name.
        n_parameters: Number of parameters.
        n_classes: Number of logits, None where it cannot be read off the network.
        preprocessing: How images become its input.
        dataset: "imagenet", "cifar10" or None; for timm and torchvision "imagenet" is taken from
            a head of 1000 classes.
        training: How it was trained, where stated.
        licence: Licence of the weights, where stated.
        weights: Where the weights are from: a publisher's tag or a file's name.
        weights_sha256: SHA-256 of the weights file, or of the state dict where no file was given.
    """

    spec: str
    name: str
    source: str
    architecture: str
    n_parameters: int
    n_classes: int | None
    preprocessing: Preprocessing
    dataset: str | None
    training: str | None
    licence: str | None
    weights: str
    weights_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Attributes as plain JSON values."""
        return {**self.__dict__, "preprocessing": self.preprocessing.to_dict()}


class Classifier(nn.Module):
    """A network with its normalisation inside: images in [0, 1] to logits, in evaluation mode.

    The normalisation is part of the state, so that two classifiers which differ in nothing else
    have different digests.

    Args:
        net: Takes normalised images (N, C, H, W), returns logits (N, n_classes).
        info: What is known about it; `info.preprocessing` gives mean and std.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.net = net
        self.info = info
        self.code_sha256 = ""
        self.rebuild: Callable[[], Classifier] | None = None  # in another process
        for name in ("mean", "std"):
            values = torch.tensor(getattr(info.preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1))
        self.eval()

    def extra_repr(self) -> str:
        """What else decides the outputs: the file of the factory's code, for models of one's own.

        Part of the model's digest, so that finished work of edited code is not taken for new.
        """
        return f"code_sha256={self.code_sha256!r}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images.

        Args:
            images: (N, C, H, W) floats in [0, 1], not normalised.

        Returns:
            (N, n_classes) logits; gradients flow to the images.

        Raises:
            InputError: Not four axes, another number of channels than mean and std have, or
                images that the network fails on.
            InputTypeError: Not floating point.
        """
        if not images.is_floating_point():
            raise InputTypeError(f"expected floats in [0, 1], got {images.dtype}; divide by 255")
        n_channels = self.mean.shape[0]
        if images.ndim != 4 or n_channels not in (1, images.shape[1]):
            channels = "C" if n_channels == 1 else str(n_channels)
            raise InputError(
                f"expected images of shape (N, {channels}, H, W), got {tuple(images.shape)}"
            )
        try:
            logits: torch.Tensor = self.net((images - self.mean) / self.std)
        except (RuntimeError, TypeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{self.info.name} failed on images of shape {tuple(images.shape)}: {reason}; "
                "check resize and crop, or lower batch_size where memory is short"
            ) from error
        return logits


def describe(info: ModelInfo) -> str:
    """Two lines for people: the model and its weights, then what happens to the images."""
    classes = "" if info.n_classes is None else f", {info.n_classes} classes"
    steps = []
    if info.preprocessing.resize is not None:
        steps.append(
            f"resize short side to {info.preprocessing.resize} ({info.preprocessing.interpolation})"
        )
    if info.preprocessing.crop is not None:
        steps.append(f"centre crop {info.preprocessing.crop}")
    steps = steps or ["as they are"]
    steps.append("normalised inside the model" if info.preprocessing.normalises else "in [0, 1]")
    return (
        f"{info.name} ({info.source}, {info.n_parameters:,} parameters{classes}), "
        f"weights: {info.weights}\nimages: {', '.join(steps)}"
    )


@dataclass(frozen=True)
class LoadedNetwork:
    """A network and what its source says of it; `file` is the weights file where it is known.

    `code` is the file of the code that built it, for models of the user's own.
    """

    net: nn.Module
    name: str
    architecture: str
    preprocessing: Preprocessing
    weights: str
    dataset: str | None = None
    training: str | None = None
    licence: str | None = None
    file: Path | None = None
    code: Path | None = None


def unknown_name(where: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that a source does not have, with the closest ones it has."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if len(known) <= 20:
        hint = f"known: {', '.join(known) or 'none'}"
    elif close:
        hint = f"close names: {', '.join(close)}"
    else:
        hint = f"none of its {len(known)} names is close"
    return InputError(f"unknown {where} name {name!r}; {hint}")


def last_width(net: nn.Module) -> int | None:
    """Outputs of the last linear or convolution layer: the number of logits of usual networks."""
    for module in reversed(list(net.modules())):
        if isinstance(module, nn.Linear):
            return module.out_features
        if isinstance(module, nn.Conv2d):
            return module.out_channels
    return None
