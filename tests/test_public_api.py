"""The public surface: the promised names, documented, and light to import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import iaside_plugins
from iaside_plugins import errors

PROMISED = {
    "Protocol",
    "SpectralImportance",
    "SpectralPartition",
    "compare",
    "mean_corruption_error",
    "spectral_importance",
}
HEAVY = (
    "matplotlib",
    "torchvision",
    "timm",
    "foolbox",
    "eagerpy",
    "captum",
    "robustbench",
    "cv2",
    "scipy",
    "PIL",
    "sklearn",
    "pandas",
    "pydantic",
    "ray",
    "lightning",
    "pytorch_lightning",
)


def test_the_promised_names_are_exported_and_sorted():
    assert set(iaside_plugins.__all__) >= PROMISED
    assert iaside_plugins.__all__ == sorted(iaside_plugins.__all__)
    for name in iaside_plugins.__all__:
        assert getattr(iaside_plugins, name).__module__.startswith("iaside_plugins.")


@pytest.mark.parametrize("name", iaside_plugins.__all__)
def test_every_public_name_is_documented(name):
    thing = getattr(iaside_plugins, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        for member, value in vars(thing).items():
            if member.startswith("_") or not (
                inspect.isfunction(value) or isinstance(value, property)
            ):
                continue
            assert inspect.getdoc(value), f"{name}.{member}"


def test_the_main_signature_is_the_promised_one():
    signature = inspect.signature(iaside_plugins.spectral_importance)
    names = list(signature.parameters)
    assert names[:3] == ["model", "data", "protocol"]
    keywords = {
        "device": None,
        "batch_size": 64,
        "precision": "float32",
        "resume": None,
        "max_images": None,
        "target_error": None,
        "target": "signed_score",
        "show_progress": False,
    }
    found = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert found == keywords


def test_protocol_defaults_are_the_promised_ones():
    protocol = iaside_plugins.Protocol()
    promised = {
        "n_bands": 8,
        "band_norm": "chebyshev",
        "absence": "zero",
        "range_handling": "none",
        "estimator": "exact",
        "n_permutations": 1,
        "beta": 0.75,
        "temperature": 1.0,
        "seed": 0,
    }
    assert {name: getattr(protocol, name) for name in promised} == promised


def test_the_version_is_one_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+", iaside_plugins.__version__)


def test_importing_loads_no_optional_library():
    code = f"import sys, iaside_plugins; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_errors_are_what_callers_catch():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.InputTypeError, TypeError)
    assert issubclass(errors.InputTypeError, errors.InputError)
    assert issubclass(errors.MissingExtraError, ImportError)
    assert issubclass(errors.MissingExtraError, errors.InputError)


def test_types_are_shipped():
    assert (Path(iaside_plugins.__file__).parent / "py.typed").is_file()
