"""One image of a data set: where its bytes lie, its label and its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from iaside_plugins.adapters.imagenet.decoding import read_bytes
from iaside_plugins.errors import InputError


class Part(Protocol):
    """Which part of a file is one image; frozen, and can be pickled for worker processes."""

    def read(self, path: Path) -> bytes:
        """Return the bytes of an image file.

        Args:
            path: The file that holds it.

        Raises:
            UnreadableImageError: It cannot be read.
        """


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        path: The file.
        label: Class index.
        image_id: Its name in the data set, a POSIX path such as "n01440764/x.JPEG"; unique, and
            never absolute, so that results name no place on this machine.
        part: Which part of the file is the image; None for the whole file.
        stored_label: Label that the data set gives it, where `label` is another: an output of a
            restricted model, or a prediction; -1 if it gives none.
    """

    path: Path
    label: int
    image_id: str
    part: Part | None = None
    stored_label: int | None = None

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            UnreadableImageError: It cannot be read.
        """
        return read_bytes(self.path) if self.part is None else self.part.read(self.path)


def of_image(error: InputError, record: ImageRecord) -> InputError:
    """Return an error about the pixels of an image with the image's name before it."""
    return type(error)(f"image {record.image_id}: {error}")
