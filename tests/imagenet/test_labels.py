from __future__ import annotations

import json
from pathlib import Path

import pytest

from iaside_plugins.adapters.imagenet.labels import (
    KNOWN_MAPS,
    LabelSpace,
    UnknownClassesError,
    class_map,
    known_map,
    read_classes,
)
from iaside_plugins.errors import InputError


@pytest.mark.parametrize(
    ("name", "n_classes"), [("imagenet", 1000), ("cifar10", 10), ("cifar100", 100)]
)
def test_known_maps_are_complete_and_in_official_order(name: str, n_classes: int) -> None:
    known = known_map(name)
    assert known.space.name == name
    assert known.space.n_classes == len(known.space.names) == len(known.index) == n_classes
    # All three official orders are alphabetical in the folder names.
    assert list(known.index) == sorted(known.index)
    assert list(known.index.values()) == list(range(n_classes))


def test_known_maps_hold_well_known_classes() -> None:
    imagenet, cifar10, cifar100 = map(known_map, KNOWN_MAPS)
    assert imagenet.index["n02123045"] == 281
    assert imagenet.space.names[281] == "tabby"
    assert (cifar10.index["automobile"], cifar10.index["truck"]) == (1, 9)
    assert (cifar100.index["apple"], cifar100.index["sea"], cifar100.index["worm"]) == (0, 71, 99)


def test_no_folder_name_belongs_to_two_known_maps() -> None:
    folders = [set(known_map(name).index) for name in KNOWN_MAPS]
    assert len(set.union(*folders)) == sum(map(len, folders))


@pytest.mark.parametrize(
    ("names", "space", "expected"),
    [
        (["n15075141", "n01440764"], "imagenet", {"n01440764": 0, "n15075141": 999}),
        (["truck", "cat"], "cifar10", {"cat": 3, "truck": 9}),
        (["worm", "bee"], "cifar100", {"bee": 6, "worm": 99}),
    ],
)
def test_auto_recognises_partial_class_sets(
    names: list[str], space: str, expected: dict[str, int]
) -> None:
    chosen = class_map(names)
    assert chosen.space.name == space
    assert {name: chosen.index[name] for name in names} == expected


def test_rank_only_on_request() -> None:
    chosen = class_map(["b", "a", "c"], "rank")
    assert chosen.space == LabelSpace("rank", 3, ("a", "b", "c"))
    assert chosen.index == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(UnknownClassesError, match="'a', 'b', 'c'"):
        class_map(["b", "a", "c"])


def test_one_unknown_wnid_among_known_ones_is_named_with_three_ways_out() -> None:
    wnids = list(known_map("imagenet").index)[:50]
    with pytest.raises(
        UnknownClassesError, match=r"1 of 51 .* no classes of imagenet: 'n00000001'"
    ) as caught:
        class_map([*wnids, "n00000001"])
    assert caught.value.names == ("n00000001",)
    for way_out in ("classes=FILE", "labels='rank'", "CSV manifest"):
        assert way_out in str(caught.value)


def test_many_unknown_names_are_cut_short() -> None:
    with pytest.raises(
        UnknownClassesError, match=r"9 of 9 .* 'x0', 'x1', 'x2', 'x3', 'x4', \.\.\."
    ) as caught:
        class_map([f"x{k}" for k in range(9)])
    assert len(caught.value.names) == 9


def test_explicit_imagenet_takes_unique_class_names() -> None:
    assert class_map(["tench", "n01443537"], "imagenet").index["tench"] == 0
    with pytest.raises(UnknownClassesError, match="'crane'"):  # the bird and the machine
        class_map(["crane"], "imagenet")
    with pytest.raises(UnknownClassesError, match="'tench'"):
        class_map(["tench"])


def test_contradictory_or_unknown_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels must be one of .* got 'guess'"):
        class_map(["cat"], "guess")
    with pytest.raises(InputError, match="labels='file' does not go with no classes file"):
        class_map(["cat"], "file")
    (tmp_path / "c.txt").write_text("cat\n")
    with pytest.raises(InputError, match="labels='rank' does not go with a classes file"):
        class_map(["cat"], "rank", tmp_path / "c.txt")


@pytest.mark.parametrize("labels", ["auto", "file"])
@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_classes_file_gives_the_index_by_line(tmp_path: Path, suffix: str, labels: str) -> None:
    names = ["zebra crossing", "n01440764", "a"]
    path = tmp_path / f"classes.{suffix}"
    text = json.dumps(names) if suffix == "json" else "\ufeff" + "\r\n".join(names) + "\n\n"
    path.write_text(text, encoding="utf-8")
    chosen = class_map(["a", "zebra crossing"], labels, path)
    assert chosen.space == LabelSpace("file", 3, tuple(names))
    assert (chosen.index["zebra crossing"], chosen.index["a"]) == (0, 2)
    with pytest.raises(UnknownClassesError, match=r"1 of 1 .* no classes in .*classes.*'b'"):
        class_map(["b"], labels, path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "a\n\nb\n", "class 1: the name is empty"),
        ("c.txt", "a\nb\na\n", "names 'a' more than once"),
        ("c.txt", "\n \n", "names no classes"),
        ("c.json", '{"a": 0}', "must hold a list"),
        ("c.json", '["a", 3]', "must hold a list"),
        ("c.json", '["a"', "cannot read the classes"),
    ],
)
def test_unusable_classes_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_classes(path)


def test_missing_classes_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the classes of .*none\.txt"):
        read_classes(tmp_path / "none.txt")


def test_kit_classes_are_the_imagenet_map(kit: Path) -> None:
    stored = json.loads((kit / "classes.json").read_text())
    assert list(known_map("imagenet").index) == stored["wnids"]
    assert list(known_map("imagenet").space.names) == stored["names"]
