"""Networks of RobustBench's zoo, with its weights or without."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import torch
from torch import nn

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.classifier import LoadedNetwork
from iaside_plugins.adapters.models.file_kinds import check_is_weights
from iaside_plugins.adapters.models.robustbench_preprocessing import of_zoo
from iaside_plugins.adapters.models.robustbench_zoo import (
    DATASETS,
    N_CLASSES,
    THREAT_MODELS,
    Threat,
    check_zoo_name,
    timm_name,
    zoo,
)
from iaside_plugins.errors import InputError, first_line

TRAINING = {
    "Linf": "robust to Linf attacks",
    "L2": "robust to L2 attacks",
    "corruptions": "robust to common corruptions",
}
MODEL_DIR = Path("models")  # RobustBench's default, below the current directory


def from_robustbench(
    path: str, *, pretrained: bool, model_dir: Path | str | None = None
) -> LoadedNetwork:
    """Load a model of the zoo, with its weights from `model_dir/<dataset>/<threat>/<name>.pt`.

    RobustBench downloads a file that is not there. Files are read with torch's ``weights_only``.

    Args:
        path: DATASET/THREAT/NAME, such as imagenet/Linf/Salman2020Do_R18.
        pretrained: Whether to load the weights.
        model_dir: Folder of the weights; `MODEL_DIR` by default.

    Raises:
        InputError: Another form, unknown names (the nearest are suggested), or weights that
            cannot be downloaded or read.
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
    file = Path(model_dir or MODEL_DIR) / dataset / threat / f"{name}.pt"
    net = _loaded(file) if pretrained else _untrained(dataset, threat, name)
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


def _untrained(dataset: str, threat: str, name: str) -> nn.Module:
    """Build the network of a model without its weights."""
    registered = timm_name(dataset, threat, name)
    net: nn.Module
    try:
        if registered is None:
            net = zoo(dataset, threat)[name]["model"]()
        else:
            import timm

            net = timm.create_model(registered, num_classes=N_CLASSES[dataset])
    except Exception as error:  # some networks of the zoo download their weights as they are built
        raise InputError(
            f"RobustBench cannot build {name} without its own weights ({type(error).__name__}); "
            "leave out the weights file"
        ) from error
    return net


def _loaded(file: Path) -> nn.Module:
    """Load the model of a weights file, `.../<dataset>/<threat>/<name>.pt`, as RobustBench does.

    Raises:
        InputError: RobustBench's loader fails, whatever it raises.
    """
    import_robustbench()
    from robustbench.utils import load_model as load

    dataset, threat, name = file.parts[-3], file.parts[-2], file.stem
    was_there = file.is_file()
    printed = io.StringIO()
    if was_there:
        check_is_weights(file)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            net: nn.Module = load(name, str(file.parents[2]), dataset, threat)
    except Exception as error:  # download, disk and file format errors alike
        reason = first_line(error, type(error).__name__)
        if file.is_file() and not was_there:
            file.unlink()  # an error page or half a file would be taken for the weights next time
        hint = f"put the checkpoint at {dataset}/{threat}/{name}.pt in the model folder"
        if was_there:
            hint = f"{file.name} in the model folder may be damaged or hold Python objects"
        raise InputError(
            f"no weights for robustbench:{dataset}/{threat}/{name}: "
            f"{re.sub(r'(/[^ ]+)+', '...', reason)[:200]}; {hint}"
        ) from error
    return net
