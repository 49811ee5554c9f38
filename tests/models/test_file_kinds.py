"""Pages and pointers in the place of weights are recognised by every reader, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iaside_plugins.adapters.compat import import_torchvision
from iaside_plugins.adapters.models.file_kinds import check_is_weights
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.errors import InputError

PAGE = b"<!DOCTYPE html>\n<html><body>Sign in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 12345\n"
KINDS = [
    (PAGE, "w.pth is a web page, not weights.* delete .*w.pth and download it again"),
    (b"\xef\xbb\xbf \n<HTML lang='en'>", "is a web page"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "is a web page"),
    (POINTER, "w.pth is a pointer of Git LFS, .*'git lfs pull'"),
    (b"", "w.pth is empty, not weights"),
    (b'{"error":"Repository not found"}', "is an error message of a server"),
]


@pytest.mark.parametrize(("data", "text"), KINDS)
def test_what_is_no_weights_file_is_told_by_its_first_bytes(
    tmp_path: Path, data: bytes, text: str
) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(data)
    with pytest.raises(InputError, match=text) as caught:
        check_is_weights(file)
    assert "\n" not in str(caught.value)


def test_weights_of_every_format_pass(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2)}
    torch.save(state, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for file in tmp_path.iterdir():
        check_is_weights(file)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_given_file_is_recognised(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PAGE)
    with pytest.raises(InputError, match=f"{name} is a web page"):
        load_model("torchvision:squeezenet1_1", weights=tmp_path / name)


@pytest.mark.parametrize("prefix", ["onnx", "torchscript", "export"])
def test_a_program_is_recognised(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "net").write_bytes(POINTER)
    with pytest.raises(InputError, match="net is a pointer of Git LFS"):
        load_model(f"{prefix}:{tmp_path / 'net'}")


def test_a_page_in_the_cache_of_torch_hub_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    published = import_torchvision().models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    file = tmp_path / "checkpoints" / Path(published.url).name
    file.parent.mkdir()
    file.write_bytes(PAGE)
    with pytest.raises(InputError, match=rf"{file.name} is a web page.* delete {file}"):
        load_model("torchvision:squeezenet1_1@IMAGENET1K_V1")


def test_a_page_in_the_folder_of_robustbench_is_recognised(tmp_path: Path) -> None:
    pytest.importorskip("robustbench")
    file = tmp_path / "cifar10" / "Linf" / "Engstrom2019Robustness.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(PAGE)
    with pytest.raises(InputError, match=r"Engstrom2019Robustness\.pt is a web page"):
        load_model("robustbench:cifar10/Linf/Engstrom2019Robustness", model_dir=tmp_path)
    assert file.exists()  # it is the user's own
