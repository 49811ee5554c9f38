"""The rules of every stream, by the simplest one."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import WNIDS, gathered, make_tree, random_pixels, save

from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
from iaside_plugins.adapters.imagenet.decoding import decode
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.records import ImageRecord
from iaside_plugins.adapters.imagenet.stream import ImageStream, StreamGroup
from iaside_plugins.errors import InputError

# From Python 3.12 on a fork in a process with threads warns, and DataLoader forks.
workers = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@workers
def test_workers_change_nothing(tmp_path: Path) -> None:
    make_tree(tmp_path, n=9)
    (tmp_path / WNIDS[0] / "img_4.png").write_bytes(b"damaged")
    # 200 records, so that the one damaged file stays below 1 %.
    records = ImageFolderData(tmp_path, crop=32, resize=40).records * 8
    alone, helped = (
        ImageFolderData(None, resize=36, crop=32, batch_size=7, n_workers=n, records=records[:200])
        for n in (0, 2)
    )
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
        assert a[2] == b[2]
    assert alone.unreadable == helped.unreadable == [f"{WNIDS[0]}/img_4.png"]


def test_iterating_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    data = ImageFolderData(make_tree(tmp_path), crop=32, resize=32, n_images=4)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = gathered(data), gathered(data)
    assert torch.equal(first[0], second[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_sizes_that_differ_are_named(tmp_path: Path, batch_size: int) -> None:
    make_tree(tmp_path, folders=("cat",), n=2)
    save(tmp_path / "dog" / "odd.png", random_pixels(0, 30, 31))
    data = ImageFolderData(tmp_path, resize=None, crop=None, batch_size=batch_size)
    with pytest.raises(InputError, match=r"cat/img_0.png is 40 x 52, dog/odd.png is 30 x 31"):
        list(data)


@workers
@pytest.mark.parametrize("n_workers", [0, 1])
def test_errors_of_the_geometry_name_the_image_in_one_line(tmp_path: Path, n_workers: int) -> None:
    data = ImageFolderData(make_tree(tmp_path), resize=None, crop=45, n_workers=n_workers)
    with pytest.raises(InputError, match=r"^image n01440764/img_0.png: the crop of 45 x 45[^\n]*$"):
        list(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"n_workers": -1}, "n_workers must be an integer of at least 0, got -1"),
        ({"resize": 100, "crop": 224}, "crop \\(224\\) must not exceed resize \\(100\\)"),
        ({"interpolation": "cubic"}, "got 'cubic'"),
        ({"n_images": 0}, "at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, options: dict[str, object], message: str) -> None:
    make_tree(tmp_path, n=1)
    with pytest.raises(InputError, match=message):
        ImageFolderData(tmp_path, **options)  # type: ignore[arg-type]


def _damaged_set(tmp_path: Path, n: int, n_damaged: int) -> ImageFolderData:
    """n images of which n_damaged cannot be read."""
    good = save(tmp_path / "cat" / "good.png", random_pixels(0))
    bad = tmp_path / "cat" / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no more of this")
    records = [ImageRecord(bad if k < n_damaged else good, 3, f"cat/{k:04d}.png") for k in range(n)]
    return ImageFolderData(None, resize=None, crop=8, records=records)


@pytest.mark.parametrize(("n", "n_damaged"), [(100, 1), (199, 1), (200, 2), (299, 2)])
def test_up_to_one_percent_unreadable_files_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, n: int, n_damaged: int
) -> None:
    data = _damaged_set(tmp_path, n, n_damaged)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # a second pass finds the same ones and says nothing new
            images, labels, ids = gathered(data)
    assert len(images) == len(labels) == len(ids) == n - n_damaged
    assert data.unreadable == [f"cat/{k:04d}.png" for k in range(n_damaged)]
    assert not set(data.unreadable) & set(ids)
    assert [r.args[0] for r in caplog.records if r.args] == data.unreadable
    assert len(data) == n


@pytest.mark.parametrize(("n", "n_damaged"), [(1, 1), (99, 1), (100, 2), (199, 2), (200, 3)])
def test_more_than_one_percent_unreadable_files_stop(
    tmp_path: Path, n: int, n_damaged: int
) -> None:
    data = _damaged_set(tmp_path, n, n_damaged)
    message = rf"{n_damaged} of {n} images are unreadable, more than 1 %: cat/0000.png.*no known"
    with pytest.raises(InputError, match=message):
        list(data)


def test_a_batch_of_unreadable_files_only_is_left_out(tmp_path: Path) -> None:
    records = _damaged_set(tmp_path, 100, 1).records
    data = ImageFolderData(None, resize=None, crop=8, records=records, batch_size=1)
    assert [len(images) for images, _, _ in data] == [1] * 99


def _corrupted(records: list[ImageRecord], **options: int) -> list[CorruptedData]:
    cells = [("fog", 2), (None, 0), ("contrast", 5)]
    return [CorruptedData(records, *cell, resize=40, crop=32, **options) for cell in cells]


@workers
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("n_workers", [0, 2, 5])  # and more than images in a batch
def test_a_group_gives_every_stream_its_own_batches_in_order(
    tmp_path: Path, n_workers: int
) -> None:
    records = ImageFolderData(make_tree(tmp_path, n=7)).records
    options = {"batch_size": 2, "n_workers": n_workers}
    together: list[list[Any]] = [[], [], []]
    for k, batch in StreamGroup(_corrupted(records, **options)):
        together[k].append(batch)
    for stream, batches in zip(_corrupted(records, batch_size=2), together, strict=True):
        assert len(batches) == -(-len(records) // 2)
        for ours, own in zip(batches, stream, strict=True):
            assert torch.equal(ours[0], own[0])
            assert torch.equal(ours[1], own[1])
            assert ours[2] == own[2]


def test_a_group_decodes_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = ImageFolderData(make_tree(tmp_path, n=3)).records
    decoded = []

    def counted(data: bytes, *, grey: bool = False) -> Any:
        decoded.append(data)
        return decode(data, grey=grey)

    monkeypatch.setattr("iaside_plugins.adapters.imagenet.stream.decode", counted)
    assert len(list(StreamGroup(_corrupted(records, batch_size=2)))) == 3 * 5
    assert len(decoded) == len(records)


def test_a_group_leaves_unreadable_files_out_of_every_stream(tmp_path: Path) -> None:
    records = _damaged_set(tmp_path, 100, 1).records
    streams = [
        CorruptedData(records, "fog", s, resize=None, crop=16, batch_size=30) for s in (1, 2)
    ]
    ids: list[list[str]] = [[], []]
    for k, (_, _, names) in StreamGroup(streams):
        ids[k] += names
    assert ids == [[record.image_id for record in records[1:]]] * 2
    assert [stream.unreadable for stream in streams] == [["cat/0000.png"]] * 2


def test_a_group_is_of_as_many_images_each(tmp_path: Path) -> None:
    records = ImageFolderData(make_tree(tmp_path)).records
    streams = [ImageFolderData(None, records=part) for part in (records, records[1:])]
    with pytest.raises(InputError, match="as many images each"):
        StreamGroup(streams)


@workers
def test_a_group_says_whether_its_next_batch_is_there(tmp_path: Path) -> None:
    records = ImageFolderData(make_tree(tmp_path, n=2)).records
    assert iter(StreamGroup(_corrupted(records, batch_size=2))).ready()  # made when it is asked for
    held = tmp_path / "held"
    held.touch()
    reader = _Held(held)
    batches = iter(StreamGroup([ImageStream(records, reader, 2, 1)]))
    assert not batches.ready()
    held.unlink()
    first = next(batches)
    assert first[1][2] == [record.image_id for record in records[:2]]
    while not batches.ready():
        time.sleep(0.01)
    batches.close()
    assert list(batches) == []


@dataclass(frozen=True)
class _Held:
    """Waits while a file is there, then gives grey pixels."""

    file: Path

    def __call__(self, _record: ImageRecord) -> Any:
        while self.file.exists():
            time.sleep(0.01)
        return np.zeros((4, 4, 3), np.uint8)
