"""Checks of an entry's ``decomposition`` group: its splits add up, and agree with the errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.decomposition.contributions import CORRUPTION_NAMES
from iaside_plugins.decomposition.protocols import check_protocol
from iaside_plugins.entry.parse import pointer
from iaside_plugins.entry.schema import Decomposition, Entry, Split
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol

Problems = Iterator[str]
ROUNDING = 1e-9
RESIDUAL = 1e-3  # of sums in single precision
HOME = "decomposition"


def decomposition_problems(entry: Entry) -> Problems:
    """Yield problems of the ``decomposition`` group; none for an entry without one."""
    group = entry.decomposition
    if group is None:
        return
    try:
        protocol = Protocol.from_dict(group.protocol.model_dump())
        check_protocol(protocol)
    except InputError as error:
        yield f"{pointer(HOME, 'protocol')}: {error}"
        return
    if group.n_images > entry.data.n_images:
        yield (
            f"{pointer(HOME, 'n_images')}: expected at most {entry.data.n_images}, got "
            f"{group.n_images}"
        )
    splits = {(HOME, "mean"): group.mean} | {
        (HOME, "conditions", k): one for k, one in enumerate(group.conditions)
    }
    wrong_lengths = [p for home, one in splits.items() for p in _lengths(home, one, protocol)]
    yield from wrong_lengths
    if wrong_lengths:
        return
    for home, one in splits.items():
        yield from _sums(home, one, group)
    yield from _mean(group)
    if abs(group.efficiency_residual) > RESIDUAL:
        yield (
            f"{pointer(HOME, 'efficiency_residual')}: expected 0 but for rounding, got "
            f"{group.efficiency_residual:.3g}"
        )
    yield from _levels(group)
    yield from _against_corruption(entry, group)


def _lengths(home: tuple[str | int, ...], split: Split, protocol: Protocol) -> Problems:
    for name in ("bands", "bands_interval"):
        if (n := len(getattr(split, name))) != protocol.n_bands:
            yield f"{pointer(*home, name)}: expected {protocol.n_bands} bands, got {n}"


def _sums(home: tuple[str | int, ...], split: Split, group: Decomposition) -> Problems:
    """Yield a split that does not add up, and errors that are no count of images."""
    total = split.clean + sum(split.bands)
    if abs(total - split.perturbed) > ROUNDING:
        yield (
            f"{pointer(*home, 'perturbed')}: expected clean + bands = {total:.9g}, got "
            f"{split.perturbed:.9g}"
        )
    if abs(split.clean - group.mean.clean) > ROUNDING:
        yield f"{pointer(*home, 'clean')}: expected {group.mean.clean:.9g}, got {split.clean:.9g}"
    if home[-1] != "mean":
        for name in ("clean", "perturbed"):
            n_wrong = getattr(split, name) * group.n_images
            if abs(n_wrong - round(n_wrong)) > 1e-6:
                yield (
                    f"{pointer(*home, name)}: expected a share of {group.n_images} images, got "
                    f"{getattr(split, name):.9g}"
                )
    for k, (value, (low, high)) in enumerate(zip(split.bands, split.bands_interval, strict=True)):
        if not (-1 - ROUNDING <= value <= 1 + ROUNDING and low < value < high):
            place = pointer(*home, "bands_interval", k)
            yield f"{place}: expected an interval around {value:.6g}, a share, got {[low, high]}"


def _mean(group: Decomposition) -> Problems:
    """Yield what the mean over the conditions does not give, and conditions listed twice."""
    cells = [(one.condition, one.level) for one in group.conditions]
    for k, cell in enumerate(cells):
        if cell in cells[:k]:
            yield f"{pointer(HOME, 'conditions', k)}: expected every condition once, got {cell}"
    bands = np.mean([one.bands for one in group.conditions], axis=0)
    perturbed = float(np.mean([one.perturbed for one in group.conditions]))
    if np.abs(bands - group.mean.bands).max() > ROUNDING:
        yield (
            f"{pointer(HOME, 'mean', 'bands')}: expected the mean of the conditions "
            f"{bands.tolist()}, got {list(group.mean.bands)}"
        )
    if abs(perturbed - group.mean.perturbed) > ROUNDING:
        yield (
            f"{pointer(HOME, 'mean', 'perturbed')}: expected {perturbed:.9g}, got "
            f"{group.mean.perturbed:.9g}"
        )


def _levels(group: Decomposition) -> Problems:
    """Yield corruptions at a level that is no severity, which no other check would know."""
    for k, one in enumerate(group.conditions):
        if one.condition in CORRUPTION_NAMES and one.level not in SEVERITIES:
            yield (
                f"{pointer(HOME, 'conditions', k, 'level')}: expected a severity of "
                f"{one.condition}, one of {list(SEVERITIES)}, got {one.level}"
            )


def _against_corruption(entry: Entry, group: Decomposition) -> Problems:
    """Yield errors other than those of the corruption group, where the images are the same ones.

    One image may differ: logits that are equal but for rounding.
    """
    corruption = entry.corruption
    if corruption is None or group.image_ids_sha256 != entry.data.image_ids_sha256:
        return
    measured = {(c.corruption, float(c.severity)): c.error for c in corruption.conditions}
    for k, one in enumerate(group.conditions):
        error = measured.get((one.condition, one.level or 0.0))
        if error is None or error.n != group.n_images:
            continue
        if abs(error.value - one.perturbed) > 1 / group.n_images + ROUNDING:
            yield (
                f"{pointer(HOME, 'conditions', k, 'perturbed')}: expected the error under "
                f"{one.condition} {one.level:g}, {error.value:.9g}, got {one.perturbed:.9g}"
            )
