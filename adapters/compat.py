"""Mends for hosts that do not import as published; nowhere else in the package is a host mended.

Each mend is made only after the host's real import has failed, so a healthy installation is
untouched.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import re
import sys
import types
import warnings
from pathlib import Path
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


def import_pyautoattack() -> Any:
    """Import pyautoattack, the AutoAttack that RobustBench requires; it needs no mend.

    Raises:
        MissingExtraError: It is not installed.
    """
    return _import("pyautoattack", "robustbench", "AutoAttack")


def import_robustbench() -> Any:
    """Import RobustBench, with torchvision mended first and two of its own imports stood in for.

    RobustBench 1.1.1 imports ``pkg_resources``, which setuptools no longer brings, and
    ``autoattack``, while it requires ``pyautoattack``, whose interface differs. Each is stood in
    for only after the import has failed for want of it, and only while RobustBench is imported.

    Returns:
        The package robustbench.

    Raises:
        MissingExtraError: RobustBench is not installed.
    """
    import_timm()
    stand_ins = {"pkg_resources": _pkg_resources, "autoattack": _autoattack}
    used: list[str] = []
    try:
        while True:
            try:
                return _import("robustbench", "robustbench", "this model or benchmark")
            except ModuleNotFoundError as error:
                stand_in = stand_ins.pop(error.name or "", None)
                if isinstance(error, MissingExtraError) or stand_in is None:
                    raise
                _log.debug("RobustBench does not find %s; a stand-in is used", error.name)
                used += stand_in()
            # The failed import leaves submodules behind that miss what comes after the failure.
            for name in [name for name in sys.modules if name.split(".")[0] == "robustbench"]:
                del sys.modules[name]
    finally:
        for name in used:  # RobustBench holds them; others must not take them for the real ones
            sys.modules.pop(name, None)


def _pkg_resources() -> list[str]:
    """A module ``pkg_resources`` with the one function that RobustBench calls."""
    module: Any = types.ModuleType("pkg_resources")

    def resource_filename(package: str, name: str) -> str:
        found = importlib.util.find_spec(package)
        return str(Path(str(found.origin if found else "")).parent / name)

    module.resource_filename = resource_filename
    sys.modules["pkg_resources"] = module
    return ["pkg_resources"]


def _autoattack() -> list[str]:
    """A module ``autoattack`` with the class RobustBench calls, made of pyautoattack's."""
    library = import_pyautoattack()
    state = importlib.import_module("pyautoattack.state")

    class AutoAttack(library.AutoAttack):  # type: ignore[misc, name-defined, unused-ignore]
        """The arguments, and the one returned value, of the package ``autoattack``."""

        def __init__(
            self,
            model: Any,
            norm: str = "Linf",
            eps: float = 0.3,
            seed: int | None = None,
            verbose: bool = True,
            attacks_to_run: Any = None,
            version: str = "standard",
            is_tf_model: bool = False,
            device: Any = "cuda",
            log_path: Any = None,
        ) -> None:
            super().__init__(
                model,
                norm=norm,
                eps=eps,
                seed=seed,
                version=version,
                attacks=attacks_to_run or None,
                device=device,
            )
            self.verbose = verbose

        def run_standard_evaluation(
            self, x: Any, y: Any, bs: int = 250, return_labels: bool = False, state_path: Any = None
        ) -> Any:
            found = super().run_standard_evaluation(x, y, batch_size=bs, state_path=state_path)
            return found if return_labels else found[0]

    module: Any = types.ModuleType("autoattack")
    module.AutoAttack, module.state, module.__path__ = AutoAttack, state, []
    sys.modules["autoattack"], sys.modules["autoattack.state"] = module, state
    return ["autoattack", "autoattack.state"]


def _declare_operators() -> None:
    """Declare the signatures of those of torchvision's operators that are not declared yet."""
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
    _kept.append(library)


def _import(name: str, extra: str = "imagenet", needed_by: str = "this kind of model") -> Any:
    """Import a host; MissingExtraError, which names its extra, where it is not installed."""
    try:
        with warnings.catch_warnings():
            # What a host does on import that is deprecated elsewhere is not for our users to mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            # timm's remark where models are registered anew, by the import after a failed one.
            warnings.filterwarnings("ignore", "Overwriting .* in registry", UserWarning)
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError(
            f"{name} is not installed; {needed_by} needs it: pip install 'iaside-plugins[{extra}]'"
        ) from error
