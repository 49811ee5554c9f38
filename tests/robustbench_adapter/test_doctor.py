"""`iaside doctor`: every defect of a tree is named in one line with its mend; sound trees pass."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import random_pixels, save, save_floats
from robustbench_layout import make_cifar, make_folder

from iaside_plugins.adapters.models.robustbench_zoo import ORDER
from iaside_plugins.adapters.robustbench_adapter import doctor
from iaside_plugins.adapters.robustbench_adapter.doctor import NOTE, OK, PROBLEM, diagnose
from iaside_plugins.cli import command as cli
from iaside_plugins.errors import InputError

WNIDS = ("n01440764", "n01443537")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A data folder with all trees of ImageNet, two classes of one image each, and CIFAR-10."""
    root = tmp_path / "data"
    image = save(tmp_path / "x.png", random_pixels(1, 8, 8))
    for wnid in WNIDS:
        folders = [root / "val" / wnid]
        for part, names in (("ImageNet-C", "corruptions"), ("ImageNet-3DCC", "corruptions_3d")):
            folders += [
                root / part / name / str(s) / wnid for name in ORDER[names] for s in range(1, 6)
            ]
        for folder in folders:
            folder.mkdir(parents=True)
            shutil.copy(image, folder / "a.png")
    make_cifar(root, 10)
    return root


def lines(root: Path, kind: str) -> list[str]:
    return [str(finding) for finding in diagnose(root) if finding.kind == kind]


def test_a_sound_tree(tree: Path) -> None:
    assert lines(tree, PROBLEM) == []
    assert lines(tree, OK) == [
        f"ok       val: 2 images in 2 classes; iaside profile MODEL --data {tree / 'val'}",
        "ok       ImageNet-C: 15 corruptions at 5 severities, 2 images each",
        "ok       ImageNet-3DCC: 12 corruptions at 5 severities, 2 images each",
        "ok       cifar-10-batches-py: 10 test images",
        "ok       CIFAR-10-C: 15 corruptions at 5 severities",
    ]
    notes = lines(tree, NOTE)
    assert "998 of 1000 class folders are missing" in notes[0]
    assert all("images of RobustBench's list" in note for note in notes[1:])


def test_nothing_is_ok_beside_its_problem(tree: Path, tmp_path: Path) -> None:
    (tree / f"val/{WNIDS[1]}/a.png").write_bytes(b"x")
    assert f"val: {WNIDS[1]}/a.png cannot be decoded" in lines(tree, PROBLEM)[0]
    assert not any("val" in line for line in lines(tree, OK))
    for name in ("airplane", "bird"):  # classes of CIFAR-10
        save(tmp_path / "d" / name / "0000.png", random_pixels(1, 8, 8))
    assert f"iaside profile MODEL --data {tmp_path / 'd'}" in lines(tmp_path / "d", OK)[0]
    (tmp_path / "d/bird/0000.png").write_bytes(b"x")
    assert "bird/0000.png cannot be decoded" in lines(tmp_path / "d", PROBLEM)[0]
    assert lines(tmp_path / "d", OK) == []


