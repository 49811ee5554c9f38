"""Networks on this computer: the kit's, and those a Python factory builds."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from iaside_plugins.adapters.compat import import_timm, import_torchvision, with_torchvision
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork, Logits, unknown_name
from iaside_plugins.errors import InputError, InputTypeError, first_line
from iaside_plugins.inference.running import takes_pixel_values
from iaside_plugins.storage.code import files_digest
from iaside_plugins.storage.files import read_json

# Modules that came with the module of a factory, however it imported them.
_with_factory: dict[str, set[str]] = {}


def kit_folder() -> Path:
    """Return the kit's folder: the environment variable IASIDE_KIT, or `../shared/kit`."""
    return Path(os.environ.get("IASIDE_KIT") or Path("..") / "shared" / "kit")


def from_kit(name: str) -> LoadedNetwork:
    """Load a model of the kit, with the kit's weights, by executing the kit's `kit.py`.

    Raises:
        InputError: There is no kit, or it has no model of this name.
    """
    folder = kit_folder()
    record = _kit_record(folder, name)
    # Repaired here, so that the kit's own repair finds nothing to do.
    if record["arch"]["source"] == "timm":
        import_timm()
    elif record["arch"]["source"] == "torchvision":
        import_torchvision()
    with warnings.catch_warnings():
        # The kit's loader leaves its JSON file to be closed by the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        net = _kit_loader(folder).load(name)
    return LoadedNetwork(
        net=net,
        name=name,
        architecture=record["arch"]["fn"],
        preprocessing=Preprocessing(
            resize=record["resize"],
            crop=record["input_size"],
            interpolation="bilinear",
            mean=record["mean"],
            std=record["std"],
        ),
        weights=record["file"],
        dataset=record["dataset"],
        training=record["training"],
        licence=record["licence"],
        file=folder / "weights" / record["file"],
    )


def _kit_record(folder: Path, name: str) -> dict[str, Any]:
    """Return the record of a model in the kit's models.json."""
    if not (folder / "models.json").is_file() or not (folder / "kit.py").is_file():
        raise InputError(
            f"no kit at {folder} (expected models.json and kit.py there); "
            "set IASIDE_KIT to the kit's folder"
        )
    models = read_json(folder / "models.json")["models"]
    record: dict[str, Any] | None = next((m for m in models if m["name"] == name), None)
    if record is None:
        raise unknown_name("kit", name, [model["name"] for model in models])
    return record


def _kit_loader(folder: Path) -> Any:
    """Import the kit's kit.py by its path, without adding it to `sys.modules`."""
    spec = importlib.util.spec_from_file_location("iaside_kit_loader", folder / "kit.py")
    if spec is None or spec.loader is None:
        raise InputError(f"{folder / 'kit.py'} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def from_python(path: str) -> LoadedNetwork:
    """Return the network that `factory()` of `package.module:factory` builds, or is.

    An attribute `preprocessing` of the network (a Preprocessing or a mapping of its attributes)
    says how images in [0, 1] become its input; without it they are used as they are. The current
    directory is on the import path during the call, as for `python -m`.

    Raises:
        InputError: The module or the factory does not exist, or fails.
        InputTypeError: The factory is not callable, or does not return a network.
    """
    module_name, colon, factory_name = path.partition(":")
    if not (module_name and colon and factory_name) or module_name.startswith("."):
        raise InputError(f"expected python:package.module:factory, got python:{path}")
    before = set(sys.modules)
    with _current_directory_importable():
        try:
            module = with_torchvision(lambda: importlib.import_module(module_name))
        except ImportError as error:
            raise InputError(
                f"cannot import {module_name} ({error}); it is looked for in the current "
                "directory and among the installed packages"
            ) from error
        except (Exception, SystemExit) as error:
            raise _failed(module_name, error) from error
        factory = getattr(module, factory_name, None)
        if factory is None:
            raise unknown_name(module_name, factory_name, _factories(module))
        if not callable(factory):
            raise InputTypeError(f"{path} is a {type(factory).__name__}, expected a function")
        try:
            net = factory if isinstance(factory, nn.Module) else with_torchvision(factory)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise _failed(f"{path}()", error) from error
        if not isinstance(net, nn.Module):
            raise InputTypeError(
                f"{path}() must return a torch.nn.Module, got {type(net).__name__}"
            )
        code = _code_digest(module_name, factory, net, set(sys.modules) - before)
    return LoadedNetwork(
        net=Logits(net) if takes_pixel_values(net) else net,
        name=factory_name,
        architecture=type(net).__name__,
        preprocessing=Preprocessing.of(getattr(net, "preprocessing", {})),
        weights=f"as built by {path}",
        code=code,
    )


def _factories(module: ModuleType) -> list[str]:
    """Return the public functions, classes and networks that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, nn.Module)
            or (callable(value) and getattr(value, "__module__", None) == module.__name__)
        )
    ]


def _code_digest(module_name: str, factory: Any, net: nn.Module, new: set[str]) -> str:
    """Return a digest of the modules of the user's own that a network consists of."""
    _with_factory.setdefault(module_name, set()).update(new)
    parts = {kind.__module__ for part in net.modules() for kind in type(part).__mro__}
    names = {module_name, getattr(factory, "__module__", None) or module_name, *parts}
    return files_digest(sorted(names - {"__main__"}), _with_factory[module_name])


def _failed(what: str, error: BaseException) -> InputError:
    """Return the error for the user's own code that failed."""
    if isinstance(error, SystemExit):
        return InputError(f"{what} called exit(); expected a network, and no end of the process")
    reason = first_line(error)
    return InputError(f"{what} failed: {type(error).__name__}: {reason}")


@contextlib.contextmanager
def _current_directory_importable() -> Iterator[None]:
    """Put the current directory first on the import path, and remove it on leaving."""
    here = str(Path.cwd())
    importlib.invalidate_caches()  # the module may be younger than the last import
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)
