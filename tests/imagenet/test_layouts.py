"""Every layout of images on disk is read as class folders are, or refused in one clear line."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import gathered, random_pixels
from PIL import Image

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.labels import known_map
from iaside_plugins.adapters.imagenet.records import find_records
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
