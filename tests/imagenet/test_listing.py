"""Folders as they come: every image is taken, or counted and named; layouts are recognised."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from folder_fuzz import tried
from image_files import WNIDS, make_tree, random_pixels, save

from iaside_plugins.adapters.imagenet import listing
from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError, decode, read_bytes
from iaside_plugins.adapters.imagenet.folders import ImageFolderData, matched_records
from iaside_plugins.adapters.imagenet.records import UNLABELLED, find_records
from iaside_plugins.errors import InputError

PIXELS = random_pixels(0)


def test_no_image_of_a_fuzzed_folder_is_lost_without_a_word(tmp_path: Path) -> None:
    outcomes = [tried(tmp_path / "data", random.Random(f"7 {k}")) for k in range(40)]
    for outcome in outcomes:
        outcome.check()
    assert 5 < sum(not outcome.refused for outcome in outcomes) < 35
    assert sum(outcome.n_said for outcome in outcomes) > 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat/b.gif", "1 with other endings (cat/b.gif)"),
        ("cat/b", "1 with other endings (cat/b)"),
        ("cat/more/b.gif", "1 with other endings (cat/more/b.gif)"),
        ("cat/.more/b.png", "1 in hidden folders (cat/.more/b.png)"),
        ("cat/.b.png", "1 hidden (cat/.b.png)"),
        (".checkpoints/b.png", "1 in hidden folders (.checkpoints/b.png)"),
        ("b.png", "1 beside the class folders (b.png)"),
        ("b.heic", "1 with other endings (b.heic)"),
        ("cat/more/b.png", ""),
        ("cat/more/again/b.png", ""),
        ("cat/b.pgm", ""),
        ("cat/b.JFIF", ""),
        ("cat/.DS_Store", ""),
        ("cat/._a.png", ""),
        ("__MACOSX/cat/a.png", ""),
        ("readme.txt", ""),
    ],
)
def test_what_is_not_taken_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    save(tmp_path / "cat" / "a.png", PIXELS)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    records, _ = find_records(tmp_path)
    took_it = name in [record.image_id for record in records]
    assert took_it == (
        name.endswith((".pgm", ".JFIF")) or (name.startswith("cat/more/") and not said)
    )
    expected = f"took 1 images of {tmp_path} and left out {said}"
    assert caplog.messages == ([expected] if said else [])


def test_links_and_pipes_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path / "d" / "cat" / "a.png", PIXELS).parent
    (folder / "b.png").symlink_to("/nowhere/b.png")
    (folder / "c.png").symlink_to("c.png")
    (folder / "d").symlink_to(tmp_path)  # leads back here
    (folder / "e.png").symlink_to(folder / "a.png")
    os.mkfifo(folder / "f.png")
    records, _ = find_records(tmp_path / "d")
    assert [record.image_id for record in records] == ["cat/a.png", "cat/e.png"]
    for text in ("2 links to nowhere (cat/b.png, cat/c.png)", "1 no plain files (cat/f.png)"):
        assert text in caplog.text
    assert "1 folders that are links (cat/d/)" in caplog.text


def test_names_that_are_no_text_get_an_id_that_is(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d/cat/" + name))
        save(place.with_name("a.png"), PIXELS).rename(place)
    data = ImageFolderData(tmp_path / "d", resize=None, crop=None)
    ids = [name for _, _, names in data for name in names]
    assert ids == ["cat/caf\\xe9.png", "cat/two\\x0alines.png"]
    matched = matched_records(tmp_path / "d", data.records)  # as of a tree of ImageNet-C
    assert [record.path for record in matched] == [record.path for record in data.records]
    save(tmp_path / "d" / "cat" / "caf\\xe9.png", PIXELS)
    with pytest.raises(InputError, match=r"two images whose name reads cat/caf\\xe9\.png; rename"):
        find_records(tmp_path / "d")


def test_folders_named_by_integers_are_class_indices(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_tree(tmp_path / "ten", tuple(map(str, range(10))), n=1)
    records, space = find_records(tmp_path / "ten")
    assert [record.label for record in records] == list(range(10))
    assert (space.name, space.n_classes, caplog.text) == ("integers", 10, "")  # also by rank
    make_tree(tmp_path / "more", ("0", "1", "2", "10"), n=1)
    records, space = find_records(tmp_path / "more")
    assert [record.label for record in records] == [0, 1, 10, 2]
    assert "folder '10' is class 10; labels='rank' would make it class 2" in caplog.text
    caplog.clear()
    records, _ = find_records(tmp_path / "more", labels="rank")
    assert [record.label for record in records] == [0, 1, 2, 3]
    assert "labels='rank' makes folder '10' class 2" in caplog.text
    make_tree(tmp_path / "twice", ("1", "01"), n=1)
    with pytest.raises(InputError, match="2 of 2 class names are no classes"):
        find_records(tmp_path / "twice")


def test_without_a_model_any_folders_will_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_tree(tmp_path, ("train", "val", "2", "10"), n=1)
    (tmp_path / "empty").mkdir()
    records, _ = find_records(tmp_path, labels=UNLABELLED)
    assert [record.image_id.split("/")[0] for record in records] == ["10", "2", "train", "val"]
    assert caplog.text == ""


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["val/n01440764/a.png", "train/n01440764/a.png"], "/val holds class folders: give that"),
        (["train/cat/a.png", "test/cat/a.png"], "/test holds class folders: give that"),
        (["Data/CLS-LOC/val/n01440764/a.png"], "/Data/CLS-LOC/val holds class folders"),
        (["0/a/x.png", "0/b/x.png", "1/n01440764/x.png"], "/0 holds class folders: give that"),
        (["pets/one/cats/a.png", "pets/two/dogs/a.png"], "/pets/one holds class folders: give"),
        (["ILSVRC2012_val_00000001.JPEG"], "without their labels: put one of val.txt, LOC_val"),
        (["val/ILSVRC2012_val_00000001.JPEG"], "/val holds ImageNet's validation images: give"),
        (["train/a.png", "val/a.png"], "train, val are parts of a data set, not classes"),
        (["images/a.png"], "'images' is no class"),
        (["val_annotations.txt", "images/val_0.JPEG"], "does not list 1 images, val_0.JPEG among"),
        ([f"fog/{k}/n01440764/a.png" for k in range(1, 6)], "corruptions=...; or one severity"),
        (
            ["fog.npy", "gaussian_noise.npy", "labels.npy"],
            "give the archive of cifar10 (cifar-10-bat",
        ),
        (["CIFAR-100-C/labels.npy"], "archive of cifar100 (cifar-100-python) as the images and"),
        (["cifar-10-batches-py/test_batch"], "test_batch is not the test set of cifar10"),
        (["a.parquet"], "a.parquet is not a sound Parquet file"),
        (["a.tar"], "a.tar is not a sound tar archive"),
        (["cat/b.gif"], "left out: 1 with other endings (cat/b.gif)"),
    ],
)
def test_layouts_are_recognised(tmp_path: Path, names: list[str], said: str) -> None:
    _touch(tmp_path, *names)
    for labels in ("auto", "rank"):
        with pytest.raises(InputError) as refused:
            find_records(tmp_path, labels=labels)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("head", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + b"\0" * 26])
def test_no_program_is_started_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 10.0\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UnreadableImageError, match="PostScript, a program; convert it"):
        decode(head + b"%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n")
    assert not (tmp_path / "started").exists()


def test_files_too_large_and_images_too_thin_are_unreadable(tmp_path: Path) -> None:
    make_tree(tmp_path, WNIDS[:1], n=1)
    save(tmp_path / WNIDS[0] / "thin.png", np.zeros((1, 60_000, 3), np.uint8))
    with pytest.raises(InputError, match=r"1 of 2 images are unreadable.* 60000 x 1 pixels would"):
        list(ImageFolderData(tmp_path, resize=64, crop=64))
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UnreadableImageError, match="expected at most 1,073,741,824 bytes"):
        read_bytes(tmp_path / "large.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match="expected a file, got a pipe"):
        read_bytes(tmp_path / "pipe.png")


def test_folders_too_deep_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_end(folder: Path, *_: object) -> list[str]:
        return without_end(folder)

    (tmp_path / "cat").mkdir()
    monkeypatch.setattr(listing, "_images", without_end)
    with pytest.raises(InputError, match="lie too deep in one another"):
        find_records(tmp_path)
