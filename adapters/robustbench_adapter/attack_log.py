"""AutoAttack's messages, into a file where one is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iaside_plugins.errors import InputError


@contextmanager
def attack_log(path: str | Path | None) -> Iterator[None]:
    """Append what AutoAttack logs to a file, every level of it, and put its logger back after.

    Raises:
        InputError: The file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    logger = logging.getLogger("auto-attack")
    level = logger.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
