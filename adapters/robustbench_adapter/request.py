"""What a caller asks of `benchmark`, and the same with everything found and checked."""

from __future__ import annotations

import importlib.util
import logging
import numbers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iaside_plugins.adapters.models.classifier import last_width
from iaside_plugins.adapters.models.load import Classifier, ModelInfo, load_model
from iaside_plugins.adapters.models.robustbench_names import Threat
from iaside_plugins.adapters.models.robustbench_preprocessing import Geometry, of_corrupted, resolve
from iaside_plugins.adapters.robustbench_adapter import autoattack
from iaside_plugins.adapters.robustbench_adapter.data import open_images
from iaside_plugins.adapters.robustbench_adapter.images import BenchmarkImages
from iaside_plugins.adapters.robustbench_adapter.reference import corruption_plan
from iaside_plugins.adapters.robustbench_adapter.request_checks import check_words
from iaside_plugins.adapters.robustbench_adapter.tables import read_table
from iaside_plugins.devices import pick_device
from iaside_plugins.entry import robustbench_json as model_info
from iaside_plugins.entry.write import check_texts
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.evaluation.corruption import CorruptionPlan
from iaside_plugins.inference.checks import modules_in_training
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import check_writable
from iaside_plugins.storage.provenance import state_digest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """The arguments of `robustbench_adapter.benchmark`, which documents them."""

    model: Any
    n_examples: int = 10000
    dataset: Any = "cifar10"
    threat_model: Any = "Linf"
    to_disk: bool = False
    model_name: str | None = None
    data_dir: Any = "./data"
    corruptions_data_dir: Any = None
    device: Any = None
    batch_size: int = 32
    eps: Any = None
    log_path: Any = None
    preprocessing: Any = None
    aa_state_path: Any = None
    n_bands: int | None = None
    protocol: Protocol | None = None
    n_spectral: int | None = 75
    spectral: bool = True
    profiles: bool = True
    resume: Any = None
    reference_errors: Any = None
    seed: int = 0
    entry_path: Any = None
    precision: str = "float32"
    workers: int = 0
    attacks: Sequence[str] | None = None
    model_info_dir: Any = "model_info"
    bundle: Any = None
    note: str | None = None
    cache: Any = None
    show_progress: bool = True

    @property
    def entry_folder(self) -> Path | None:
        """Where the entry goes under its own name: `entry_path`, unless that is a .json file."""
        if self.entry_path is None:
            return None
        path = Path(self.entry_path)
        return None if path.suffix.lower() == ".json" and not path.is_dir() else path

    @property
    def epsilons(self) -> tuple[float, ...]:
        """Budgets: `eps` as a tuple."""
        if self.eps is None:
            return ()
        given = list(self.eps) if isinstance(self.eps, (list, tuple)) else [self.eps]
        if not all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in given):
            raise InputError(f"eps must be a number in pixel units such as 8/255, got {self.eps!r}")
        return tuple(float(value) for value in given)


@dataclass(frozen=True)
class PreparedRequest:
    """A request with its model, images and settings.

    Attributes:
        request: As asked.
        model: In evaluation mode, on its device.
        name: Of the model, in files and tables.
        threat: Data set and threat model.
        images: All images.
        spectral_part: Positions of those of the spectral importance.
        geometry: Of the clean images.
        corrupted: Of the corrupted images.
        protocol: Of the spectral importance.
        spec: AutoAttack, or None for corruptions.
        plan: CorruptionPlan with their denominator, or None for attacks.
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

    def device(self) -> torch.device:
        """Where the model is."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    def model_info_files(self) -> tuple[Path, Path | None]:
        """RobustBench's JSON of the model, and its table of cells for corruptions."""
        home = Path(self.request.model_info_dir) / self.threat.dataset / self.threat.folder
        table = None
        if self.plan is not None:
            suffix = "_3d" if self.threat.model.endswith("_3d") else ""
            table = home / f"unaggregated_results{suffix}.csv"
        return home / f"{self.name}.json", table


