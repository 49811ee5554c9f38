"""Every layout of images on disk is read as class folders are, or refused in one clear line."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import gathered, make_tree, random_pixels, save, save_floats
from PIL import Image
from robustbench_layout import make_cifar

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.imagenet.cifar import read_cifar
from iaside_plugins.adapters.imagenet.corruption_sets import distributed
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.labels import known_map
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import find_records
from iaside_plugins.adapters.robustbench_adapter.doctor import OK, PROBLEM, diagnose
from iaside_plugins.cli import command
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.errors import InputError

FILES = {  # of ImageNet's validation images: name -> WordNet id
    "ILSVRC2012_val_00000001.JPEG": "n01751748",
    "ILSVRC2012_val_00000293.JPEG": "n01440764",
    "ILSVRC2012_val_00003014.JPEG": "n01440764",
    "ILSVRC2012_val_00050000.JPEG": "n15075141",
}
INDEX = known_map("imagenet").index


def _bytes(name: str) -> bytes:
    """A JPEG file of 24 x 24 pixels of noise."""
    held = io.BytesIO()
    pixels = random_pixels(list(FILES).index(name), 24, 24)
    Image.fromarray(pixels).save(held, "JPEG", quality=95)
    return held.getvalue()


def _write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def _class_folders(root: Path) -> Path:
    for name, wnid in FILES.items():
        _write(root / wnid / name, _bytes(name))
    return root


def _flat(root: Path) -> Path:
    for name in FILES:
        _write(root / "val" / name, _bytes(name))
    return root / "val"


def _val_txt(root: Path) -> Path:
    lines = [f"{name} {INDEX[wnid]}" for name, wnid in FILES.items()]
    _write(root / "val.txt", "\n".join(lines) + "\n")
    return _flat(root)


def _kaggle(root: Path) -> Path:
    rows = [f"{Path(name).stem},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for name, wnid in FILES.items()]
    _write(root / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *rows]))
    return _flat(root)


def _devkit(root: Path) -> Path:
    scipy_io = pytest.importorskip("scipy.io")
    wnids = list(INDEX)[::-1]  # the development kit's order is not that of the WordNet ids
    numbers = ["7"] * 50_000
    for name, wnid in FILES.items():
        numbers[int(Path(name).stem[-8:]) - 1] = str(wnids.index(wnid) + 1)
    data = root / "ILSVRC2012_devkit_t12" / "data"
    _write(data / "ILSVRC2012_validation_ground_truth.txt", "\n".join(numbers) + "\n")
    synsets = np.zeros(1000, [("ILSVRC2012_ID", "f8"), ("WNID", "O")])
    synsets["ILSVRC2012_ID"], synsets["WNID"] = np.arange(1, 1001), wnids
    scipy_io.savemat(data / "meta.mat", {"synsets": synsets})
    return _flat(root)


def _manifest(root: Path) -> Path:
    _class_folders(root)
    rows = [f"{wnid}/{name},{wnid}" for name, wnid in sorted(FILES.items(), key=lambda x: x[::-1])]
    return _write(root / "list.csv", "\n".join(["path,label", *rows]))


def _parquet(root: Path, *, paths: str = "{stem}_{wnid}.JPEG", groups: int = 2) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images, labels = [], []
    for name, wnid in FILES.items():
        images.append({"bytes": _bytes(name), "path": paths.format(stem=name[:-5], wnid=wnid)})
        labels.append(INDEX[wnid])
    table = arrow.table({"image": images, "label": labels})
    # As "tench, Tinca tinca" in the schema of imagenet-1k.
    names = [name.replace("_", " ") + ", and more" for name in known_map("imagenet").space.names]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    stored = json.dumps({"info": {"features": features}})
    table = table.replace_schema_metadata({"huggingface": stored})
    (root / "data").mkdir(parents=True)
    half = len(FILES) // 2
    for k, part in enumerate((table[:half], table[half:])):
        file = root / "data" / f"validation-0000{k}-of-00002.parquet"
        parquet.write_table(part, file, row_group_size=groups)
    parquet.write_table(table[:1], root / "data" / "train-00000-of-00001.parquet")
    return root


def _add(archive: tarfile.TarFile, name: str, data: bytes | str) -> None:
    data = data.encode() if isinstance(data, str) else data
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _tar_of_folders(root: Path) -> Path:
    root.mkdir(parents=True)
    with tarfile.open(root / "val.tar", "w") as archive:
        for name, wnid in FILES.items():
            _add(archive, f"./imagenet/val/{wnid}/{name}", _bytes(name))
    return root / "val.tar"


def _tar_a_class(root: Path) -> Path:
    root.mkdir(parents=True)
    for wnid in set(FILES.values()):
        with tarfile.open(root / f"{wnid}.tar", "w") as archive:
            for name in (name for name in FILES if FILES[name] == wnid):
                _add(archive, name, _bytes(name))
    return root


def _tar_of_validation(root: Path) -> Path:
    _val_txt(root)
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        for name in FILES:
            _add(archive, name, _bytes(name))
    return root / "ILSVRC2012_img_val.tar"


def _webdataset(root: Path) -> Path:
    root.mkdir(parents=True)
    for k, (name, wnid) in enumerate(FILES.items()):
        with tarfile.open(
            root / f"set-val-{k // 2:04d}.tar", "w" if k % 2 == 0 else "a"
        ) as archive:
            _add(archive, f"{k:08d}.jpg", _bytes(name))
            _add(archive, f"{k:08d}.json", json.dumps({"label": wnid, "filename": f"val/{name}"}))
    return root


SAME = {
    "class folders": _class_folders,
    "val.txt": _val_txt,
    "Kaggle": _kaggle,
    "development kit": _devkit,
    "manifest": _manifest,
    "parquet": _parquet,
    "parquet file names": lambda root: _parquet(root, paths="{stem}.JPEG", groups=1),
    "tar of class folders": _tar_of_folders,
    "tar a class": _tar_a_class,
    "tar of the validation images": _tar_of_validation,
    "webdataset": _webdataset,
}


def _importance(data: ImageFolderData) -> torch.Tensor:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(108, 1000))
    protocol = Protocol(n_bands=3)
    return torch.as_tensor(spectral_importance(net.eval(), data, protocol).per_image)


@pytest.mark.parametrize("layout", SAME)
def test_layouts_of_the_same_images_give_the_same_results(tmp_path: Path, layout: str) -> None:
    options: dict[str, Any] = {"resize": None, "crop": None, "batch_size": 3}
    expected = ImageFolderData(_class_folders(tmp_path / "folders"), **options)
    data = ImageFolderData(SAME[layout](tmp_path / "other"), **options)
    assert (data.label_space.name, data.label_space.n_classes) == ("imagenet", 1000)
    assert [r.label for r in data.records] == [0, 0, 65, 999]
    for got, wanted in zip(gathered(data), gathered(expected), strict=True):
        assert torch.equal(got, wanted) if isinstance(got, torch.Tensor) else got == wanted
    assert torch.equal(_importance(data), _importance(expected))
    records = pickle.loads(pickle.dumps(data.records))  # for worker processes
    assert [record.read() for record in records] == [record.read() for record in data.records]


def _tiny(root: Path, side: int = 64) -> Path:
    """Tiny-ImageNet's validation images, and Tiny-ImageNet-C beside it."""
    lines = []
    for k, wnid in enumerate(("n02123045", "n01443537", "n02123045")):
        name = f"val_{k}.PNG"
        save(root / "tiny-imagenet-200" / "val" / "images" / name, random_pixels(k, side, side))
        lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
        for corruption, severity in itertools.product(CORRUPTIONS, range(1, 6)):
            file = root / "Tiny-ImageNet-C" / corruption / str(severity) / wnid / f"val_{k}.PNG"
            save(file, random_pixels(100 + k + severity, side, side))
    _write(root / "tiny-imagenet-200" / "val" / "val_annotations.txt", "".join(lines))
    _write(root / "tiny-imagenet-200" / "wnids.txt", "n02123045\nn01443537\n")
    return root


