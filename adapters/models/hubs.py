"""Published networks, of timm and torchvision, with their own weights or without."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_timm, import_torchvision, timm_hub
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork, last_width, unknown_name
from iaside_plugins.adapters.models.downloads import (
    cached_file,
    no_weights,
    quiet_download,
    unreachable,
)
from iaside_plugins.adapters.models.file_kinds import check_is_weights
from iaside_plugins.adapters.models.weights import plain_names, put_state
from iaside_plugins.errors import InputError

_log = logging.getLogger(__name__)
_IMAGENET = Preprocessing(
    resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
# As torchvision builds them for its published weights, which expect another normalisation inside.
_AS_PUBLISHED = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


def from_timm(name: str, *, pretrained: bool, n_classes: int | None = None) -> LoadedNetwork:
    """Load a timm model, `ARCHITECTURE` or `ARCHITECTURE.TAG`.

    Resize and crop follow timm's evaluation: resize = floor(crop / crop_pct).

    Args:
        name: As timm has it.
        pretrained: Whether to load its published weights.
        n_classes: Number of outputs instead of its own, without published weights.

    Raises:
        InputError: timm has no such model, it has no classification head, or its weights could
            not be downloaded.
        MissingExtraError: timm is not installed.
    """
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    known = timm.list_models()  # without deprecated names, unlike timm.is_model
    if architecture not in known:
        raise unknown_name("timm", architecture, known)
    tags = [n.partition(".")[2] for n in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise unknown_name(f"timm {architecture}", tag, tags)
    given = {} if n_classes is None else {"num_classes": n_classes}
    net: Any = _timm_pretrained(timm, name) if pretrained else timm.create_model(name, **given)
    if net.num_classes < 1:
        raise InputError(f"timm:{name} has no classification head, so it gives no logits")
    config = net.pretrained_cfg
    return LoadedNetwork(
        net=net,
        name=name,
        architecture=architecture,
        preprocessing=timm_preprocessing(timm, net, name),
        weights=f"timm {config.get('tag') or tag or 'default'}",
        dataset="imagenet" if net.num_classes == 1000 else None,
        licence=config.get("license"),
    )


def _timm_pretrained(timm: Any, name: str) -> nn.Module:
    """Return a timm network with its published weights, downloaded or from the cache.

    Raises:
        InputError: timm publishes no weights, or they could not be downloaded.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise no_weights(f"timm:{name}", "timm publishes none")
    hub = timm_hub()
    client = hub.hf_hub_download
    at_hub = bool(config.hf_hub_id)
    if at_hub and client is None:
        raise no_weights(f"timm:{name}", "the library huggingface_hub cannot be imported")
    url = importlib.import_module("huggingface_hub.constants").ENDPOINT if at_hub else config.url
    url = url if isinstance(url, str) else url[0]
    reason = unreachable(url)
    cached = None if at_hub else cached_file(url)
    if cached is not None:
        check_is_weights(cached)
    elif reason and not at_hub:
        raise no_weights(f"timm:{name}", reason)
    try:
        if at_hub and reason:  # only look among files that were downloaded before
            hub.hf_hub_download = functools.partial(client, local_files_only=True)
        with quiet_download():
            net: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # each host and version raises its own kinds
        raise no_weights(f"timm:{name}", reason or error) from error
    finally:
        hub.hf_hub_download = client
    return net


def timm_preprocessing(timm: Any, net: nn.Module, name: str) -> Preprocessing:
    """Return the preprocessing of timm's evaluation; warn if a square crop departs from it."""
    data = timm.data.resolve_model_data_config(net)
    _, height, width = data["input_size"]
    crop = min(height, width)
    if height != width or data["crop_mode"] != "center" or data["crop_pct"] > 1:
        _log.warning(
            "timm evaluates %s on %d x %d images by '%s' at %s; here the aspect ratio is kept and "
            "a square of %d is cropped from the centre without padding",
            name,
            height,
            width,
            data["crop_mode"],
            data["crop_pct"],
            crop,
        )
    return Preprocessing(
        resize=max(crop, int(crop / data["crop_pct"])),
        crop=crop,
        interpolation=data["interpolation"],
        mean=data["mean"],
        std=data["std"],
    )


def from_torchvision(name: str, *, pretrained: bool, n_classes: int | None = None) -> LoadedNetwork:
    """Load a torchvision classifier, `NAME` or `NAME@WEIGHTS` (default: the newest weights).

    Args:
        name: As torchvision has it.
        pretrained: Whether to load its published weights.
        n_classes: Number of outputs instead of its own, without published weights.

    Raises:
        InputError: torchvision has no such classifier or weights, or they could not be downloaded.
        MissingExtraError: torchvision is not installed.
    """
    models = import_torchvision().models
    architecture, _, tag = name.partition("@")
    known = models.list_models(module=models)
    if architecture not in known:
        raise unknown_name("torchvision", architecture, known)
    published = models.get_model_weights(architecture)
    if tag and tag != "DEFAULT" and tag not in published.__members__:
        raise unknown_name(f"torchvision {architecture}", tag, published.__members__)
    chosen = published[tag] if tag else getattr(published, "DEFAULT", None)
    given: dict[str, Any] = dict(_AS_PUBLISHED.get(architecture, {}))
    given |= {} if n_classes is None else {"num_classes": n_classes}
    net = models.get_model(architecture, weights=None, **given)
    if pretrained:
        if chosen is None:
            raise no_weights(f"torchvision:{name}", "torchvision publishes none")
        put_state(net, _torchvision_state(chosen, name), str(chosen))
    preprocessing = _IMAGENET
    if chosen is not None:
        images = chosen.transforms()
        preprocessing = Preprocessing(
            resize=images.resize_size[0],
            crop=images.crop_size[0],
            interpolation=images.interpolation.value,
            mean=images.mean,
            std=images.std,
        )
    return LoadedNetwork(
        net=net,
        name=name,
        architecture=architecture,
        preprocessing=preprocessing,
        weights=f"torchvision {chosen.name if chosen else 'unpublished'}",
        dataset="imagenet" if last_width(net) == 1000 else None,
    )


def _torchvision_state(chosen: Any, name: str) -> dict[str, torch.Tensor]:
    """Return torchvision's weights, downloaded or from its cache, without running code in them."""
    cached = cached_file(chosen.url)
    if cached is not None:
        check_is_weights(cached)
    elif reason := unreachable(chosen.url):
        raise no_weights(f"torchvision:{name}", reason)
    try:
        with quiet_download():
            state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # network, disk, hash and format errors alike
        raise no_weights(f"torchvision:{name}", error) from error
    return plain_names(state)
