"""What the file of a saved result must hold: arrays of the right shapes, plain values of a kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError, shown
from iaside_plugins.storage.files import parse_json, read_npz


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(_is_count(side) and side for side in value)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < np.inf


KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "ids": (lambda value: _is_texts(value) and len(value) > 0, "a list of names"),
    "forwards": (_is_texts, "a list of names"),
    "image_size": (_is_size, "height and width"),
    "n_classes": (_is_count, "a number of classes"),
    "n_forward": (_is_count, "a number of images"),
    "precision": (_is_text, "a text"),
    "label_space": (_is_text, "a text"),
    "norm": (_is_positive, "a number above 0"),
    "step": (lambda value: _is_count(value) and value > 0, "an integer of at least 1"),
    "seed": (_is_count, "an integer of at least 0"),
}


def read_saved(
    path: Path | str, kind: str, mark: str, version: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a saved result's file, and its head without the mark.

    Args:
        path: The .npz file; nothing in it is executed.
        kind: What it should hold, for the message.
        mark: Where the head keeps the version of the format.
        version: The version that can be read.

    Raises:
        InputError: If the file cannot be read, holds something else, or is of another version.
    """
    try:
        arrays: dict[str, Any] = read_npz(Path(path))
        head = parse_json(str(arrays.pop("head")))
        found = head.pop(mark)
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not a saved {kind}: {error}") from error
    if found != version:
        raise InputError(f"{path} was written by another version of iaside-plugins")
    return arrays, head


def check_head(head: Mapping[str, Any]) -> None:
    """Check the plain values of a saved result; names that are not in `KINDS` are left alone.

    Raises:
        ValueError: For a value of another kind.
    """
    for name, value in head.items():
        is_right, expected = KINDS.get(name, (None, ""))
        if is_right is not None and not is_right(value):
            raise ValueError(f"{name} is {shown(value, 60)}, expected {expected}")


def check_arrays(
    arrays: Mapping[str, npt.NDArray[Any] | None],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    optional: Collection[str] = (),
    gaps: Collection[str] = (),
) -> None:
    """Check the arrays of a saved result.

    Args:
        arrays: By name.
        shapes: Shape of every array by its name.
        optional: Names of those that may be absent or None.
        gaps: Names of those that may hold NaN.

    Raises:
        ValueError: For an array that is missing, of another shape, or that holds no finite numbers.
    """
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None:
            if name not in optional:
                raise ValueError(f"{name} is missing")
            continue
        if array.dtype.kind not in "biuf" or array.shape != shape:
            raise ValueError(
                f"{name} has shape {array.shape} and type {array.dtype}, expected numbers of shape "
                f"{shape}"
            )
        sound = ~np.isinf(array) if name in gaps else np.isfinite(array)
        if not sound.all():
            raise ValueError(f"{name} holds numbers that are not finite")
