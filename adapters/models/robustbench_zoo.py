"""Models of RobustBench's zoo, `robustbench:DATASET/THREAT/NAME`, through its own loader."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork
from iaside_plugins.adapters.models.robustbench_names import (
    DATASETS,
    N_CLASSES,
    THREAT_MODELS,
    Threat,
    check_zoo_name,
    timm_name,
    zoo,
)
from iaside_plugins.adapters.models.robustbench_preprocessing import of_zoo
from iaside_plugins.errors import InputError

MODEL_DIR = Path("models")  # RobustBench's own default, below the current directory
TRAINING = {
    "Linf": "robust to Linf attacks",
    "L2": "robust to L2 attacks",
    "corruptions": "robust to common corruptions",
}


def from_robustbench(
    path: str, *, pretrained: bool, model_dir: Path | str = MODEL_DIR
) -> LoadedNetwork:
    """A model of the zoo, with its weights from `model_dir/<dataset>/<threat>/<name>.pt`.

    What is not there RobustBench downloads. Files are read with torch's ``weights_only``.

    Args:
        path: DATASET/THREAT/NAME, such as imagenet/Linf/Salman2020Do_R18.
        pretrained: Whether to load the weights.
        model_dir: Where the weights are kept.

    Raises:
        InputError: Another form, unknown names (the nearest are suggested), or weights that
            cannot be had or read.
        MissingExtraError: RobustBench is not installed.
    """
    parts = path.split("/")
    if len(parts) != 3 or parts[0] not in DATASETS or parts[1] not in THREAT_MODELS:
        raise InputError(
            f"expected robustbench:DATASET/THREAT/NAME with one of {', '.join(DATASETS)} and one "
            f"of {', '.join(THREAT_MODELS)}, got robustbench:{path}"
        )
    dataset, threat, name = parts[0], parts[1].removesuffix("_3d"), parts[2]
    check_zoo_name(dataset, threat, name)
    net = _loaded(dataset, threat, name, Path(model_dir)) if pretrained else _plain(*parts)
    file = Path(model_dir) / dataset / threat / f"{name}.pt"
    resized = Preprocessing()
    if dataset == "imagenet":
        resized = of_zoo(Threat(dataset, threat), name).preprocessing
    return LoadedNetwork(
        net=net,
        name=name,
        architecture=type(getattr(net, "model", net)).__name__,
        preprocessing=resized,
        weights=f"RobustBench {dataset}/{threat}/{name}",
        dataset=dataset,
        training=TRAINING[threat],
        file=file if pretrained and file.is_file() else None,
    )


def load_zoo_model(
    dataset: str, threat: str, name: str, model_dir: Path | str, *, weights: str | None = None
) -> Any:
    """The `Classifier` of a zoo model, its weights in `model_dir` or the file `weights`.

    Raises:
        InputError: As `from_robustbench`.
    """
    from iaside_plugins.adapters.models.load import load_model

    return load_model(
        f"robustbench:{dataset}/{threat}/{name}", weights=weights, model_dir=model_dir
    )


def _plain(dataset: str, threat: str, name: str) -> nn.Module:
    """The network without its weights."""
    folder = threat.removesuffix("_3d")
    registered = timm_name(dataset, folder, name)
    net: nn.Module
    try:
        if registered is None:
            net = zoo(dataset, folder)[name]["model"]()
        else:
            import timm

            net = timm.create_model(registered, num_classes=N_CLASSES[dataset])
    except (
        Exception
    ) as error:  # some of the zoo's networks download their weights as they are built
        raise InputError(
            f"RobustBench cannot build {name} without its own weights ({type(error).__name__}); "
            "leave out the weights file"
        ) from error
    return net


def _loaded(dataset: str, threat: str, name: str, model_dir: Path) -> nn.Module:
    """What RobustBench's own loader gives; InputError where it fails, whatever it raises."""
    import_robustbench()
    from robustbench.utils import load_model as load

    file = model_dir / dataset / threat / f"{name}.pt"
    was_there = file.is_file()
    said = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            net: nn.Module = load(name, str(model_dir), dataset, threat)
    except Exception as error:  # the download, the disk, the file and its fit each raise their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if file.is_file() and not was_there:
            file.unlink()  # an error page or half a file would pass for the weights next time
        hint = f"put the checkpoint at {dataset}/{threat}/{name}.pt in the model folder"
        if was_there:
            hint = f"{file.name} in the model folder may be damaged or hold Python objects"
        raise InputError(
            f"no weights for robustbench:{dataset}/{threat}/{name}: "
            f"{re.sub(r'(/[^ ]+)+', '...', reason)[:200]}; {hint}"
        ) from error
    return net
