"""The command that makes an entry again, from what the entry says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from iaside_plugins.budgets import format_budget, parse_budget
from iaside_plugins.corruptions.error_rates import reference_tables
from iaside_plugins.entry.schema import Adversarial, Corruption, DataGroup, Entry, ModelGroup
from iaside_plugins.protocol import Protocol

OWN_WEIGHTS = re.compile(
    r"(timm|torchvision|RobustBench|as built by) .*|as given\b.*|hf:[^/]+/[^/]+"
)  # as sources name theirs; weights that were given are named after their file
OF_PACKAGE = re.compile(r"\S+ \d+(\.\d+)*(\+\w+)?")  # a distribution and its version
UNPREPARED = ("python", "onnx", "torchscript", "export", "hf")
"""Sources that may not say how images become the input."""
A_MODULE = "a module of the caller's"
A_FUNCTION = "the caller's own function"
KEY = re.compile(r"[A-Za-z]+\d+\w*")  # of RobustBench's preprocessing: Res256Crop224
BATCH_SIZE, BATCH_SIZE_OF_HOST, N_SPECTRAL_OF_HOST = 64, 32, 75  # where none is given


def command(entry: Entry, spec: str | None = None) -> str:
    """Return the command line, or Python for a run inside a host benchmark.

    DIR holds the images, CORRUPTED_DIR a distributed set; the reference of an mCE is the file of
    its entry, named after the model. Files of weights stand by their names.

    Args:
        entry: The entry.
        spec: Another model instead, to be evaluated as this one was.
    """
    return _evaluate(entry, spec) if entry.benchmark is None else _robustbench(entry, spec)


def unrecorded(entry: Entry) -> str:
    """Return what the command may lack, as the entry does not say it: one sentence or more."""
    model, host = entry.model, entry.benchmark
    found = [] if host is not None else ["--labels", "--classes", "--restrict-classes"]
    if host is None and entry.corruption is not None and entry.corruption.source == "generated":
        found.append("--frost")
    if model.source not in UNPREPARED:
        steps = ", ".join(f"{k} {_joined(v)}" for k, v in model.preprocessing if v is not None)
        found.append(f"whether the preprocessing ({steps}) was the model's own")
    words = [f"Not recorded: {', '.join(found)}."] if found else []
    if model.spec == A_MODULE:
        words.append("MODEL is a network that the entry does not hold.")
    if host is not None and host.clean_preprocessing == A_FUNCTION:
        words.append("PREPROCESSING is a function that the entry does not hold.")
    return " ".join(words)


def _joined(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _evaluate(entry: Entry, spec: str | None) -> str:
    data, group = entry.data, entry.adversarial
    words = ["iaside", "evaluate", entry.model.spec if spec is None else spec, "--data", "DIR"]
    words += ["--dataset", data.name]
    if spec is None:
        for name, value in _of_model(entry.model).items():
            words += [f"--{name}", _joined(value)]
    if data.note:
        words += ["--note", data.note]
    if _n_taken(data) < data.n_available:
        words += ["--n-images", str(_n_taken(data))]
    if entry.spectral.n_images < data.n_images:
        words += ["--n-spectral", str(entry.spectral.n_images)]
    if data.seed:
        words += ["--seed", str(data.seed)]
    if entry.spectral.precision != "float32":
        words += ["--precision", entry.spectral.precision]
    if group is not None and group.batch_size != BATCH_SIZE:
        words += ["--batch-size", str(group.batch_size)]
    fields = _protocol(entry, data.seed).items()
    if fields:
        texts = (f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in fields)
        words += ["--protocol", ",".join(texts)]
    words += _corruptions(entry.corruption)
    words += _attacks(group, data.n_images)
    if entry.systematic is not None:
        words.append("--systematic")
    if entry.decomposition is not None:
        words += ["--explain", "--n-explain", str(entry.decomposition.n_images)]
    return shlex.join([*words, "--out", "entry.json"])


def _n_taken(data: DataGroup) -> int:
    """Return how many images were taken, readable or not."""
    return data.n_images + data.n_unreadable


def _of_model(model: ModelGroup) -> dict[str, Any]:
    """Return the options of a model that differ, or may differ, from what its source says."""
    own = model.spec.partition(":")[2]
    found: dict[str, Any] = {}
    is_own = OWN_WEIGHTS.fullmatch(model.weights) or (
        model.source == "pip" and OF_PACKAGE.fullmatch(model.weights)
    )
    if not is_own and own not in (model.weights, Path(model.weights).stem):
        found["weights"] = model.weights
    if model.name != model.spec.rpartition(":")[2]:
        found["name"] = model.name
    if model.training and (model.source == "python" or "weights" in found):
        found["training"] = model.training
    if model.source in UNPREPARED:
        found |= {k: 0 if v is None else v for k, v in model.preprocessing}
    return found


def _protocol(entry: Entry, seed: int) -> dict[str, Any]:
    """Return the fields that differ from those of the default protocol with this seed."""
    plain = Protocol(seed=seed).to_dict()
    fields = entry.protocol.model_dump(exclude={"protocol_id", "forwards"})
    return {name: value for name, value in fields.items() if plain[name] != value}


def _corruptions(group: Corruption | None) -> list[str]:
    if group is None:
        return ["--corruptions", "none"]
    words = []
    if group.source == "distributed":
        words += ["--corruptions", "CORRUPTED_DIR"]
    elif group.missing:
        words += ["--corruptions", ",".join(group.errors)]
    if group.source == "generated" and group.jpeg != (group.constants == "224"):
        words.append("--jpeg" if group.jpeg else "--no-jpeg")
    reference = _reference(group)
    return words if reference is None else [*words, "--reference", reference]


def _reference(group: Corruption | None) -> str | None:
    """Return the published table or the entry that errors are divided by; None without one."""
    divided = group and (group.mce or group.error_over_published)
    if not divided:
        return None
    published = divided.reference in reference_tables()
    return divided.reference if published else f"{divided.reference}.json"


def _attacks(group: Adversarial | None, n_images: int) -> list[str]:
    if group is None:
        return ["--attacks", "none"]
    names = ",".join(dict.fromkeys(attack.name for attack in group.attacks))
    words = ["--attacks", names]
    for norm, option in (("Linf", "--epsilons"), ("L2", "--epsilons-l2")):
        budgets = sorted({attack.epsilon for attack in group.attacks if attack.norm == norm})
        if budgets:
            words += [option, ",".join(map(_budget, budgets))]
    steps = {attack.steps for attack in group.attacks if attack.steps is not None}
    if len(steps) == 1:  # several are each attack's own: --attack-steps is for all
        words += ["--attack-steps", *map(str, steps)]
    if group.n_images < n_images:
        words += ["--n-attack", str(group.n_images)]
    if group.masking is not None and group.masking.temperature is not None:
        words.append("--check-temperatures")
    return words


def _budget(value: float) -> str:
    """Return a budget as text that reads as the same number."""
    short = format_budget(value)
    return short if parse_budget(short) == value else repr(value)


def _robustbench(entry: Entry, spec: str | None) -> str:
    assert entry.benchmark is not None  # the caller chose
    data, host = entry.data, entry.benchmark
    imports = ["from iaside_plugins.adapters.robustbench_adapter import evaluate"]
    called, name = _called(entry, spec)
    if called.startswith("load_model"):
        imports.insert(0, "from iaside_plugins.adapters.models import load_model")
    given = {"dataset": repr(data.name), "threat_model": repr(host.threat_model)}
    if name is not None:
        given["model_name"] = repr(name)
    if host.clean_preprocessing == A_FUNCTION:
        given["preprocessing"] = "PREPROCESSING"
    elif _has_key(entry):
        given["preprocessing"] = repr(host.clean_preprocessing)
    given |= _autoattack(entry.adversarial)
    given |= {"n_examples": str(_n_taken(data)), "data_dir": "'DIR'"}
    if entry.spectral.n_images != min(N_SPECTRAL_OF_HOST, data.n_images):
        given["n_spectral"] = str(entry.spectral.n_images)
    if data.seed:
        given["seed"] = str(data.seed)
    if data.note:
        given["note"] = repr(data.note)
    if fields := _protocol(entry, 0):
        imports.insert(0, "from iaside_plugins import Protocol")
        given["protocol"] = f"Protocol({_arguments({k: repr(v) for k, v in fields.items()})})"
    if entry.spectral.precision != "float32":
        given["precision"] = repr(entry.spectral.precision)
    if not host.profiles:
        given["profiles"] = "False"
    if entry.decomposition is not None:
        given["explain"] = "True"
    if entry.corruption is not None and entry.corruption.source == "generated":
        given["corruptions_data_dir"] = "'generate'"
    if reference := _reference(entry.corruption):
        given["reference_errors"] = repr(reference)
    given["entry_path"] = "'entry.json'"
    return "\n".join([*imports, f"evaluate({called}, {_arguments(given)})"])


def _has_key(entry: Entry) -> bool:
    """Return whether a key of RobustBench's was given for the preprocessing."""
    assert entry.benchmark is not None  # the callers chose
    named = KEY.fullmatch(entry.benchmark.clean_preprocessing) is not None
    return named and entry.model.source != "robustbench"  # whose zoo has the keys of its models


