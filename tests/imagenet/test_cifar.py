"""CIFAR's archives and arrays: read without running their code, mapped, and matched to labels."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from robustbench_layout import make_cifar

from iaside_plugins.adapters.imagenet.cifar import ArrayImages, ArrayRow, read_cifar, read_cifar_c
from iaside_plugins.errors import InputError


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    return make_cifar(tmp_path / "data", 10, ("fog", "snow"))


def _save_archive(file: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, array=np.zeros(3))


class Command:
    """What no archive of images may hold."""

    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_the_archive_as_torchvision_reads_it(cifar: Path) -> None:
    pixels, labels = read_cifar(cifar, "cifar10") or (None, None)
    with (cifar / "cifar-10-batches-py/test_batch").open("rb") as file:
        raw = pickle.load(file, encoding="bytes")
    expected = raw[b"data"].reshape(-1, 3, 32, 32)
    assert np.array_equal(pixels.transpose(0, 3, 1, 2), expected)
    assert labels.tolist() == raw[b"labels"]
    inner, _ = read_cifar(cifar / "cifar-10-batches-py", "cifar10") or (None, None)
    assert np.array_equal(inner, pixels)
    assert read_cifar(cifar, "cifar100") is None


def test_the_fine_labels_of_cifar100(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    data = {
        b"data": np.zeros((2, 3072), np.uint8),
        b"fine_labels": [99, 7],
        b"coarse_labels": [1, 2],
    }
    (folder / "test").write_bytes(pickle.dumps(data, protocol=2))
    _, labels = read_cifar(tmp_path, "cifar100") or (None, None)
    assert labels.tolist() == [99, 7]


def test_code_in_an_archive_is_not_run(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cifar)
    file = cifar / "cifar-10-batches-py/test_batch"
    file.write_bytes(pickle.dumps({b"data": Command()}, protocol=2))
    with pytest.raises(InputError, match="system, which no image archive needs"):
        read_cifar(cifar, "cifar10")
    assert not (cifar / "attacked").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        pickle.dumps([1]),
        pickle.dumps(np.zeros(3, np.uint8), protocol=2).replace(b"latin1", b"latin!"),
        pickle.dumps({b"data": np.zeros((2, 5), np.uint8)}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, -1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0.7, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [[0], [1]]}),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [1, 1]}),
        pickle.dumps({b"data": [[300] * 3072], b"labels": [1]}),
    ],
)
def test_another_file_is_refused(cifar: Path, content: bytes) -> None:
    (cifar / "cifar-10-batches-py/test_batch").write_bytes(content)
    with pytest.raises(InputError, match="test_batch"):
        read_cifar(cifar, "cifar10")


def test_corrupted_arrays_are_mapped_and_matched(cifar: Path) -> None:
    _, labels = read_cifar(cifar, "cifar10") or (None, None)
    array = read_cifar_c(cifar, "cifar10", "fog", labels)
    assert isinstance(array, np.memmap)
    assert array.shape == (50, 32, 32, 3)
    assert np.array_equal(read_cifar_c(cifar / "CIFAR-10-C", "cifar10", "fog", labels[:3]), array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "fog.npy").unlink(), "has no fog.npy"),
        (lambda folder: (folder / "labels.npy").unlink(), "has no labels.npy"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((49, 32, 32, 3), np.uint8)), "49"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((5, 32, 32, 3), np.uint8)), "labels"),
        (lambda folder: np.save(folder / "labels.npy", np.arange(50) % 7), "not the same images"),
        (lambda folder: (folder / "fog.npy").write_bytes(b"x"), "sound .npy"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((50, 32, 32, 3), "f4")), "float32"),
        (lambda folder: np.save(folder / "labels.npy", np.array(3)), "not the same images"),
        (lambda folder: _save_archive(folder / "fog.npy"), "an archive of arrays"),
    ],
)
def test_corrupted_arrays_that_are_refused(cifar: Path, change, message: str) -> None:
    _, labels = read_cifar(cifar, "cifar10") or (None, None)
    change(cifar / "CIFAR-10-C")
    with pytest.raises(InputError, match=message):
        read_cifar_c(cifar, "cifar10", "fog", labels)


def test_batches_of_rows() -> None:
    pixels = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    data = ArrayImages(pixels, np.arange(5), np.array([4, 0, 2]), ["e", "a", "c"], 2)
    batches = list(data)
    assert [len(x) for x, _, _ in batches] == [2, 1]
    x, y, ids = batches[0]
    assert ids == ["e", "a"]
    assert y.tolist() == [4, 0]
    assert torch.equal(x[0], torch.from_numpy(pixels[4].transpose(2, 0, 1).copy()).float() / 255)
    with pytest.raises(InputError, match="batch_size"):
        ArrayImages(pixels, np.arange(5), np.arange(5), "abcde", 0)


def test_an_array_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "fog.npy"
    for value in (1, 2):
        (tmp_path / "new.npy").unlink(missing_ok=True)
        np.save(tmp_path / "new.npy", np.full((5, 32, 32, 3), value, np.uint8))
        (tmp_path / "new.npy").replace(file)
        assert ArrayRow(4).read(file)[-1] == value
