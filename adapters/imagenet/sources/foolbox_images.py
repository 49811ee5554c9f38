"""The labelled images that Foolbox's package carries: `foolbox:imagenet`, `foolbox:cifar10`, ..."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from iaside_plugins.adapters.imagenet.labels import KNOWN_MAPS, Classes, class_map, known_map
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.errors import InputError, MissingExtraError

_PREFIX = "foolbox:"


def is_foolbox_images(root: Path) -> bool:
    """Return whether a path is a name such as "foolbox:imagenet" and nothing lies there."""
    return str(root).startswith(_PREFIX) and not root.exists()


def read_foolbox_images(root: Path, labels: str, classes: Classes) -> Listing:
    """Return the 20 images of a data set that Foolbox (MIT licence) is installed with.

    Their files are named `<data set>_<number>_<class index>.<ending>`; ids are those of class
    folders that hold them, `n02108422/imagenet_00_243.jpg`. Foolbox itself is not imported.

    Args:
        root: "foolbox:" and one of `KNOWN_MAPS`.
        labels: As for `labels.class_map` of the class folders; "auto" is the data set itself.
        classes: The same.

    Raises:
        InputError: Another data set, or an installation without the files.
        MissingExtraError: Foolbox is not installed.
    """
    dataset = str(root).removeprefix(_PREFIX)
    if dataset not in KNOWN_MAPS:
        names = ", ".join(_PREFIX + name for name in KNOWN_MAPS)
        raise InputError(f"expected one of {names}, got {root}")
    found = importlib.util.find_spec("foolbox")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError.of(f"{root} needs the package foolbox", "foolbox")
    folder = Path(next(iter(found.submodule_search_locations))) / "data"
    numbered = re.compile(rf"{dataset}_\d+_(\d+)\.\w+")
    indices = {
        file: int(matched[1])
        for file in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if (matched := numbered.fullmatch(file.name))
    }
    own = known_map(dataset)
    folders = tuple(own.index)
    if not indices or max(indices.values()) >= len(folders):
        raise InputError(f"{folder} holds no labelled images of {dataset}; install foolbox again")
    named = {file: folders[index] for file, index in indices.items()}
    if classes is None and labels in ("auto", UNLABELLED):
        labels = dataset
    known = class_map(named.values(), labels, classes)
    records = [
        ImageRecord(file, known.index[name], f"{name}/{file.name}") for file, name in named.items()
    ]
    return sorted(records, key=lambda record: record.image_id), known.space
