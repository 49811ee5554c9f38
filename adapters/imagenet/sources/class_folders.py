"""Images in class folders, `root/<class>/<file>`."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from iaside_plugins.adapters.imagenet.labels import Classes, LabelSpace, by_rank, class_map
from iaside_plugins.adapters.imagenet.layouts import misread, what_to_do
from iaside_plugins.adapters.imagenet.listing import image_names, read_listing, readable
from iaside_plugins.adapters.imagenet.record import ImageRecord
from iaside_plugins.adapters.imagenet.sources.source import UNLABELLED, Listing
from iaside_plugins.errors import InputError

_log = logging.getLogger(__name__)


def read_class_folders(root: Path, labels: str, classes: Classes) -> Listing:
    """Return the images of class folders; what is left out is said."""
    listing = read_listing(root)
    folders = {name: images for name, images in listing.images.items() if images}
    why = listing.why()
    if not folders and labels == UNLABELLED and (flat := image_names(root)):
        _log.warning("took the %s images directly in %s", f"{len(flat):,}", root)
        records = [ImageRecord(root / name, 0, readable(name)) for name in flat]
        return records, LabelSpace.of_integers("records", [0])
    if not folders:
        known_as = what_to_do(root) or (f"; left out: {why}" if why else "")
        raise InputError(f"no images in {root}/<class>/<file>{known_as}")
    guessed = classes is None and labels in ("auto", "rank")
    if guessed and (advice := misread(root, folders, labels)):
        raise InputError(f"{root}: {advice}")
    empty = [name for name, images in listing.images.items() if not images]
    if labels == "rank" and empty:
        # Either way of counting such a folder may shift all labels after it.
        raise InputError(f"labels='rank' needs images in every folder; none in {empty[:5]}")
    known = by_rank(folders) if labels == UNLABELLED else class_map(folders, labels, classes)
    if why:
        n_taken = sum(map(len, folders.values()))
        _log.warning("took %s images of %s and left out %s", f"{n_taken:,}", root, why)
    records = [
        ImageRecord(root / folder / name, known.index[folder], readable(f"{folder}/{name}"))
        for folder, images in folders.items()
        for name in images
    ]
    names = Counter(record.image_id for record in records)
    if twice := [name for name, times in names.items() if times > 1]:
        raise InputError(f"{root} holds two images whose name reads {twice[0]}; rename one")
    return records, known.space
