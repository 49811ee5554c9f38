from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import make_tree, random_pixels, save
from PIL import Image
from torch import Tensor

from iaside_plugins.adapters.imagenet.corrupted import CorruptedData, cache_key
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.imagenet.preprocessing import Preprocessing
from iaside_plugins.adapters.imagenet.records import ImageRecord
from iaside_plugins.corruptions.apply import CORRUPTIONS, corrupt, corruption_seed
from iaside_plugins.errors import InputError

workers = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
TEXTURES = tuple(random_pixels(900 + k, 230, 240) for k in range(5))
GEOMETRY = {"resize": 40, "crop": 32}


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    make_tree(tmp_path / "clean", folders=("bird", "cat"), n=2)
    return ImageFolderData(tmp_path / "clean").records


def images_of(data: CorruptedData) -> Tensor:
    return torch.cat([images for images, _, _ in data])


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@workers
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_corrupts_own_with_and_without_cache(
    tmp_path: Path, records: list[ImageRecord], name: str
) -> None:
    """Also holds the JPEG files of the cache against `corrupt(jpeg=True)`."""
    clean = ImageFolderData(None, records=records, **GEOMETRY)
    (pixels, _, ids), *_ = list(clean)
    expected = []
    for image, image_id in zip(pixels, ids, strict=True):
        array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        seed = corruption_seed(7, image_id, name, 4)
        expected.append(corrupt(array, name, 4, seed=seed, frost_textures=TEXTURES))
    wanted = torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2).float() / 255
    options = {**GEOMETRY, "seed": 7, "frost_textures": TEXTURES}
    assert torch.equal(images_of(CorruptedData(records, name, 4, **options)), wanted)
    for _ in range(2):  # made, then read
        cached = CorruptedData(records, name, 4, cache=tmp_path / "cache", **options)
        assert torch.equal(images_of(cached), wanted)
    assert len(files_of(tmp_path / "cache")) == len(records)


@workers
def test_workers_and_batches_change_nothing(tmp_path: Path, records: list[ImageRecord]) -> None:
    alone = CorruptedData(records, "fog", 3, **GEOMETRY)
    helped = CorruptedData(
        records, "fog", 3, **GEOMETRY, n_workers=2, batch_size=1, cache=tmp_path / "cache"
    )
    assert torch.equal(images_of(alone), images_of(helped))
    assert torch.equal(images_of(helped), images_of(alone))
    # nor does an image depend on which others there are
    assert torch.equal(
        images_of(CorruptedData(records[2:], "fog", 3, **GEOMETRY)), images_of(alone)[2:]
    )


def test_streams_can_be_pickled_for_workers_that_are_not_forked(records: list[ImageRecord]) -> None:
    data = CorruptedData(records, "frost", 2, **GEOMETRY, frost_textures=TEXTURES)
    assert torch.equal(images_of(pickle.loads(pickle.dumps(data))), images_of(data))


