"""Where the command line keeps unfinished work, so that the same command goes on from there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from iaside_plugins.storage.provenance import model_digest


@contextlib.contextmanager
def resume_folder(folder: Path | None, *identity: Any) -> Iterator[Path]:
    """Yield the folder of unfinished work: the user's, or one in the cache that success removes.

    The last of `identity` is the model; rows are stored by image, so that batch size, workers and
    names may change between two runs.
    """
    if folder is not None:
        yield folder
        return
    text = repr((*identity[:-1], model_digest(identity[-1])))
    name = sha256(text.encode()).hexdigest()[:16]
    folder = cache_folder() / "unfinished" / name
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """Return the folder of unfinished runs: IASIDE_CACHE, or the user's cache folder."""
    if given := os.environ.get("IASIDE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iaside"
