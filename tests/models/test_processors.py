"""What is measured of a processor of transformers is what it does, whatever its settings say."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iaside_plugins.adapters.compat import import_torchvision
from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.models.processors import measured
from iaside_plugins.errors import InputError

pytest.importorskip("transformers")
import_torchvision()
HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
ASPECT = "it resizes without keeping the aspect ratio"


def processor(kind: str, folder: Path, settings: dict[str, Any]) -> Any:
    library = importlib.import_module("transformers")
    made = getattr(library, kind)(**settings)
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize(
    ("kind", "settings", "expected", "said"),
    [
        # the short side, and a crop at the centre: as here
        (
            "CLIPImageProcessor",
            {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}},
            Preprocessing(
                80,
                64,
                "bicubic",
                (0.48145466, 0.4578275, 0.40821073),
                (0.26862954, 0.26130258, 0.27577711),
            ),
            "",
        ),
        # int(224 / 0.875) = 256 below 384 pixels, and the whole image squeezed from there on
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875},
            Preprocessing(256, 224, "bicubic", **HALF),
            "",
        ),
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 384}},
            Preprocessing(384, 384, "bicubic", **HALF),
            ASPECT,
        ),
        # 256 / 224 times the size, a rule of this class alone
        ("LevitImageProcessor", {}, Preprocessing(256, 224, "bicubic", **IMAGENET), ""),
        ("ViTImageProcessor", {}, Preprocessing(224, 224, "bilinear", **HALF), ASPECT),
        # normalises a second time, by the standard deviation alone
        (
            "EfficientNetImageProcessor",
            {"size": {"height": 64, "width": 64}},
            Preprocessing(64, 64, "bicubic", (0.5,) * 3, (0.25,) * 3),
            ASPECT,
        ),
        # the first of Pillow's filters, whose number is 0
        (
            "ViTImageProcessor",
            {"resample": 0},
            Preprocessing(224, 224, "nearest", **HALF),
            ASPECT,
        ),
        (
            "ViTImageProcessor",
            {"do_normalize": False, "do_resize": False},
            Preprocessing(None, None, "bilinear"),
            "",
        ),
        (
            "ViTImageProcessor",
            {"do_normalize": False, "do_rescale": False, "do_resize": False},
            Preprocessing(None, None, "bilinear", (0.0,) * 3, (0.003922,) * 3),  # 1 / 255
            "",
        ),
    ],
)
def test_a_processor_is_measured(
    tmp_path: Path,
    caplog: Any,
    kind: str,
    settings: dict[str, Any],
    expected: Preprocessing,
    said: str,
) -> None:
    processor(kind, tmp_path, settings)
    found = measured(importlib.import_module("transformers"), tmp_path, "net")
    assert found is not None
    assert (found.resize, found.crop, found.interpolation) == (
        expected.resize,
        expected.crop,
        expected.interpolation,
    )
    np.testing.assert_allclose(found.mean, np.broadcast_to(expected.mean, 3), atol=1e-6)
    np.testing.assert_allclose(found.std, np.broadcast_to(expected.std, 3), atol=1e-6)
    assert (said in caplog.text) if said else not caplog.text


@pytest.mark.parametrize(
    "settings", [{"resample": 99}, {"size": {"height": 0, "width": 0}}, {"image_mean": [1, 2]}]
)
def test_settings_that_no_image_can_have_are_one_line(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    processor("ViTImageProcessor", tmp_path, settings)
    with pytest.raises(InputError, match=r"processor of its .* fails on an image") as caught:
        measured(importlib.import_module("transformers"), tmp_path, "net")
    assert "\n" not in str(caught.value)


def test_images_of_a_folder_are_those_of_the_processor(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    settings = {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 64}}
    theirs = processor("CLIPImageProcessor", tmp_path, settings)
    found = measured(importlib.import_module("transformers"), tmp_path, "net")
    assert found is not None
    rng = np.random.default_rng(0)
    smooth = pillow.fromarray(rng.integers(0, 256, (10, 13, 3), np.uint8)).resize((130, 100), 3)
    (tmp_path / "data" / "cat").mkdir(parents=True)
    smooth.save(tmp_path / "data" / "cat" / "0.png")
    data = ImageFolderData(
        tmp_path / "data",
        resize=found.resize,
        crop=found.crop,
        interpolation=found.interpolation,
        labels="rank",
    )
    ours = next(iter(data))[0][0].numpy()
    ours = (ours - np.reshape(found.mean, (3, 1, 1))) / np.reshape(found.std, (3, 1, 1))
    reference = theirs(images=smooth, return_tensors="np")["pixel_values"][0]
    # one level of 8 bits is 1 / 255 / 0.26 = 0.015: the two resizes round in other places
    assert np.abs(ours - reference).max() < 0.06
    assert np.abs(ours - reference).mean() < 0.01


def test_another_order_of_the_channels_is_refused(tmp_path: Path) -> None:
    processor("MobileViTImageProcessor", tmp_path, {})
    with pytest.raises(InputError, match=r"more than a resize.*another order of the channels"):
        measured(importlib.import_module("transformers"), tmp_path, "net")


def test_padding_and_other_shapes_are_said(tmp_path: Path, caplog: Any) -> None:
    library = importlib.import_module("transformers")
    assert measured(library, tmp_path, "net") is None
    settings = {"size": {"shortest_edge": 48}, "crop_size": {"height": 64, "width": 64}}
    processor("CLIPImageProcessor", tmp_path, settings)
    found = measured(library, tmp_path, "net")
    assert found is not None
    assert (found.resize, found.crop) == (64, 64)
    assert "it pads from 48 to 64" in caplog.text
    caplog.clear()
    processor("ViTImageProcessor", tmp_path, {"size": {"height": 48, "width": 64}})
    measured(library, tmp_path, "net")
    assert "it gives 48 x 64 images, here the crop is square" in caplog.text
