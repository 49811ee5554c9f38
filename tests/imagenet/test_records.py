from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from image_files import WNIDS, make_tree, random_pixels, save

from iaside_plugins.adapters.imagenet.records import ImageRecord, find_records, select
from iaside_plugins.errors import InputError
from iaside_plugins.storage.provenance import ids_digest as image_ids_digest


def test_folders_become_sorted_records(tmp_path: Path) -> None:
    make_tree(tmp_path, n=2)
    records, space = find_records(tmp_path)
    assert (space.name, space.n_classes) == ("imagenet", 1000)
    assert [r.image_id for r in records] == [f"{w}/img_{k}.png" for w in WNIDS for k in range(2)]
    assert [r.label for r in records] == [0, 0, 1, 1, 999, 999]
    assert all(r.path == tmp_path / r.image_id for r in records)


def test_endings_in_any_case_and_nothing_else(tmp_path: Path) -> None:
    names = ["a.JPEG", "b.jpg", "c.PNG", "d.bmp", "e.WebP", "f.tif", "g.tiff", "h.ppm"]
    for name in [*names, "notes.txt", ".hidden.png", "noending"]:
        path = tmp_path / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "cat" / "folder.png").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.md").touch()
    records, space = find_records(tmp_path)
    assert [r.path.name for r in records] == names
    assert space.name == "cifar10"


def test_empty_known_or_unknown_folders_do_not_shift_labels(tmp_path: Path) -> None:
    make_tree(tmp_path, folders=("bird", "truck"), n=1)
    (tmp_path / "airplane").mkdir()
    (tmp_path / "a stray folder").mkdir()
    assert [r.label for r in find_records(tmp_path)[0]] == [2, 9]
    with pytest.raises(InputError, match=r"images in every folder; none in .*'a stray folder'"):
        find_records(tmp_path, labels="rank")


