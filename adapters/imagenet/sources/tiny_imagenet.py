"""The validation images of Tiny-ImageNet as distributed: `images/` and `val_annotations.txt`."""

from __future__ import annotations

import logging
from pathlib import Path

from iaside_plugins.adapters.imagenet.labels import Classes
from iaside_plugins.adapters.imagenet.listing import image_names
from iaside_plugins.adapters.imagenet.remote import read_plain
from iaside_plugins.adapters.imagenet.sources.found import Found, labelled
from iaside_plugins.adapters.imagenet.sources.source import Listing
from iaside_plugins.errors import InputError, shown

_NOTES = "val_annotations.txt"
_MOST_BYTES = 2**24  # of the annotations
_log = logging.getLogger(__name__)


def is_tiny_imagenet(root: Path) -> bool:
    """Return whether a folder is Tiny-ImageNet's, or that of its validation images."""
    return _home(root) is not None


def read_tiny_imagenet(root: Path, labels: str, classes: Classes) -> Listing:
    """Return Tiny-ImageNet's validation images, with the ids of class folders.

    A model of 200 outputs has the 200 WordNet ids sorted: labels="rank".

    Raises:
        InputError: Images that the annotations do not list, or lines of another form.
    """
    home = _home(root)
    if home is None:
        raise InputError(f"{root} is not Tiny-ImageNet")
    if home != root:
        _log.warning("took the validation images of Tiny-ImageNet, %s", home)
    notes = home / _NOTES
    try:
        lines = read_plain(notes, _MOST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {notes}: {error}") from error
    classes_of: dict[str, str] = {}
    for k, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2 or not all(fields[:2]):
            raise InputError(
                f"{notes}, line {k}: expected a file and a WordNet id, got {shown(line)}"
            )
        classes_of[fields[0]] = fields[1]
    names = image_names(home / "images")
    if missing := [name for name in names if name not in classes_of]:
        raise InputError(f"{notes} does not list {len(missing)} images, {missing[0]} among them")
    if not names:
        raise InputError(f"no images in {home / 'images'}")
    found = [Found(home / "images" / name, None, classes_of[name], name) for name in names]
    return labelled(found, labels, classes)


def _home(root: Path) -> Path | None:
    """Return the folder of the validation images, or None."""
    for home in (root, root / "val", root / "tiny-imagenet-200" / "val"):
        if (home / _NOTES).is_file() and (home / "images").is_dir():
            return home
    return None
