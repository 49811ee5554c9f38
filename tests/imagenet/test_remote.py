"""Data sets where fsspec reads them: the images, ids and labels of the same folder."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import gathered, make_tree, random_pixels, save
from imagenet.test_sources import png, write_parquet, write_tar
from thread_workers import Shelf
from tiny_model import network

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.records import UNLABELLED, find_records, source_of
from iaside_plugins.adapters.imagenet.remote import RemotePath, local_or_remote, read_plain
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import ids_digest, image_digest

fsspec = pytest.importorskip("fsspec")
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def class_folders(root: Path) -> Path:
    make_tree(root, n=2, height=16, width=16)
    save(root / "n01440764" / "more" / "deep.png", random_pixels(7, 16, 16))
    save(root / "n01440764" / ".hidden" / "lost.png", random_pixels(8, 16, 16))
    (root / "n01443537" / "notes.txt").write_text("no image")
    (root / "n01443537" / ".DS_Store").write_text("")
    return root


def shards(root: Path) -> Path:
    for k in range(2):
        members = {}
        for n in range(3):
            members[f"{k}{n}.png"] = png(10 * k + n)
            members[f"{k}{n}.cls"] = str(n)
        write_tar(root / f"val-{k}.tar", members)
    return root


def tables(root: Path) -> Path:
    for k in range(2):
        images = [{"bytes": png(10 * k + n), "path": f"{k}{n}.png"} for n in range(3)]
        columns = {"image": images, "label": [0, 1, 1]}
        write_parquet(root / f"val-{k}.parquet", columns, ["cat", "dog"], rows_a_group=2)
    return root


def flat(root: Path) -> Path:
    for k in (1, 2, 3):
        save(root / f"ILSVRC2012_val_0000000{k}.png", random_pixels(k, 16, 16))
    lines = [f"ILSVRC2012_val_0000000{k}.JPEG {k}" for k in (1, 2, 3)]
    (root / "val.txt").write_text("\n".join(lines))
    return root


def manifest(root: Path) -> Path:
    save(root / "inner" / "a.png", random_pixels(1, 16, 16))
    (root / "list.csv").write_text("path,label\ninner/a.png,3\n")
    return root / "list.csv"


KINDS = (class_folders, shards, tables, flat, manifest)


@pytest.fixture
def bucket():
    """Puts a local folder into storage in memory -> its URL there."""
    system = fsspec.filesystem("memory")

    def put(local: Path, base: Path) -> str:
        for file in base.rglob("*"):
            if file.is_file():
                system.pipe_file(f"/bucket/{file.relative_to(base)}", file.read_bytes())
        return f"memory://bucket/{local.relative_to(base)}".removesuffix("/.")

    yield put
    system.rm("/bucket", recursive=True)


def said(root, caplog):
    """Records as (id, label, bytes), the label space, and what was said of the files."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        records, space = find_records(root)
    rows = [(one.image_id, one.label, one.read()) for one in records]
    return rows, space, [one.getMessage().replace(str(root), "ROOT") for one in caplog.records]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_listing_is_that_of_the_folder(kind, tmp_path, bucket, caplog):
    local = kind(tmp_path)
    expected = said(local, caplog)
    assert expected[0]
    for url in (f"file://{local}", bucket(local, tmp_path)):
        rows, space, words = said(local_or_remote(url), caplog)
        assert (rows, space) == expected[:2]
        # a URL names parents of the folder in another way
        assert len(words) == len(expected[2])
        assert source_of(Path(url)).name == source_of(local).name


@forks
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.__name__)
def test_the_images_are_those_of_the_folder(kind, workers, tmp_path, bucket):
    local = kind(tmp_path)
    options = {"resize": None, "crop": 16, "batch_size": 4}
    images, labels, ids = gathered(ImageFolderData(local, **options))
    remote = ImageFolderData(bucket(local, tmp_path), n_workers=workers, **options)
    found = gathered(remote)
    assert torch.equal(found[0], images)
    digests = [
        [image_digest(image, int(label)) for image, label in zip(*each, strict=True)]
        for each in ((images, labels), found[:2])
    ]
    assert digests[0] == digests[1]
    assert ids_digest(ids) == ids_digest(found[2])
    # what a worker elsewhere gets: records alone, at the same place in every folder
    part = remote.with_part(pickle.loads(pickle.dumps(remote.part(1, 3))))
    assert torch.equal(gathered(part)[0], images[1:3])


