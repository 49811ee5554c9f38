"""Passes by onnxruntime: the plain model's numbers, or none."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.inference import tuning
from iaside_plugins.inference.onnx_session import OnnxSession
from iaside_plugins.storage.row_store import read_header

FAST = Protocol(3, forwards="fast")
DATA = oracles.sample(3, n_classes=4)


def net() -> nn.Module:
    """A small network with a batch norm."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(32, 4)).eval()


@pytest.fixture
def installed(monkeypatch):
    """onnxruntime, which is quicker than all else."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(
        tuning, "_seconds", lambda some, _: [1.0 / (k + 1) for k in range(len(some))]
    )


@pytest.mark.usefixtures("installed")
def test_passes_give_the_plain_values_and_a_resumed_run_repeats_them(tmp_path):
    plain = spectral_importance(net(), DATA, Protocol(3))
    found = spectral_importance(net(), DATA, FAST, resume=tmp_path)
    assert found.forwards == ("onnxruntime",)
    np.testing.assert_allclose(found.values, plain.values, rtol=0, atol=1e-5)
    steps = read_header(tmp_path)[1]["steps"]
    assert [step["name"] for step in steps if step["used"]] == ["onnxruntime"]
    for chunk in tmp_path.glob("rows-*"):
        chunk.unlink()
    again = spectral_importance(net(), DATA, FAST, resume=tmp_path)
    np.testing.assert_array_equal(again.values, found.values)
    assert again.n_forward == found.n_forward > 0


@pytest.mark.usefixtures("installed")
def test_any_number_of_images():
    model, images = net(), torch.rand(7, 3, 20, 20)
    session = OnnxSession(model, images[:3])
    for n in (1, 2, 7):
        torch.testing.assert_close(session(images[:n]), model(images[:n]).detach())


class Bright(nn.Module):
    """Bright and dark batches take different ways, of which a trace has one."""

    def forward(self, images: Tensor) -> Tensor:
        sums = images.mean(dim=(2, 3))
        return sums * 3 if len(images) > 1 else -sums


@pytest.mark.usefixtures("installed")
def test_a_trace_that_does_not_hold_is_not_used():
    with pytest.raises(InputError, match="gives other logits"):
        OnnxSession(Bright(), torch.rand(4, 3, 8, 8))


class Decides(nn.Module):
    """A bright batch goes another way than those of the probe."""

    def forward(self, images: Tensor) -> Tensor:
        sums = images.mean(dim=(2, 3))
        return sums * 3 if images.amax() > 0.99 else -sums


@pytest.mark.usefixtures("installed")
def test_a_model_that_decides_by_what_it_computes_is_not_traced():
    with pytest.raises(InputError, match="takes numbers out of tensors"):
        OnnxSession(Decides(), torch.rand(4, 3, 8, 8) / 2)


class InPlace(nn.Module):
    """Writes into its input."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sub_(0.5).mean(dim=(2, 3))


@pytest.mark.usefixtures("installed")
def test_the_images_stay_as_they_are():
    images = torch.rand(4, 3, 8, 8)
    before = images.clone()
    session = OnnxSession(InPlace(), images)
    assert torch.equal(images, before)
    torch.testing.assert_close(session(images), InPlace()(before.clone()))


@pytest.mark.usefixtures("installed")
def test_double_precision_is_left_alone():
    data = DATA[0].double(), DATA[1]
    found = spectral_importance(net().double(), data, FAST, precision="float64")
    assert "onnxruntime" not in found.forwards


@pytest.mark.usefixtures("without_onnxruntime")
def test_without_the_library_the_reason_is_kept(tmp_path):
    spectral_importance(net(), DATA, FAST, resume=tmp_path)
    step = read_header(tmp_path)[1]["steps"][-1]
    assert (step["name"], step["used"]) == ("onnxruntime", False)
    assert "not installed" in step["reason"]


class Deciding(nn.Module):
    """A way that is taken by what the images hold."""

    def forward(self, images: Tensor) -> Tensor:
        sums = images.mean(dim=(2, 3))
        return sums * 3 if float(sums.max()) > -1 else -sums


@pytest.mark.usefixtures("installed")
def test_a_model_that_decides_by_its_numbers_is_left_alone():
    with pytest.raises(InputError, match="takes numbers out of tensors"):
        OnnxSession(Deciding(), torch.rand(4, 3, 8, 8))
