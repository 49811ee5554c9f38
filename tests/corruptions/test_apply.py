"""The public interface of the corruptions: shapes, seeds, errors, frost textures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from image_files import picture

from iaside_plugins.corruptions.apply import (
    CORRUPTION_GROUPS,
    CORRUPTIONS,
    corrupt,
    corruption_seed,
)
from iaside_plugins.corruptions.filters import jpeg_round_trip
from iaside_plugins.corruptions.frost import FROST_FILES, find_frost_textures, load_frost_textures
from iaside_plugins.corruptions.functions import constants_size
from iaside_plugins.errors import InputError, InputTypeError, MissingExtraError

pytest.importorskip("cv2")
ndimage = pytest.importorskip("scipy.ndimage")
pillow = pytest.importorskip("PIL.Image")

Bytes = npt.NDArray[np.uint8]
DETERMINISTIC = {
    "brightness",
    "contrast",
    "defocus_blur",
    "zoom_blur",
    "pixelate",
    "jpeg_compression",
}
# The strength of glass blur and elastic transform is not monotone, by their constants for 32 x 32
# (elastic transform weakens from 1 to 5); that of frost depends on the textures.
NOT_MONOTONE = {"glass_blur", "frost", "elastic_transform"}
MONOTONE = [name for name in CORRUPTIONS if name not in NOT_MONOTONE]
TEXTURES = tuple(  # one colour each, so that a crop tells which texture it is from
    np.full((240 + 10 * index, 260, 3), 20 * index + 10, np.uint8) for index in range(6)
)


def plain(image: Bytes, name: str, severity: int, seed: int = 0) -> Bytes:
    return corrupt(image, name, severity, seed=seed, jpeg=False, frost_textures=TEXTURES)


def rms(first: Bytes, second: Bytes) -> float:
    return float(np.sqrt(((first.astype(float) - second) ** 2).mean()))


# --- the interface ------------------------------------------------------------------------------


def test_names_and_groups() -> None:
    assert CORRUPTIONS[::7] == ("gaussian_noise", "snow", "jpeg_compression")
    assert len(set(CORRUPTIONS)) == 15
    groups = [CORRUPTION_GROUPS[name] for name in CORRUPTIONS]
    assert groups == ["noise"] * 3 + ["blur"] * 4 + ["weather"] * 4 + ["digital"] * 4


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_seed_same_bytes_and_no_global_state(name: str) -> None:
    image = picture(32)
    original = image.copy()
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    first, again = (plain(image, name, 3, seed=7) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, image)
    others = [plain(image, name, 3, seed=seed) for seed in range(8, 12)]
    assert all(np.array_equal(first, other) for other in others) == (name in DETERMINISTIC)
    assert np.random.get_state()[1].tolist() == before
    assert np.array_equal(image, original)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(16, 16, 3), (40, 64, 3), (100, 85, 3), (33, 47), (32, 32, 1)])
def test_every_shape_comes_back(name: str, shape: tuple[int, ...]) -> None:
    image = picture(*shape[:2])[..., 0] if shape[-1] != 3 else picture(*shape[:2])
    result = plain(image.reshape(shape), name, 2)
    assert (result.shape, result.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("jpeg", [False, True])
@pytest.mark.parametrize("name", ["gaussian_noise", "snow"])
def test_grey_is_three_equal_channels_averaged_back(name: str, jpeg: bool) -> None:
    grey = picture(32)[..., 0]
    colour = corrupt(np.stack([grey] * 3, axis=-1), name, 3, seed=4, jpeg=jpeg)
    result = corrupt(grey, name, 3, seed=4, jpeg=jpeg)
    # The mean of three bytes is a third of a level at worst from the nearest byte.
    assert np.abs(result - colour.astype(float).mean(axis=-1)).max() <= 0.34
    assert np.array_equal(corrupt(grey[..., None], name, 3, seed=4, jpeg=jpeg)[..., 0], result)


def test_jpeg_is_a_last_save() -> None:
    image = picture(32)
    expected = jpeg_round_trip(plain(image, "shot_noise", 2), 85)
    assert np.array_equal(corrupt(image, "shot_noise", 2, seed=0), expected)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, 32, 32), (64, 64, 32), (84, 84, 32), (85, 85, 224), (224, 224, 224), (40, 500, 32)],
)
def test_constants_size(height: int, width: int, expected: int) -> None:
    # The geometric mean of 32 and 224 is 84.7.
    assert constants_size(height, width) == expected


def test_corruption_seed_is_fixed_for_good() -> None:
    # The text [0, "n01440764/tench.JPEG", "fog", 3] has a SHA-256 that starts with e13be471.
    assert corruption_seed(0, "n01440764/tench.JPEG", "fog", 3) == 0xE13BE471
    seeds = {
        corruption_seed(seed, image_id, name, severity)
        for seed in (0, 1)
        for image_id in ("a", "b", "1")
        for name in CORRUPTIONS
        for severity in range(1, 6)
    }
    assert len(seeds) == 2 * 3 * 15 * 5
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "fogg"}, InputError, "'fogg'; known are gaussian_noise, shot_noise"),
        ({"severity": 0}, InputError, r"severity must lie in 1 \.\. 5, got 0"),
        ({"severity": 2.0}, InputTypeError, "severity must be an integer, got 2.0"),
        ({"seed": -1}, InputError, "seed must lie in 0 .. 4294967295, got -1"),
        ({"image": np.zeros((32, 32, 3))}, InputTypeError, "uint8 .* got float64"),
        ({"image": [[1]]}, InputTypeError, "uint8 .* got list"),
        ({"image": np.zeros((3, 32, 32), np.uint8)}, InputError, r"got \(3, 32, 32\)"),
        ({"image": np.zeros((32, 15, 3), np.uint8)}, InputError, r"16 pixels.*got \(32, 15, 3\)"),
        ({"name": "frost"}, InputError, "pip install --no-deps imagecorruptions-imaug"),
        ({"name": "frost", "frost_textures": TEXTURES[:4]}, InputError, "5 textures.*got 4"),
        ({"name": "frost", "frost_textures": [np.zeros(3)] * 5}, InputError, r"float64 \(3,\)"),
    ],
)
def test_errors_say_what_came(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    valid = {"image": picture(32), "name": "fog", "severity": 1, "seed": 0}
    with pytest.raises(error, match=message):
        corrupt(**(valid | arguments))


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"need cv2.*'\.\[imagenet\]'"):
        plain(picture(32), "defocus_blur", 1)


# --- frost --------------------------------------------------------------------------------------


def test_frost_takes_one_of_the_first_five_textures() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    levels = {int(plain(image, "frost", 5, seed).flat[0]) for seed in range(40)}
    assert levels == {int(0.75 * 100 + 0.45 * (20 * index + 10)) for index in range(5)}


def test_frost_is_a_crop_of_the_texture() -> None:
    texture = picture(240, 250)
    image = picture(224)
    result = corrupt(image, "frost", 1, seed=2, jpeg=False, frost_textures=[texture] * 5)
    random = np.random.RandomState(2)
    random.randint(0, 5)
    top, left = random.randint(0, 16), random.randint(0, 26)
    crop = texture[top : top + 224, left : left + 224]
    assert np.array_equal(result, np.clip(image + 0.4 * crop, 0, 255).astype(np.uint8))


def test_frost_textures_are_found_without_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "imagecorruptions"
    (package / "frost").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_frost_textures() is None  # installed, but without the pictures
    for texture, name in zip(TEXTURES, FROST_FILES, strict=False):
        pillow.fromarray(texture).convert("RGBA" if "png" in name else "RGB").save(
            package / "frost" / name, quality=95
        )
    folder = find_frost_textures()
    assert folder == package / "frost"
    assert find_frost_textures(folder) == folder
    loaded = load_frost_textures(folder)
    assert all(np.array_equal(a, b) for a, b in zip(loaded[:3], TEXTURES, strict=False))
    image = picture(32)
    expected = corrupt(image, "frost", 2, seed=1, frost_textures=loaded)
    assert np.array_equal(corrupt(image, "frost", 2, seed=1, frost_textures=folder), expected)
    (folder / "frost1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"frost1\.png is not a readable image"):
        load_frost_textures(folder)
    pillow.new("RGB", (300, 224)).save(folder / "frost1.png")
    with pytest.raises(InputError, match=r"larger than 224 x 224.*frost1\.png is 224 x 300"):
        load_frost_textures(folder)
    (folder / "frost4.jpg").unlink()
    with pytest.raises(InputError, match=r"lacks frost4\.jpg; `pip install"):
        find_frost_textures(folder)


def test_frost_needs_textures_larger_than_the_image() -> None:
    textures = [np.zeros((200, 300, 3), np.uint8)] * 5
    with pytest.raises(InputError, match=r"200 x 300 pixels.*larger than the image, 224 x 224"):
        corrupt(picture(224), "frost", 1, seed=0, frost_textures=textures)


@pytest.mark.parametrize("name", MONOTONE)
def test_strength_grows_with_severity(name: str) -> None:
    image = picture(32)
    strengths = [
        np.mean([rms(plain(image, name, severity, seed), image) for seed in range(40)])
        for severity in range(1, 6)
    ]
    assert strengths == sorted(strengths)
    assert strengths[0] > 0