def _corrupted(data: ImageFolderData, root: Path, own: Preprocessing, cell: tuple[str, int]) -> Any:
    plan = distributed(root, data, own, seed=0)
    assert plan.names == CORRUPTIONS
    return plan, gathered(plan.corrupted(*cell)), plan.images(None, 0)  # type: ignore[arg-type]


def test_tiny_imagenet_and_its_corrupted_images(tmp_path: Path, caplog: Any) -> None:
    root = _tiny(tmp_path)
    options: dict[str, Any] = {"resize": 64, "crop": 64}
    data = ImageFolderData(root / "tiny-imagenet-200", **options)
    assert "took the validation images of Tiny-ImageNet" in caplog.text
    expected_ids = ["n01443537/val_1.PNG", "n02123045/val_0.PNG", "n02123045/val_2.PNG"]
    _, labels, ids = gathered(data)
    assert (ids, labels.tolist()) == (expected_ids, [1, 281, 281])
    assert data.label_space.name == "imagenet"
    ranked, _ = find_records(root / "tiny-imagenet-200" / "val", labels="rank")
    assert [record.label for record in ranked] == [0, 1, 1]
    plan, (images, _, ids), plain = _corrupted(
        data, root / "Tiny-ImageNet-C", Preprocessing(64, 64), ("fog", 2)
    )
    assert (ids, plain) == (expected_ids, None)
    assert np.array_equal(
        (images[1] * 255).round().byte().permute(1, 2, 0), random_pixels(102, 64, 64)
    )
    assert (plan.settings["size"], plan.settings["constants"]) == (64, None)
    _, (images, _, _), plain = _corrupted(
        data, root / "Tiny-ImageNet-C", Preprocessing(96, 80), ("fog", 2)
    )
    assert images.shape[2:] == (80, 80)
    assert gathered(plain)[0].shape[2:] == (80, 80)
    photos = ImageFolderData(_class_folders(tmp_path / "photos"), **options)
    with pytest.raises(InputError, match="4 of 4 images are not in"):
        distributed(root / "Tiny-ImageNet-C", photos, Preprocessing(64, 64), seed=0)
    save_floats(root / "Tiny-ImageNet-C/gaussian_noise/1/n01443537/val_1.PNG")
    with pytest.raises(InputError, match=r"val_1\.PNG: expected pixels of 8 or 16"):
        distributed(root / "Tiny-ImageNet-C", data, Preprocessing(64, 64), seed=0)


