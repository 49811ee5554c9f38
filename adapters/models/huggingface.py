"""Networks of Hugging Face repositories: of timm, of transformers, or an ONNX file.

All files are read as data: tensors without pickled objects, and no code of a repository runs.
"""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath
from typing import Any

from iaside_plugins.adapters.compat import import_timm
from iaside_plugins.adapters.models.classifier import LoadedNetwork
from iaside_plugins.adapters.models.hub_files import PREFIX, WEIGHTS, Repository
from iaside_plugins.adapters.models.hubs import timm_preprocessing
from iaside_plugins.adapters.models.onnx_files import from_onnx
from iaside_plugins.adapters.models.transformers_nets import from_transformers
from iaside_plugins.adapters.models.weights import read_state
from iaside_plugins.errors import InputError, error_text
from iaside_plugins.storage.files import read_json

_PROGRAMS = {".pt2": "export", ".torchscript": "torchscript"}
# Of a timm configuration: where weights lie is decided here, and no file on this computer is read.
_PLACES = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load"}


def from_huggingface(text: str, *, pretrained: bool) -> LoadedNetwork:
    """Load the network of `OWNER/NAME[@REVISION][/FILE]`, or of a folder with the same files.

    Args:
        text: The reference.
        pretrained: Must be true: a repository brings its own weights.

    Raises:
        InputError: It cannot be had, or holds no image classifier of a known kind.
        MissingExtraError: A library is not installed.
    """
    if not pretrained:
        raise InputError(
            f"{PREFIX}{text} brings its own weights; to load others, give their architecture as "
            "the model, such as timm:resnet18"
        )
    repository = Repository.of(text)
    if repository.file:
        return _of_file(repository)
    config_file = repository.get("config.json")
    if config_file is None:
        raise InputError(
            f"{PREFIX}{text} has no config.json, so it does not say which network it holds; give "
            "the architecture as the model, such as timm:resnet18, and one of its files as "
            f"weights={PREFIX}{text}/FILE"
        )
    held = read_json(config_file)
    config = held if isinstance(held, dict) else {}
    mappings = ("pretrained_cfg", "model_args")
    if wrong := [name for name in mappings if not isinstance(config.get(name) or {}, dict)]:
        raise InputError(f"{PREFIX}{text}: {', '.join(wrong)} of its config.json is no mapping")
    if isinstance(config.get("architecture"), str):
        return _of_timm(repository, config)
    kinds = config.get("architectures")
    kinds = [str(kind) for kind in kinds] if isinstance(kinds, list) else []
    if not any("ForImageClassification" in kind for kind in kinds):
        raise InputError(
            f"{PREFIX}{text} is no image classifier (architectures: {', '.join(kinds) or 'none'}); "
            "expected a repository of timm, or one of transformers with ...ForImageClassification"
        )
    return from_transformers(repository, config, config_file.parent)


def _of_file(repository: Repository) -> LoadedNetwork:
    """Return the network of one file of a repository, if the file says which it is.

    Raises:
        InputError: It is a weights file, or a program, which is run only if it is named as one.
    """
    ending = PurePosixPath(repository.file).suffix.lower()
    text = f"{PREFIX}{repository.text}"
    if ending == ".onnx":
        return from_onnx(text, pretrained=True)
    if ending in _PROGRAMS:
        raise InputError(
            f"{text} is a program, and is run only where it is named as one: {_PROGRAMS[ending]}:"
            f"{text}"
        )
    raise InputError(
        f"{text} holds weights and not the network that they belong to; give its architecture as "
        f"the model, such as timm:resnet18, and weights={text}"
    )


def _of_timm(repository: Repository, config: dict[str, Any]) -> LoadedNetwork:
    """Return a timm network with the weights of a repository that timm has saved.

    timm adapts and loads the tensors itself, strictly; they are read here, without pickle.
    """
    timm = import_timm()
    architecture = config["architecture"]
    settings = dict(config.get("pretrained_cfg") or config)  # earlier files have it flat
    if "num_classes" in config:
        settings["num_classes"] = config["num_classes"]
    known = {field.name for field in dataclasses.fields(timm.models.PretrainedCfg)} - _PLACES
    settings = {name: value for name, value in settings.items() if name in known}
    given = dict(config.get("model_args") or {})
    refused = sorted(given.keys() & {"checkpoint_path", "features_only"} | _pretrained(given))
    if refused:
        raise InputError(
            f"{PREFIX}{repository.text}: its config.json gives {', '.join(refused)}, which a "
            "repository has no say in"
        )
    if not timm.is_model(architecture):
        raise InputError(
            f"{PREFIX}{repository.text}: timm {timm.__version__} has no {architecture!r}; a newer "
            "timm may have it"
        )
    file = next((found for name in WEIGHTS if (found := repository.get(name))), None)
    if file is None:
        raise InputError(f"{PREFIX}{repository.text} has none of {', '.join(WEIGHTS)}")
    settings = {**settings, "architecture": architecture, "state_dict": read_state(file)}
    try:
        net = timm.create_model(architecture, pretrained=True, pretrained_cfg=settings, **given)
    except Exception as error:  # a state dict that does not fit, arguments it does not have
        reason = error_text(error, 300)
        raise InputError(
            f"{PREFIX}{repository.text}: timm cannot load {architecture} with these weights "
            f"({type(error).__name__}: {reason})"
        ) from error
    net.pretrained_cfg.pop("state_dict", None)
    if net.num_classes < 1 or net.num_classes != settings.get("num_classes", net.num_classes):
        raise InputError(f"{PREFIX}{repository.text} has no classification head")
    return LoadedNetwork(
        net=net,
        name=repository.name,
        architecture=architecture,
        preprocessing=timm_preprocessing(timm, net, repository.name),
        weights=repository.origin(),
        dataset="imagenet" if net.num_classes == 1000 else None,
        licence=settings.get("license"),
        file=file,
        public_name=repository.public_name,
    )


def _pretrained(given: dict[str, Any]) -> set[str]:
    return {name for name in given if name.startswith("pretrained")}
