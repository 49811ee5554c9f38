"""ONNX files: as PyTorch with gradients where they convert, by onnxruntime otherwise."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from iaside_plugins.adapters.compat import import_torchvision
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models import onnx_files
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.weights import file_sha256
from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.storage.provenance import model_digest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
import_torchvision()  # onnx2torch and the exporter import it
IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Tiny(nn.Module):
    """A small network: of images with their channels last, or with values of 8 bits inside."""

    def __init__(self, last: bool = False, quantised: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)
        self.last, self.quantised = last, quantised

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 3, 1, 2) if self.last else x
        x = self.norm(self.conv(x)).relu()
        if self.quantised:
            x = torch.fake_quantize_per_tensor_affine(x, 0.01, 0, 0, 255)
        return self.head(x.mean(dim=(2, 3)))


def exported(file: Path, net: nn.Module, images: torch.Tensor, free: dict[int, str]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter of TorchScript needs no further package
        torch.onnx.export(
            net.eval(),
            (images,),
            str(file),
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": free} if free else None,
        )
    return file


def test_a_file_that_converts_has_gradients(tmp_path: Path, caplog: Any) -> None:
    pytest.importorskip("onnx2torch")
    caplog.set_level(logging.INFO)
    net = Tiny()
    file = exported(tmp_path / "tiny.onnx", net, IMAGES[:2], {0: "n"})
    model = load_model(f"onnx:{file}")
    x = IMAGES.clone().requires_grad_()
    logits = model(x)
    torch.testing.assert_close(logits, net(IMAGES), rtol=1e-4, atol=1e-6)
    logits.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    info = model.info
    assert (info.name, info.source, info.n_classes) == ("tiny", "onnx", 5)
    assert info.preprocessing == Preprocessing(16, 16)
    assert (info.weights, info.weights_sha256) == ("tiny.onnx", file_sha256(file))
    assert info.n_parameters == 3 * 4 * 9 + 4 + 4 * 5 + 5  # the norm is folded by the exporter
    assert "is converted to PyTorch by onnx2torch, with gradients" in caplog.text
    assert "does not say how its images are prepared" in caplog.text
    caplog.clear()
    own = load_model(f"onnx:{file}", mean=[0.5], std=[0.25])
    torch.testing.assert_close(own(IMAGES), net((IMAGES - 0.5) / 0.25), rtol=1e-4, atol=1e-6)
    assert "does not say" not in caplog.text


class Modern(nn.Module):
    """What exporters write since 2022: a mean with its axes as an input, GELU, equal constants."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        for conv in self.convs:
            nn.init.zeros_(conv.bias)  # equal: the exporter keeps one, and names it twice
        self.head = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = nn.functional.gelu(conv(x))
        return self.head(x.mean(dim=(2, 3)) + x.amax(dim=(2, 3)))


def test_operators_of_today_are_converted(tmp_path: Path, caplog: Any) -> None:
    pytest.importorskip("onnx2torch")
    net = Modern()
    file = exported(tmp_path / "modern.onnx", net, IMAGES[:2], {0: "n"})
    nodes = onnx.load(str(file)).graph.node
    assert {"Gelu", "ReduceMean", "ReduceMax", "Identity"} <= {node.op_type for node in nodes}
    model = load_model(f"onnx:{file}")
    assert model.info.architecture == "onnx2torch", caplog.text
    x = IMAGES.clone().requires_grad_()
    torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-6)
    gradients = [torch.autograd.grad(one(x).square().sum(), x)[0] for one in (model, net)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("why", ["absent", "unknown operator", "other logits"])
def test_a_file_that_does_not_convert_runs_forward_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, why: str
) -> None:
    library: Any = pytest.importorskip("onnx2torch")
    convert = library.convert
    said = {
        "absent": "onnx2torch is not installed: pip install onnx2torch",
        "unknown operator": "onnx2torch cannot convert it: NotImplementedError",
        "other logits": "onnx2torch gives other logits, by 1 of the greatest",
    }
    if why == "absent":
        monkeypatch.setitem(sys.modules, "onnx2torch", None)
    if why == "other logits":
        monkeypatch.setattr(library, "convert", lambda file: Doubled(convert(file)))
    net = Tiny(quantised=why == "unknown operator")
    file = exported(tmp_path / "hard.onnx", net, IMAGES[:2], {0: "n"})
    model = load_model(f"onnx:{file}")
    assert "hard.onnx runs by onnxruntime on the CPU, forward only" in caplog.text
    assert said[why] in caplog.text
    logits = model(IMAGES.clone().requires_grad_())
    torch.testing.assert_close(logits, net(IMAGES).detach(), rtol=1e-4, atol=1e-6)
    assert not logits.requires_grad
    assert model.info.n_parameters >= 100
    assert model_digest(model) == model_digest(load_model(f"onnx:{file}"))
    for other in (copy.deepcopy(model.net), pickle.loads(pickle.dumps(model.net))):
        assert torch.equal(other(IMAGES), logits)
    assert model.double()(IMAGES.double()).dtype == torch.float64


