"""TorchScript and torch.export files run as what they are, and only under their own prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.weights import file_sha256
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import model_digest

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def tiny(slope: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(slope), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 5)).eval()


def scripted(file: Path, net: nn.Module) -> Path:
    torch.jit.save(torch.jit.script(net), file)
    return file


def exported(file: Path, net: nn.Module, n_images: int, **shapes: Any) -> Path:
    torch.export.save(torch.export.export(net, (IMAGES[:n_images],), **shapes), file)
    return file


def check_same(model: nn.Module, net: nn.Module) -> None:
    for n in (1, 2, 5):
        x = IMAGES[:n].clone().requires_grad_()
        torch.testing.assert_close(model(x), net(IMAGES[:n]))
        (gradient,) = torch.autograd.grad(model(x).sum(), x)
        assert gradient.abs().sum() > 0


def test_torchscript_runs_with_gradients(tmp_path: Path, caplog: Any) -> None:
    net = tiny()
    file = scripted(tmp_path / "net.pt", net)
    model = load_model(f"torchscript:{file}")
    check_same(model, net)
    info = model.info
    assert (info.name, info.architecture, info.weights) == ("net", "Sequential", "net.pt")
    assert info.weights_sha256 == file_sha256(file)
    assert info.preprocessing == Preprocessing()
    assert "net does not say how its images are prepared: they are taken as they are" in caplog.text


def test_another_program_with_the_same_weights_has_another_digest(tmp_path: Path) -> None:
    models = [
        load_model(f"torchscript:{scripted(tmp_path / f'{slope}.pt', tiny(slope))}")
        for slope in (0.1, 0.2)
    ]
    assert model_digest(models[0].net) == model_digest(models[1].net)  # it prints the same
    assert model_digest(models[0]) != model_digest(models[1])


@pytest.mark.parametrize("free", [True, False])
def test_an_exported_program_runs_with_gradients(tmp_path: Path, caplog: Any, free: bool) -> None:
    net = tiny()
    shapes = {"dynamic_shapes": ({0: torch.export.Dim.AUTO},)} if free else {}
    model = load_model(f"export:{exported(tmp_path / 'net.pt2', net, 2, **shapes)}")
    check_same(model, net)
    assert model.info.preprocessing == Preprocessing(16, 16)
    assert ("was exported for batches of 2 images" in caplog.text) is not free


def test_a_program_of_other_inputs_is_one_line(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(4, 2), (torch.rand(3, 4),))
    torch.export.save(program, tmp_path / "linear.pt2")
    with pytest.raises(InputError, match=r"must take one batch of images .* shapes \(3, 4\)"):
        load_model(f"export:{tmp_path / 'linear.pt2'}")


def test_files_under_a_wrong_prefix_say_the_right_one(tmp_path: Path) -> None:
    net = tiny()
    script, state = scripted(tmp_path / "net.pt", net), tmp_path / "w.pth"
    torch.save(net.state_dict(), state)
    with pytest.raises(InputError, match=r"no TorchScript archive.*weights=w\.pth"):
        load_model(f"torchscript:{state}")
    with pytest.raises(InputError, match=r"w\.pth cannot be read as torch\.export"):
        load_model(f"export:{state}")
    with pytest.raises(InputError, match=r"is a TorchScript archive.*the model torchscript:FILE"):
        load_model("torchvision:squeezenet1_1", weights=script)
    with pytest.raises(InputError, match="holds its own weights"):
        load_model(f"torchscript:{script}", weights=state)
    with pytest.raises(InputError, match="no file at"):
        load_model(f"export:{tmp_path / 'absent.pt2'}")


def test_damaged_archives_are_one_line(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "a.pt2").write_bytes(b"junk" * 9 + b"PK\x05\x06" + b"\xff" * 18)
    with pytest.raises(InputError, match=r"a\.pt2 is no TorchScript archive"):
        load_model(f"torchscript:{tmp_path / 'a.pt2'}")
    with pytest.raises(InputError, match=r"a\.pt2 cannot be read as torch.export"):
        load_model(f"export:{tmp_path / 'a.pt2'}")
    assert capfd.readouterr() == ("", "")
