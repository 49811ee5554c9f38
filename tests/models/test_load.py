"""Specifications become classifiers on [0, 1] images whose numbers are those of the net itself."""

from __future__ import annotations

import pickle
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models import local as local_models
from iaside_plugins.adapters.models.load import (
    FORMS,
    SOURCES,
    describe,
    load_model,
    state_digest,
)
from iaside_plugins.adapters.models.weights import file_sha256
from iaside_plugins.cli.options import ModelSpec
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.parallel.session import packed, unpacked

FACTORY = """
import torch
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

def plain():
    return Tiny()

def prepared():
    net = Tiny()
    net.preprocessing = {"resize": 40, "crop": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    return net

ready = plain()

class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.tiny = Tiny()

    def forward(self, input_ids=None, *, pixel_values):
        return {"logits": self.tiny(pixel_values)}

by_name = ByName().eval()

def leaves():
    raise SystemExit

def misprepared():
    net = Tiny()
    net.preprocessing = {"size": 40}
    return net

def grey():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    net.preprocessing = {"mean": [0.5], "std": [0.25]}
    return net

def rude():
    torch.manual_seed(7)
    torch.set_grad_enabled(False)
    return Tiny()

def nothing():
    return None

NUMBER = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a module `own_nets` of factories."""
    (tmp_path / "own_nets.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return tmp_path


def images(size: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_a_factory_without_preprocessing_sees_the_images_as_they_are(here: Path) -> None:
    model = load_model("python:own_nets:plain")
    x = images(16)
    assert torch.equal(model(x), model.net(x))  # exact: x - 0 and x / 1 are x
    info = model.info
    assert (info.name, info.source, info.architecture) == ("plain", "python", "Tiny")
    assert info.preprocessing == Preprocessing()
    assert info.n_classes == 5
    assert info.n_parameters == 3 * 4 * 9 + 4 + 4 + 4 + 4 * 5 + 5
    assert info.weights_sha256 == state_digest(model.net)
    assert str(here) not in str(info.to_dict())
    assert str(here) not in sys.path


def test_images_that_are_taken_by_name_are_given_so(here: Path) -> None:
    model = load_model("python:own_nets:by_name")
    net = sys.modules["own_nets"].by_name
    assert torch.equal(model(images(16)), net.tiny(images(16)))
    with pytest.raises(InputError, match=r"give lambda x: model\(pixel_values=x\)\.logits"):
        spectral_importance(net, (images(16), torch.tensor([0, 1])), Protocol(n_bands=2))


def test_a_factory_can_say_its_preprocessing(here: Path) -> None:
    model = load_model("python:own_nets:prepared")
    x = images(32)
    mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    std = torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    assert torch.equal(model(x), model.net((x - mean) / std))  # exact: the same two operations
    last = x.contiguous(memory_format=torch.channels_last)
    normalised = model._normalised(last)
    assert torch.equal(normalised, (x - mean) / std)
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert model.info.to_dict()["preprocessing"] == {
        "resize": 40,
        "crop": 32,
        "interpolation": "bilinear",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    }


def test_one_value_normalises_grey_images(here: Path) -> None:
    model = load_model("python:own_nets:grey")
    x = images(8, channels=1)
    assert torch.equal(model(x), model.net((x - 0.5) / 0.25))


def test_overrides_replace_the_models_own(here: Path) -> None:
    model = load_model(
        "python:own_nets:prepared", resize=0, crop=24, interpolation="bicubic", mean=[0.1], std=[2]
    )
    assert model.info.preprocessing == Preprocessing(None, 24, "bicubic", (0.1,), (2.0,))
    assert torch.equal(model(images(24)), model.net((images(24) - 0.1) / 2.0))


def test_normalisation_in_the_weights_of_a_network_that_says_none(here: Path, caplog: Any) -> None:
    state = load_model("python:own_nets:plain").net.state_dict()
    names = {f"model.{name}": one for name, one in state.items()}
    for name in ("mean", "std"):
        names[f"normalizer.new_{name}"] = torch.full((3, 1, 1), 0.25)
    torch.save({"model": names}, here / "w.pt")
    model = load_model("python:own_nets:plain", weights=here / "w.pt")
    assert model.info.preprocessing.std == (0.25, 0.25, 0.25)
    assert "w.pt: its own mean (0.25, 0.25, 0.25) and std" in caplog.text


def test_one_number_stands_for_all_channels(here: Path) -> None:
    prepared = load_model("python:own_nets:prepared", mean=[0.5]).info.preprocessing
    assert (prepared.mean, prepared.std) == ((0.5, 0.5, 0.5), (0.2, 0.3, 0.4))
    assert Preprocessing(mean=(0.1, 0.2), std=(2,)).std == (2.0, 2.0)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("own_nets", "kit:NAME, robustbench:DATASET/THREAT/NAME, python:package.module:factory"),
        ("tflite:x", "'tflite:x'"),
        ("onnx:x", "no ONNX file at x"),
        ("timm:", "'timm:'"),
        ("python:own_nets", "got python:own_nets"),
        ("python:no_nets:plain", "cannot import no_nets"),
        ("python:own_nets:plane", "'plane'.*plain"),
        ("python:own_nets:misprepared", "unknown preprocessing size; known: resize, crop"),
    ],
)
def test_an_unusable_specification_is_explained(here: Path, spec: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_model(spec)


def test_docs_and_help_name_every_source() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = ModelSpec.__metadata__[0].help
    for prefix, form in zip(SOURCES, FORMS, strict=True):
        assert f"`{form}`" in page
        assert f"{prefix}:" in shown


@pytest.mark.parametrize(("name", "text"), [("nothing", "NoneType"), ("NUMBER", "is a int")])
def test_a_factory_must_be_callable_and_return_a_network(here: Path, name: str, text: str) -> None:
    with pytest.raises(InputTypeError, match=text):
        load_model(f"python:own_nets:{name}")


def test_a_ready_network_is_taken_and_one_that_leaves_is_refused(here: Path) -> None:
    assert load_model("python:own_nets:ready").info.architecture == "Tiny"
    with pytest.raises(InputError, match=r"leaves\(\) called exit\(\)"):
        load_model("python:own_nets:leaves")


def test_an_exported_network_is_loaded(here: Path) -> None:
    (here / "exported_nets.py").write_text(
        "import torch\n"
        "from own_nets import plain\n"
        "def net():\n"
        "    program = torch.export.export(plain().eval(), (torch.rand(2, 3, 16, 16),))\n"
        "    return program.module()\n"
    )
    model = load_model("python:exported_nets:net")
    assert model(images(16)).shape == (2, 5)


def test_loading_leaves_random_numbers_and_modes_alone(here: Path) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    model = load_model("python:own_nets:rude")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])
    assert torch.is_grad_enabled()
    assert not any(module.training for module in model.modules())
    x = images(8).requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_the_normalisation_is_part_of_the_digest(here: Path) -> None:
    file = here / "w.pth"
    torch.save(load_model("python:own_nets:plain").net.state_dict(), file)
    first = load_model("python:own_nets:plain", weights=str(file))
    second = load_model("python:own_nets:plain", weights=file, mean=[0.5])
    assert first.info.weights == "w.pth"
    assert first.info.weights_sha256 == second.info.weights_sha256 == file_sha256(file)
    assert state_digest(first) != state_digest(second)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), InputTypeError, "uint8; divide by 255"),
        (torch.zeros(3, 8, 8), InputError, r"\(N, 3, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8), InputError, r"\(N, 3, H, W\), got \(1, 4, 8, 8\)"),
    ],
)
def test_unusable_images_are_explained(
    here: Path, x: torch.Tensor, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        load_model("python:own_nets:prepared")(x)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"resize": 10, "crop": 20}, r"crop \(20\) must not exceed resize \(10\)"),
        ({"crop": 2.5}, "crop must be .* got 2.5"),
        ({"interpolation": "cubic"}, "got 'cubic'"),
        ({"mean": (0.5, 0.5), "std": (1,) * 3}, "mean='0.5,0.5' and std='1,1,1' are of different"),
        ({"std": (0.0,)}, "std must be numbers above 0, one a channel or one for all, got 0"),
        ({"mean": (float("nan"),)}, "mean must be numbers, one a channel or one for all, got nan"),
        ({"mean": ()}, "got none"),
        ({"mean": (125, 123, 114)}, r"mean is of pixels in \[0, 1\], got 125,123,114: divide"),
        ({"mean": (0.5,), "std": (63,)}, r"std is of pixels in \[0, 1\], got 63: divide what"),
    ],
)
def test_unusable_preprocessing_is_explained(values: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Preprocessing(**values)


def test_describe_says_model_weights_and_images(here: Path) -> None:
    assert describe(load_model("python:own_nets:prepared").info) == (
        "prepared (python, 145 parameters, 5 classes), weights: as built by own_nets:prepared\n"
        "images: resize short side to 40 (bilinear), centre crop 32, normalised inside the model "
        "(mean 0.5,0.4,0.3; std 0.2,0.3,0.4)"
    )
    assert describe(load_model("python:own_nets:plain").info).endswith(
        "\nimages: as they are, in [0, 1], not normalised"
    )


@pytest.mark.kit
def test_a_kit_model_whose_class_cannot_be_pickled_gets_to_another_process(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    model = load_model("kit:c10_resnet20", mean=[0.4, 0.5, 0.6], std=[0.2] * 3)
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(model)
    found = unpacked(packed(model), torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(found(images), model(images))


@pytest.mark.kit
@pytest.mark.parametrize("name", ["c10_resnet2b_adv", "mobilenet_v1_025_128"])
def test_kit_logits_are_those_of_the_kit(
    kit: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    model = load_model(f"kit:{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the kit leaves its JSON file open
        loader = local_models._kit_loader(kit)
        record, net = loader.spec(name), loader.load(name)
    x = images(record["input_size"])
    with torch.no_grad():
        reference = net(loader.normalise(x, record))
        assert torch.equal(model(x), reference)  # exact: the same operations in the same order
    info = model.info
    assert info.n_classes == reference.shape[1]
    assert (info.preprocessing.resize, info.preprocessing.crop) == (
        record["resize"],
        record["input_size"],
    )
    assert (info.dataset, info.training, info.licence) == (
        record["dataset"],
        record["training"],
        record["licence"],
    )
    assert info.weights == record["file"]
    assert info.weights_sha256 == file_sha256(kit / "weights" / record["file"])


@pytest.mark.kit
def test_an_unknown_kit_name_is_answered_with_names_of_the_kit(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    with pytest.raises(InputError, match=r"'resnet19'; (known|close names): .*\bresnet18_pqf\b"):
        load_model("kit:resnet19")


def test_no_kit_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IASIDE_KIT", str(tmp_path))
    with pytest.raises(InputError, match="set IASIDE_KIT"):
        load_model("kit:resnet18_pqf")
