"""Repositories of a hub on the loopback address become networks; the cache works without it."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest
import torch
from hub_folders import TIMM, timm_folder, vit_folder
from torch import nn

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.compat import import_timm
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models import hub_files
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.errors import InputError

pytest.importorskip("huggingface_hub")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def saved(tmp_path: Path, thing: Any) -> bytes:
    torch.save(thing, tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty hub, whose files come into an empty cache."""
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with fake_hub.hub({}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
        importlib.import_module("huggingface_hub").close_session()


@pytest.fixture(scope="module")
def timm_net() -> nn.Module:
    torch.manual_seed(3)
    return import_timm().create_model(TIMM, num_classes=5).eval()


def test_a_timm_repository_is_loaded_and_its_cache_used_without_the_hub(
    hub: Any, timm_net: nn.Module, tmp_path: Path, caplog: Any, capsys: Any
) -> None:
    hub.repositories["me/tiny"] = files_of(timm_folder(tmp_path / "files", timm_net))
    model = load_model("hf:me/tiny")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    with torch.no_grad():
        assert torch.equal(model(IMAGES), timm_net((IMAGES - mean) / std))
    info = model.info
    assert info.preprocessing == Preprocessing(80, 64, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (info.name, info.source, info.architecture) == ("me/tiny", "hf", TIMM)
    assert (info.n_classes, info.dataset, info.licence) == (5, None, "mit")
    assert info.weights == f"hf:me/tiny@{fake_hub.COMMIT[:12]}"
    assert capsys.readouterr() == ("", "")
    hub.shutdown()
    hub.server_close()  # and now without it
    again = load_model("hf:me/tiny")
    assert again.info.weights_sha256 == info.weights_sha256
    with pytest.raises(InputError, match=r"hf:me/other could not be had \(cannot reach 127.0.0.1"):
        load_model("hf:me/other")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_pickled_file_of_a_timm_repository_is_read_without_running_it(
    hub: Any, timm_net: nn.Module, tmp_path: Path
) -> None:
    files = files_of(timm_folder(tmp_path / "files", timm_net))
    del files["model.safetensors"]
    hub.repositories["me/tiny"] = files
    files["pytorch_model.bin"] = saved(tmp_path, timm_net.state_dict())
    assert load_model("hf:me/tiny@v1").info.n_classes == 5
    hub.repositories["me/whole"] = {**files, "pytorch_model.bin": saved(tmp_path, timm_net)}
    with pytest.raises(InputError, match="refused: it holds Python objects"):
        load_model("hf:me/whole")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"architecture": "no_net"}, "timm [0-9.]+ has no 'no_net'; a newer timm may have it"),
        ({"model_args": {"checkpoint_path": "/etc/x"}}, "gives checkpoint_path, which a repos"),
        ({"model_args": {"pretrained_strict": False}}, "gives pretrained_strict"),
        ({"model_args": {"wings": 2}}, r"timm cannot load .*TypeError.*wings"),
        ({"num_classes": 6}, "timm cannot load mobilenetv3_small_050 with these weights"),
        ({"model_args": [1]}, "model_args of its config.json is no mapping"),
        ({"pretrained_cfg": "x"}, "pretrained_cfg of its config.json is no mapping"),
        ({"num_classes": 0}, "has no classification head|timm cannot load"),
    ],
)
def test_a_timm_configuration_that_cannot_be_used_is_one_line(
    tmp_path: Path, timm_net: nn.Module, config: dict[str, Any], text: str
) -> None:
    timm_folder(tmp_path, timm_net, **config)
    with pytest.raises(InputError, match=text) as caught:
        load_model(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `save_pretrained`: a tiny vision transformer of 5 classes, and its processor."""
    pytest.importorskip("transformers")
    return vit_folder(tmp_path_factory.mktemp("vit"))


def test_a_transformers_repository_is_loaded_with_its_processor(
    hub: Any, vit: Path, caplog: Any, capsys: Any
) -> None:
    hub.repositories["me/vit"] = files_of(vit)
    model = load_model("hf:me/vit")
    library = importlib.import_module("transformers")
    net = library.AutoModelForImageClassification.from_pretrained(str(vit))
    capsys.readouterr()  # its own bars
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.3, 0.4, 0.5]))
    with torch.no_grad():
        assert torch.equal(model(IMAGES), net(pixel_values=(IMAGES - mean) / std).logits)
    assert model.info.preprocessing == Preprocessing(
        40, 32, "bicubic", (0.5, 0.4, 0.3), (0.3, 0.4, 0.5)
    )
    assert (model.info.n_classes, model.info.architecture) == (5, "ViTForImageClassification")
    assert load_model(f"hf:{vit}").info.weights_sha256 == model.info.weights_sha256
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert all("code" not in one.lower() for one in hub.asked)


def test_a_model_of_transformers_goes_into_a_notebooks_call(vit: Path, caplog: Any) -> None:
    library = importlib.import_module("transformers")
    net = library.AutoModelForImageClassification.from_pretrained(str(vit)).eval()
    data, protocol = (IMAGES, torch.tensor([0, 3])), Protocol(n_bands=2)
    found = spectral_importance(net, data, protocol)
    assert "returns an ImageClassifierOutput with the keys 'logits'" in caplog.text
    plain = spectral_importance(lambda x: net(pixel_values=x).logits, data, protocol)
    assert (found.values == plain.values).all()


def changed(folder: Path, source: Path, config: dict[str, Any]) -> Path:
    """A copy of a folder with other settings in its config.json."""
    for name, data in files_of(source).items():
        (folder / name).write_bytes(data)
    found = {**json.loads((source / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"architectures": ["ViTModel"]}, r"is no image classifier \(architectures: ViTModel\)"),
        ({"architectures": None}, r"is no image classifier \(architectures: none\)"),
        ({"model_type": "nothing"}, "transformers [0-9.]+ cannot load it"),
        ({"attn_implementation": "them/kernel"}, "asks for code of another repository"),
        ({"num_hidden_layers": 2}, r"16 tensors of the network are not in its weights"),
    ],
)
def test_a_transformers_configuration_that_cannot_be_used_is_one_line(
    tmp_path: Path, vit: Path, config: dict[str, Any], text: str
) -> None:
    with pytest.raises(InputError, match=text) as caught:
        load_model(f"hf:{changed(tmp_path, vit, config)}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "index", [[1], {}, {"weight_map": [1]}, {"weight_map": {"a": "../../b.safetensors"}}]
)
def test_an_index_of_weights_names_files_alone(tmp_path: Path, vit: Path, index: Any) -> None:
    changed(tmp_path, vit, {})
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index.json does not list the files of weights"):
        load_model(f"hf:{tmp_path}")


def test_a_repository_without_a_processor_says_how_images_are_taken(
    tmp_path: Path, vit: Path, caplog: Any
) -> None:
    folder = changed(tmp_path, vit, {})
    (folder / "preprocessor_config.json").unlink()
    assert load_model(f"hf:{folder}").info.preprocessing == Preprocessing(32, 32)
    assert "does not say how its images are prepared" in caplog.text
    caplog.clear()
    load_model(f"hf:{folder}", mean=[0.5], std=[0.5])
    assert not caplog.text


def test_weights_of_a_repository_go_into_a_named_architecture(
    hub: Any, tmp_path: Path, timm_net: nn.Module, caplog: Any
) -> None:
    state = timm_net.state_dict()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normaliser = {"new_mean": mean.view(3, 1, 1), "new_std": std.view(3, 1, 1)}
    names = {
        **{f"module.model.{name}": one for name, one in state.items()},
        **{f"module.normalizer.{name}": one for name, one in normaliser.items()},
        **{f"module.attacker.model.{name}": one for name, one in state.items()},
        **{f"module.attacker.normalize.{name}": one for name, one in normaliser.items()},
    }
    file = "sub/net_l2_eps3.ckpt"
    hub.repositories["lab/robust"] = {file: saved(tmp_path, {"model": names, "epoch": 3})}
    model = load_model(f"timm:{TIMM}", weights=f"hf:lab/robust/{file}")
    with torch.no_grad():
        normalised = (IMAGES - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        assert torch.equal(model(IMAGES), timm_net(normalised))
    assert model.info.weights == f"hf:lab/robust@{fake_hub.COMMIT[:12]}/{file}"
    assert "its own mean" not in caplog.text
    names["module.normalizer.new_mean"] = mean.view(3, 1, 1) + 0.1
    torch.save({"model": names}, tmp_path / "w.ckpt")
    model = load_model(f"timm:{TIMM}", weights=tmp_path / "w.ckpt")
    assert model.info.preprocessing.mean == (0.585, 0.556, 0.506)
    assert "w.ckpt: its own mean (0.585, 0.556, 0.506) and std" in caplog.text
    own = load_model(f"timm:{TIMM}", weights=tmp_path / "w.ckpt", mean=[0.5] * 3)
    assert own.info.preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("hf:me/files", r"has no config.json.*such as timm:resnet18, .*weights=hf:me/files/F"),
        ("hf:me/files/w.pth", "holds weights and not the network.*weights=hf:me/files/w.pth"),
        ("hf:me/files/net.pt2", "is a program.*export:hf:me/files/net.pt2"),
        ("hf:me/absent", r"no such repository, or a private one.*hf download me/absent"),
        ("hf:me/files@v9", "it has no revision 'v9'"),
        ("hf:me/files@v9/w.pth", "holds weights"),
        ("onnx:hf:me/files/no.onnx", "me/files at Hugging Face has no file no.onnx"),
        ("hf:me/files/no.onnx", "me/files at Hugging Face has no file no.onnx"),
        ("hf:me", r"expected hf:OWNER/NAME\[@REVISION\]\[/FILE\] or hf:FOLDER, got hf:me"),
    ],
)
def test_a_reference_that_names_no_network_says_what_to_give(
    hub: Any, spec: str, text: str
) -> None:
    hub.repositories["me/files"] = {"w.pth": b"x", "README.md": b"y"}
    with pytest.raises(InputError, match=text) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"(brings|holds) its own weights"):
        load_model(spec, weights="w.pth")


def test_the_commit_is_that_of_the_cache_wherever_it_lies() -> None:
    name = Path("/data/snapshots/hub/models--timm--x/snapshots/abc123/snapshots/model.safetensors")
    assert hub_files._commit(name) == "abc123"
    assert hub_files._commit(Path("/data/snapshots/x/model.safetensors")) is None
