"""Where the command line keeps unfinished work, so that the same command goes on from there."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from iaside_plugins.storage.code import package_digest
from iaside_plugins.storage.provenance import model_identity

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def resume_folder(folder: Path | None, *identity: Any) -> Iterator[Path]:
    """Yield the folder of unfinished work: the user's, or one in the cache that success removes.

    The last of `identity` is the model; rows are stored by image, so that batch size, workers and
    names may change between two runs. In the cache, work of other weights or other code, of the
    model or of this package, stays in another folder, and is said.
    """
    if folder is not None:
        yield folder
        return
    model = identity[-1]
    info = getattr(model, "info", None)
    named = [getattr(info, name, None) for name in ("spec", "weights")]
    command = _digest((*identity[:-1], *named))
    code = _digest((sorted(model_identity(model, command).items()), package_digest()))
    folder = cache_folder() / "unfinished" / f"{command}-{code}"
    for other in sorted(folder.parent.glob(f"{command}-*")):
        if other != folder:
            _log.warning(
                "%s holds unfinished work of this command by other code or weights, which is not "
                "used; delete it if you do not need it",
                other,
            )
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _digest(values: tuple[Any, ...]) -> str:
    return sha256(repr(values).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Return the folder of unfinished runs: IASIDE_CACHE, or the user's cache folder."""
    if given := os.environ.get("IASIDE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iaside"
