"""Which corruptions and severities a command names, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.errors import InputError


def check_corruptions(text: str) -> list[str] | None:
    """Return the corruptions to generate; empty for "none", None for a folder of them.

    Raises:
        InputError: Neither names, nor a folder, nor "generate" or "none".
    """
    if text == "generate":
        return list(CORRUPTIONS)
    if text == "none":
        return []
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if Path(text).is_dir() and not set(names) <= set(CORRUPTIONS):
        return None
    for name in names:
        if name not in CORRUPTIONS:
            raise InputError(
                f"unknown corruption {name!r} and no such folder: expected generate, none, a "
                f"folder, or some of {', '.join(CORRUPTIONS)}"
            )
    if not names:
        raise InputError("corruptions=... names none: expected generate, none, a folder, or names")
    return names


def check_each_severity(severities: Iterable[int]) -> None:
    """Raise InputError for a severity that is not one of 1 to 5."""
    for severity in severities:
        if severity not in SEVERITIES:
            raise InputError(f"severities are 1 to 5, got {severity}")


def check_severities(text: str) -> tuple[int, ...]:
    """Return the severities of a list such as "1,3,5", ascending.

    Raises:
        InputError: For anything but numbers from 1 to 5.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part in "12345" and len(part) == 1 for part in parts):
        raise InputError(f"severities are numbers from 1 to 5 such as 1,3,5; got {text!r}")
    return tuple(sorted({int(part) for part in parts}))
