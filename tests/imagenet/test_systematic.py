"""Readings of the same files against Pillow and OpenCV called directly."""

from __future__ import annotations

import io

import numpy as np
import pytest
from image_files import gathered, picture, random_pixels, save
from PIL import Image

from iaside_plugins.adapters.imagenet import ImageFolderData
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.stream import ImageStream, StreamGroup
from iaside_plugins.adapters.imagenet.systematic import decode_with_opencv, systematic
from iaside_plugins.corruptions.systematic import DECODER, READINGS, other_readings
from iaside_plugins.errors import InputError

cv2 = pytest.importorskip("cv2")

OWN = Preprocessing(24, 20, "bilinear")
FLAGS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A JPEG with subsampled colours, wide, and a PNG, high."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "airplane").mkdir()
    photo = Image.fromarray(picture(61, 83, seed=1))
    photo.save(root / "airplane" / "a.jpg", quality=60, subsampling="4:2:0")
    save(root / "airplane" / "b.png", picture(70, 50, seed=2))
    return root


def opened(root, own=OWN, **more):
    given = {"resize": own.resize, "crop": own.crop, "interpolation": own.interpolation}
    return ImageFolderData(root, **given, **more)


def by_hand(file, name, own=OWN):
    """Decode, short side to `resize`, centre crop: with the libraries themselves."""
    reading = READINGS[name]
    if reading.decoder == "opencv":
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.cvtColor(cv2.imread(str(file), flags), cv2.COLOR_BGR2RGB)
    else:
        pixels = np.array(Image.open(file).convert("RGB"))
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = tuple(
        own.resize if side == short else own.resize * side // short for side in (width, height)
    )
    library, method = reading.resize or ("pillow", own.interpolation)
    if library == "opencv":
        pixels = cv2.resize(pixels, size, interpolation=FLAGS[method])
    else:
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling[method.upper()]))
    left, top = round((size[0] - own.crop) / 2), round((size[1] - own.crop) / 2)
    return pixels[top : top + own.crop, left : left + own.crop]


def pixels_of(images):
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


def test_every_reading_is_what_its_library_gives(mixed):
    clean = opened(mixed)
    plan = systematic(clean, OWN)
    assert plan.own == "pillow bilinear"
    assert plan.names == (*(n for n in READINGS if n not in (plan.own, DECODER)), DECODER)
    assert plan.left_out == ()
    files = sorted(mixed.rglob("*.*"))
    found = {}
    for name in plan.names:
        images, labels, ids = gathered(plan.images(name))
        assert ids == ["airplane/a.jpg", "airplane/b.png"]
        assert labels.tolist() == [0, 0]
        found[name] = pixels_of(images)
        expected = np.stack([by_hand(file, name) for file in files])
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
    own = pixels_of(gathered(clean)[0])
    np.testing.assert_array_equal(own, np.stack([by_hand(f, plan.own) for f in files]))
    resized = [pixels for name, pixels in found.items() if name != DECODER]
    assert len({pixels.tobytes() for pixels in [own, *resized]}) == 11  # all differ
    np.testing.assert_array_equal(found[DECODER][1], own[1])  # lossless: decoded alike


def test_read_together_or_alone_with_each_file_decoded_once(mixed, monkeypatch):
    from iaside_plugins.adapters.imagenet import stream as module

    clean = opened(mixed, batch_size=2)
    plan = systematic(clean, OWN)
    decoded = []
    plain = module.decode
    monkeypatch.setattr(module, "decode", lambda *a, **k: decoded.append(1) or plain(*a, **k))
    streams = [clean, *map(plan.images, plan.names)]
    together = dict(StreamGroup(streams))
    assert len(decoded) == 2  # of two files, for the model's own and eleven other readings
    assert (together[0][0] == gathered(clean)[0]).all()
    for k, name in enumerate(plan.names, 1):
        assert (together[k][0] == gathered(plan.images(name))[0]).all()


def test_lossless_files_leave_the_decoder_out_and_say_so(tmp_path):
    save(tmp_path / "cat" / "a.png", random_pixels(0))
    save(tmp_path / "cat" / "b.bmp", random_pixels(1))
    plan = systematic(opened(tmp_path), OWN)
    assert DECODER not in plan.names
    assert len(plan.names) == 10
    assert plan.left_out == (
        "opencv decoder (no image is a JPEG, and lossless files decode alike)",
    )


def test_a_model_without_a_resize_varies_the_decoder_alone(mixed, tmp_path):
    as_they_are = Preprocessing(None, 20)
    plan = systematic(opened(mixed, as_they_are), as_they_are)
    assert (plan.own, plan.names) == ("pillow decoder", (DECODER,))
    assert plan.left_out == ("other resizes (the model takes images as they are)",)
    save(tmp_path / "cat" / "a.png", random_pixels(0))
    with pytest.raises(InputError, match=r"nothing to vary here: .*resize=None.* lossless"):
        systematic(opened(tmp_path, as_they_are), as_they_are)


@pytest.mark.parametrize("interpolation", ["bicubic", "nearest", "nearest-exact"])
def test_the_models_own_reading_is_no_other_one(mixed, interpolation):
    own = Preprocessing(24, 20, interpolation)
    plan = systematic(opened(mixed, own), own)
    assert plan.own == f"pillow {interpolation.removesuffix('-exact')}"
    assert plan.own not in plan.names
    assert plan.names == other_readings(interpolation, jpeg=True)
    assert len(plan.names) == 11


def test_grey_images_are_decoded_in_colour_and_then_made_grey(mixed):
    clean = opened(mixed, grey=True)
    images, _, _ = gathered(systematic(clean, OWN).images("opencv area"))
    assert images.shape == (2, 1, 20, 20)
    grey = np.array(Image.open(mixed / "airplane" / "b.png").convert("L"))
    height = 24 * 70 // 50
    expected = cv2.resize(grey, (24, height), interpolation=cv2.INTER_AREA)
    top = round((height - 20) / 2)
    np.testing.assert_array_equal(pixels_of(images)[1, ..., 0], expected[top : top + 20, 2:22])


def test_orientation_is_not_applied(mixed):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.open(mixed / "airplane" / "a.jpg").save(buffer, "JPEG", exif=exif)
    assert decode_with_opencv(buffer.getvalue()).size == (83, 61)


def test_what_opencv_cannot_decode_is_unreadable_in_one_line(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
    (stream,) = [systematic(opened(tmp_path), OWN).images("opencv area")]
    assert isinstance(stream, ImageStream)
    with pytest.raises(InputError, match=r"1 of 1 images are unreadable.*cat/a.jpg"):
        list(stream)
    with pytest.raises(InputError, match="cannot be decoded by OpenCV"):
        decode_with_opencv(b"\xff\xd8\xff not a JPEG")
