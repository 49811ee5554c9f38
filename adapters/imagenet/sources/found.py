"""Images found with the names of their classes, before the names become class indices."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iaside_plugins.adapters.imagenet.labels import (
    KNOWN_MAPS,
    Classes,
    ClassMap,
    LabelSpace,
    by_rank,
    chosen_classes,
    class_indices,
    class_map,
    known_map,
)
from iaside_plugins.adapters.imagenet.listing import readable
from iaside_plugins.adapters.imagenet.record import ImageRecord, Part
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.errors import InputError


@dataclass(frozen=True)
class Found:
    """One image of a data set with the name of its class.

    Attributes:
        path: The file.
        part: Which part of it is the image; None for the whole file.
        class_name: Its class folder if it lay in one, a class name, or an index as text; empty if
            it has none, and then nobody reads its label.
        name: Its file name in that folder.
    """

    path: Path
    part: Part | None
    class_name: str
    name: str


def labelled(
    images: Iterable[Found],
    labels: str,
    classes: Classes,
    own: ClassMap | None = None,
) -> Listing:
    """Return the records of images, sorted by id, as class folders of the same images give.

    Args:
        images: The images, at least one.
        labels: As for `labels.class_map`, or `UNLABELLED`.
        classes: The same.
        own: Class map that the data set brings with it; used for labels="auto".

    Raises:
        InputError: Unknown classes, or two images of one name.
    """
    images = list(images)
    names = {image.class_name for image in images}
    known, folders = _known(names, labels, classes, own)
    records = [
        ImageRecord(
            image.path,
            known.index[image.class_name],
            _image_id(folders.get(image.class_name, image.class_name), image.name),
            image.part,
        )
        for image in images
    ]
    times = Counter(record.image_id for record in records)
    if twice := next((name for name, n in times.items() if n > 1), None):
        raise InputError(
            f"two images have the name {twice}; every image once, under a name of its own"
        )
    return sorted(records, key=lambda record: record.image_id.split("/", 1)), known.space


def numbered_apart(images: Sequence[Found]) -> list[Found]:
    """Return images with unique names: numbered in their order if two of a class have one name."""
    if len({(image.class_name, image.name) for image in images}) == len(images):
        return list(images)
    return [replace(image, name=f"{k:08d}_{image.name}") for k, image in enumerate(images)]


def integer_classes(images: Iterable[Found]) -> ClassMap | None:
    """Return the class map of images whose classes are indices as text; None for names."""
    indices = class_indices({image.class_name for image in images})
    if not indices:
        return None
    return ClassMap(LabelSpace.of_integers("integers", indices.values()), indices)


def _known(
    names: set[str], labels: str, classes: Classes, own: ClassMap | None
) -> tuple[ClassMap, dict[str, str]]:
    """Return the class map of names, and class name -> its folder where that is another name."""
    if labels == UNLABELLED:
        return by_rank(names), {}
    if labels == "auto" and classes is None and own is not None:
        return own, {}
    indices = class_indices(names)
    if indices and (labels in KNOWN_MAPS or classes is not None):
        chosen = known_map(labels) if classes is None else chosen_classes(classes)
        folders = tuple(chosen.index)
        if not names <= chosen.index.keys() and max(indices.values()) < len(folders):
            return ClassMap(chosen.space, indices), {
                name: folders[index] for name, index in indices.items()
            }
    return class_map(names, labels, classes), {}


def _image_id(folder: str, name: str) -> str:
    """Return the id of an image: its class as one folder, if it has one, and its file name."""
    parts = [*([re.sub(r"[/\\]", "_", folder)] if folder else []), *name.split("/")]
    # Ids name files of the cache: none may lead out of its folder.
    return readable("/".join("_" if part in ("", ".", "..") else part for part in parts))