def _called(entry: Entry, spec: str | None) -> tuple[str, str | None]:
    """Return the code of the model, and its name where it is not the source's."""
    if spec is not None:
        return repr(spec), None
    own = _of_model(entry.model)
    name = own.pop("name", None)
    if entry.model.spec == A_MODULE:
        return "MODEL", name
    own.pop("training", None)
    given = {k: repr(v) for k, v in own.items()}
    if _has_key(entry):
        given = {k: v for k, v in given.items() if k not in ("resize", "crop", "interpolation")}
    code = repr(entry.model.spec)
    return f"load_model({code}, {_arguments(given)})" if given else code, name


def _autoattack(group: Adversarial | None) -> dict[str, str]:
    """Return the budgets in their order, the attacks unless standard, and the batch."""
    if group is None:
        return {}
    budgets = dict.fromkeys(_budget(attack.epsilon) for attack in group.attacks)
    given = {"eps": f"[{', '.join(budgets)}]"}
    _, custom, attacks = group.attacks[0].name.partition("autoattack_custom_")
    if custom:
        given["attacks"] = repr(attacks.split("_"))
    if group.batch_size != BATCH_SIZE_OF_HOST:
        given["batch_size"] = str(group.batch_size)
    return given


def _arguments(given: dict[str, str]) -> str:
    return ", ".join(f"{name}={code}" for name, code in given.items())