def test_a_flat_folder_is_told_what_to_do(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.png", random_pixels(1, 8, 8))
    (said,) = lines(tmp_path / "d", PROBLEM)
    assert "sort them into class folders" in said
    assert said.endswith("--labels predicted takes the model's own predictions")


@pytest.mark.parametrize("part", ["ImageNet-C", "ImageNet-3DCC", "CIFAR-10-C", "val"])
def test_a_part_alone(tree: Path, part: str) -> None:
    assert len(lines(tree / part, OK)) == 1
    assert lines(tree / part, PROBLEM) == []


def _strip(root: Path, pattern: str) -> None:
    for path in root.glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _moved(root: Path) -> None:
    (root / "ImageNet-C/weather").mkdir()
    (root / "ImageNet-C/fog").rename(root / "ImageNet-C/weather/fog")


BROKEN = {
    "no class folders": (lambda r: _strip(r, "val/*"), "val: holds no class folders"),
    "strange folder": (lambda r: (r / "val/cats").mkdir(), "cats are no ImageNet classes"),
    "empty": (lambda r: _strip(r, "val/*/*"), "its class folders are empty"),
    "damaged": (lambda r: (r / f"val/{WNIDS[0]}/a.png").write_bytes(b"x"), "a.png cannot be deco"),
    "floats": (
        lambda r: save_floats(r / f"val/{WNIDS[0]}/a.png"),
        f"val: {WNIDS[0]}/a.png: expected pixels of 8 or 16 bits, got TIFF of mode 'F'",
    ),
    "corrupted floats": (
        lambda r: save_floats(r / f"ImageNet-C/snow/2/{WNIDS[1]}/a.png"),
        "a.png of snow/2: expected pixels of 8 or 16 bits",
    ),
    "corruption": (lambda r: _strip(r, "ImageNet-C/fog"), "ImageNet-C: fog is missing"),
    "3D": (lambda r: _strip(r, "ImageNet-3DCC/flash"), "ImageNet-3DCC: flash is missing"),
    "severity": (lambda r: _strip(r, "ImageNet-C/fog/3"), "fog has no severity 3"),
    "class": (
        lambda r: _strip(r, f"ImageNet-C/snow/2/{WNIDS[1]}"),
        f"snow/2 lacks the class folders {WNIDS[1]}",
    ),
    "image": (
        lambda r: _strip(r, f"ImageNet-C/snow/2/{WNIDS[1]}/a.png"),
        f"snow/2 has fewer images of {WNIDS[1]}",
    ),
    "class in val alone": (
        lambda r: _strip(r, f"ImageNet-C/*/*/{WNIDS[1]}"),
        f"and 72 more lack 1 of the 2 clean images ({WNIDS[1]}/a)",
    ),
    "junk": (
        lambda r: (r / f"ImageNet-C/snow/2/{WNIDS[1]}/a.png").write_bytes(b"x"),
        "a.png of snow/2 cannot be decoded",
    ),
    "archive": (lambda r: _strip(r, "cifar-10-batches-py/*"), "has no test_batch"),
    "pickle": (lambda r: (r / "cifar-10-batches-py/test_batch").write_bytes(b"x"), "is not the t"),
    "array": (lambda r: _strip(r, "CIFAR-10-C/fog.npy"), "CIFAR-10-C: "),
    "labels": (
        lambda r: np.save(r / "CIFAR-10-C/labels.npy", np.zeros(50, int)),
        "not the same images",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_defect_has_its_line(tree: Path, case: str) -> None:
    change, fragment = BROKEN[case]
    change(tree)
    found = lines(tree, PROBLEM)
    assert any(fragment in line for line in found), found
    assert all("\n" not in line and "; " in line for line in found)  # what, and how to mend it


def test_groups_are_a_note_for_robustbench(tree: Path) -> None:
    _moved(tree)
    assert lines(tree, PROBLEM) == []
    assert any("fog lie in group folders" in line for line in lines(tree, NOTE))


def test_class_folders_of_cifar_and_manifests_are_known(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", ("airplane", "cat"), 2)
    expected = "ok       class folders: 4 images in 2 classes of cifar10; iaside profile MODEL "
    assert lines(root, OK) == [f"{expected}--data {root}"]
    manifest = tmp_path / "images.csv"
    manifest.write_text("path,label\ndata/cat/0.png,3\ndata/cat/1.png,3\n")
    expected = "ok       images.csv: 2 images in 1 classes; iaside profile MODEL --data "
    assert lines(manifest, OK) == [f"{expected}{manifest}"]
    (root / "cat/1.png").write_bytes(b"x")
    for source in (root, manifest):
        (line,) = lines(source, PROBLEM)
        assert "1.png cannot be decoded" in line
    save_floats(root / "cat/1.png")
    for source in (root, manifest):
        (line,) = lines(source, PROBLEM)
        assert "1.png: expected pixels of 8 or 16 bits" in line
    manifest.write_text("path,label\ndata/cat/9.png,3\n")
    (line,) = lines(manifest, PROBLEM)
    assert "there is no file" in line


def test_images_beside_robustbenchs_list_need_no_corrupted_version(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "robustbench_ids", lambda: (f"{WNIDS[0]}/a.png",))
    _strip(tree, f"ImageNet-C/*/*/{WNIDS[1]}")
    assert lines(tree, PROBLEM) == []


def test_nothing_known(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, PROBLEM)
    assert "expected some of val/<wnid>/<file>" in line
    with pytest.raises(InputError, match="no folder"):
        diagnose(tmp_path / "nowhere")


@pytest.mark.parametrize("broken", [False, True])
def test_the_command(
    tree: Path, broken: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if broken:
        _strip(tree, "ImageNet-C/fog/3")
    file = tree.parent / "found.json"
    monkeypatch.setattr(sys, "argv", ["iaside", "doctor", str(tree), "--json", str(file)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert end.value.code == (2 if broken else 0)
    assert err == ("iaside: 1 problems in data; each is named above\n" if broken else "")
    found = json.loads(file.read_text())["findings"]
    assert len(out.splitlines()) == len(found) + 1
    assert out.splitlines()[-1] == f"wrote {file}"
    assert sum(finding["kind"] == PROBLEM for finding in found) == broken


def test_classes_of_the_users_own_are_no_problem(tmp_path: Path) -> None:
    for name in ("ring", "disc"):
        save(tmp_path / "data" / name / "0.png", random_pixels(1, 8, 8))
    (found,) = diagnose(tmp_path / "data")
    assert found.kind == NOTE
    assert "2 classes of your own (disc, ring)" in found.text
    assert "--classes FILE" in found.text
    assert "classes=" not in found.text