def test_without_a_corruption_the_images_are_the_clean_ones(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    clean = ImageFolderData(None, records=records, **GEOMETRY)
    data = CorruptedData(records, None, 0, **GEOMETRY, cache=tmp_path / "cache")
    for (x, y, ids), (x_clean, y_clean, ids_clean) in zip(data, clean, strict=True):
        assert torch.equal(x, x_clean)
        assert torch.equal(y, y_clean)
        assert ids == ids_clean
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("jpeg", [True, False])
def test_the_model_size_comes_after_the_corruption(
    tmp_path: Path, records: list[ImageRecord], jpeg: bool
) -> None:
    options = {**GEOMETRY, "jpeg": jpeg, "cache": tmp_path / "cache"}
    full = images_of(CorruptedData(records, "contrast", 2, **options))
    small = images_of(
        CorruptedData(
            records, "contrast", 2, output_size=20, output_interpolation="bicubic", **options
        )
    )
    assert small.shape == (4, 3, 20, 20)
    array = (full[1] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = np.array(Image.fromarray(array).resize((20, 20), Image.Resampling.BICUBIC))
    assert torch.equal(small[1], torch.from_numpy(expected).permute(2, 0, 1).float() / 255)
    assert len(files_of(tmp_path / "cache")) == len(records)  # both sizes share the cache


@pytest.mark.parametrize("jpeg", [True, False])
def test_grey_images_from_the_cache_too(
    tmp_path: Path, records: list[ImageRecord], jpeg: bool
) -> None:
    plain = images_of(CorruptedData(records, "shot_noise", 2, **GEOMETRY, jpeg=jpeg, grey=True))
    assert plain.shape == (4, 1, 32, 32)
    for _ in range(2):
        cached = CorruptedData(
            records, "shot_noise", 2, **GEOMETRY, jpeg=jpeg, grey=True, cache=tmp_path / "cache"
        )
        assert torch.equal(images_of(cached), plain)


def test_the_cache_keeps_jpeg_files_or_png_files(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    for jpeg, kind, suffix in ((True, "JPEG", ""), (False, "PNG", ".png")):
        list(CorruptedData(records, "pixelate", 5, **GEOMETRY, jpeg=jpeg, cache=tmp_path / kind))
        key = cache_key(Preprocessing(40, 32), jpeg=jpeg, seed=0)
        expected = [f"{key}/pixelate/5/{record.image_id}{suffix}" for record in records]
        files = files_of(tmp_path / kind)
        assert [path.relative_to(tmp_path / kind).as_posix() for path in files] == expected
        with Image.open(files[0]) as image:
            assert image.format == kind


def test_the_cache_is_read_and_damaged_files_are_made_anew(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    data = CorruptedData(records, "snow", 1, **GEOMETRY, cache=tmp_path / "cache")
    first = images_of(data)
    files = files_of(tmp_path / "cache")
    good = [path.read_bytes() for path in files]
    for path in files:
        os.utime(path, (1, 1))
    assert torch.equal(images_of(data), first)
    assert all(path.stat().st_mtime == 1 for path in files)  # read, not written again
    files[0].write_bytes(good[0][: len(good[0]) // 2])
    files[1].write_bytes(b"")
    files[2].write_bytes(good[3])  # a whole image, but that of another source
    assert torch.equal(images_of(data), first)
    assert [path.read_bytes() for path in files] == good
    assert files[3].stat().st_mtime == 1


@pytest.mark.parametrize("jpeg", [True, False])
def test_a_bit_that_turned_in_the_cache_is_seen(
    tmp_path: Path, records: list[ImageRecord], jpeg: bool
) -> None:
    """A JPEG has no checksum of its own: most such files decode, to other pixels."""
    one = records[:1]
    data = CorruptedData(one, "snow", 1, **GEOMETRY, jpeg=jpeg, cache=tmp_path / "cache")
    first = images_of(data)
    (file,) = files_of(tmp_path / "cache")
    good = file.read_bytes()
    for place in range(0, len(good), 29):
        file.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        assert torch.equal(images_of(data), first)
        assert file.read_bytes() == good


def test_another_image_of_the_same_name_is_not_taken_from_the_cache(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    def read() -> Tensor:
        return images_of(CorruptedData(records, "fog", 1, **GEOMETRY, cache=tmp_path / "cache"))

    before = read()
    save(records[0].path, random_pixels(77))
    after = read()
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1:], after[1:])


def test_other_textures_are_not_taken_from_the_cache(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    def read(textures: tuple[np.ndarray, ...]) -> Tensor:
        options = {**GEOMETRY, "cache": tmp_path / "cache", "frost_textures": textures}
        return images_of(CorruptedData(records, "frost", 1, **options))

    first, second = read(TEXTURES), read(TEXTURES[::-1])
    assert not torch.equal(first, second)
    assert torch.equal(read(TEXTURES), first)


def test_the_key_depends_on_all_that_determines_the_pixels() -> None:
    base = Preprocessing(256, 224)
    keys = [
        cache_key(base, jpeg=True, seed=0),
        cache_key(base, jpeg=False, seed=0),
        cache_key(base, jpeg=True, seed=1),
        cache_key(base, jpeg=True, seed=0, grey=True),
        cache_key(Preprocessing(232, 224), jpeg=True, seed=0),
        cache_key(Preprocessing(256, 192), jpeg=True, seed=0),
        cache_key(Preprocessing(256, 224, "bicubic"), jpeg=True, seed=0),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(base, jpeg=True, seed=0) == cache_key(base, jpeg=True, seed=np.int64(0))


@pytest.mark.parametrize(
    ("name", "severity", "options", "message"),
    [
        ("gausian_noise", 1, {}, "unknown corruption 'gausian_noise'; known are gaussian_noise"),
        ("fog", 0, {}, "severity must be 1, 2, 3, 4 or 5, got 0"),
        ("fog", 6, {}, "severity must be .* got 6"),
        ("frost", 1, {}, "the corruption frost needs textures"),
        ("frost", 1, {"frost_textures": "nowhere"}, "nowhere"),
        ("fog", 1, {"output_size": 0}, "pixels >= 1 or None, got 0"),
        ("fog", 1, {"crop": None, "output_size": 32}, "output_size needs a crop"),
        ("fog", 1, {"crop": 300}, "must not exceed resize"),
    ],
)
def test_arguments_are_checked_before_any_image_is_read(
    records: list[ImageRecord], name: str, severity: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        CorruptedData(records, name, severity, **{**GEOMETRY, **options})  # type: ignore[arg-type]


def test_a_cache_that_cannot_be_written(tmp_path: Path, records: list[ImageRecord]) -> None:
    (tmp_path / "file").write_text("in the way")
    data = CorruptedData(records, "fog", 1, **GEOMETRY, cache=tmp_path / "file")
    with pytest.raises(InputError, match=r"image bird/img_0.png: cannot write"):
        list(data)


def test_unreadable_files_follow_the_common_rule(
    tmp_path: Path, records: list[ImageRecord]
) -> None:
    list(CorruptedData(records, "fog", 1, **GEOMETRY, cache=tmp_path / "cache"))
    records[1].path.write_bytes(b"damaged")  # although the cache holds what it was
    data = CorruptedData(records, "fog", 1, **GEOMETRY, cache=tmp_path / "cache")
    with pytest.raises(InputError, match="1 of 4 images are unreadable, more than 1 %: bird/img_1"):
        list(data)


@pytest.mark.parametrize("image_id", ["../../../../out.png", "/tmp/out.png", "a/../../../../../b"])
def test_an_id_does_not_lead_out_of_the_cache(tmp_path: Path, image_id: str) -> None:
    file = save(tmp_path / "x.png", random_pixels(0, 32, 32))
    data = CorruptedData(
        [ImageRecord(file, 0, image_id)],
        "contrast",
        1,
        resize=None,
        crop=None,
        cache=tmp_path / "cache",
    )
    with pytest.raises(InputError, match="must not lead out of it"):
        list(data)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
