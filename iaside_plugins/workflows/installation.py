"""What of this package works as it is installed: Python, devices, each extra, the cache folder."""

from __future__ import annotations

import importlib
import platform
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import Any

import torch

from iaside_plugins._version import __version__
from iaside_plugins.adapters.compat import (
    import_pyautoattack,
    import_robustbench,
    import_timm,
    import_torchvision,
)
from iaside_plugins.adapters.models.installed import PACKAGED, packaged_file
from iaside_plugins.adapters.robustbench_adapter.doctor import NOTE, OK, PROBLEM, DoctorFinding
from iaside_plugins.errors import MissingExtraError, how_to_install
from iaside_plugins.storage.resume_folder import cache_folder

WEIGHTS = {one.distribution: one.file for one in PACKAGED.values() if not one.extra}
IMPORTS: dict[str, Callable[[], Any]] = {  # those that may need a repair, see `adapters.compat`
    "torchvision": import_torchvision,
    "timm": import_timm,
    "robustbench": import_robustbench,
    "pyautoattack": import_pyautoattack,
    **{name: partial(packaged_file, name, file) for name, file in WEIGHTS.items()},  # not imported
}
EXTRAS = {  # of each extra: modules, by the names of their distributions
    "imagenet": {
        "pillow": "PIL",
        "scipy": "scipy",
        "opencv-python-headless": "cv2",
        "torchvision": "torchvision",
        "timm": "timm",
        "safetensors": "safetensors",
        "threadpoolctl": "threadpoolctl",
    },
    "foolbox": {"foolbox": "foolbox", "scipy": "scipy"},
    "captum": {"captum": "captum", "scikit-learn": "sklearn"},
    "leaderboard": {"pydantic": "pydantic", "matplotlib": "matplotlib", "jinja2": "jinja2"},
    "remote": {"s3fs": "s3fs", "gcsfs": "gcsfs"},
    "robustbench": {"robustbench": "robustbench", "pyautoattack": "pyautoattack"},
    "ray": {"ray": "ray"},
    "hf": {"huggingface_hub": "huggingface_hub", "transformers": "transformers"},
    "onnx": {"onnx": "onnx", "onnx2torch": "onnx2torch", "onnxruntime": "onnxruntime"},
    "parquet": {"pyarrow": "pyarrow"},
    "lightning": {"lightning": "lightning"},
    "demo": {"scikit-learn": "sklearn", "pyautoattack": "pyautoattack", **{n: n for n in WEIGHTS}},
}


def check_installation() -> list[DoctorFinding]:
    """Return findings on Python and torch, every extra, and the folder of unfinished work."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = f"{gpus} GPUs" if gpus else "no GPU"
    about = f"Python {platform.python_version()}, torch {torch.__version__}, {devices}"
    found = [DoctorFinding(OK, f"iaside-plugins {__version__}", about)]
    for extra, modules in EXTRAS.items():
        found += _extra(extra, modules)
    return [*found, _cache()]


def _extra(extra: str, modules: dict[str, str]) -> Iterator[DoctorFinding]:
    """Import the modules of an extra."""
    works, missing = [], []
    for distribution, module in modules.items():
        try:
            IMPORTS.get(module, lambda name=module: importlib.import_module(name))()
        except (MissingExtraError, ModuleNotFoundError) as error:
            if isinstance(error, MissingExtraError) or error.name == module:
                missing.append(distribution)
            else:
                yield _broken(extra, distribution, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a host may raise anything
            yield _broken(extra, distribution, error)
        else:
            works.append(f"{distribution} {_version(distribution)}")
    if missing:
        names = ", ".join(missing)
        mend = f"what needs it stops; {how_to_install(extra)}"
        yield DoctorFinding(NOTE, extra, f"{names} not installed: {mend}")
    if works:
        yield DoctorFinding(OK, extra, ", ".join(works))


def _broken(extra: str, distribution: str, error: BaseException) -> DoctorFinding:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    text = f"{distribution} is installed and cannot be imported ({said}); install it again"
    return DoctorFinding(PROBLEM, extra, text)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # the same module of another distribution
        return "of unknown version"


def _cache() -> DoctorFinding:
    """Try to write where unfinished work goes."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror or error}); set IASIDE_CACHE"
        return DoctorFinding(PROBLEM, "unfinished work", text)
    return DoctorFinding(OK, "unfinished work", f"kept in {folder}")
