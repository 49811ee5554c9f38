from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from image_files import WNIDS, gathered, make_tree, random_pixels, save

from iaside_plugins.adapters.imagenet import decoding as images_module
from iaside_plugins.adapters.imagenet.corrupted import CorruptedData
from iaside_plugins.adapters.imagenet.folders import ImageFolderData, ImageNetC
from iaside_plugins.adapters.imagenet.labels import LabelSpace
from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.errors import InputError, MissingExtraError


def test_batches_hold_the_files_in_order(tmp_path: Path) -> None:
    make_tree(tmp_path, n=3)
    data = ImageFolderData(tmp_path, resize=None, crop=None, batch_size=4)
    assert [len(images) for images, _, _ in data] == [4, 4, 1]
    images, labels, ids = gathered(data)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.is_contiguous()
    assert len(data) == 9
    assert ids == [record.image_id for record in data.records]
    assert labels.tolist() == [0] * 3 + [1] * 3 + [999] * 3
    for f in range(3):
        for k in range(3):
            pixels = torch.from_numpy(random_pixels(100 * f + k)).permute(2, 0, 1)
            assert torch.equal(images[3 * f + k], pixels.float() / 255)


def test_selection_and_label_space(tmp_path: Path) -> None:
    make_tree(tmp_path, n=5)
    every = ImageFolderData(tmp_path)
    few = ImageFolderData(tmp_path, n_images=4, seed=1)
    assert len(few) == 4
    assert set(few.records) < set(every.records)
    assert every.label_space.name == "imagenet"
    given = ImageFolderData(tmp_path, records=few.records, n_images=2)
    assert given.label_space == every.label_space
    assert set(given.records) < set(few.records)
    space = LabelSpace("mine", 2, ("a", "b"))
    assert ImageFolderData(None, records=few.records, label_space=space).label_space is space
    assert ImageFolderData(None, records=few.records).label_space.name == "records"
    with pytest.raises(InputError, match="a folder, a CSV manifest or records, got none"):
        ImageFolderData(None)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    data = ImageFolderData(make_tree(tmp_path), resize=None, crop=20, grey=True)
    images, _, _ = gathered(data)
    assert images.shape == (9, 1, 20, 20)
    assert data.grey


def test_manifests_are_read_too(tmp_path: Path) -> None:
    make_tree(tmp_path, folders=("q",), n=2)
    (tmp_path / "l.csv").write_text("path,label\nq/img_1.png,5\nq/img_0.png,6\n")
    _, labels, ids = gathered(ImageFolderData(tmp_path / "l.csv", resize=None, crop=None))
    assert (labels.tolist(), ids) == ([5, 6], ["q/img_1.png", "q/img_0.png"])


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"-e '\.\[imagenet\]'"):
        ImageFolderData(tmp_path)
    with pytest.raises(MissingExtraError, match="Pillow"):
        images_module.pillow()


# ---- ImageNet-C trees ---------------------------------------------------------------------------

LAYOUTS = {
    "flat": "{corruption}",
    "grouped": "noise/{corruption}",
    "named": "ImageNet-C/{corruption}",
    "named and grouped": "ImageNet-C/noise/{corruption}",
    "3DCC": "ImageNet-3DCC/{corruption}",
}


def _corrupted_tree(root: Path, layout: str, suffix: str = ".png", size: int = 224) -> Path:
    for severity in (1, 3):
        folder = root / LAYOUTS[layout].format(corruption="shot_noise") / str(severity)
        for f, wnid in enumerate(WNIDS):
            for k in range(2):
                pixels = random_pixels(1000 * severity + 10 * f + k, size, size)
                save(folder / wnid / f"img_{k}{suffix}", pixels)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trees_of_every_layout_give_the_images_of_the_records(tmp_path: Path, layout: str) -> None:
    clean = ImageFolderData(make_tree(tmp_path / "clean", n=2))
    root = _corrupted_tree(tmp_path / "c", layout)
    assert ImageNetC.available(root) == {"shot_noise": [1, 3]}
    chosen = [clean.records[k] for k in (0, 3, 5)]
    images, labels, ids = gathered(ImageNetC(root, "shot_noise", 3, records=chosen, batch_size=2))
    assert ids == [record.image_id for record in chosen]
    assert labels.tolist() == [0, 1, 999]
    for image, seed in zip(images, (3000, 3011, 3021), strict=True):
        expected = torch.from_numpy(random_pixels(seed, 224, 224)).permute(2, 0, 1).float() / 255
        assert torch.equal(image, expected)


def test_endings_do_not_matter_and_larger_files_are_cropped(tmp_path: Path) -> None:
    clean = ImageFolderData(make_tree(tmp_path / "clean", n=2))
    root = _corrupted_tree(tmp_path / "c", "flat", suffix=".PPM", size=227)
    images, _, ids = gathered(ImageNetC(root, "shot_noise", 1, records=clean.records))
    assert ids[0].endswith(".png")
    expected = random_pixels(1000, 227, 227)[2:226, 2:226]  # round(1.5) is 2
    assert torch.equal(images[0], torch.from_numpy(expected).permute(2, 0, 1).float() / 255)


def test_trees_can_be_resized_for_the_model_or_read_as_grey(tmp_path: Path) -> None:
    clean = ImageFolderData(make_tree(tmp_path / "clean", n=1))
    root = _corrupted_tree(tmp_path / "c", "flat")
    data = ImageNetC(root, "shot_noise", 1, records=clean.records, output_size=128, grey=True)
    assert gathered(data)[0].shape == (3, 1, 128, 128)


