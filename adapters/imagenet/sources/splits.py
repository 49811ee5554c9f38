"""Which files of a folder are one split of a data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from iaside_plugins.errors import InputError

_SPLITS = ("validation", "val", "valid", "test", "train")  # the first that is there is taken
_log = logging.getLogger(__name__)


def one_split(root: Path, files: Sequence[Path]) -> list[Path]:
    """Return the files of one split, by the words of their names; says so if there are others.

    Args:
        root: The folder, for messages.
        files: Its files, at least one.

    Raises:
        InputError: They are of several data sets, and no names say which is which.
    """
    words = [re.split(r"[-_.]", file.stem.lower()) for file in files]
    splits: dict[str, list[Path]] = {}
    for file, own in zip(files, words, strict=True):
        splits.setdefault(next((word for word in own if word in _SPLITS), ""), []).append(file)
    first = sorted({own[0] for own in words if own[0].isalpha()})
    if ("" in splits and len(splits) > 1) or (not splits.keys() - {""} and len(first) > 1):
        raise InputError(
            f"{root} holds files of several data sets ({', '.join(first)}): give one file, or a "
            "folder of one of them"
        )
    best = min(splits, key=lambda split: _SPLITS.index(split) if split else 0)
    if others := sorted(splits.keys() - {best}):
        _log.warning(
            "took the split %s of %s, not %s; give a file for others", best, root, ", ".join(others)
        )
    return splits[best]
