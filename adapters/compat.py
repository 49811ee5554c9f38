"""Repairs of hosts that do not import as published; no other module of the package repairs one.

Each repair is made only after the host's real import has failed, so that a healthy installation
is left alone.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from iaside_plugins.errors import MissingExtraError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_MISSING_OPERATOR = re.compile(r"operator torchvision::\w+ does not exist")
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []  # a schema lives only as long as the library object that defined it


def import_torchvision() -> Any:
    """Import torchvision, even if its compiled operators do not load.

    With a CPU-only PyTorch, the published torchvision cannot load its compiled operators (they
    need CUDA libraries). Its import then stops with "operator torchvision::nms does not exist",
    because it registers shape rules for two operators that were never declared. Declaring their
    signatures is enough for models and transforms. Non-maximum suppression and torchvision's
    image decoder stay unavailable; neither is used here. Other hosts (timm) that import
    torchvision later get the module imported here.

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
    _forget("torchvision")
    return _import("torchvision")


def with_torchvision(call: Callable[[], _T]) -> _T:
    """Call a user's own code; once more with torchvision repaired, if it stopped in its import."""
    before = set(sys.modules)
    try:
        return call()
    except RuntimeError as error:
        if not _MISSING_OPERATOR.search(str(error)):
            raise
    import_torchvision()
    for name in set(sys.modules) - before:  # what packages left whose import has failed
        if name.partition(".")[0] not in sys.modules:
            sys.modules.pop(name, None)
    return call()


def import_timm() -> Any:
    """Import timm; repair torchvision before, and timm's downloads after.

    timm 1.0.9 imports five names of huggingface_hub in one statement. Recent versions of that
    library lack one of them, which serves only uploads; timm then takes the whole library to be
    absent and cannot download.

    Returns:
        The module timm.

    Raises:
        MissingExtraError: timm or torchvision is not installed.
    """
    import_torchvision()
    timm = _import("timm")
    hub = timm_hub()
    if getattr(hub, "_has_hf_hub", True):
        return timm
    try:
        download = importlib.import_module("huggingface_hub").hf_hub_download
        absent = importlib.import_module("huggingface_hub.utils").EntryNotFoundError
    except (ImportError, AttributeError):
        return timm  # it really is absent: timm reports that itself when asked for a download
    hub.hf_hub_download = functools.partial(
        download, library_name="timm", library_version=timm.__version__
    )
    hub.EntryNotFoundError = absent
    hub._has_hf_hub = True
    return timm


def timm_hub() -> Any:
    """Return `timm.models._hub`, the private module by which timm downloads from Hugging Face.

    Its `hf_hub_download`, `EntryNotFoundError` and `_has_hf_hub` are replaced: here, where timm
    takes an installed huggingface_hub to be absent, and in `models.hubs`, where a model is looked
    for only among earlier downloads. timm has no public function or option for either.
    """
    return importlib.import_module("timm.models._hub")


def import_pyautoattack() -> Any:
    """Import pyautoattack, the AutoAttack that RobustBench requires; it needs no repair.

    Raises:
        MissingExtraError: It is not installed.
    """
    return _import("pyautoattack", "robustbench", "AutoAttack")


def import_robustbench() -> Any:
    """Import RobustBench; repair torchvision before, and substitute two modules that it misses.

    RobustBench 1.1.1 imports ``pkg_resources``, which setuptools no longer contains, and
    ``autoattack``, although it requires ``pyautoattack``, whose interface differs. A substitute is
    made only after the import has failed for lack of the module, and is in `sys.modules` only
    while RobustBench is imported.

    Returns:
        The package robustbench.

    Raises:
        MissingExtraError: RobustBench is not installed.
    """
    import_timm()
    substitutes = {"pkg_resources": _pkg_resources, "autoattack": _autoattack}
    used: list[str] = []
    try:
        while True:
            try:
                return _import("robustbench", "robustbench", "this model or benchmark")
            except ModuleNotFoundError as error:
                substitute = substitutes.pop(error.name or "", None)
                if isinstance(error, MissingExtraError) or substitute is None:
                    raise
                _log.debug("RobustBench does not find %s; a stand-in is used", error.name)
                used += substitute()
            _forget("robustbench")
    finally:
        for name in used:  # other code must not take them for the real modules
            sys.modules.pop(name, None)


def _pkg_resources() -> list[str]:
    """Make a module ``pkg_resources`` with the one function that RobustBench calls."""
    module: Any = types.ModuleType("pkg_resources")

    def resource_filename(package: str, name: str) -> str:
        found = importlib.util.find_spec(package)
        return str(Path(str(found.origin if found else "")).parent / name)

    module.resource_filename = resource_filename
    sys.modules["pkg_resources"] = module
    return ["pkg_resources"]


def _autoattack() -> list[str]:
    """Make a module ``autoattack`` with the class that RobustBench calls, from pyautoattack's."""
    library = import_pyautoattack()
    state = importlib.import_module("pyautoattack.state")

    class AutoAttack(library.AutoAttack):  # type: ignore[misc, name-defined, unused-ignore]
        """pyautoattack's class with the arguments and the return value of ``autoattack``."""

        def __init__(  # noqa: PLR0913  the signature of ``autoattack``
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
    """Declare the signatures of torchvision's operators that are not declared yet."""
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
    _libraries.append(library)


def _forget(package: str) -> None:
    """Remove the submodules that a failed import leaves behind, only partly imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def _import(name: str, extra: str = "imagenet", needed_by: str = "this kind of model") -> Any:
    """Import a host.

    Args:
        name: The host's module.
        extra: The extra of this package that installs it.
        needed_by: What needs it, for the message.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Users of this package cannot change what a host does on import.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            # timm warns where models are registered again, by the import after a failed one.
            warnings.filterwarnings("ignore", "Overwriting .* in registry", UserWarning)
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError.of(
            f"{name} is not installed; {needed_by} needs it", extra
        ) from error
