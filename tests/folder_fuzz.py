"""Folders of images as people have them, seeded: odd files, odd names, odd layouts."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.errors import InputError

NAMES = (
    ("airplane", "bird", "cat", "dog", "truck"),
    ("n01440764", "n01443537", "n15075141"),
    tuple(map(str, range(12))),
    ("001", "002", "010", "1"),
    ("red fox", "Zebra", "cat", "x" * 200, "a\nb"),
    ("train", "val"),
    ("images",),
    (os.fsdecode(b"caf\xe9"), "cat", r"caf\xe9"),
)
STEMS = ("a", "b c", "\u732b", "x" * 240, "new\nline", os.fsdecode(b"\xff\xfe"), "-rf", "a.b", "%s")
ENDINGS = (".png", ".PNG", ".jpg", ".JPEG", ".gif", ".pgm", ".webp", ".tif", ".bmp", ".avif", "")
WRAPS = (*[""] * 20, "val", "data/val", "val/images", "images", "cat/deeper", "gaussian_noise/1")
IMAGES = (*(e.lower() for e in ENDINGS if e), ".jpeg")  # endings of what nobody may lose


def _image(draw: random.Random, kind: str, size: tuple[int, int] = (36, 40)) -> bytes:
    pixels = np.random.default_rng(draw.randrange(9)).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if kind == "PNG":
        image = image.convert(draw.choice(("RGB", "L", "P", "RGBA", "1", "I;16")[:5]))
    held = io.BytesIO()
    image.save(held, kind)
    return held.getvalue()


def _content(draw: random.Random, sound: bool) -> bytes:
    good = _image(draw, draw.choice(("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")))
    if sound or draw.random() < 0.8:
        return good
    return draw.choice(
        (
            good[: len(good) // 2],
            b"",
            b"\0" * 1000,
            b"some text\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n",
            b"\xc5\xd0\xd3\xc6" + b"\0" * 40,
            _image(draw, "PNG", (1, 200)),
            _image(draw, "PNG", (1, 60_000)),
            good[:30] + bytes(draw.randrange(256) for _ in range(20)) + good[50:],
        )
    )


def _file(draw: random.Random, path: Path, sound: bool) -> None:
    """Make something of the name of an image."""
    kind = draw.random()
    if kind < 0.9:
        path.write_bytes(_content(draw, sound))
    elif kind < 0.92:
        path.symlink_to("/nowhere/x.png")
    elif kind < 0.94:
        path.symlink_to(path.name)  # to itself
    elif kind < 0.95:
        os.mkfifo(path)
    elif kind < 0.96:
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
        (path / "deep.png").write_bytes(_content(draw, sound))


def make_folder(root: Path, draw: random.Random) -> None:
    """Make a folder of up to a few dozen files; most have a fault or two."""
    home = root / draw.choice(WRAPS)
    home.mkdir(parents=True)
    if draw.random() < 0.05:
        (root / draw.choice(("val_annotations.txt", "labels.npy", "batches.meta"))).touch()
    calm = draw.random() < 0.3  # no fault but the layout's
    sound = draw.random() < 0.7  # every file with the name of an image is one
    names = draw.choice(NAMES)
    for name in draw.sample(names, draw.randint(draw.random() > 0.1, len(names))):
        folder = home / name
        folder.mkdir(exist_ok=True)
        for k in range(draw.choice((1, 2, 2, 3, 8, 0)[: draw.choice((5, 5, 6))])):
            if calm or draw.random() < 0.6:
                (folder / f"{k}.png").write_bytes(_image(draw, "PNG"))
                continue
            path = folder / f"{draw.choice(('', '', '', '.', '._'))}{draw.choice(STEMS)}{k}"
            path = path.with_name(path.name + draw.choice(ENDINGS))
            if draw.random() < 0.1:
                path = folder / draw.choice(("more", ".ipynb_checkpoints", "__MACOSX")) / path.name
                path.parent.mkdir(exist_ok=True)
            _file(draw, path, sound)
    if not calm and draw.random() < 0.3:
        _file(draw, home / f"beside{draw.choice(ENDINGS)}", sound)


@dataclass(frozen=True)
class Outcome:
    """What became of a folder.

    Attributes:
        refused: The message, or nothing if images came out.
        n_files: Files with the ending of an image that are neither hidden nor of an archive.
        n_taken: Images that came out.
        n_said: Files that warnings count.
    """

    refused: str
    n_files: int
    n_taken: int
    n_said: int

    def check(self) -> None:
        """Raise AssertionError if an image was lost without a word."""
        if self.refused:
            assert "\n" not in self.refused, self
            assert 10 < len(self.refused) < 3000, self
        else:
            assert self.n_taken, self
            assert self.n_taken + self.n_said >= self.n_files, self


class _Said(logging.Handler):
    """Counts the files that warnings say are left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.n = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        assert "\n" not in text, text
        if " and left out " in text:
            listed = re.sub(r"\([^)]*\)", "", text.split(" and left out ", 1)[1])
            self.n += sum(int(part.split()[0].replace(",", "")) for part in listed.split("; "))
        elif "left out the unreadable image" in text:
            self.n += 1


def _count(root: Path) -> int:
    n = 0
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name != "__MACOSX"]
        n += sum(
            name.lower().endswith(IMAGES)
            and not name.startswith(".")
            and "/." not in os.path.relpath(folder, root)
            for name in files
        )
    return n


def tried(root: Path, draw: random.Random) -> Outcome:
    """Return what becomes of a new folder, which is removed again."""
    make_folder(root, draw)
    said = _Said()
    logger = logging.getLogger("iaside_plugins.adapters.imagenet")
    logger.addHandler(said)
    labels = draw.choice(("auto", "rank", "rank"))
    try:
        data = ImageFolderData(root, resize=32, crop=32, labels=labels, batch_size=4)
        taken = [name for _, _, ids in data for name in ids]
        assert len(set(taken)) == len(taken)
        "".join(taken).encode()  # an entry holds them
        return Outcome("", _count(root), len(taken), said.n)
    except InputError as error:
        return Outcome(str(error), 0, 0, said.n)
    finally:
        logger.removeHandler(said)
        shutil.rmtree(root)