def test_images_without_a_class_folder_are_found_by_their_label(tmp_path: Path) -> None:
    make_tree(tmp_path / "clean" / "val", folders=("all",), n=2)
    (tmp_path / "clean" / "l.csv").write_text(f"path,label\nval/all/img_1.png,{WNIDS[1]}\n")
    clean = ImageFolderData(tmp_path / "clean" / "l.csv")
    root = _corrupted_tree(tmp_path / "c", "flat")
    data = ImageNetC(root, "shot_noise", 1, records=clean.records)
    assert data.records[0].path.parent.name == WNIDS[1]
    assert data.records[0].image_id == "val/all/img_1.png"


def test_what_a_tree_lacks_is_said(tmp_path: Path) -> None:
    clean = ImageFolderData(make_tree(tmp_path / "clean", n=3))  # one per class more than the tree
    root = _corrupted_tree(tmp_path / "c", "grouped")
    with pytest.raises(InputError, match=r"no 'fog' of severity 1; .*found shot_noise \[1, 3\]"):
        ImageNetC(root, "fog", 1, records=clean.records)
    with pytest.raises(InputError, match="no 'shot_noise' of severity 2"):
        ImageNetC(root, "shot_noise", 2, records=clean.records)
    with pytest.raises(InputError, match="found no corruption at all"):
        ImageNetC(tmp_path / "none", "fog", 1, records=clean.records)
    with pytest.raises(InputError, match=r"3 of 9 images are not in .*n01440764/img_2\.png, n0144"):
        ImageNetC(root, "shot_noise", 1, records=clean.records)
    small = _corrupted_tree(tmp_path / "small", "flat", size=64)
    with pytest.raises(InputError, match=r"crop of 224 x 224 .* image of 64 x 64"):
        list(ImageNetC(small, "shot_noise", 1, records=clean.records[:2]))


def test_two_files_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    clean = ImageFolderData(make_tree(tmp_path / "clean", n=1))
    root = _corrupted_tree(tmp_path / "c", "flat", suffix=".ppm")
    inner = root / "shot_noise" / "1" / WNIDS[0]
    shutil.copy(inner / "img_0.ppm", inner / "img_0.bmp")
    with pytest.raises(InputError, match=r"may be any of .*img_0\.bmp, .*img_0\.ppm"):
        ImageNetC(root, "shot_noise", 1, records=clean.records)
    shutil.copy(inner / "img_0.ppm", inner / "img_0.png")  # the very name of the clean file
    assert ImageNetC(root, "shot_noise", 1, records=clean.records).records[0].path.suffix == ".png"


def test_available_lists_the_official_order_first(tmp_path: Path) -> None:
    for name in (*sorted(CORRUPTIONS), "fog_3d", "not_one"):
        (tmp_path / name / ("5" if name != "not_one" else "x")).mkdir(parents=True)
    assert list(ImageNetC.available(tmp_path)) == [*CORRUPTIONS, "fog_3d"]


def test_the_cache_of_generated_images_is_such_a_tree(tmp_path: Path) -> None:
    make_tree(tmp_path / "clean", n=1, height=224, width=224)
    clean = ImageFolderData(tmp_path / "clean", resize=None)
    made = CorruptedData(
        clean.records, "contrast", 2, resize=None, cache=tmp_path / "cache", seed=4
    )
    first = gathered(made)
    (tree,) = (tmp_path / "cache").iterdir()
    read = gathered(ImageNetC(tree, "contrast", 2, records=clean.records))
    assert torch.equal(first[0], read[0])
    assert first[2] == read[2]


# ---- the kit ------------------------------------------------------------------------------------


# The kit's own loader leaves files for the garbage collector to close.
kit_warnings = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture(scope="module")
def kit_loader(kit: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("kit_loader", kit / "kit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@kit_warnings
@pytest.mark.parametrize(("name", "n_same"), [("resnet18_pqf", 61), ("mobilenet_v1_075_192", 52)])
def test_kit_batches_have_the_same_pixels_where_the_geometry_is(
    kit: Path, kit_loader: ModuleType, name: str, n_same: int
) -> None:
    """The kit rounds the long side and cuts the crop's offset, torchvision the other way round.

    So the pixels are equal but where the long side is rounded up or the difference of the sizes is
    3 modulo 4 (halves to even). For resize 147 and crop 128, 147 - 128 = 19 is always so.
    """
    from PIL import Image

    spec = kit_loader.spec(name)
    data = ImageFolderData(kit / "images", resize=spec["resize"], crop=spec["input_size"])
    every_tenth = ImageFolderData(
        None, resize=spec["resize"], crop=spec["input_size"], records=data.records[::10]
    )
    images, labels, _ = gathered(every_tenth)
    theirs = list(kit_loader.batches(name, every=10))
    assert torch.equal(labels, torch.cat([y for _, y in theirs]))
    compared = 0
    for record, image, other in zip(
        every_tenth.records, images, torch.cat([x for x, _ in theirs]), strict=True
    ):
        with Image.open(record.path) as opened:
            long = spec["resize"] * max(opened.size) / min(opened.size)
        if int(long) == round(long) and (int(long) - spec["input_size"]) % 4 != 3:
            assert torch.equal(image, other)
            compared += 1
    assert compared == n_same


@kit_warnings
def test_kit_cifar_images_are_taken_as_they_are(kit: Path, kit_loader: ModuleType) -> None:
    data = ImageFolderData(kit / "cifar10", resize=32, crop=32, batch_size=50)
    assert data.label_space.name == "cifar10"
    for (images, labels, _), (x, y) in zip(data, kit_loader.batches("c10_resnet20"), strict=True):
        assert torch.equal(images, x)
        assert torch.equal(labels, y)
