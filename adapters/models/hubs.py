"""Published networks, of timm and torchvision, with their own weights or without.

Downloads fail quickly where there is no network, are quiet, and never leave random weights.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_timm, import_torchvision, timm_hub
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork, last_width, unknown_name
from iaside_plugins.adapters.models.weights import plain_names, put_state
from iaside_plugins.errors import InputError

PATIENCE = 8.0  # seconds to reach a server before the download counts as impossible
STALL = 30.0  # seconds without a byte before a running download is given up
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
        preprocessing=_timm_preprocessing(timm, net, name),
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
    if reason and not at_hub and not _in_cache(url):
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


def _timm_preprocessing(timm: Any, net: nn.Module, name: str) -> Preprocessing:
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
    if not _in_cache(chosen.url) and (reason := unreachable(chosen.url)):
        raise no_weights(f"torchvision:{name}", reason)
    try:
        with quiet_download():
            state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # network, disk, hash and format errors alike
        raise no_weights(f"torchvision:{name}", error) from error
    return plain_names(state)


def _in_cache(url: str) -> bool:
    """Return whether torch.hub has downloaded this file before."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name).is_file()


_log = logging.getLogger(__name__)


def unreachable(url: str) -> str | None:
    """Return why a server cannot be reached, or None if it can.

    Without a network the hosts retry for minutes, or wait as long as the system does; one
    connection with a deadline answers within `PATIENCE` seconds. Behind a proxy a direct
    connection proves nothing, so the answer is None and the download is tried.
    """
    if "https" in getproxies() or "all" in getproxies():
        return None
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(f"cannot reach {host}: {error}")

    # In a thread, because name look-up has no time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return outcome[0] if outcome else f"cannot reach {host}: no answer in {PATIENCE:.0f} s"


@contextlib.contextmanager
def quiet_download() -> Iterator[None]:
    """Limit how long a download may stall, and silence the host's messages."""
    before = socket.getdefaulttimeout()
    client = logging.getLogger("huggingface_hub")
    level = client.level
    socket.setdefaulttimeout(STALL)
    client.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        client.setLevel(level)
        socket.setdefaulttimeout(before)


def no_weights(spec: str, error: Exception | str) -> InputError:
    """Return the error for weights that could not be downloaded, with the cause in one line."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    cause = " ".join(text.split())[:200]
    return InputError(
        f"the pretrained weights of {spec} could not be had ({cause}); download them where there "
        "is a network and give them with weights=FILE (.safetensors or .pth)"
    )
