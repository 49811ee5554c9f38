"""The variants of a protocol that a sensitivity study compares, and their neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from iaside_plugins.errors import InputError
from iaside_plugins.protocol import CHOICES, Protocol
from iaside_plugins.shapley.score import BETA
from iaside_plugins.spectral.absence import ABSENCES
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS

# The order in which axes are compared; the last two need no passes of their own.
AXES = ("range_handling", "absence", "band_norm", "n_bands", "temperature", "beta")
TABLE_AXES = AXES[:4]
CROSSED = AXES[:3]
FITTED = "fitted"
LEVELS: dict[str, tuple[Any, ...]] = {
    "range_handling": tuple(n for n, one in RANGE_HANDLINGS.items() if not one.whole_batch),
    "absence": tuple(n for n, one in ABSENCES.items() if not one.script_only),
    "band_norm": ("chebyshev", "euclidean"),
    "n_bands": (6,),
    "temperature": (1.0, FITTED),
    "beta": (BETA, 0.6, 0.9),
}


@dataclass(frozen=True)
class Variant:
    """A protocol whose temperature may be fitted to each model.

    Attributes:
        protocol: All choices; its temperature is used unless `fitted`.
        fitted: Whether each model's own fitted temperature is used instead.
    """

    protocol: Protocol
    fitted: bool = False

    @property
    def levels(self) -> tuple[Any, ...]:
        """Level on each of `AXES`."""
        own = (getattr(self.protocol, axis) for axis in AXES)
        return tuple(
            FITTED if axis == "temperature" and self.fitted else level
            for axis, level in zip(AXES, own, strict=True)
        )

    @property
    def name(self) -> str:
        """All levels as a short text."""
        clip, absence, norm, bands, temperature, beta = self.levels
        t = temperature if self.fitted else f"{temperature:g}"
        return f"m{bands} {norm} {absence} {clip} T={t} beta={beta:g}"

    def for_temperature(self, temperature: float) -> Protocol:
        """Return the protocol for a model whose fitted temperature is given."""
        if not self.fitted:
            return self.protocol
        return dataclasses.replace(self.protocol, temperature=temperature)


@dataclass(frozen=True)
class Design:
    """All variants of a study.

    Attributes:
        base: The default that variants are set against; its number of bands need not be crossed.
        levels: Levels of each of `AXES`, the base's own first.
        crossed: Numbers of bands at which `CROSSED` are crossed in full; at others they are
            varied one at a time.
    """

    base: Protocol
    levels: Mapping[str, tuple[Any, ...]]
    crossed: tuple[int, ...]

    def variants(self) -> list[Variant]:
        """Return every variant, in a stable order."""
        out = []
        for n_bands, *choices in product(*(self.levels[a] for a in ("n_bands", *CROSSED))):
            given = dict(zip(CROSSED, choices, strict=True))
            changed = sum(given[axis] != getattr(self.base, axis) for axis in CROSSED)
            if changed > 1 and n_bands not in self.crossed:
                continue
            for t, beta in product(self.levels["temperature"], self.levels["beta"]):
                fitted = t == FITTED
                fixed = self.base.temperature if fitted else t
                protocol = dataclasses.replace(
                    self.base, n_bands=n_bands, **given, temperature=fixed, beta=beta
                )
                out.append(Variant(protocol, fitted))
        return out

    @property
    def base_variant(self) -> Variant:
        """The base as a variant."""
        return Variant(self.base)


def make_design(
    base: Protocol, levels: Mapping[str, Sequence[Any]], crossed: Sequence[int] | None = None
) -> Design:
    """Return a design with these levels of each axis; the base's own is added where missing.

    Args:
        base: The default.
        levels: By axis of `AXES`; an axis that is left out keeps the base's level alone.
        crossed: Numbers of bands at which the first three axes are crossed; all by default.

    Raises:
        InputError: For an unknown axis, a level that a protocol refuses, or a base that is no
            exact protocol of its own temperature.
    """
    for axis in levels:
        if axis not in AXES:
            raise InputError(f"unknown axis {axis!r}: expected some of {', '.join(AXES)}")
    full = {}
    for axis in AXES:
        own = getattr(base, axis)
        full[axis] = tuple(dict.fromkeys([own, *levels.get(axis, ())]))
        for level in full[axis]:
            if level != FITTED:
                _check(dataclasses.replace(base, **{axis: level}))  # refuses what cannot be
    if unknown := set(crossed or ()) - set(full["n_bands"]):
        raise InputError(f"crossed at {min(unknown)} bands, which are not among the levels")
    return Design(base, full, tuple(full["n_bands"] if crossed is None else crossed))


def _check(protocol: Protocol) -> None:
    """Raise InputError unless a study can vary the protocol."""
    if protocol.estimator != "exact" or protocol.is_script:
        raise InputError("a sensitivity study compares exact protocols other than the script's")


def neighbours(variants: Sequence[Variant]) -> list[list[int]]:
    """Return the indices of the variants that differ from each variant on one axis only."""
    levels = [variant.levels for variant in variants]
    return [
        [k for k, b in enumerate(levels) if sum(x != y for x, y in zip(a, b, strict=True)) == 1]
        for a in levels
    ]


def known_level(axis: str, text: str) -> Any:
    """Return the level that a word stands for.

    Raises:
        InputError: For a word that is no level of the axis.
    """
    if axis in CHOICES:
        if text not in CHOICES[axis]:
            raise InputError(f"{axis} must be some of {', '.join(CHOICES[axis])}, got {text!r}")
        return text
    if axis == "temperature" and text == FITTED:
        return text
    try:
        return int(text) if axis == "n_bands" else float(text)
    except ValueError as error:
        if axis == "n_bands":
            raise InputError(f"numbers of bands are whole numbers, got {text!r}") from error
        also = f" or {FITTED}" if axis == "temperature" else ""
        raise InputError(f"{axis} must be numbers{also}, got {text!r}") from error
