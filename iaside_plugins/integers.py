"""Whole numbers that are given as arguments, of any integer type: Python's, NumPy's, PyTorch's."""

from __future__ import annotations

import operator
from typing import Any

from iaside_plugins.errors import InputError


def as_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an argument that must be a whole number as an int.

    Args:
        name: Of the argument, for the message.
        value: As it was given; True and False are no numbers here.
        least: Least value.
        most: Greatest value, if there is one.

    Raises:
        InputError: For anything but an integer of this range.
    """
    number = index_or_none(value)
    if number is None or number < least or (most is not None and number > most):
        top = "" if most is None else f" and at most {most}"
        raise InputError(f"{name} must be an integer of at least {least}{top}, got {value!r}")
    return number


def index_or_none(value: Any) -> int | None:
    """Return an integer of any type as an int, and None for anything else, also True and False."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
