"""timm and torchvision: own weights give the net's own numbers; downloads fail quickly and once."""

from __future__ import annotations

import importlib
import logging
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from iaside_plugins.adapters.compat import import_timm, import_torchvision
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models import downloads, hubs
from iaside_plugins.adapters.models.load import load_model, state_digest
from iaside_plugins.errors import InputError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach a server fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("a download was attempted")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def seeded(net: nn.Module) -> nn.Module:
    """The network with every float of its state drawn anew, so that no default can match it."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + noise if "running_var" in name else 0.1 * (noise - 0.5))
    return net.eval()


def normalised(x: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(IMAGENET[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (x - mean) / std


def host_net(spec: str) -> nn.Module:
    """The host's own network, seeded."""
    host, _, name = spec.partition(":")
    if host == "timm":
        return seeded(import_timm().create_model(name))
    return seeded(import_torchvision().models.get_model(name, weights=None))


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("spec", ["timm:mobilenetv3_small_050", "torchvision:squeezenet1_1"])
def test_weights_of_another_number_of_classes_decide_it(
    tmp_path: Path, spec: str, prefix: str
) -> None:
    host, _, name = spec.partition(":")
    make = import_timm().create_model if host == "timm" else import_torchvision().models.get_model
    net = seeded(make(name, num_classes=7))
    state = {prefix + name: value for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    model = load_model(spec, weights=tmp_path / "w.pth")
    with torch.no_grad():
        assert torch.equal(model(IMAGES), net(normalised(IMAGES)))
    assert (model.info.n_classes, model.info.dataset) == (7, None)
    state = {
        name: value.repeat(2, *[1] * (value.ndim - 1)) if value.ndim else value
        for name, value in state.items()
    }
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"does not fit .* other shape"):
        load_model(spec, weights=tmp_path / "w.pth")


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # floor(224 / 0.875) = 256, timm's own rule; its default interpolation is bicubic
        ("timm:mobilenetv3_small_050", Preprocessing(256, 224, "bicubic", **IMAGENET)),
        ("torchvision:squeezenet1_1", Preprocessing(256, 224, "bilinear", **IMAGENET)),
    ],
)
def test_own_weights_give_the_nets_logits(
    tmp_path: Path, spec: str, expected: Preprocessing
) -> None:
    net = host_net(spec)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = load_model(spec, weights=tmp_path / "w.pth")
    with torch.no_grad():
        logits, reference = model(IMAGES), net(normalised(IMAGES))
    assert torch.equal(logits, reference)  # exact: the same operations in the same order
    assert reference.std() > 0
    info = model.info
    assert info.preprocessing == expected
    assert (info.n_classes, info.dataset, info.weights) == (1000, "imagenet", "w.pth")


@pytest.mark.usefixtures("no_download")
def test_published_densenet_files_with_their_old_names_load(tmp_path: Path) -> None:
    net = host_net("torchvision:densenet121")
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in net.state_dict().items()
    }
    assert set(old) != set(net.state_dict())
    torch.save(old, tmp_path / "w.pth")
    model = load_model("torchvision:densenet121", weights=tmp_path / "w.pth")
    assert state_digest(model.net) == state_digest(net)


@pytest.mark.usefixtures("no_download")
def test_googlenet_is_built_as_for_its_published_weights(tmp_path: Path) -> None:
    builder = import_torchvision().models.get_model
    net = builder("googlenet", weights=None, init_weights=False)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = load_model("torchvision:googlenet", weights=tmp_path / "w.pth")
    assert model.net.transform_input  # torchvision sets it with any of its own weights


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("timm:mobilnetv3_smal_050", "'mobilnetv3_smal_050'.*mobilenetv3_small_050"),
        ("timm:mobilenetv3_small_050.x", "mobilenetv3_small_050 name 'x'; known: lamb_in1k"),
        ("torchvision:resnet51", "'resnet51'.*resnet50"),
        ("torchvision:resnet50@V9", "'V9'; known: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:fasterrcnn_resnet50_fpn", "unknown torchvision name"),
    ],
)
@pytest.mark.usefixtures("no_download")
def test_an_unknown_name_gets_close_ones(spec: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_model(spec)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


PUBLISHED = ["timm:mobilenetv3_small_050", "torchvision:squeezenet1_1@IMAGENET1K_V1"]


@pytest.mark.parametrize("spec", PUBLISHED)
def test_without_a_network_one_error_says_what_to_do(
    spec: str,
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no route\nto host")

    import_timm()
    monkeypatch.setattr(socket, "create_connection", fail)
    monkeypatch.setattr(downloads, "getproxies", dict)
    monkeypatch.setenv("HF_HUB_CACHE", str(empty_cache))
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        load_model(spec)
    assert time.monotonic() - started < 15  # a tenth of a second alone; one retry waits for more
    message = str(caught.value)
    assert message.startswith(f"the pretrained weights of {spec} could not be had (cannot reach ")
    assert "no route to host" in message
    assert "weights=FILE" in message
    assert capsys.readouterr() == ("", "")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("spec", PUBLISHED)
def test_a_failing_download_is_the_same_error(
    spec: str,
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionResetError("reset by peer")

    import_timm()
    monkeypatch.setattr(hubs, "unreachable", lambda url: None)
    monkeypatch.setattr(importlib.import_module("timm.models._hub"), "hf_hub_download", fail)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(InputError, match=r"could not be had \(ConnectionResetError: reset by peer"):
        load_model(spec)
    assert capsys.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None
    assert importlib.import_module("timm.models._hub").hf_hub_download is fail


def test_timm_without_its_download_library_is_the_same_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_timm()
    monkeypatch.setattr(importlib.import_module("timm.models._hub"), "hf_hub_download", None)
    with pytest.raises(InputError, match=r"huggingface_hub cannot be imported.*weights=FILE"):
        load_model(PUBLISHED[0])


def test_timm_downloads_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PUBLISHED[0]
    net = host_net(spec)
    file = tmp_path / "model.safetensors"
    importlib.import_module("safetensors.torch").save_file(net.state_dict(), file)
    hub = importlib.import_module("timm.models._hub")
    monkeypatch.setattr(hubs, "unreachable", lambda url: None)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **kwargs: str(file))
    model = load_model(spec)
    assert model.info.weights == "timm lamb_in1k"
    assert model.info.weights_sha256 == state_digest(model.net) == state_digest(net)


@pytest.mark.usefixtures("no_download")
def test_torchvision_uses_its_cache(empty_cache: Path) -> None:
    spec = PUBLISHED[1]
    net = host_net(spec.partition("@")[0])
    published = import_torchvision().models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    file = empty_cache / "checkpoints" / Path(published.url).name
    file.parent.mkdir()
    torch.save(net.state_dict(), file)
    model = load_model(spec)
    assert model.info.weights == "torchvision IMAGENET1K_V1"
    assert state_digest(model.net) == state_digest(net)


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PATIENCE", 0.1)
    monkeypatch.setattr(downloads, "getproxies", dict)
    over = threading.Event()

    def hang(*args: object, **kwargs: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    reason = downloads.unreachable("https://example.org/x")
    over.set()
    assert reason == "cannot reach example.org: no answer in 0 s"


def test_a_proxy_leaves_the_decision_to_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "getproxies", lambda: {"https": "http://proxy:1"})
    assert downloads.unreachable("https://example.org/x") is None
