"""Weight files of every usual form come back exactly; every other file is refused with a reason."""

from __future__ import annotations

import argparse
import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from iaside_plugins.adapters.models.weights import file_sha256, put_state, read_state
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import state_digest


def tiny(seed: int = 0) -> nn.Module:
    """A network whose every float is drawn anew by the seed."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def load(file: Path) -> nn.Module:
    """A network of other numbers, with the file put into it."""
    net = tiny(seed=1)
    put_state(net, read_state(file), file.name)
    return net


@pytest.mark.parametrize(
    "form",
    [
        "bare",
        "wrapped",
        "model",
        "trainer",
        "prefixed",
        "compiled prefixed",
        "wrapped prefixed",
        "safetensors",
        "half",
    ],
)
def test_weights_come_back_from_every_form_of_file(tmp_path: Path, form: str) -> None:
    net = tiny()
    state: Any = net.state_dict()
    if "prefixed" in form:
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if "compiled" in form:
        state = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    if "wrapped" in form:
        state = {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}
    if form == "model":
        state = {"model": state, "args": None}
    if form == "trainer":  # as timm's training script and others write it
        best = np.float64(71.5), np.float32(0.25), np.int64(3)
        state = {"state_dict": state, "args": argparse.Namespace(lr=0.1), "best": best}
    if form == "half":
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
        net = net.half().float()
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        importlib.import_module("safetensors.torch").save_file(state, file)
    else:
        torch.save(state, file)
    assert state_digest(load(file)) == state_digest(net)
    assert state_digest(tiny(seed=1)) != state_digest(net)


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    net = tiny()
    state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    assert len(state) == len(net.state_dict()) - 1
    torch.save(state, tmp_path / "w.pth")
    assert state_digest(load(tmp_path / "w.pth")) == state_digest(net)


def test_a_refused_file_changes_nothing(tmp_path: Path) -> None:
    net = tiny(seed=1)
    with pytest.raises(InputError, match="1 missing"):
        put_state(net, {k: v for k, v in tiny().state_dict().items() if k != "3.bias"}, "w.pth")
    assert state_digest(net) == state_digest(tiny(seed=1))


def test_a_file_that_does_not_fit_lists_what_differs(tmp_path: Path) -> None:
    state = tiny().state_dict()
    state["head.weight"] = state.pop("3.weight")
    state["0.weight"] = torch.zeros(4, 3, 5, 5)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "w.pth")
    assert str(caught.value).startswith(
        "w.pth does not fit Sequential: 1 missing from the file (3.weight); "
        "1 unexpected in the file (head.weight); 1 other shape (0.weight: the file has "
        "(4, 3, 5, 5), the model (4, 3, 3, 3)). "
    )


def test_only_the_first_ten_names_are_listed(tmp_path: Path) -> None:
    state = tiny().state_dict() | {f"extra{i:02d}": torch.zeros(1) for i in range(12)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"12 unexpected .*extra00.*extra09, \.\.\.\)") as caught:
        load(tmp_path / "w.pth")
    assert "extra10" not in str(caught.value)


def bad_file(kind: str, folder: Path) -> Path:
    file = folder / ("bad.safetensors" if kind == "garbled safetensors" else "bad.pth")
    if "garbled" in kind:
        file.write_bytes(b"no weights at all, just text that is long enough to be looked at")
    elif kind == "whole module":
        torch.save(tiny(), file)
    elif kind == "cut short":
        torch.save(tiny().state_dict(), file)
        file.write_bytes(file.read_bytes()[:-200])
    elif kind == "no tensors":
        torch.save({"epoch": 3}, file)
    elif kind == "a list":
        torch.save([torch.zeros(2)], file)
    elif kind == "mixed":
        torch.save(tiny().state_dict() | {"epoch": 3}, file)
    elif kind == "a program":
        torch.jit.script(nn.Identity()).save(str(file))
    return file


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit, in "a program" only
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("absent", "no weights file at .*bad.pth"),
        ("garbled", "bad.pth is not a readable PyTorch weights file"),
        ("garbled safetensors", "not a readable safetensors file"),
        ("cut short", "bad.pth is not a readable PyTorch weights file"),
        (
            "whole module",
            r"refused: it holds Python objects \(first: torch[\w.]*Sequential\).*state_dict",
        ),
        ("a program", "refused: it is a TorchScript archive.*state_dict"),
        ("no tensors", "holds no tensors by name .it holds a dict"),
        ("a list", "holds no tensors by name .it holds a list"),
        ("mixed", r"1 entries are no tensors \(epoch\)"),
    ],
)
def test_a_bad_weights_file_is_explained(tmp_path: Path, kind: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        read_state(bad_file(kind, tmp_path))


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000  # more than one block of reading
    (tmp_path / "w").write_bytes(data)
    assert file_sha256(tmp_path / "w") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("key", ["net", "model_state", "network", "state_dict_ema"])
def test_the_wrappers_of_usual_trainers_are_opened(tmp_path: Path, key: str) -> None:
    net = tiny()
    torch.save({key: net.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    assert state_digest(load(tmp_path / "w.pth")) == state_digest(net)


def test_a_trainer_s_name_for_the_network_is_left_out(tmp_path: Path) -> None:
    net = tiny()
    state = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4"}, tmp_path / "w.ckpt")
    assert state_digest(load(tmp_path / "w.ckpt")) == state_digest(net)


def test_averaged_weights_beside_the_raw_ones_are_said(tmp_path: Path, caplog: Any) -> None:
    net = tiny()
    torch.save(
        {"state_dict": net.state_dict(), "state_dict_ema": tiny(1).state_dict()},
        tmp_path / "w.pth",
    )
    assert state_digest(load(tmp_path / "w.pth")) == state_digest(net)
    assert "holds 'state_dict_ema' beside 'state_dict'" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: torch.zeros(2)}, "names are no text"),
        ({"a": torch.zeros(2).to_sparse()}, "no plain tensor"),
        ({"a": torch.zeros(2, device="meta")}, "no plain tensor"),
        ({"encoder_state": {}, "epoch": 1}, "a dict with 'encoder_state', 'epoch'"),
        (b".", "not a readable"),
        (b"root:x:0:0:root", "not a readable"),
    ],
)
def test_what_is_no_plain_state_dict_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "w.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(InputError, match=message):
        read_state(file)
