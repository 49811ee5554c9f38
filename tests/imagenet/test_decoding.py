from __future__ import annotations

import importlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import random_pixels, save
from PIL import Image, ImageFile

from iaside_plugins.adapters import compat
from iaside_plugins.adapters.imagenet import decoding
from iaside_plugins.adapters.imagenet.decoding import (
    UnreadableImageError,
    decode,
    read_bytes,
    resized,
    shaped,
    to_pixels,
)
from iaside_plugins.adapters.imagenet.preprocessing import INTERPOLATIONS, Preprocessing
from iaside_plugins.errors import InputError


@pytest.fixture(scope="module")
def transforms() -> Any:
    compat.import_torchvision()
    return importlib.import_module("torchvision.transforms")


def _file(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


COLOUR = Image.fromarray(random_pixels(0))
SMOOTH = Image.fromarray(np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_decode_exactly(kind: str) -> None:
    assert (to_pixels(decode(_file(COLOUR, kind))) == np.array(COLOUR)).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "1", "P"])
def test_every_mode_becomes_rgb_or_grey(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = COLOUR.convert(mode)
    data = _file(image, kind)
    expected = np.array(image.convert("RGB"))
    assert (to_pixels(decode(data)) == expected).all()
    assert to_pixels(decode(data, grey=True)).shape == (*expected.shape[:2], 1)


def test_lab_is_read_in_colour_and_in_grey() -> None:
    colour = to_pixels(decode(_file(Image.new("LAB", (4, 3), (128, 140, 100)), "TIFF")))
    assert len(set(colour[0, 0].tolist())) == 3
    grey = to_pixels(decode(_file(Image.new("LAB", (4, 3), (128, 140, 100)), "TIFF"), grey=True))
    assert (grey[..., 0] == np.array(Image.fromarray(colour).convert("L"))).all()


def test_palette_with_transparency_keeps_the_colours() -> None:
    palette = COLOUR.quantize(16)
    data = _file(palette, "PNG", transparency=bytes(range(16)))
    assert (to_pixels(decode(data)) == np.array(palette.convert("RGB"))).all()


def test_sixteen_bits_keep_the_high_byte() -> None:
    values = np.array([[0, 255, 256], [32768, 65279, 65535]], dtype=np.uint16)
    pixels = to_pixels(decode(_file(Image.fromarray(values), "PNG")))
    assert pixels[..., 0].tolist() == [[0, 0, 1], [128, 254, 255]]
    assert (pixels == pixels[..., :1]).all()


def _twelve_bit_tiff(values: list[int]) -> bytes:
    """Return a TIFF file of one row of an even number of pixels, which Pillow cannot write."""
    bits = int("".join(f"{value:012b}" for value in values), 2).to_bytes(len(values) * 3 // 2)
    tags = {256: len(values), 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1}
    tags[279] = len(bits)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(bits)) + bits + directory


def test_twelve_bits_of_tiff_keep_the_high_eight(caplog: pytest.LogCaptureFixture) -> None:
    decoding._say_few_bits.cache_clear()
    pixels = to_pixels(decode(_twelve_bit_tiff([0, 15, 16, 2048, 4079, 4095])))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 254, 255]
    assert caplog.messages == []


