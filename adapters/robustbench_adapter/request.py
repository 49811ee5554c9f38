"""The arguments of `benchmark`, their checks, and the model, images and settings they stand for."""

from __future__ import annotations

import importlib.util
import logging
import numbers
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from iaside_plugins.adapters.models.classifier import last_width
from iaside_plugins.adapters.models.load import Classifier, ModelInfo, load_model
from iaside_plugins.adapters.models.robustbench_preprocessing import (
    Geometry,
    of_corrupted,
    resolve,
)
from iaside_plugins.adapters.models.robustbench_zoo import Threat
from iaside_plugins.adapters.robustbench_adapter import autoattack
from iaside_plugins.adapters.robustbench_adapter.images import BenchmarkImages, ImageSource
from iaside_plugins.adapters.robustbench_adapter.reference import corruption_plan
from iaside_plugins.adapters.robustbench_adapter.tables import read_table
from iaside_plugins.devices import pick_device
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.entry.write import check_texts
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.inference.checks import modules_in_training
from iaside_plugins.inference.quantised import n_parameters
from iaside_plugins.integers import as_integer
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import check_writable
from iaside_plugins.storage.provenance import state_digest

_log = logging.getLogger(__name__)
GREATEST_SEED = 2**32 - 1  # of numpy's old generator, which AutoAttack seeds
STATE_FILES = (".json", ".pt")  # endings of the files of AutoAttack's state in RobustBench
_PATHS = (
    "log_path",
    "aa_state_path",
    "resume",
    "entry_path",
    "bundle",
    "cache",
    "corruptions_data_dir",
)
_FLAGS = ("explain", "to_disk", "spectral", "profiles", "show_progress")
_TEXTS = ("model_name", "note")


@dataclass(frozen=True)
class Request:
    """The arguments of `api.benchmark`, which documents them: their one list.

    The signature of `benchmark` is that of this class, and the command line takes its types and
    defaults from here.
    """

    model: Any
    n_examples: int = 10000
    dataset: Any = "cifar10"
    threat_model: Any = "Linf"
    to_disk: bool = False
    model_name: str | None = None
    data_dir: str | Path = "./data"
    corruptions_data_dir: str | Path | None = None
    device: Any = None
    batch_size: int = 32
    eps: float | None = None
    log_path: str | Path | None = None
    preprocessing: Any = None
    aa_state_path: str | Path | None = None
    _: KW_ONLY
    n_bands: int | None = None
    protocol: Protocol | None = None
    n_spectral: int | None = 75
    spectral: bool = True
    profiles: bool = True
    explain: bool = False
    resume: str | Path | None = None
    reference_errors: Any = None
    seed: int = 0
    entry_path: str | Path | None = None
    precision: str = "float32"
    workers: int = 0
    attacks: Sequence[str] | None = None
    model_info_dir: str | Path = "model_info"
    bundle: str | Path | None = None
    note: str | None = None
    cache: str | Path | None = None
    show_progress: bool = True

    @property
    def entry_folder(self) -> Path | None:
        """Folder that the entry is written to by its id; None if `entry_path` is a .json file."""
        if self.entry_path is None:
            return None
        path = Path(self.entry_path)
        return None if path.suffix.lower() == ".json" and not path.is_dir() else path

    @property
    def epsilons(self) -> tuple[float, ...]:
        """`eps` as a tuple; `evaluate` also takes several."""
        if self.eps is None:
            return ()
        eps: Any = self.eps
        given = list(eps) if isinstance(eps, (list, tuple)) else [eps]
        if not all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in given):
            raise InputError(f"eps must be a number in pixel units such as 8/255, got {self.eps!r}")
        return tuple(float(value) for value in given)


@dataclass(frozen=True)
class PreparedRequest:
    """A request with its model loaded, its images found and its settings checked.

    Attributes:
        request: The arguments.
        model: The model, in evaluation mode and on its device.
        name: Name of the model in files and tables.
        threat: Data set and threat model.
        images: All images of the run.
        spectral_part: Positions of the images that the spectral importance is computed on.
        geometry: Geometry of the clean images.
        corrupted: Geometry of the corrupted images.
        protocol: Protocol of the spectral importance.
        spec: AutoAttack and its budgets; None for corruptions.
        plan: Corruptions and what their errors are divided by; None for attacks.
        info: The entry's ``model`` group.
        data: The entry's ``data`` group without counts.
    """

    request: Request
    model: nn.Module
    name: str
    threat: Threat
    images: BenchmarkImages
    spectral_part: list[int]
    geometry: Geometry
    corrupted: Geometry
    protocol: Protocol
    spec: autoattack.AutoAttackSpec | None
    plan: CorruptionPlan | None
    info: dict[str, Any]
    data: dict[str, Any]

    def model_info_files(self) -> tuple[Path, Path | None]:
        """Return RobustBench's JSON file of the model and, for corruptions, its table of cells."""
        home = Path(self.request.model_info_dir) / self.threat.dataset / self.threat.folder
        table = home / f"unaggregated_results{self.threat.suffix}.csv"
        return home / f"{self.name}.json", None if self.plan is None else table


