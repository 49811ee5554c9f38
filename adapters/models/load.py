"""Model specifications: a short text to a classifier on images in [0, 1].

timm:NAME                       a timm model, e.g. timm:mobilenetv2_100 or timm:resnet50.a1_in1k
torchvision:NAME[@WEIGHTS]      a torchvision model, e.g. torchvision:resnet50@IMAGENET1K_V1
kit:NAME                        a model of the kit (executes the kit's own loader)
robustbench:DATASET/THREAT/NAME a model of RobustBench's zoo, e.g. imagenet/Linf/Salman2020Do_R18
python:package.module:factory   what a function of yours returns
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Iterator, Sequence
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
from iaside_plugins.adapters.models.hubs import from_timm, from_torchvision
from iaside_plugins.adapters.models.local import from_kit, from_python
from iaside_plugins.adapters.models.robustbench_zoo import MODEL_DIR, from_robustbench
from iaside_plugins.adapters.models.weights import file_sha256, put_state, read_state
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import state_digest

__all__ = [
    "Classifier",
    "ModelInfo",
    "Preprocessing",
    "describe",
    "load_model",
    "state_digest",
]

FORMS = (
    "timm:NAME",
    "torchvision:NAME",
    "kit:NAME",
    "robustbench:DATASET/THREAT/NAME",
    "python:package.module:factory",
)


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
    """Build a classifier with trained weights; random numbers and torch's modes stay as they are.

    Args:
        spec: One of the forms of this module's docstring.
        weights: A file to take the weights from (see `models.weights`); nothing
            is downloaded then. Without it, timm and torchvision use their own download or cache.
        resize: Short side in pixels instead of the model's own; 0 for no resize.
        crop: Side in pixels of the centre crop instead of the model's own; 0 for none.
        interpolation: Of the resize, instead of the model's own.
        mean: Per channel, for pixels in [0, 1], instead of the model's own.
        std: Per channel, for pixels in [0, 1], instead of the model's own.
        model_dir: Where RobustBench's weights are kept, for its models; its default is ./models.

    Returns:
        A Classifier on the CPU, in evaluation mode, with `info`.

    Raises:
        InputError: The specification, the weights or an override cannot be used, or pretrained
            weights could not be had; a network is never left with random weights instead.
        MissingExtraError: The host library is not installed.
    """
    with _global_state_kept():
        built = _build(spec, pretrained=weights is None, model_dir=model_dir)
        if weights is not None:
            file = Path(weights)
            put_state(built.net, read_state(file), file.name)
            built = dataclasses.replace(
                built, weights=file.name, file=file, training=None, licence=None
            )
    preprocessing = _overridden(
        built.preprocessing,
        {"resize": resize, "crop": crop, "interpolation": interpolation, "mean": mean, "std": std},
    )
    model = Classifier(built.net, _info(spec, built, preprocessing))
    if built.code is not None:
        model.code_sha256 = file_sha256(built.code)
    given: dict[str, Any] = {
        "weights": weights,
        "resize": resize,
        "crop": crop,
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
        "model_dir": model_dir,
    }
    model.rebuild = functools.partial(load_model, spec, **given)
    return model


def _build(spec: str, *, pretrained: bool, model_dir: str | Path | None) -> LoadedNetwork:
    """The network of a specification, from the source that its prefix names."""
    prefix, _, name = spec.partition(":")
    if prefix not in ("timm", "torchvision", "kit", "python", "robustbench") or not name:
        raise InputError(f"cannot read the model {spec!r}; expected one of {', '.join(FORMS)}")
    if prefix == "timm":
        return from_timm(name, pretrained=pretrained)
    if prefix == "torchvision":
        return from_torchvision(name, pretrained=pretrained)
    if prefix == "robustbench":
        return from_robustbench(name, pretrained=pretrained, model_dir=model_dir or MODEL_DIR)
    return from_kit(name) if prefix == "kit" else from_python(name)


def _overridden(own: Preprocessing, given: dict[str, Any]) -> Preprocessing:
    """The model's own preprocessing with what was given in its place; 0 switches a step off."""
    given = {name: value for name, value in given.items() if value is not None}
    for name in {"resize", "crop"} & set(given):
        given[name] = given[name] or None
    return dataclasses.replace(own, **given)


def _info(spec: str, built: LoadedNetwork, preprocessing: Preprocessing) -> ModelInfo:
    n_classes = getattr(built.net, "num_classes", None)
    return ModelInfo(
        spec=spec,
        name=built.name,
        source=spec.partition(":")[0],
        architecture=built.architecture,
        n_parameters=sum(p.numel() for p in built.net.parameters()),
        n_classes=n_classes if isinstance(n_classes, int) else last_width(built.net),
        preprocessing=preprocessing,
        dataset=built.dataset,
        training=built.training,
        licence=built.licence,
        weights=built.weights,
        weights_sha256=file_sha256(built.file) if built.file else state_digest(built.net),
    )


@contextlib.contextmanager
def _global_state_kept() -> Iterator[None]:
    """Leave random numbers and grad mode as they were: building a network draws many numbers."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - kept, not used
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices), torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - see above