def test_sixteen_bits_that_hold_twelve_are_doubted_once(caplog: pytest.LogCaptureFixture) -> None:
    decoding._say_few_bits.cache_clear()
    for most, kind in ((0, "PNG"), (4096, "PNG"), (4095, "PNG"), (4095, "TIFF")):
        decode(_file(Image.fromarray(np.full((2, 2), most, np.uint16)), kind))
        assert len(caplog.messages) == (most == 4095)
    assert "very dark, or holds 12 bits" in caplog.text


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_fixed_range_are_refused(dtype: type) -> None:
    data = _file(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(
        InputError, match="expected pixels of 8 or 16 bits, got TIFF of mode"
    ) as caught:
        decode(data)
    assert not isinstance(caught.value, UnreadableImageError)  # never silently left out


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn
    assert decode(_file(COLOUR, "JPEG", exif=exif)).size == COLOUR.size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("tolerant", [False, True])
def test_truncated_files_are_unreadable_whatever_pillow_is_told(
    monkeypatch: pytest.MonkeyPatch, kind: str, tolerant: bool
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    data = _file(SMOOTH, kind)
    decode(data)
    with pytest.raises(UnreadableImageError, match=r"cannot be decoded: .+"):
        decode(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant  # left as it was found


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        decode(data)


def test_damaged_bytes_never_raise_anything_else() -> None:
    # Flipped bytes reach the different errors of the decoders; a seed for the same ones always.
    random = np.random.default_rng(0)
    outcomes = set()
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "PPM", "BMP"):
        original = np.frombuffer(_file(SMOOTH, kind), np.uint8)
        for _ in range(60):
            damaged = original.copy()
            places = random.integers(0, min(len(damaged), 200), 4)
            damaged[places] = random.integers(0, 256, 4)
            try:
                decode(damaged.tobytes())
            except InputError as error:
                outcomes.add(type(error))
            else:
                outcomes.add(None)
    assert {None, UnreadableImageError} <= outcomes


def test_missing_file_is_unreadable_and_not_named_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="cannot be read: No such file") as caught:
        read_bytes(tmp_path / "none.png")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [(40, 52), (53, 40), (41, 41), (64, 37)])
@pytest.mark.parametrize("resize", [None, 33, 37, 64])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_geometry_is_torchvisions(
    transforms: Any, height: int, width: int, resize: int | None, interpolation: str
) -> None:
    image = Image.fromarray(random_pixels(1, height, width))
    mode = transforms.InterpolationMode(interpolation)
    steps = [] if resize is None else [transforms.Resize(resize, mode)]
    for crop in (24, 31):
        expected = transforms.Compose([*steps, transforms.CenterCrop(crop)])(image)
        got = shaped(image, Preprocessing(resize, crop, interpolation))
        assert (np.array(got) == np.array(expected)).all()


def test_every_interpolation_of_a_preprocessing_is_known() -> None:
    pixels = random_pixels(2, 20, 20)
    results = {name: resized(pixels, 13, name) for name in INTERPOLATIONS}
    assert all(result.shape == (13, 13, 3) for result in results.values())
    assert len({result.tobytes() for result in results.values()}) == len(INTERPOLATIONS) - 1


def test_nothing_is_resampled_at_its_own_size() -> None:
    assert (to_pixels(shaped(COLOUR, Preprocessing(40, None, "lanczos"))) == np.array(COLOUR)).all()
    pixels = random_pixels(3, 20, 20)
    assert resized(pixels, 20, "lanczos") is pixels


def test_too_large_a_crop_is_refused() -> None:
    with pytest.raises(InputError, match=r"crop of 41 x 41 .* image of 52 x 40"):
        shaped(COLOUR, Preprocessing(None, 41))


def test_grey_images_can_be_resized() -> None:
    grey = to_pixels(decode(_file(COLOUR.crop((0, 0, 30, 30)), "PNG"), grey=True))
    assert resized(grey, 10, "bilinear").shape == (10, 10, 1)


def test_files_on_disk(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array(COLOUR))
    assert (to_pixels(decode(read_bytes(path))) == np.array(COLOUR)).all()


@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (147, 128), (220, 192)])
def test_kit_photographs_have_torchvisions_pixels(
    kit: Path, transforms: Any, resize: int, crop: int
) -> None:
    both = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop)])
    for path in sorted(kit.glob("images/*/*.JPEG"))[::70]:
        with Image.open(path) as opened:
            expected = np.array(both(opened.convert("RGB")))
        got = to_pixels(shaped(decode(read_bytes(path)), Preprocessing(resize, crop)))
        assert (got == expected).all()