@contextmanager
def prepared(request: Request) -> Iterator[PreparedRequest]:
    """Load the model and find the images, and check everything before any long work.

    Inside, the model is in evaluation mode; on leaving, every module gets its own mode back.

    Raises:
        InputError: An argument, the model or the images cannot be used.
        MissingExtraError: A library that the run needs is not installed.
    """
    threat = Threat.of(request.dataset, request.threat_model)
    _check_arguments(request, threat)
    request = replace(request, **_integers(request))
    spec = _attack_spec(request, threat) if threat.is_attack else None
    protocol = request.protocol or Protocol(
        n_bands=8 if request.n_bands is None else request.n_bands
    )
    model = _model(request.model, threat)
    device = pick_device(str(request.device or "auto"))
    geometry = resolve(threat, model, request.model_name, request.preprocessing)
    corrupted = of_corrupted(threat, model, request.preprocessing)
    images = ImageSource(
        threat,
        request.n_examples,
        Path(request.data_dir),
        Path(request.corruptions_data_dir or request.data_dir),
        geometry,
        corrupted,
        request.batch_size,
        request.workers,
        request.seed,
        request.cache,
    ).open()
    plan = None if threat.is_attack else corruption_plan(images, request.reference_errors)
    info = _info(model, request.model_name, geometry)
    data = {
        "name": threat.dataset,
        "n_available": images.n_available,
        "seed": request.seed,
        "note": request.note,
    }
    check_texts(info, data)
    ready = PreparedRequest(
        request=request,
        model=model,
        name=info["name"],
        threat=threat,
        images=images,
        spectral_part=_spectral_part(request, len(images.ids)),
        geometry=geometry,
        corrupted=corrupted,
        protocol=protocol,
        spec=spec,
        plan=plan,
        info=info,
        data=data,
    )
    _check_outputs(ready)
    with _in_eval_mode(model):
        model.to(device)
        yield ready


def host_version() -> str | None:
    """Return the version of the installed RobustBench, None if there is none."""
    if importlib.util.find_spec("robustbench") is None:
        return None
    return metadata.version("robustbench")


def _check_arguments(request: Request, threat: Threat) -> None:
    """Check the types, ranges and combinations of the arguments, before anything is looked up.

    Raises:
        InputError: For the first argument that cannot be used.
        InputTypeError: For one of another type.
    """
    _check_types(request)
    if isinstance(request.device, (list, tuple)):
        raise InputError("one device at a time: device must not be a list")
    if threat.is_attack and request.eps is None:
        raise InputError(
            f"threat_model {threat.model} needs eps=..., in pixel units of [0, 1] images; "
            "RobustBench's are 8/255 (CIFAR) and 4/255 (ImageNet) for Linf, 0.5 for L2"
        )
    if not threat.is_attack and request.eps is not None:
        raise InputError(
            f"eps is for Linf and L2, got eps={request.eps} with {threat.model}; leave it out"
        )
    if threat.is_attack and request.reference_errors is not None:
        raise InputError("reference_errors are for corruptions; leave them out for Linf and L2")
    if not threat.is_attack and request.attacks is not None:
        raise InputError(f"attacks are for Linf and L2, got some with {threat.model}")
    if request.to_disk and not request.model_name:
        raise InputError("to_disk=True needs model_name=..., the name of the files")
    if not request.spectral and (request.entry_path or request.bundle):
        raise InputError("an entry holds the spectral importance: not with spectral=False")
    if not request.spectral and request.explain:
        raise InputError("the split of errors goes to the entry: not with spectral=False")
    if request.explain and 1 in (request.n_spectral, request.n_examples):
        raise InputError(
            "errors are split over bands with intervals, on at least 2 images: see n_spectral and "
            "n_examples"
        )
    if request.bundle and not request.model_name:
        raise InputError("bundle=... needs model_name=..., the name of the files")
    name = request.model_name
    if name and (re.search(r"[/\\]|^\.", name) or not name.isprintable()):
        raise InputError(f"model_name must be the name of a file, got {request.model_name!r}")
    if request.protocol is not None and request.n_bands is not None:
        raise InputError("give protocol=... or n_bands=..., not both")
    state = None if request.aa_state_path is None else Path(request.aa_state_path)
    if state and not state.is_dir() and (state.is_file() or state.suffix.lower() in STATE_FILES):
        raise InputError(
            f"aa_state_path: {state} is a file, as RobustBench takes it, which cannot be resumed "
            "from here; give a folder (finished batches are kept in it)"
        )


