"""What a way of storing images is: how it is recognised, and how it is listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iaside_plugins.adapters.imagenet.labels import Classes, LabelSpace
from iaside_plugins.adapters.imagenet.record import ImageRecord

UNLABELLED = "unlabelled"
"""Instead of the way to get labels: there is no model, so any folders will do."""

Listing = tuple[list[ImageRecord], LabelSpace]
"""The images of a data set and what their labels mean."""


@dataclass(frozen=True)
class Source:
    """One way in which a data set of image files is stored.

    Attributes:
        name: What it is, for error messages.
        matches: Root -> whether it is stored so.
        read: (root, labels, classes) -> records and their label space, see `find_records`.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, str, Classes], Listing]