def test_a_tree_needs_the_severities_that_are_asked_for(tmp_path: Path) -> None:
    root = _tiny(tmp_path)
    data = ImageFolderData(root / "tiny-imagenet-200", resize=64, crop=64)
    tree = root / "Tiny-ImageNet-C"
    for corruption, severity in itertools.product(CORRUPTIONS, range(1, 6)):
        if (corruption, severity) not in (("fog", 1), ("fog", 3), ("snow", 3)):
            shutil.rmtree(tree / corruption / str(severity))
    own = Preprocessing(64, 64)
    assert distributed(tree, data, own, 0, (3, 1)).names == ("fog",)
    assert distributed(tree, data, own, 0, (3,)).names == ("snow", "fog")
    lacking = r"with severities 1, 2; .* found snow \[3\]; fog \[1, 3\]"
    with pytest.raises(InputError, match=lacking):
        distributed(tree, data, own, 0, (1, 2))
    with pytest.raises(InputError, match="none of the 15"):
        distributed(tree, data, own, 0)


@pytest.mark.parametrize("side", [224, 250])
def test_a_tree_and_clean_images_of_one_size_go_one_way(tmp_path: Path, side: int) -> None:
    """Corrupted images that are copies of the clean ones are no perturbation."""
    clean = make_tree(tmp_path / "clean", n=1, height=side, width=side)
    own = Preprocessing(256, 224)
    shutil.copytree(clean, tmp_path / "tree" / "fog" / "1")
    data = ImageFolderData(clean, resize=256, crop=224)
    plan = distributed(tmp_path / "tree", data, own, 0, (1,))
    plain = plan.images(None, 0)
    images, _, _ = gathered(plan.corrupted("fog", 1))  # type: ignore[arg-type]
    assert torch.equal(images, gathered(plain)[0])  # type: ignore[arg-type]
    assert images.shape[2:] == (224, 224)


def test_a_tree_that_is_no_crop_of_the_clean_images_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree" / "fog" / "1"
    clean = make_tree(tmp_path / "clean", n=2, height=230, width=260)
    data = ImageFolderData(clean, resize=256, crop=224)
    for height, width in ((230, 260), (299, 299)):
        make_tree(tree, n=2, height=height, width=width)
        with pytest.raises(InputError, match=f"holds images of {width} x {height} pixels"):
            distributed(tmp_path / "tree", data, Preprocessing(256, 224), 0, (1,))
    for one in sorted(make_tree(tree, n=2, height=224, width=224).rglob("*.png"))[1:]:
        shutil.copy(one, clean / one.relative_to(tree))  # an original may have the size of a crop
    assert distributed(tmp_path / "tree", data, Preprocessing(256, 224), 0, (1,)).names == ("fog",)