class Doubled(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.net(x)


def test_another_file_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    first = exported(tmp_path / "a.onnx", Tiny(), IMAGES[:2], {0: "n"})
    net = Tiny()
    nn.init.ones_(net.head.bias)
    second = exported(tmp_path / "b.onnx", net, IMAGES[:2], {0: "n"})
    one, other = (load_model(f"onnx:{file}") for file in (first, second))
    assert model_digest(one) != model_digest(other)


@pytest.mark.parametrize("converts", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_is_looped_and_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, converts: bool
) -> None:
    pytest.importorskip("onnx2torch")
    if not converts:
        monkeypatch.setitem(sys.modules, "onnx2torch", None)
    net = Tiny()
    model = load_model(f"onnx:{exported(tmp_path / 'b.onnx', net, IMAGES[:batch], {})}")
    assert model(IMAGES).requires_grad is converts
    for n in (1, 2, 5):
        torch.testing.assert_close(model(IMAGES[:n]), net(IMAGES[:n]), rtol=1e-4, atol=1e-6)


def test_channels_that_come_last_are_transposed_with_a_word(tmp_path: Path, caplog: Any) -> None:
    net = Tiny(last=True)
    images = IMAGES.permute(0, 2, 3, 1)
    file = exported(tmp_path / "last.onnx", net, images[:2].contiguous(), {0: "n"})
    model = load_model(f"onnx:{file}")
    torch.testing.assert_close(model(IMAGES), net(images), rtol=1e-4, atol=1e-6)
    assert "last.onnx takes its channels last; images are transposed for it" in caplog.text
    assert model.info.preprocessing.crop == 16


def graph(file: Path, kind: int, shape: list[Any], n_inputs: int = 1) -> Path:
    """A file of one operation, for inputs of a type and shape."""
    helper = onnx.helper
    inputs = [helper.make_tensor_value_info(f"x{i}", kind, shape) for i in range(n_inputs)]
    output = helper.make_tensor_value_info("y", kind, None)
    nodes = [
        helper.make_node("Flatten" if n_inputs == 1 else "Add", [i.name for i in inputs], ["y"])
    ]
    made = helper.make_graph(nodes, "g", inputs, [output])
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), str(file))
    return file


@pytest.mark.parametrize(
    ("kind", "shape", "n_inputs", "text"),
    [
        (1, ["n", 7], 1, r"must take one batch of floating-point images .*x0: tensor\(float\)"),
        (2, ["n", 3, 8, 8], 1, r"it takes x0: tensor\(uint8\)"),
        (1, ["n", 3, 8, 8], 2, r"it takes x0: .*, x1: "),
        (1, ["n", 3, 8, 12], 1, "takes images of 8 x 12 only, and images are cropped to squares"),
    ],
)
def test_a_graph_that_takes_no_images_is_one_line(
    tmp_path: Path, kind: int, shape: list[Any], n_inputs: int, text: str
) -> None:
    file = graph(tmp_path / "odd.onnx", kind, shape, n_inputs)
    with pytest.raises(InputError, match=text) as caught:
        load_model(f"onnx:{file}")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_and_a_missing_library_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07nothing")
    with pytest.raises(InputError, match=r"bad\.onnx cannot be opened by onnxruntime"):
        load_model(f"onnx:{tmp_path / 'bad.onnx'}")
    monkeypatch.setattr(onnx_files, "_library", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install onnxruntime"):
        load_model(f"onnx:{tmp_path / 'bad.onnx'}")


def test_weights_in_a_file_beside_count_in_the_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "_converted", lambda *_: (None, "by onnxruntime alone"))
    found = []
    for k in range(2):
        net = Tiny()
        nn.init.constant_(net.head.bias, k)
        folder = tmp_path / str(k)
        folder.mkdir()
        held = onnx.load(str(exported(folder / "whole.onnx", net, IMAGES[:2], {0: "n"})))
        onnx.save_model(
            held,
            str(folder / "net.onnx"),
            save_as_external_data=True,
            location="weights of the net " * 9,  # a length of two bytes
            size_threshold=0,
        )
        model = load_model(f"onnx:{folder / 'net.onnx'}")
        found.append((model.info.weights_sha256, model_digest(model)))
    assert (tmp_path / "0/net.onnx").read_bytes() == (tmp_path / "1/net.onnx").read_bytes()
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_channels_that_come_last_with_free_sides(tmp_path: Path) -> None:
    net = Tiny(last=True)
    images = IMAGES.permute(0, 2, 3, 1)
    file = exported(tmp_path / "last.onnx", net, images[:2].contiguous(), {0: "n", 1: "h", 2: "w"})
    torch.testing.assert_close(
        load_model(f"onnx:{file}")(IMAGES), net(images), rtol=1e-4, atol=1e-5
    )
