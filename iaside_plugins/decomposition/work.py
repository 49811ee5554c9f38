"""What a decomposition costs, in passes, before it starts."""

from __future__ import annotations

import sys
from typing import Any

from iaside_plugins.errors import InputError
from iaside_plugins.integers import index_or_none
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import Work, added, times


def decomposition_work(
    pairs: Any, protocol: Protocol, n_images: int | None, *, repair: bool | int = False
) -> Work | None:
    """Return the work of a decomposition, or None where the number of images is unknown.

    Args:
        pairs: As for `error_decomposition`; its `conditions` and `work`, where it has them, are
            the conditions of an image, and the work of making it under all of them.
        protocol: As for `error_decomposition`.
        n_images: Images.
        repair: As for `error_decomposition`.
    """
    if n_images is None or not (conditions := getattr(pairs, "conditions", None)):
        return None
    whole: dict[str, float] = times(getattr(pairs, "work", {}), n_images)
    left = n_images
    for nested, places in nested_places(protocol, repair):
        n = min(left, len(places))
        passes = n * (len(conditions) * RowLayout(protocol, nested, paired=True).n_passes + 1)
        whole, left = added(whole, {"coalition": passes}), left - n
    return whole


def nested_places(protocol: Protocol, repair: bool | int) -> list[tuple[bool, range]]:
    """Return whether nested sets are evaluated, and the places of the images on which."""
    every = range(sys.maxsize)
    if protocol.estimator == "exact" or repair is True:
        return [(True, every)]
    n = int(repair) if isinstance(repair, bool) else index_or_none(repair)
    if n is None or n < 0:
        raise InputError(f"repair must be true, false or a number of images, got {repair!r}")
    return [(True, every[:n]), (False, every[n:])] if n else [(False, every)]
