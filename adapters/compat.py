"""Mends for hosts that do not import as published; nowhere else in the package is a host mended.

Each mend is made only after the host's real import has failed, so a healthy installation is
untouched.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
import sys
import warnings
from typing import Any

import torch

from iaside_plugins.errors import MissingExtraError

_log = logging.getLogger(__name__)
_MISSING_OPERATOR = re.compile(r"operator torchvision::\w+ does not exist")
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []  # a schema lives only as long as the object that defined it


def import_torchvision() -> Any:
    """Import torchvision, also where its compiled operators do not load.

    With a CPU-only PyTorch, the published torchvision cannot load its compiled operators (they
    need CUDA libraries) and then stops with "operator torchvision::nms does not exist", because
    it registers shape rules for two operators that were never declared. Declaring their
    signatures is enough for models and transforms; detection's non-maximum suppression and
    torchvision's own image decoder stay unavailable, and neither is used here. Later imports of
    torchvision by other hosts (timm) find the imported module.

    Returns:
        The module torchvision.

    Raises:
        MissingExtraError: torchvision is not installed.
        RuntimeError: torchvision's import failed for another reason.
    """
    try:
        return _import("torchvision")
    except RuntimeError as error:
        if not _MISSING_OPERATOR.search(str(error)):
            raise
    _log.debug("torchvision's compiled operators do not load; declaring %s", _OPERATORS)
    _declare_operators()
    # The failed import leaves submodules behind that were built without the operators.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return _import("torchvision")


def import_timm() -> Any:
    """Import timm, with torchvision mended first and its downloads mended after.

    timm 1.0.9 imports five names of huggingface_hub together. Recent versions dropped one that
    serves uploads only, whereupon timm takes the whole library for absent and cannot download.

    Returns:
        The module timm.

    Raises:
        MissingExtraError: timm or torchvision is not installed.
    """
    import_torchvision()
    timm = _import("timm")
    hub: Any = importlib.import_module("timm.models._hub")
    if getattr(hub, "_has_hf_hub", True):
        return timm
    try:
        download = importlib.import_module("huggingface_hub").hf_hub_download
        absent = importlib.import_module("huggingface_hub.utils").EntryNotFoundError
    except (ImportError, AttributeError):
        return timm  # it is truly absent: timm says so itself when a download is asked for
    hub.hf_hub_download = functools.partial(
        download, library_name="timm", library_version=timm.__version__
    )
    hub.EntryNotFoundError = absent
    hub._has_hf_hub = True
    return timm


def _declare_operators() -> None:
    """Declare the signatures of those of torchvision's operators that are not declared yet."""
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
    _kept.append(library)


def _import(name: str) -> Any:
    """Import a host of the extra `imagenet`; MissingExtraError where it is not installed."""
    try:
        with warnings.catch_warnings():
            # What a host does on import that is deprecated elsewhere is not for our users to mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError(
            f"{name} is not installed; this kind of model needs it: "
            "pip install 'iaside-plugins[imagenet]'"
        ) from error
