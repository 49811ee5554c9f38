"""Where the command line keeps unfinished work, so that the same command goes on from there."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from iaside_plugins.errors import InputError
from iaside_plugins.interrupts import note_kept, was_interrupted
from iaside_plugins.storage.code import package_digest
from iaside_plugins.storage.files import check_writable
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import HEADER, count_rows

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def resume_folder(folder: Path | None, *identity: Any) -> Iterator[Path]:
    """Yield the folder of unfinished work, see `_folder`.

    What it holds is said, and on Ctrl-C noted for `interrupted`: an image counts once under every
    condition.
    """
    with _folder(folder, *identity) as found:
        if n_finished := count_rows(found):
            _log.warning("%s holds %s finished images", found, f"{n_finished:,}")
        try:
            yield found
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or was_interrupted():
                note_kept(count_rows(found))
            raise


@contextlib.contextmanager
def _folder(folder: Path | None, *identity: Any) -> Iterator[Path]:
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
    cache, is_lasting = _usable_cache()
    folder = cache / "unfinished" / f"{command}-{code}"
    for other in sorted(folder.parent.glob(f"{command}-*")):
        if other != folder:
            _log.warning(
                "%s holds unfinished work of this command by other code or weights, which is not "
                "used; delete it if you do not need it",
                other,
            )
    try:
        yield folder
    finally:
        if not any(file.is_file() and file.name != HEADER for file in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)  # refused before its first row
        if not is_lasting:  # a folder without work in it
            with contextlib.suppress(OSError):
                cache.rmdir()
    shutil.rmtree(folder if is_lasting else cache, ignore_errors=True)


def _digest(values: tuple[Any, ...]) -> str:
    return sha256(repr(values).encode()).hexdigest()[:16]


def _usable_cache() -> tuple[Path, bool]:
    """Return a folder to keep unfinished work in, and whether the next command finds it again.

    Raises:
        InputError: IASIDE_CACHE cannot be written.
    """
    try:
        folder = cache_folder()
        check_writable(folder, folder=True)
    except (InputError, RuntimeError) as error:  # Python's, for a user without a home
        if os.environ.get("IASIDE_CACHE"):
            raise
        folder = Path(tempfile.mkdtemp(prefix="iaside-"))
        _log.warning(
            "%s: unfinished work is kept in %s, where the next command does not look for it; "
            "give resume=..., or set IASIDE_CACHE to a folder that lasts",
            error,
            folder,
        )
        return folder, False
    return folder, True


def cache_folder() -> Path:
    """Return the folder of unfinished runs: IASIDE_CACHE, or the user's cache folder."""
    if given := os.environ.get("IASIDE_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iaside"