def test_the_archive_of_cifar_and_its_corrupted_arrays(tmp_path: Path) -> None:
    root = make_cifar(tmp_path, 10, CORRUPTIONS)
    data = ImageFolderData(root, resize=None, crop=None, n_images=6, seed=1)
    images, labels, ids = gathered(data)
    pixels, all_labels = read_cifar(root, "cifar10") or (None, None)
    rows = [int(name.removeprefix("test/")) for name in ids]
    assert len(rows) == 6
    assert rows == sorted(rows) != list(range(6))
    assert torch.equal(images, torch.tensor(pixels[rows]).permute(0, 3, 1, 2).float() / 255)
    assert labels.tolist() == all_labels[rows].tolist()
    plan, (images, _, got), plain = _corrupted(
        data, root / "CIFAR-10-C", Preprocessing(32, 32), ("fog", 3)
    )
    array = np.load(root / "CIFAR-10-C" / "fog.npy")[2 * len(all_labels) :][rows]
    assert torch.equal(images, torch.tensor(array).permute(0, 3, 1, 2).float() / 255)
    assert (got, plain, plan.settings["size"]) == (ids, None, 32)
    # Severities lie one after another, however many images of each there are.
    more = np.arange(100).reshape(100, 1, 1, 1) * np.ones((1, 32, 32, 3), np.uint8)
    np.save(root / "CIFAR-10-C" / "fog.npy", more.astype(np.uint8))
    _, (images, _, _), _ = _corrupted(data, root / "CIFAR-10-C", Preprocessing(32, 32), ("fog", 3))
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [2 * 20 + row for row in rows]
    np.save(root / "CIFAR-10-C" / "labels.npy", (all_labels + 1) % 10)
    with pytest.raises(InputError, match="does not begin with the labels of the 10 clean images"):
        distributed(root / "CIFAR-10-C", data, Preprocessing(32, 32), seed=0)
    with pytest.raises(InputError, match="give the archive of cifar10"):
        find_records(root / "CIFAR-10-C")
    (root / "cifar-100-python").mkdir()
    (root / "cifar-100-python" / "test").touch()
    with pytest.raises(InputError, match="give cifar-10-batches-py or cifar-100-python"):
        find_records(root)


@pytest.mark.parametrize(
    ("dataset", "first", "label", "n_classes"),
    [
        ("imagenet", "n01614925/imagenet_17_22.jpg", 22, 19),
        ("cifar10", "airplane/cifar10_03_0.png", 0, 8),
        ("cifar100", "apple/cifar100_09_0.png", 0, 18),
    ],
)
def test_images_of_foolbox(dataset: str, first: str, label: int, n_classes: int) -> None:
    pytest.importorskip("foolbox")
    records, space = find_records(f"foolbox:{dataset}")
    assert (len(records), space.name) == (20, dataset)
    assert (records[0].image_id, records[0].label) == (first, label)
    assert len({record.label for record in records}) == n_classes
    data = ImageFolderData(f"foolbox:{dataset}", resize=32, crop=32, n_images=3)
    assert sum(len(labels) for _, labels, _ in data) == 3


def test_images_of_foolbox_that_there_are_not() -> None:
    with pytest.raises(
        InputError, match=r"expected one of foolbox:imagenet, .*, got foolbox:mnist"
    ):
        find_records("foolbox:mnist")


def _tar_compressed(root: Path) -> Path:
    root.mkdir(parents=True)
    with tarfile.open(root / "val.tar.gz", "w:gz") as archive:
        _add(archive, "cat/a.jpg", b"")
    return root / "val.tar.gz"


def _plain_images(root: Path) -> Path:
    for k, name in enumerate(FILES):
        _write(root / f"{k}.jpg", _bytes(name))
    return root


def _corrupted_parquet(root: Path) -> Path:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    root.mkdir(parents=True)
    table = arrow.table({"image": [b""], "label": [1], "severity": [3]})
    parquet.write_table(table, root / "test.parquet")
    return root


def _nested(root: Path) -> Path:
    """As Tiny-ImageNet's training images: a folder below each class."""
    for name, wnid in FILES.items():
        _write(root / wnid / "images" / name, _bytes(name))
        _write(root / wnid / f"{wnid}_boxes.txt", "")
    return root


