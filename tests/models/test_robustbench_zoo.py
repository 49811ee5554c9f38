"""Models of RobustBench's zoo: through its own loader, offline, errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from robustbench_host import utils
from robustbench_layout import Pooled
from torch import nn

from iaside_plugins.adapters.compat import import_robustbench
from iaside_plugins.adapters.models import robustbench_zoo
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.robustbench_preprocessing import KEYS, resolve
from iaside_plugins.adapters.models.robustbench_zoo import Threat, zoo
from iaside_plugins.errors import InputError

NAME = "Tiny2026Test"


class Tiny(nn.Module):
    """Takes images in [0, 1] and normalises inside, as the zoo's networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu", torch.full((1, 3, 1, 1), 0.5))
        self.body = Pooled(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x - self.mu)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tiny model in the zoo, and no network."""
    import_robustbench()
    from robustbench_host import enums

    models = utils.all_models[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf]
    monkeypatch.setitem(models, NAME, {"model": Tiny, "gdrive_id": "1"})

    def unreachable(*_: Any) -> None:
        raise OSError("the network is unreachable")

    monkeypatch.setattr(utils, "download_gdrive_new", unreachable)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained() -> Tiny:
    net = Tiny().eval()
    nn.init.normal_(net.body.head.weight, generator=torch.Generator().manual_seed(1))
    return net


def saved(net: nn.Module, folder: Path) -> Path:
    file = folder / "cifar10" / "Linf" / f"{NAME}.pt"
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, file)
    return file


@pytest.mark.parametrize("model_dir", [None, "elsewhere"])
def test_a_checkpoint_where_robustbench_keeps_it(trained: Tiny, model_dir: str | None) -> None:
    file = saved(trained, Path(model_dir or "models"))
    model = load_model(f"robustbench:cifar10/Linf/{NAME}", model_dir=model_dir)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(x), trained(x))
    assert torch.equal(model(x), utils.load_model(NAME, file.parents[2])(x))
    assert not model.training
    assert (model.info.name, model.info.source) == (NAME, "robustbench")
    assert model.info.dataset == "cifar10"
    assert not model.info.preprocessing.normalises


def test_weights_of_ones_own(trained: Tiny, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "own.pth")
    model = load_model(f"robustbench:cifar10/Linf/{NAME}", weights=tmp_path / "own.pth")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(x), trained(x))
    assert model.info.weights == "own.pth"


def test_no_download_no_random_weights() -> None:
    with pytest.raises(InputError, match=rf"no weights.*unreachable; put .*Linf/{NAME}\.pt"):
        load_model(f"robustbench:cifar10/Linf/{NAME}")


def test_an_error_page_is_not_kept_as_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """RobustBench keeps what it was sent, and fails on it for ever after."""

    def page(_: str, file: Path) -> None:
        Path(file).write_text("<html>quota exceeded</html>")

    monkeypatch.setattr(utils, "download_gdrive_new", page)
    with pytest.raises(InputError, match="no weights"):
        load_model(f"robustbench:cifar10/Linf/{NAME}")
    assert not list(Path().rglob("*.pt"))


def test_a_file_of_the_users_is_never_deleted(trained: Tiny) -> None:
    file = saved(trained, Path("models"))
    for text, said in (("<html>", "is a web page"), ("x", "in the model folder may be damaged")):
        file.write_text(text)
        with pytest.raises(InputError, match=rf"{NAME}\.pt {said}"):
            load_model(f"robustbench:cifar10/Linf/{NAME}")
        assert file.exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("robustbench:Tiny2026Test", "expected robustbench:DATASET/THREAT/NAME"),
        ("robustbench:mnist/Linf/x", "expected robustbench:DATASET/THREAT/NAME"),
        (f"robustbench:cifar10/Linf/{NAME}ing", f"close names: {NAME}"),
        ("robustbench:imagenet/L2/x", "no models of imagenet for L2"),
        ("robustbench:imagenet/Linf/Salman2020Do_R19", "Salman2020Do_R18"),
    ],
)
def test_what_is_not_in_the_zoo(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(spec)


def test_3d_is_the_zoo_of_2d() -> None:
    """RobustBench's own listing fails for it (D13)."""
    spec = "robustbench:imagenet/corruptions_3d/Hendrycks2020Manyy"
    with pytest.raises(InputError, match=r"imagenet/corruptions name .*Hendrycks2020Many"):
        load_model(spec)
    assert "AlexNet" in zoo("imagenet", "corruptions")
    assert robustbench_zoo.timm_name("imagenet", "corruptions", "AlexNet") is not None
    with pytest.raises(KeyError):
        utils.list_available_models("imagenet", "corruptions_3d")


def test_a_model_of_another_threat_model_brings_its_own_preprocessing(trained: Tiny) -> None:
    """RobustBench looks it up under the threat model evaluated, and fails with a KeyError."""
    saved(trained, Path("models"))
    model = load_model(f"robustbench:cifar10/Linf/{NAME}")
    for threat_model in ("Linf", "corruptions"):
        geometry = resolve(Threat("cifar10", threat_model), model, None, None)
        assert geometry.same_pixels(KEYS[None])