def test_rank_and_classes_file(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", folders=("x", "y"), n=1)
    records, space = find_records(tmp_path / "data", labels="rank")
    assert ([r.label for r in records], space.name) == ([0, 1], "rank")
    (tmp_path / "c.json").write_text(json.dumps(["y", "unused", "x"]))
    records, space = find_records(tmp_path / "data", classes=tmp_path / "c.json")
    assert ([r.label for r in records], space.n_classes) == ([2, 0], 3)


def test_unknown_folders_are_named(tmp_path: Path) -> None:
    make_tree(tmp_path, folders=(*WNIDS, "n00000001"), n=1)
    with pytest.raises(InputError, match=r"1 of 4 .* imagenet: 'n00000001'"):
        find_records(tmp_path)


def test_places_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder or file .*missing; expected one of: "):
        find_records(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images in .*empty/<class>/<file>$"):
        find_records(tmp_path / "empty")
    save(tmp_path / "flat" / "a.png", random_pixels(0))
    with pytest.raises(InputError, match="images lie in it directly"):
        find_records(tmp_path / "flat")


@pytest.mark.parametrize("inner", ["val", "validation"])
def test_the_folder_above_is_not_guessed_but_hinted_at(tmp_path: Path, inner: str) -> None:
    make_tree(tmp_path / inner, n=1)
    with pytest.raises(InputError, match=f"{inner} holds class folders: give that folder"):
        find_records(tmp_path)


def _manifest(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_manifest_of_integers(tmp_path: Path) -> None:
    make_tree(tmp_path, folders=("q", "p"), n=1)
    path = _manifest(tmp_path, "\ufeffsplit,path,label\na,q/img_0.png,7\nb, p/img_0.png ,2\n")
    records, space = find_records(path)
    assert records == [
        ImageRecord(tmp_path / "q/img_0.png", 7, "q/img_0.png"),
        ImageRecord(tmp_path / "p/img_0.png", 2, "p/img_0.png"),
    ]
    assert (space.name, space.n_classes) == ("manifest", 8)


@pytest.mark.parametrize(
    ("label", "labels", "expected"),
    [
        ("n01443537", "auto", 1),
        ("goldfish", "imagenet", 1),
        ("17", "imagenet", 17),
        ("cat", "auto", 3),
    ],
)
def test_manifest_of_names(tmp_path: Path, label: str, labels: str, expected: int) -> None:
    make_tree(tmp_path, folders=("q",), n=1)
    records, space = find_records(
        _manifest(tmp_path, f"path,label\nq/img_0.png,{label}\n"), labels=labels
    )
    assert records[0].label == expected
    assert space.name == ("cifar10" if label == "cat" else "imagenet")


def test_manifest_with_classes_takes_names_before_indices(tmp_path: Path) -> None:
    make_tree(tmp_path, folders=("q",), n=3)
    (tmp_path / "c.txt").write_text("2\nfoo\nbar\n")
    rows = "path,label\nq/img_0.png,2\nq/img_1.png,bar\nq/img_2.png,1\n"
    records, space = find_records(_manifest(tmp_path, rows), classes=tmp_path / "c.txt")
    assert [r.label for r in records] == [0, 2, 1]  # the class called "2" is class 0
    assert (space.name, space.n_classes) == ("file", 3)


def test_ids_are_never_absolute(tmp_path: Path) -> None:
    outside = save(tmp_path / "elsewhere" / "cls" / "a.png", random_pixels(0))
    above = save(tmp_path / "b.png", random_pixels(1))
    inside = save(tmp_path / "lists" / "cls" / "c.png", random_pixels(2))
    path = _manifest(tmp_path / "lists", f"path,label\n{outside},0\n../b.png,1\n{inside},2\n")
    ids = [r.image_id for r in find_records(path)[0]]
    assert ids == ["cls/a.png", f"{above.parent.name}/b.png", "cls/c.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header path,label, got ''"),
        ("file,label\n", "line 1: expected the header path,label, got 'file,label'"),
        ("path,label\n", "lists no images"),
        ("path,label\nq/img_0.png,0\nq/none.png,0\n", "line 3: there is no file .*none.png"),
        ("path,label\nq/img_0.png\n", "line 2: expected path,label, got q/img_0.png,$"),
        ("path,label\nq/img_0.png,-1\n", "line 2: label '-1' is no class index in 0 .. 999999"),
        ("path,label\nq/img_0.png,0\nq/img_1.png,walrus\n", "line 3: 1 of 1 .*'walrus'"),
        ("path,label\nq/img_0.png,cat\nq/img_1.png,10\n", "line 3: label '10' .* in 0 .. 9$"),
        ("path,label\nq/img_0.png,0\nq/../q/img_0.png,1\n", "line 3: .* q/img_0.png .* of line 2"),
    ],
)
def test_manifest_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    make_tree(tmp_path, folders=("q",), n=2)
    with pytest.raises(InputError, match=message):
        find_records(_manifest(tmp_path, text))


def test_manifest_that_is_no_text_or_ranked(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", random_pixels(0))
    with pytest.raises(InputError, match=r"cannot read .*a\.png as a CSV manifest"):
        find_records(picture)
    with pytest.raises(InputError, match="'rank' is for class folders"):
        find_records(_manifest(tmp_path, "path,label\na.png,0\n"), labels="rank")


def _records(n: int) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{k}.png"), 0, f"{k:03d}.png") for k in range(n)]


def test_selection_is_nested_sorted_and_seeded() -> None:
    records = _records(200)
    chosen = [select(records, n, seed=3) for n in (1, 10, 50, 199, 200, 500)]
    for smaller, larger in pairwise(chosen):
        assert set(smaller) <= set(larger)
    assert [len(c) for c in chosen] == [1, 10, 50, 199, 200, 200]
    assert all(c == sorted(c, key=lambda r: r.image_id) for c in chosen)
    assert select(records, None, seed=3) == records
    assert select(records, 10, seed=3) == chosen[1] != select(records, 10, seed=4)
    with pytest.raises(InputError, match="at least 1, got 0"):
        select(records, 0, seed=3)


def test_selection_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()
    select(_records(20), 5, seed=0)
    assert (np.random.get_state()[1] == before).all()


def test_digest_depends_on_the_order() -> None:
    # sha256 of the bytes "a\nb", by the command line tool sha256sum
    assert image_ids_digest(["a", "b"]) == (
        "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"
    )
    assert image_ids_digest(["b", "a"]) != image_ids_digest(["a", "b"])


def test_kit_labels_are_ranks_among_all_classes(kit: Path) -> None:
    wnids = json.loads((kit / "classes.json").read_text())["wnids"]
    records, space = find_records(kit / "images")
    assert (len(records), space.name) == (700, "imagenet")
    assert all(record.label == wnids.index(record.path.parent.name) for record in records)
    assert max(record.label for record in records) > 700  # a rank of the folder would be below