def test_workers_read_their_own_files_there(tmp_path, bucket):
    url, options = bucket(shards(tmp_path), tmp_path), {"resize": None, "crop": 16}
    protocol, net = Protocol(2), network().eval()
    here = spectral_importance(net, ImageFolderData(tmp_path, **options), protocol)
    shelf = Shelf(n_workers=2)
    with shelf.pool as pool:
        found = spectral_importance(net, ImageFolderData(url, **options), protocol, device=pool)
    assert np.array_equal(found.per_image, here.per_image)
    assert found.ids == here.ids
    assert shelf.n_bytes < 6 * 16 * 16 * 3  # no pixels travel


def test_of_an_archive_only_the_images_bytes_are_read(tmp_path, bucket, monkeypatch):
    url, ranges = bucket(shards(tmp_path), tmp_path), []
    records, _ = find_records(url)
    memory = type(fsspec.filesystem("memory"))
    whole = memory.cat_file

    def cat_file(self, path, start=None, end=None, **options):
        ranges.append(end - start)
        return whole(self, path, start, end, **options)

    monkeypatch.setattr(memory, "cat_file", cat_file)
    data = records[0].read()
    assert ranges == [len(data)]
    fsspec.filesystem("memory").pipe_file("/bucket/val-0.tar", b"short")
    with pytest.raises(InputError, match="the archive ends before it"):
        records[0].read()


def test_a_marker_of_the_folder_is_no_file_of_it(tmp_path, bucket, monkeypatch):
    url = bucket(class_folders(tmp_path), tmp_path)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/n01440764/n01440764", b"")
    expected = sorted(entry.name for entry in RemotePath(f"{url}/n01440764").entries())
    assert "n01440764" in expected
    marker = {"name": "/bucket/n01440764/", "size": 0, "type": "file"}
    ls = type(memory).ls
    monkeypatch.setattr(type(memory), "ls", lambda *a, **o: [marker, *ls(*a, **o)])
    assert sorted(entry.name for entry in RemotePath(f"{url}/n01440764").entries()) == expected


def test_a_folder_is_listed_once(tmp_path, bucket, monkeypatch):
    url, found = bucket(class_folders(tmp_path), tmp_path), []
    memory = type(fsspec.filesystem("memory"))
    find = memory.find
    monkeypatch.setattr(memory, "find", lambda *a, **o: found.append(a[1]) or find(*a, **o))
    find_records(url)
    assert found == ["/bucket"]


def test_an_object_that_is_gone_or_too_large_is_unreadable(tmp_path, bucket):
    records, _ = find_records(bucket(class_folders(tmp_path), tmp_path))
    with pytest.raises(OSError, match="at most 3 bytes"):
        read_plain(records[0].path, 3)
    fsspec.filesystem("memory").rm(f"/bucket/{records[0].image_id}")
    with pytest.raises(InputError, match="cannot be read"):
        records[0].read()


def test_what_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    cases = {
        "nosuch://bucket/val": "nosuch://bucket/val cannot be read: Protocol not known: nosuch",
        "memory://nothing/here": "there is no folder or file memory://nothing/here",
        f"file://{tmp_path}/none.tar": "there is no folder or file",
    }
    for url, message in cases.items():
        with pytest.raises(InputError, match=message) as raised:
            find_records(url)
        assert "\n" not in str(raised.value)

    def needs(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", needs)
    with pytest.raises(InputError, match="s3://b/val cannot be read: Install s3fs to access S3"):
        find_records("s3://b/val")

    def refused(url):
        raise KeyError("credentials\nwanted")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refused)
    with pytest.raises(InputError, match=r"s3://b/val cannot be read: KeyError: .*credentials"):
        find_records(Path("s3://b/val"))


def test_labels_are_looked_for_no_higher_than_the_bucket(tmp_path, bucket):
    flat(tmp_path)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(InputError, match=r"val\.txt"):
        find_records(bucket(tmp_path, tmp_path))


def test_a_url_is_one_only_where_nothing_lies_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_tree(Path("s3:") / "val", n=1, height=16, width=16)
    assert local_or_remote("s3://val") == Path("s3:/val")
    assert len(find_records("s3://val", labels=UNLABELLED)[0]) == 3
    assert isinstance(local_or_remote("foolbox:imagenet"), Path)


def test_a_remote_path_is_its_url():
    for url in ("s3://bucket/val/a.png", "file:///tmp/val/a.png"):
        path = RemotePath(url)
        assert str(path) == url
        assert str(path.parent / "b.png") == url.replace("a.png", "b.png")
        assert pickle.loads(pickle.dumps(path)) == path
        assert path.is_absolute()
        assert str(path.parents[-1]) in ("s3://bucket", "file:///tmp")
        assert path.parents[0] == path.parent
        assert path.resolve() is path
        assert str(RemotePath(str(Path(url)))) == url
