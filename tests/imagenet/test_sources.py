"""What the layouts say of classes, names and faults: Parquet, tar, lists of labels."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_files import random_pixels, save
from PIL import Image

from iaside_plugins.adapters.imagenet.decoding import UnreadableImageError
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.labels import known_map
from iaside_plugins.adapters.imagenet.records import UNLABELLED, find_records
from iaside_plugins.adapters.imagenet.sources import parquet as parquet_module
from iaside_plugins.errors import InputError, MissingExtraError

WNIDS = tuple(known_map("imagenet").index)
VALIDATION = "ILSVRC2012_val_00000001.JPEG"


def png(seed: int = 0) -> bytes:
    held = io.BytesIO()
    Image.fromarray(random_pixels(seed, 16, 16)).save(held, "PNG")
    return held.getvalue()


def write_parquet(
    file: Path,
    columns: dict[str, list[Any]],
    names: list[str] | None = None,
    rows_a_group: int = 100,
) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table(columns)
    if names is not None:
        label = {"_type": "ClassLabel", "names": names}
        stored = {"info": {"features": {"label": label, "picture": {"_type": "Image"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(stored)})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file, row_group_size=rows_a_group)
    return file


def write_tar(file: Path, members: dict[str, bytes | str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            data = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def found(root: Path, **options: Any) -> tuple[list[tuple[str, int]], str, int]:
    records, space = find_records(root, **options)
    assert all(record.read() for record in records)
    return [(record.image_id, record.label) for record in records], space.name, space.n_classes


def test_parquet_with_classes_of_its_own(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "a.parquet",
        {"picture": [png(k) for k in range(3)], "label": [2, 0, 2]},
        ["zebra/x", "yak", "ant"],
    )
    expected = [("ant/a_00000000", 2), ("ant/a_00000002", 2), ("zebra_x/a_00000001", 0)]
    assert found(file) == (expected, "names", 3)
    assert [label for _, label in found(file, labels="rank")[0]] == [0, 0, 1]
    (tmp_path / "c.txt").write_text("ant\nyak\nzebra/x\n")
    assert [k for _, k in found(file, classes=tmp_path / "c.txt")[0]] == [0, 0, 2]


def test_parquet_of_cifar_and_of_names(tmp_path: Path) -> None:
    names = list(known_map("cifar10").index)
    file = write_parquet(
        tmp_path / "a.parquet", {"img": [{"bytes": png(), "path": None}], "label": [9]}, names
    )
    assert found(file) == ([("truck/a_00000000", 9)], "cifar10", 10)
    file = write_parquet(tmp_path / "b.parquet", {"image": [png()], "label": ["n01443537"]})
    assert found(file) == ([("n01443537/b_00000000", 1)], "imagenet", 1000)
    file = write_parquet(tmp_path / "c.parquet", {"image": [png()], "label": [7]})
    assert found(file) == ([("7/c_00000000", 7)], "integers", 8)
    assert found(file, labels="imagenet")[0] == [(f"{WNIDS[7]}/c_00000000", 7)]
    assert found(file, labels=UNLABELLED)[0] == [("7/c_00000000", 0)]
    file = write_parquet(tmp_path / "d.parquet", {"image": [png()]})
    assert found(file, labels=UNLABELLED)[0] == [("d_00000000", 0)]


def test_one_name_of_two_images_gets_numbers(tmp_path: Path) -> None:
    images = [{"bytes": png(k), "path": "../../image.png"} for k in range(2)]
    file = write_parquet(tmp_path / "a.parquet", {"image": images, "label": [3, 3]})
    assert [name for name, _ in found(file)[0]] == ["3/00000000_image.png", "3/00000001_image.png"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"], "label": [-1]}, "row 0: label -1 is no class; a test split may have no"),
        ({"image": [b"x"]}, "expected a column of images .image. and one of labels"),
        ({"text": ["x"], "label": [1]}, "expected a column of images .* got 'text, label'"),
        ({"image": ["x.png"], "label": [1]}, "to hold the bytes of image files, got string"),
        ({"image": [[1, 2]], "label": [1]}, "to hold the bytes of image files, got list"),
    ],
)
def test_parquet_that_is_not_read(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_records(write_parquet(tmp_path / "a.parquet", columns))


def test_files_of_parquet_with_other_classes_are_not_one_data_set(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"image": [png()], "label": [0]}
    write_parquet(tmp_path / "test-0.parquet", columns, ["cat", "dog"])
    write_parquet(tmp_path / "test-1.parquet", columns, ["dog", "cat"])
    with pytest.raises(InputError, match=r"test-1.parquet has other columns, or other classes"):
        find_records(tmp_path)


@pytest.mark.parametrize("names", [["owl", "owl"], ["", "owl"]])
def test_classes_of_one_name_keep_their_labels(tmp_path: Path, names: list[str]) -> None:
    columns: dict[str, list[Any]] = {"image": [png(0), png(1)], "label": [0, 1]}
    file = write_parquet(tmp_path / "a.parquet", columns, names)
    assert [label for _, label in found(file)[0]] == [0, 1]


def test_a_parquet_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    for k in range(2):
        columns: dict[str, list[Any]] = {"image": [png(k)], "label": [0]}
        file = write_parquet(tmp_path / "a.parquet", columns)
        assert find_records(file)[0][0].read() == png(k)


def test_odd_parts_of_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features: list[Any] = [{"label": {"_type": "ClassLabel", "names": 5}}]
    for stored in ("[" * 100_000, json.dumps({"info": {"features": features[0]}})):
        images = [{"bytes": png(), "path": 5}]
        table = arrow.table({"image": images, "label": [3]})
        table = table.replace_schema_metadata({"huggingface": stored})
        parquet.write_table(table, tmp_path / "a.parquet")
        assert found(tmp_path / "a.parquet")[0] == [("3/a_00000000", 3)]
    raw = bytearray((tmp_path / "a.parquet").read_bytes())
    raw[10:60] = b"\xff" * 50
    (tmp_path / "a.parquet").write_bytes(raw)
    with pytest.raises(UnreadableImageError) as caught:
        find_records(tmp_path / "a.parquet", labels=UNLABELLED)[0][0].read()
    assert "\n" not in str(caught.value)


def test_parquet_of_several_data_sets_or_rows_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: dict[str, list[Any]] = {"image": [png()], "label": [1]}
    for name in ("fog", "snow"):
        write_parquet(tmp_path / "c" / f"{name}.parquet", columns)
    with pytest.raises(InputError, match=r"several data sets \(fog, snow\): give one file"):
        find_records(tmp_path / "c")
    monkeypatch.setattr(parquet_module, "_MOST_GROUP", 100)
    with pytest.raises(InputError, match=r"row group of .* with row_group_size=1000"):
        find_records(tmp_path / "c" / "fog.parquet")


def test_parquet_beside_class_folders_is_a_table(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png", random_pixels(0))
    write_parquet(tmp_path / "metadata.parquet", {"image": [png()], "label": [1]})
    assert found(tmp_path)[0] == [("cat/a.png", 3)]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs pyarrow: pip install -e '\.\[parquet\]'"):
        find_records(tmp_path)


def test_only_one_row_group_is_in_memory(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"image": [png(k) for k in range(6)], "label": [0] * 6}
    file = write_parquet(tmp_path / "a.parquet", columns, rows_a_group=2)
    records, _ = find_records(file)
    parquet_module._column.cache_clear()
    assert [record.read() for record in records] == columns["image"]
    info = parquet_module._column.cache_info()
    assert (info.misses, info.hits, info.currsize) == (3, 3, 1)


def test_webdataset_labels(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {"a.png": png(), "a.cls": "7", "b.x.png": png(1)}
    file = write_tar(tmp_path / "t.tar", {**members, "b.json": '{"label": 2}', "notes.md": ""})
    assert found(file) == ([("2/b.x.png", 2), ("7/a.png", 7)], "integers", 8)
    assert found(file, labels="imagenet")[0][0] == (f"{WNIDS[2]}/b.x.png", 2)
    file = write_tar(tmp_path / "t.tar", {"a.jpg": png(), "a.txt": "cat\n"})
    assert found(file) == ([("cat/a.jpg", 3)], "cifar10", 10)
    file = write_tar(tmp_path / "t.tar", {**members})
    with pytest.raises(InputError, match=r"b\.x\.png has no label; expected b\.cls, \.txt, or"):
        find_records(file)
    assert [name for name, _ in found(file, labels=UNLABELLED)[0]] == ["7/a.png", "b.x.png"]


def test_shards_with_the_same_keys(tmp_path: Path) -> None:
    for k in range(2):
        write_tar(tmp_path / "d" / f"{k:04d}.tar", {"0.png": png(k), "0.cls": "3"})
    assert [name for name, _ in found(tmp_path / "d")[0]] == [
        "3/00000000_0.png",
        "3/00000001_0.png",
    ]
    for split in ("train", "val"):
        write_tar(
            tmp_path / "e" / f"set-{split}-0.tar", {f"{split}.png": png(), f"{split}.cls": "1"}
        )
    assert found(tmp_path / "e")[0] == [("1/val.png", 1)]


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "cat.tar", {"../../etc/cat/../x.png": png(), "/b.png": png(1)})
    records, _ = find_records(file, labels="rank")
    assert all(".." not in record.image_id.split("/") for record in records)
    assert not any(record.image_id.startswith("/") for record in records)


def test_an_archive_that_ends_early(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "cat.tar", {f"{k}.png": png(k) for k in range(200)})
    records, _ = find_records(file)
    last = max(record.part.offset for record in records if record.part is not None)  # type: ignore[attr-defined]
    with file.open("r+b") as opened:
        opened.truncate(last + 10)
    whole = {record.image_id: record for record in records}
    with pytest.raises(UnreadableImageError, match="the archive ends before it"):
        whole["cat/199.png"].read()
    with pytest.raises(InputError, match=r"not a sound tar archive|unexpected end|unreadable"):
        list(ImageFolderData(file, resize=None, crop=None))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("val.txt", f"{VALIDATION} 1000\n", r"line 1: expected a class in 0 \.\. 999, got '1000'"),
        ("val.txt", "x.png 1\n", "line 1: expected ILSVRC2012_val_00000001.JPEG and a class"),
        ("val.txt", "ILSVRC2012_val_00000002.JPEG 5", "has no label of 1 images of .*val_00000001"),
        ("LOC_val_solution.csv", "ImageId,PredictionString\nx,y\n", "line 2: expected ILSVRC"),
        ("ILSVRC2012_validation_ground_truth.txt", "1\n2\n", "expected 50,000 labels, got 2"),
        ("ILSVRC2012_validation_ground_truth.txt", "1\n" * 50_000, "meta.mat, which is not there"),
    ],
)
def test_lists_of_labels_that_do_not_hold(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    save(tmp_path / "val" / VALIDATION, random_pixels(0))
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        find_records(tmp_path / "val")


def test_a_meta_of_something_else(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    save(tmp_path / VALIDATION, random_pixels(0))
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n" * 50_000)
    scipy_io.savemat(tmp_path / "meta.mat", {"other": 1})
    with pytest.raises(InputError, match=r"meta\.mat is not the meta\.mat of ILSVRC 2012"):
        find_records(tmp_path)


def test_a_flat_folder_says_where_labels_are_from(tmp_path: Path, caplog: Any) -> None:
    save(tmp_path / "val" / VALIDATION, random_pixels(0))
    save(tmp_path / "val" / "other.png", random_pixels(0))
    (tmp_path / "val.txt").write_text(f"{VALIDATION} n01751748\n")
    assert found(tmp_path / "val")[0] == [(f"n01751748/{VALIDATION}", 65)]
    assert f"labels of {tmp_path / 'val'} from {tmp_path / 'val.txt'}" in caplog.text
    assert "left out 1 others" in caplog.text


def test_manifests_without_labels(tmp_path: Path) -> None:
    save(tmp_path / "b.png", random_pixels(0))
    (tmp_path / "l.csv").write_text("path\nb.png\n")
    assert found(tmp_path / "l.csv", labels=UNLABELLED)[0] == [("b.png", 0)]
    with pytest.raises(InputError, match="line 1: expected the header path,label, got 'path'"):
        find_records(tmp_path / "l.csv")


def _tar_of(tmp_path: Path, n: int = 4) -> tuple[Path, list[int]]:
    """Return an archive of class folders, and where its headers lie."""
    file = write_tar(tmp_path / "a.tar", {f"{k % 2}/{k}.png": png(k) for k in range(n)})
    with tarfile.open(file) as archive:
        return file, [member.offset for member in archive]


@pytest.mark.parametrize("fault", ["cut between files", "damaged header", "two archives"])
def test_an_archive_that_tarfile_reads_in_part_is_refused(tmp_path: Path, fault: str) -> None:
    file, offsets = _tar_of(tmp_path)
    raw = file.read_bytes()
    damaged = raw[: offsets[2] + 150] + b"\xff" + raw[offsets[2] + 151 :]
    file.write_bytes(
        {
            "cut between files": raw[: offsets[2]],
            "damaged header": damaged,
            "two archives": raw + raw,
        }[fault]
    )
    with pytest.raises(InputError, match=r"cut or damaged at byte .*, or several archives"):
        find_records(file)


def test_a_header_of_negative_size_is_refused(tmp_path: Path) -> None:
    file, offsets = _tar_of(tmp_path)
    raw = file.read_bytes()
    header = bytearray(tarfile.TarInfo("0/n.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    file.write_bytes(raw[: offsets[1]] + bytes(header) + raw[offsets[1] :])
    with pytest.raises(InputError, match=r"not a sound tar archive"):
        find_records(file)


def test_links_in_an_archive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("0/a.png")
        info.size = len(png())
        archive.addfile(info, io.BytesIO(png()))
        for name, kind in (("1/same.png", tarfile.LNKTYPE), ("1/else.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0/a.png"
            archive.addfile(info)
    records, _ = find_records(tmp_path / "a.tar")
    assert [(one.image_id, one.read()) for one in records] == [
        ("0/a.png", png()),
        ("1/same.png", png()),
    ]
    assert "left out 1 links and images of other formats" in caplog.text
    assert "1/else.png" in caplog.text


def test_a_mask_is_no_image_of_its_sample(tmp_path: Path) -> None:
    sample: dict[str, bytes | str] = {"x.jpg": png(), "x.seg.png": png(1), "x.cls": "3"}
    with pytest.raises(InputError, match=r"one sample has the images x.jpg and x.seg.png"):
        find_records(write_tar(tmp_path / "a.tar", sample))


def test_notes_nested_too_deeply(tmp_path: Path) -> None:
    sample: dict[str, bytes | str] = {"x.jpg": png(), "x.json": "[" * 100_000}
    with pytest.raises(InputError, match=r"the image x\.jpg has no label"):
        find_records(write_tar(tmp_path / "a.tar", sample))


@pytest.mark.parametrize(
    "line", ["{}\t5", "  {}   5  ", "\ufeff{} 5\r\n", "{} 5\n\n", "{0} 5\n{0} 5"]
)
def test_forms_of_val_txt(tmp_path: Path, line: str) -> None:
    save(tmp_path / VALIDATION.replace("JPEG", "png"), random_pixels(0))
    (tmp_path / "val.txt").write_text(line.format(VALIDATION), encoding="utf-8", newline="")
    assert [label for _, label in found(tmp_path)[0]] == [5]


def test_two_classes_of_one_image_are_refused(tmp_path: Path) -> None:
    save(tmp_path / VALIDATION.replace("JPEG", "png"), random_pixels(0))
    (tmp_path / "val.txt").write_text(f"{VALIDATION} 5\n{VALIDATION} 6\n")
    with pytest.raises(InputError, match=r"val.txt, line 2: another class of ILSVRC2012_val_0000"):
        find_records(tmp_path)


@pytest.mark.parametrize("held", ["ILSVRC2012_val_00000002.JPEG 5\n", "junk"])
def test_a_list_is_not_needed_where_nobody_reads_labels(tmp_path: Path, held: str) -> None:
    name = VALIDATION.replace("JPEG", "png")
    save(tmp_path / name, random_pixels(0))
    (tmp_path / "val.txt").write_text(held)
    with pytest.raises(InputError, match=r"val\.txt"):
        find_records(tmp_path)
    assert found(tmp_path, labels=UNLABELLED)[0] == [(name, 0)]
    (tmp_path / "val.txt").write_text(f"{VALIDATION} 5\n")  # a corrupted set is found by its class
    assert found(tmp_path, labels=UNLABELLED)[0] == [(f"{WNIDS[5]}/{name}", 0)]


def test_damaged_lists_of_labels(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    save(tmp_path / VALIDATION.replace("JPEG", "png"), random_pixels(0))
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n" * 50_000)
    (tmp_path / "meta.mat").touch()
    with pytest.raises(InputError, match=r"is not the meta.mat of ILSVRC 2012"):
        find_records(tmp_path)
    kaggle = "ImageId,PredictionString\nILSVRC2012_val_00000001," + "n01440764 " * 20_000
    (tmp_path / "LOC_val_solution.csv").write_text(kaggle)
    with pytest.raises(InputError, match=r"cannot read the labels of .*LOC_val_solution.csv"):
        find_records(tmp_path)


def test_a_validation_image_beside_class_folders_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / WNIDS[3] / "a.png", random_pixels(0))
    save(tmp_path / VALIDATION.replace("JPEG", "png"), random_pixels(1))
    (tmp_path / "val.txt").write_text(f"{VALIDATION} 5\n")
    assert found(tmp_path)[0] == [(f"{WNIDS[3]}/a.png", 3)]


def test_damaged_labels_of_parquet_are_one_line(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    labels = arrow.array([b"\xff\xfe"]).view(arrow.string())  # no UTF-8
    parquet.write_table(arrow.table({"image": [png()], "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet is not a sound Parquet file: .*utf-8"):
        find_records(tmp_path / "a.parquet")
    file = write_parquet(tmp_path / "b.parquet", {"label": [1] * 9, "image": [png()] * 9})
    raw = bytearray(file.read_bytes())
    raw[4:40] = b"\xff" * 36
    file.write_bytes(raw)
    with pytest.raises(InputError, match=r"b\.parquet is not a sound Parquet file") as caught:
        find_records(file)
    assert "\n" not in str(caught.value)


def test_annotations_of_tiny_imagenet_with_a_mark_and_empty_lines(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", random_pixels(0))
    notes = f"\ufeffa.png\t{WNIDS[3]}\t0\t0\r\n\r\n"
    (tmp_path / "val_annotations.txt").write_text(notes, encoding="utf-8", newline="")
    assert found(tmp_path)[0] == [(f"{WNIDS[3]}/a.png", 3)]


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "-1024"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
    ],
)
def test_headers_of_archives_that_cannot_hold_are_one_line(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("0/a.png")
        info.size, info.pax_headers = len(png()), headers
        archive.addfile(info, io.BytesIO(png()))
    with pytest.raises(InputError, match=r"a\.tar is not a sound tar archive"):
        find_records(tmp_path / "a.tar")