READ: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    **{name: (make, "4 images in 3 classes") for name, make in SAME.items()},
    "nested class folders": (_nested, "4 images in 3 classes"),
    "Tiny-ImageNet": (lambda root: _tiny(root) / "tiny-imagenet-200", "3 images in 2 classes"),
    "archive of CIFAR": (
        lambda root: make_cifar(root, 5, ()) / "cifar-10-batches-py",
        "5 test images",
    ),
    "images of Foolbox": (lambda root: "foolbox:cifar10", "20 images in 8 classes of cifar10"),
}
REFUSED = {
    "compressed tar": (_tar_compressed, "compressed (gzip), and its images cannot be read one"),
    "no labels": (_plain_images, "sort them into class folders, or give a CSV manifest"),
    "validation images without labels": (_flat, "put one of val.txt, LOC_val_solution.csv"),
    "corrupted images in parquet": (_corrupted_parquet, "corrupted images by its columns sever"),
}


def net(n_classes: int = 1000) -> torch.nn.Module:
    """Images of any size -> logits."""
    torch.manual_seed(0)
    pooled = torch.nn.AdaptiveAvgPool2d(6), torch.nn.Flatten()
    return torch.nn.Sequential(*pooled, torch.nn.Linear(108, n_classes)).eval()


def net_of_cifar() -> torch.nn.Module:
    return net(10)


Profiled = Callable[..., int]


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> Profiled:
    """Runs `iaside profile` on images; returns the exit code."""

    def run(data: Path | str, *more: object) -> int:
        which = "net_of_cifar" if "cifar" in str(data) else "net"
        given = [f"python:{__name__}:{which}", "--data", data, "--n-bands", 3, "--quiet", *more]
        monkeypatch.setattr("sys.argv", ["iaside", "profile", *map(str, given)])
        with pytest.raises(SystemExit) as end:
            command.main()
        return int(end.value.code or 0)

    return run


@pytest.mark.parametrize("layout", READ)
def test_profile_reads_it(tmp_path: Path, layout: str, profiled: Profiled) -> None:
    if layout == "images of Foolbox":
        pytest.importorskip("foolbox")
    data, out = READ[layout][0](tmp_path / "data"), tmp_path / "o.json"
    assert profiled(data, "--json", out) == 0
    found = json.loads(out.read_text())
    assert found["n_images"] == len(find_records(data)[0])
    if layout in SAME:
        assert profiled(_class_folders(tmp_path / "same"), "--json", tmp_path / "e.json") == 0
        assert (
            found["shapley_values"]
            == json.loads((tmp_path / "e.json").read_text())["shapley_values"]
        )


def test_profile_reads_images_without_labels(tmp_path: Path, profiled: Profiled) -> None:
    root, out = _plain_images(tmp_path / "data"), tmp_path / "o.json"
    assert profiled(root, "--labels", "predicted", "--json", out) == 0
    found = json.loads(out.read_text())
    assert (found["n_images"], found["label_space"]) == (4, "predicted")


@pytest.mark.parametrize("layout", READ)
def test_doctor_says_what_it_is(tmp_path: Path, layout: str) -> None:
    if layout == "images of Foolbox":
        pytest.importorskip("foolbox")
    make, expected = READ[layout]
    findings = diagnose(Path(make(tmp_path / "data")))
    assert any(one.kind == OK and expected in one.text for one in findings), findings
    assert not [one for one in findings if one.kind == PROBLEM]


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_not_read_is_said_in_one_line(
    tmp_path: Path, layout: str, profiled: Profiled, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = REFUSED[layout]
    root = make(tmp_path / "data")
    with pytest.raises(InputError) as refused:
        find_records(root)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert profiled(root) == 2
    err = capsys.readouterr().err
    assert err.startswith("iaside: ")
    assert err.count("\n") == 1
    problems = [one for one in diagnose(root) if one.kind == PROBLEM]
    assert len(problems) == 1
    assert expected in problems[0].text


def test_doctor_takes_a_flat_val_folder_in_a_data_folder(tmp_path: Path) -> None:
    _val_txt(tmp_path)
    findings = {one.kind: one.text for one in diagnose(tmp_path)}
    assert "RobustBench needs class folders" in findings["note"]
    assert (
        findings[OK]
        == f"4 images in 3 classes of imagenet; iaside profile MODEL --data {tmp_path / 'val'}"
    )