def _check_types(request: Request) -> None:
    """Check the types of the arguments, but for the integers."""
    for name in ("data_dir", "model_info_dir"):
        _check_type(request, name, (str, os.PathLike), "a path")
    for name in _PATHS:
        _check_type(request, name, (str, os.PathLike, type(None)), "a path or None")
    for name in _FLAGS:
        _check_type(request, name, bool, "True or False")
    for name in _TEXTS:
        _check_type(request, name, (str, type(None)), "text or None")
    _check_type(request, "precision", str, "text such as 'float32'")
    _check_type(request, "protocol", (Protocol, type(None)), "an iaside_plugins.Protocol or None")
    given = request.preprocessing
    if not (given is None or isinstance(getattr(given, "value", given), str) or callable(given)):
        raise InputTypeError(
            "preprocessing: expected a key of RobustBench such as 'Res256Crop224', a function or "
            f"None, got {given!r}"
        )
    attacks = request.attacks
    if attacks is not None and (isinstance(attacks, str) or not isinstance(attacks, Sequence)):
        raise InputTypeError(
            f"attacks: expected a list of names such as ['apgd-ce', 'square'], got {attacks!r}"
        )


def _integers(request: Request) -> dict[str, Any]:
    """Return the arguments that are integers, of any type, as int, and check their ranges."""
    ranges: dict[str, tuple[int, int | None]] = {
        "n_examples": (1, None),
        "batch_size": (1, None),
        "workers": (0, None),
        "seed": (0, GREATEST_SEED),
    }
    if request.n_spectral is not None:
        ranges["n_spectral"] = (1, None)
    return {name: as_integer(name, getattr(request, name), *ends) for name, ends in ranges.items()}


def _check_type(request: Request, name: str, kinds: type | tuple[type, ...], expected: str) -> None:
    value = getattr(request, name)
    if not isinstance(value, kinds):
        raise InputTypeError(f"{name}: expected {expected}, got {value!r}")


def _attack_spec(request: Request, threat: Threat) -> autoattack.AutoAttackSpec:
    """Return AutoAttack as it is asked for, once it is known to be installed."""
    chosen = None if request.attacks is None else tuple(request.attacks)
    spec = autoattack.AutoAttackSpec(threat.model, request.epsilons, chosen)
    autoattack.check_installed()
    return spec


def _model(given: Any, threat: Threat) -> nn.Module:
    """Return the model, loaded if it is a specification.

    Raises:
        InputError: It cannot be loaded, or is known to be of another data set.
        InputTypeError: It is no module.
    """
    model = load_model(given) if isinstance(given, str) else given
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            f"expected a torch.nn.Module or a specification such as timm:resnet50, got "
            f"{type(model).__name__}; lists of models are not taken, evaluate them one by one"
        )
    info = model.info if isinstance(model, Classifier) else None
    if info is not None and info.dataset not in (None, threat.dataset):
        raise InputError(
            f"{info.name} is a model of {info.dataset}, and dataset={threat.dataset!r}; give "
            f"dataset={info.dataset!r} and its images, or a model of {threat.dataset}"
        )
    return model


def _check_outputs(ready: PreparedRequest) -> None:
    """Raise InputError for files that could not be written or extended after the run."""
    request = ready.request
    if request.entry_path is not None:
        check_writable(Path(request.entry_path), folder=request.entry_folder is not None)
    if request.to_disk:
        json_file, table = ready.model_info_files()
        check_writable(json_file)
        model_info.read(json_file)
        if table is not None:
            check_writable(table)
            if table.is_file():
                read_table(table)
    for folder in (request.resume, request.bundle, request.aa_state_path, request.cache):
        if folder is not None:
            check_writable(Path(folder), folder=True)


def _spectral_part(request: Request, n: int) -> list[int]:
    """Return the positions, among n images, of those that the spectral importance is computed on.

    They are drawn with the seed: the first of images sorted by class would be of few classes.
    """
    wanted = n if request.n_spectral is None else request.n_spectral
    order = np.random.default_rng(request.seed).permutation(n)[:wanted]
    return sorted(int(k) for k in order)


def _info(model: nn.Module, model_name: str | None, geometry: Geometry) -> dict[str, Any]:
    """Return the entry's ``model`` group."""
    if isinstance(model, Classifier):
        info = model.info
    else:
        name = model_name or type(model).__name__
        info = ModelInfo(
            spec="a module of the caller's",
            name=name,
            source="python",
            architecture=type(model).__name__,
            n_parameters=n_parameters(model),
            n_classes=last_width(model),
            preprocessing=geometry.preprocessing,
            dataset=None,
            training=None,
            licence=None,
            weights="as given",
            weights_sha256=state_digest(model),
        )
    group = info.to_dict()
    normalisation = {name: group["preprocessing"][name] for name in ("mean", "std")}
    preprocessing = {**geometry.to_dict(), **normalisation}
    return {**group, "name": model_name or info.name, "preprocessing": preprocessing}


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, and every module back into its own mode on leaving."""
    training = modules_in_training(model)
    if training:
        _log.warning(
            "the model is in training mode; it is evaluated in evaluation mode and put back"
        )
    model.eval()
    try:
        yield
    finally:
        for module in training.values():
            module.training = True
