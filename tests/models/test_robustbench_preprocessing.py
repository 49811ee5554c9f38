"""The pixels that RobustBench's own transforms give, for every key, model kind and image size."""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import random_pixels, save
from PIL import Image
from robustbench_host import data, enums
from tiny_model import small_input

from iaside_plugins.adapters.imagenet.records import ImageRecord, find_records
from iaside_plugins.adapters.imagenet.stream import ImageStream
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.adapters.models.robustbench_preprocessing import (
    KEYS,
    Geometry,
    GeometryReader,
    of_corrupted,
    resolve,
)
from iaside_plugins.adapters.models.robustbench_zoo import THREAT_MODELS, Threat, zoo
from iaside_plugins.errors import InputError

SIZES = [(300, 400), (400, 300), (256, 256), (224, 224), (289, 287), (100, 31), (31, 290)]
IMAGENET = Threat("imagenet", "Linf")


def pixels_of(geometry: Geometry, file: Path) -> torch.Tensor:
    images, _, _ = next(
        iter(ImageStream([ImageRecord(file, 0, "x")], GeometryReader(geometry), 1, 0))
    )
    return images[0]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_key_gives_robustbenchs_pixels(
    tmp_path: Path, key: str | None, height: int, width: int
) -> None:
    """Also where Crop288 is larger than the image, which is padded with black then."""
    file = save(tmp_path / "x.png", random_pixels(3, height, width))
    expected = data.PREPROCESSINGS[key](Image.open(file))
    assert torch.equal(pixels_of(KEYS[key], file), expected)


def test_images_in_an_archive_are_read_as_files_are(tmp_path: Path) -> None:
    file = save(tmp_path / "n01440764" / "x.png", random_pixels(3, 300, 400))
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        archive.add(file, "n01440764/x.png")
    (record,), _ = find_records(tmp_path / "val.tar")
    pixels = GeometryReader(KEYS["Res256Crop224"])(record)
    assert (pixels == GeometryReader(KEYS["Res256Crop224"])(ImageRecord(file, 0, "x"))).all()


def test_the_keys_are_robustbenchs() -> None:
    assert set(KEYS) == set(data.PREPROCESSINGS)


@pytest.mark.parametrize("name", ["AlexNet", "Tian2022Deeper_DeiT-S", "Salman2020Do_50_2_Linf"])
def test_models_of_the_zoo_get_theirs(tmp_path: Path, name: str) -> None:
    threat = Threat("imagenet", "corruptions")
    file = save(tmp_path / "x.png", random_pixels(4, 300, 280))
    transform = data.get_preprocessing(
        enums.BenchmarkDataset.imagenet, enums.ThreatModel.corruptions, name, None
    )
    expected = transform(Image.open(file))
    assert torch.equal(pixels_of(resolve(threat, None, name, None), file), expected)


def test_all_models_of_the_zoo_resolve() -> None:
    for name, entry in zoo("imagenet", "Linf").items():
        if "preprocessing" in entry:
            assert resolve(IMAGENET, None, name, None).name in KEYS


def test_the_trap_between_2d_and_3d_is_mended_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """RobustBench prepares AlexNet's clean images differently for the two (section 1.6)."""
    theirs = [
        str(
            data.get_preprocessing(
                enums.BenchmarkDataset.imagenet, enums.ThreatModel(t), "AlexNet", None
            )
        )
        for t in ("corruptions", "corruptions_3d")
    ]
    assert theirs[0] != theirs[1]  # the trap is there
    flat = resolve(Threat("imagenet", "corruptions"), None, "AlexNet", None)
    assert flat.note is None
    assert not caplog.records
    deep = resolve(Threat("imagenet", "corruptions_3d"), None, "AlexNet", None)
    assert deep.same_pixels(flat)
    assert deep.note is not None
    assert "Res256Crop224 and for corruptions by Resize 224" in deep.note
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == deep.note


def test_looking_a_configuration_up_draws_no_random_number() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    resolve(Threat("imagenet", "corruptions"), None, "AlexNet", None)
    assert torch.equal(torch.rand(1), expected)


def test_a_function_is_used_as_it_is(tmp_path: Path) -> None:
    file = save(tmp_path / "x.png", random_pixels(5, 20, 30))

    def halved(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 510)

    geometry = resolve(IMAGENET, None, None, halved)
    assert torch.equal(pixels_of(geometry, file), halved(Image.open(file)).float())
    assert "function" in geometry.to_dict()["interpolation"]


@pytest.mark.parametrize(
    ("function", "message"),
    [(lambda image: torch.zeros(4), r"\(C, H, W\), got \(4,\)"), (lambda image: 1 / 0, "ZeroDiv")],
)
def test_a_function_that_fails_is_named(tmp_path: Path, function: object, message: str) -> None:
    file = save(tmp_path / "x.png", random_pixels(5, 20, 30))
    with pytest.raises(InputError, match=message):
        pixels_of(resolve(IMAGENET, None, None, function), file)


@pytest.mark.parametrize(
    ("model_name", "key", "message"),
    [
        (None, None, "needs preprocessing=.*Res256Crop224"),
        ("Salman2020Do_R19", None, "close names: .*Salman2020Do_R18"),
        ("x", "Res255", "one of Res256Crop224, .* got 'Res255'"),
    ],
)
def test_what_cannot_be_resolved(model_name: str | None, key: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(IMAGENET, None, model_name, key)


def test_our_own_models_bring_their_own() -> None:
    model = load_model("python:tiny_model:small_input")
    assert small_input().preprocessing == {"resize": 32, "crop": 32}
    found = resolve(IMAGENET, model, None, None).preprocessing
    assert (found.resize, found.crop) == (32, 32)
    assert of_corrupted(IMAGENET, model, None).square == 32
    assert of_corrupted(IMAGENET, model, "Res256Crop224").square == 224
    assert of_corrupted(IMAGENET, torch.nn.Identity(), None).same_pixels(KEYS["Res224"])
    assert of_corrupted(Threat("cifar10", "corruptions"), model, None) == KEYS[None]


@pytest.mark.parametrize("threat_model", THREAT_MODELS)
def test_threat_models_by_name_and_enum(threat_model: str) -> None:
    by_enum = Threat.of(enums.BenchmarkDataset.imagenet, enums.ThreatModel(threat_model))
    assert by_enum == Threat.of("imagenet", threat_model)
    assert len(by_enum.corruptions) == {"corruptions": 15, "corruptions_3d": 12}.get(
        threat_model, 0
    )
