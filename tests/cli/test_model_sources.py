"""Every kind of model source goes through profile, explain and evaluate, or ends in one line."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import int8_nets
import pytest
import torch
from hub_folders import timm_folder, vit_folder
from torch import nn

from iaside_plugins.adapters.compat import import_timm, import_torchvision
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models import installed
from iaside_plugins.adapters.models.classifier import LoadedNetwork

TIMM, TORCHVISION = "test_efficientnet", "squeezenet1_1"
GRADIENT = "attacks follow gradients"
Made = tuple[object, ...]  # the specification, and options


class Small(nn.Module):
    """A float network of 32 x 32 images and 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean(dim=(2, 3)))


def need(*names: str) -> None:
    """Skip a source whose library is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def weights(folder: Path, net: nn.Module) -> Made:
    torch.save(net.state_dict(), folder / "w.pth")
    return "--weights", folder / "w.pth", "--resize", 32, "--crop", 32


def timm(folder: Path) -> Made:
    return f"timm:{TIMM}", *weights(folder, import_timm().create_model(TIMM, num_classes=10))


def torchvision(folder: Path) -> Made:
    net = import_torchvision().models.get_model(TORCHVISION, num_classes=10)
    return f"torchvision:{TORCHVISION}", *weights(folder, net)


def robustbench(folder: Path) -> Made:
    need("robustbench")
    from robustbench_host import enums, utils

    models = utils.all_models[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf]
    models["Small2026Test"] = {"model": Small, "gdrive_id": "1"}
    return "robustbench:cifar10/Linf/Small2026Test", *weights(folder, Small())[:2]


def factory(folder: Path) -> Made:
    return ("python:tiny_model:network",)


def ready(folder: Path) -> Made:
    (folder / "ready_nets.py").write_text("import tiny_model\nnet = tiny_model.network().eval()\n")
    return ("python:ready_nets:net",)


def pip(folder: Path) -> Made:
    info = folder / "small_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("w.pth,,\n")
    weights(folder, Small())
    installed.PACKAGED["small"] = installed.PackagedModel(
        "small-weights",
        "w.pth",
        lambda: LoadedNetwork(Small(), "", "Small", Preprocessing(), ""),
        lambda net, state, file: dict(state),
    )
    return ("pip:small",)


def hub_of_timm(folder: Path) -> Made:
    net = import_timm().create_model(TIMM, num_classes=10)
    return f"hf:{timm_folder(folder / 'hub', net)}", "--resize", 32, "--crop", 32


def hub_of_transformers(folder: Path) -> Made:
    need("transformers")
    return (f"hf:{vit_folder(folder / 'hub', 10)}",)


def onnx(folder: Path) -> Made:
    need("onnx", "onnxruntime", "onnx2torch")
    import_torchvision()
    return (f"onnx:{int8_nets.onnx_file(folder / 'net.onnx', Small())}",)


def onnx_of_8_bits(folder: Path) -> Made:
    need("onnx", "onnxruntime")
    import_torchvision()
    file = int8_nets.onnx_file(folder / "int8.onnx", int8_nets.Rounded(), free=False)
    return f"onnx:{file}", "--mean", 0.5, "--std", 0.25


def torchscript(folder: Path) -> Made:
    torch.jit.save(torch.jit.script(Small().eval()), folder / "net.pt")
    return (f"torchscript:{folder / 'net.pt'}",)


def export(folder: Path) -> Made:
    program = torch.export.export(Small().eval(), (torch.rand(2, 3, 32, 32),))
    torch.export.save(program, folder / "net.pt2")
    return (f"export:{folder / 'net.pt2'}",)


def static(folder: Path) -> Made:
    return ("python:int8_nets:static",)


def dynamic(folder: Path) -> Made:
    return ("python:int8_nets:dynamic",)


@dataclass(frozen=True)
class Row:
    """A source: what makes it, and whether gradients come back through it."""

    make: Callable[[Path], Made]
    gradients: bool = True


ROWS = [
    Row(timm),
    Row(torchvision),
    Row(robustbench),
    Row(factory),
    Row(ready),
    Row(pip),
    Row(hub_of_timm),
    Row(hub_of_transformers),
    Row(onnx),
    Row(onnx_of_8_bits, gradients=False),
    Row(torchscript),
    Row(export),
    Row(static, gradients=False),
    Row(dynamic, gradients=False),
]


def run_row(row: Row, iaside: object, images: Path, folder: Path) -> None:
    """Run the three commands on two images, and read what they found."""
    spec, *options = row.make(folder)
    few = ("--data", images, "--n-images", 2, "--n-bands", 2, "--device", "cpu", *options)
    run = iaside("profile", spec, *few, "--json", "-")
    assert run.code == 0, run.err
    found = json.loads(run.out)
    assert found["n_images"] == 2
    assert found["model"]["n_parameters"] > 0
    assert str(folder) not in json.dumps(found["model"])
    assert found["model"]["n_classes"] in (10, None)
    without = ("--corruptions", "none", "--attacks", "none")
    attack = (*without[:3], "fgsm")
    explained = iaside("explain", spec, *few, *attack, "--json", "-")
    entry = folder / "entry.json"
    evaluated = iaside("evaluate", spec, *few, *attack, "--out", entry)
    if row.gradients:
        assert (explained.code, evaluated.code) == (0, 0), explained.err + evaluated.err
        assert "fgsm" in explained.out
        assert json.loads(entry.read_text())["adversarial"]
        return
    for run in (explained, evaluated):
        assert run.code == 2
        assert GRADIENT in run.err.splitlines()[-1]
    plain = iaside("evaluate", spec, *few, *without, "--out", entry)
    assert plain.code == 0, plain.err
    assert json.loads(entry.read_text())["model"]["weights_sha256"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered:UserWarning")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.make.__name__)
def test_a_source_goes_through_the_commands(
    row: Row, iaside: object, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ready_nets", raising=False)
    monkeypatch.setattr(installed, "PACKAGED", dict(installed.PACKAGED))
    run_row(row, iaside, images, tmp_path)


def test_a_model_of_the_kit_goes_through_the_commands(
    kit: Path, iaside: object, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IASIDE_KIT", str(kit))
    run_row(Row(lambda _: ("kit:c10_resnet20",)), iaside, images, tmp_path)


def test_every_source_has_a_row() -> None:
    load = importlib.import_module("iaside_plugins.adapters.models.load")
    rows = {"timm", "torchvision", "robustbench", "python", "pip", "hf", "onnx", "torchscript"}
    assert set(load.SOURCES) == rows | {"export", "kit"}
