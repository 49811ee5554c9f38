"""A classifier on images in [0, 1], and what is known about it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing, listed
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.checks import check_in_range, has_fixed_mode
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.quantised import quantised_parts
from iaside_plugins.inference.running import model_failure


@dataclass(frozen=True)
class ModelInfo:
    """What is known about a loaded model; nothing here is a path.

    Attributes:
        spec: Specification by which it was loaded, of a file with its name alone.
        name: Name of the model, for example "resnet18_pqf".
        source: Prefix of the specification, for example "timm".
        architecture: The host's name of the architecture, or the name of the network's class.
        n_parameters: Number of parameters.
        n_classes: Number of logits; None if the network does not tell.
        preprocessing: How images become the network's input.
        dataset: Data set of its classes, for example "cifar10", or None if unknown; a timm or
            torchvision model with 1000 classes counts as "imagenet".
        training: How it was trained, if stated.
        licence: Licence of the weights, if stated.
        weights: Origin of the weights: a publisher's tag or the name of a file.
        weights_sha256: SHA-256 of the weights file, or of the state dict if there is no file.
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
        """Return the attributes as plain JSON values."""
        return {**self.__dict__, "preprocessing": self.preprocessing.to_dict()}


class Classifier(nn.Module):
    """A network with its normalisation inside: images in [0, 1] to logits, in evaluation mode.

    The normalisation is part of the state, so that two classifiers which differ only in it have
    different digests.

    Args:
        net: Network from normalised images (N, C, H, W) to logits (N, n_classes).
        info: What is known about it; `info.preprocessing` gives mean and std.
    """

    mean: torch.Tensor
    std: torch.Tensor
    kept: torch.Tensor | None

    def __init__(self, net: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.net = net
        self.info = info
        self.code_sha256 = ""
        self.class_names: tuple[str, ...] = ()  # of the outputs, where its source names them
        self.rebuild: Callable[[], Classifier] | None = None  # in another process
        for name in ("mean", "std"):
            values = torch.tensor(getattr(info.preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1))
        self.register_buffer("kept", None)  # no part of the state until `restrict`
        self._last_kept = -1
        self.eval()

    def restrict(self, classes: Sequence[int]) -> Classifier:
        """Keep the logits of some classes only, in their order; returns the classifier itself.

        This is how sets of some of ImageNet's classes, such as ImageNet-R, are scored. Which are
        kept is part of the state.

        Args:
            classes: Class indices, ascending.

        Raises:
            InputError: Fewer than two classes, indices out of order or out of range, or a
                classifier that is restricted to others already.
        """
        chosen = [int(k) for k in classes]
        if self.kept is not None and self.kept.tolist() == chosen:
            return self
        if self.kept is not None:
            raise InputError(
                f"{self.info.name} is restricted to {len(self.kept)} other classes already: load "
                "it again for these"
            )
        if len(chosen) < 2 or chosen != sorted(set(chosen)) or chosen[0] < 0:
            raise InputError(f"expected two or more class indices, ascending, got {chosen[:5]}")
        n_classes = self.info.n_classes
        if n_classes is not None and chosen[-1] >= n_classes:
            raise InputError(f"expected classes below {n_classes}, got {chosen[-1]}")
        self.kept, self._last_kept = torch.tensor(chosen, device=self.mean.device), chosen[-1]
        self.info = replace(self.info, n_classes=len(chosen))
        if self.rebuild is not None:
            self.rebuild = functools.partial(_rebuilt, self.rebuild, chosen)
        return self

    def train(self, mode: bool = True) -> Classifier:
        """Set training or evaluation mode; that of an exported program is part of its code."""
        fixed = [part for part in self.net.modules() if has_fixed_mode(part)]
        if not fixed:
            return super().train(mode)
        inside = {id(part) for one in fixed for part in one.modules()}
        for part in self.modules():
            if id(part) not in inside:
                part.training = mode
        return self

    def extra_repr(self) -> str:
        """Return the digest of the code that built the network, for models of the user's own.

        It is part of the model's digest, so that rows of earlier code are not reused.
        """
        return f"code_sha256={self.code_sha256!r}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images.

        Args:
            images: (N, C, H, W) floats in [0, 1], not normalised.

        Returns:
            (N, n_classes) logits; gradients flow to the images.

        Raises:
            InputError: The images do not have four axes, their number of channels is not that of
                mean and std, or the network fails on them.
            InputTypeError: The images are not floating point.
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
            logits: torch.Tensor = logits_in(self.net(self._normalised(images)), self.net)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise model_failure(self.info.name, self.net, images, error) from error
        if self.kept is None:
            return logits
        check_in_range(self._last_kept, logits.shape[1])
        return logits[:, self.kept]

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Return (images - mean) / std."""
        mean, std = self.mean, self.std
        if images.is_contiguous(memory_format=torch.channels_last):
            # As images of that memory format: several times faster than a number a channel.
            shape, last = (1, *images.shape[1:]), torch.channels_last
            mean = mean.expand(shape).contiguous(memory_format=last)
            std = std.expand(shape).contiguous(memory_format=last)
        return (images - mean) / std


def _rebuilt(rebuild: Callable[[], Classifier], classes: Sequence[int]) -> Classifier:
    """Return a classifier made again in another process, restricted as it was."""
    return rebuild().restrict(classes)


class Logits(nn.Module):
    """The logits of a network of transformers, as a function of its images alone.

    Args:
        net: Called with `pixel_values`; returns an object with `logits`, or what `logits_in` takes.
        n_classes: Number of logits, if it is known.
    """

    def __init__(self, net: nn.Module, n_classes: int | None = None) -> None:
        super().__init__()
        self.net = net
        self.num_classes = n_classes

    def forward(self, images: torch.Tensor) -> Any:
        """Return the logits (N, n_classes) of images (N, C, H, W)."""
        output = self.net(pixel_values=images)
        return getattr(output, "logits", output)


def describe(info: ModelInfo) -> str:
    """Return two lines for people: the model and its weights; how its images are prepared."""
    classes = "" if info.n_classes is None else f", {info.n_classes} classes"
    steps = []
    if info.preprocessing.resize is not None:
        steps.append(
            f"resize short side to {info.preprocessing.resize} ({info.preprocessing.interpolation})"
        )
    if info.preprocessing.crop is not None:
        steps.append(f"centre crop {info.preprocessing.crop}")
    steps = steps or ["as they are"]
    if info.preprocessing.normalises:
        mean, std = map(listed, (info.preprocessing.mean, info.preprocessing.std))
        steps.append(f"normalised inside the model (mean {mean}; std {std})")
    else:
        steps.append("in [0, 1], not normalised")
    return (
        f"{info.name} ({info.source}, {info.n_parameters:,} parameters{classes}), "
        f"weights: {info.weights}\nimages: {', '.join(steps)}"
    )


@dataclass(frozen=True)
class LoadedNetwork:
    """A network and what its source says about it.

    Attributes:
        net: The network.
        name: As `ModelInfo.name`, like the attributes that are not listed here.
        file: The weights file, if it is known.
        sha256: Digest of the weights where they are more than that file.
        code: Digest of the code that the network consists of, for models of the user's own.
        public_name: What follows the prefix in the specification for others, where that is no
            path; "" for as it was given.
        class_names: Names of its outputs in their order, if its source says them.
        says_preprocessing: Whether its source says how images are normalised, or that they are not.
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
    sha256: str = ""
    code: str = ""
    public_name: str = ""
    class_names: tuple[str, ...] = ()
    says_preprocessing: bool = True


def unknown_name(where: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a name that a source does not have, with the closest names it has."""
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
    """Return the outputs of the last linear or convolution layer: usually the number of logits."""
    of_8_bits = {id(part) for part in quantised_parts(net)}
    for module in reversed(list(net.modules())):
        if not isinstance(module, (nn.Linear, nn.Conv2d)) and id(module) not in of_8_bits:
            continue
        for name in ("out_features", "out_channels"):
            if isinstance(width := getattr(module, name, None), int):
                return width
    return None