@contextmanager
def prepared(request: Request) -> Iterator[PreparedRequest]:
    """Everything found and checked before any long work; the model's modes are put back after.

    Raises:
        InputError: For anything that cannot be used, in one line.
        MissingExtraError: A library that it takes is not installed.
    """
    threat = Threat.of(request.dataset, request.threat_model)
    check_words(request, threat)
    spec = None
    if threat.is_attack:
        chosen = None if request.attacks is None else tuple(request.attacks)
        spec = autoattack.AutoAttackSpec(threat.model, request.epsilons, chosen)
        autoattack.check_installed()
    protocol = request.protocol or Protocol(
        n_bands=8 if request.n_bands is None else request.n_bands
    )
    model = load_model(request.model) if isinstance(request.model, str) else request.model
    if not isinstance(model, nn.Module):
        raise InputTypeError(
            f"expected a torch.nn.Module or a specification such as timm:resnet50, got "
            f"{type(model).__name__}; lists of models are not taken, evaluate them one by one"
        )
    _check_data_set(model, threat)
    device = pick_device(str(request.device or "cpu"))
    geometry = resolve(threat, model, request.model_name, request.preprocessing)
    corrupted = of_corrupted(threat, model, request.preprocessing)
    images = open_images(
        threat,
        request.n_examples,
        request.data_dir,
        request.corruptions_data_dir or None,
        geometry,
        corrupted,
        batch_size=request.batch_size,
        n_workers=request.workers,
        seed=request.seed,
        cache=request.cache,
    )
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
        request,
        model,
        info["name"],
        threat,
        images,
        _part(images, request),
        geometry,
        corrupted,
        protocol,
        spec,
        plan,
        info,
        data,
    )
    _check_outputs(ready)
    with _in_eval_mode(model):
        model.to(device)
        yield ready


def host_version() -> str | None:
    """Version of the installed RobustBench, None without one."""
    if importlib.util.find_spec("robustbench") is None:
        return None
    return metadata.version("robustbench")


def _check_data_set(model: nn.Module, threat: Threat) -> None:
    """Refuse a model that is known to be of another data set."""
    info = model.info if isinstance(model, Classifier) else None
    if info is not None and info.dataset not in (None, threat.dataset):
        raise InputError(
            f"{info.name} is a model of {info.dataset}, and dataset={threat.dataset!r}; give "
            f"dataset={info.dataset!r} and its images, or a model of {threat.dataset}"
        )


def _check_outputs(ready: PreparedRequest) -> None:
    """Refuse files that could not be written, before the work and not after it."""
    request = ready.request
    if request.entry_path is not None:
        path = Path(request.entry_path)
        check_writable(path, folder=request.entry_folder is not None)
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


def _part(images: BenchmarkImages, request: Request) -> list[int]:
    """Positions of a seeded selection: the first of images sorted by class are of few classes."""
    n = len(images.ids)
    wanted = n if request.n_spectral is None else request.n_spectral
    if type(wanted) is not int or wanted < 1:
        raise InputError(f"n_spectral must be an integer of at least 1, got {wanted!r}")
    order = np.random.default_rng(request.seed).permutation(n)[:wanted]
    return sorted(int(k) for k in order)


def _info(model: nn.Module, model_name: str | None, geometry: Geometry) -> dict[str, Any]:
    """The entry's ``model`` group."""
    if isinstance(model, Classifier):
        info = model.info
    else:
        name = model_name or type(model).__name__
        info = ModelInfo(
            spec="a module of the caller's",
            name=name,
            source="python",
            architecture=type(model).__name__,
            n_parameters=sum(p.numel() for p in model.parameters()),
            n_classes=last_width(model),
            preprocessing=geometry.preprocessing,
            dataset=None,
            training=None,
            licence=None,
            weights="as given",
            weights_sha256=state_digest(model),
        )
    own = info.to_dict()
    images = {
        **geometry.to_dict(),
        "mean": own["preprocessing"]["mean"],
        "std": own["preprocessing"]["std"],
    }
    return {**own, "name": model_name or info.name, "preprocessing": images}


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode afterwards."""
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
