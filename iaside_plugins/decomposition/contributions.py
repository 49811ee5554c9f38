"""Contributions of bands to what a perturbation costs: per image, condition and band, and means.

For an image x, its perturbed version x' and delta = x' - x, ``z_S = x + sum over i in S of
band_i(delta)`` perturbs the bands in S alone. A band's contribution is its Shapley value in a game
over such sets, so that for every image ``perturbed = clean + sum over bands of contributions``.
Everything here is linear in the images and the conditions: means, sums over severities, ratios to
a reference's errors (CE, mCE) and differences of two models keep that equation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.corruptions.error_rates import (
    CORRUPTIONS_3DCC,
    SEVERITIES,
    CorruptionErrors,
    ReferenceTable,
    check_benchmark,
    over_reference,
    reference_means,
)
from iaside_plugins.corruptions.systematic import READINGS
from iaside_plugins.errors import InputError
from iaside_plugins.stats.intervals import Estimate, sparse_mean

Array = npt.NDArray[np.float64]
CORRUPTION_NAMES = {*CORRUPTIONS, *CORRUPTIONS_3DCC}


class Condition(NamedTuple):
    """A perturbation: its name, and its severity or budget if it has one."""

    name: str
    level: float | None = None

    @classmethod
    def of(cls, key: Condition | tuple[str, float] | str) -> Condition:
        """Return a condition from itself, a pair (name, level), or a name.

        Raises:
            InputError: For anything else.
        """
        pair: Any = key if isinstance(key, (tuple, list)) else (key, None)
        name, level = pair if len(pair) == 2 else (None, None)
        if not isinstance(name, str) or not (level is None or isinstance(level, Real)):
            raise InputError(
                f"expected a condition: a name, or a pair of a name and a number, got {key!r}"
            )
        if level is None:
            return cls(name)
        return cls(name, int(level) if isinstance(level, Integral) else float(level))

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name} {self.level:g}"


Conditions: TypeAlias = "Iterable[Condition | tuple[str, float] | str] | Condition | str"


def listed(conditions: Conditions) -> list[Condition]:
    """Return conditions in a list: of one condition, of a pair (name, level), of several.

    Raises:
        InputError: For anything else.
    """
    if isinstance(conditions, str) or not isinstance(conditions, Iterable):
        return [Condition.of(conditions)]
    some: list[Any] = list(conditions)
    is_pair = len(some) == 2 and (some[1] is None or isinstance(some[1], Real))
    return [Condition.of(one) for one in ([tuple(some)] if is_pair else some)]


@dataclass(frozen=True, eq=False)
class Split:
    """What perturbations cost, split over bands: ``perturbed = clean + bands.sum()``.

    Attributes:
        clean: Without perturbation, ().
        bands: Contributions of the bands (M,).
        perturbed: Under the perturbation, ().
        added: What the perturbation adds, ``perturbed - clean``, ().
    """

    clean: Estimate
    bands: Estimate
    perturbed: Estimate
    added: Estimate


@dataclass(frozen=True, eq=False)
class Contributions:
    """One game over C conditions, K images and M bands.

    Attributes:
        conditions: The C conditions.
        clean: Value of every image without perturbation (K,).
        perturbed: Value of every image under every condition (C, K).
        bands: Contribution of every band (C, K, M).
        nested: Values with the perturbation left in the lowest k bands alone, k = 1 to M - 1, and
            then in all but those (C, K, 2 M - 2); NaN for images on which they were not measured,
            None where they were on no image.
        rates: Whether values are errors, 0 or 1, so that intervals of rates end there.
    """

    conditions: tuple[Condition, ...]
    clean: Array
    perturbed: Array
    bands: Array
    nested: Array | None = None
    rates: bool = False

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.clean)

    def at(self, images: Sequence[int]) -> Contributions:
        """Return the same game on some of the images, by their places."""
        nested = None if self.nested is None else self.nested[:, images]
        return Contributions(
            self.conditions,
            self.clean[images],
            self.perturbed[:, images],
            self.bands[:, images],
            nested,
            self.rates,
        )

    @property
    def efficiency_residual(self) -> float:
        """Greatest ``|perturbed - clean - sum of bands|`` of any image: rounding only."""
        return float(np.abs(self.perturbed - self.clean - self.bands.sum(axis=2)).max())

    def weights(self, conditions: Conditions | None) -> Array:
        """Return equal weights (C,) of some conditions that sum to 1; None for all of them.

        A name without a level stands for all its levels.

        Raises:
            InputError: For a condition that was not measured.
        """
        if conditions is None:
            return np.full(len(self.conditions), 1 / len(self.conditions))
        chosen = np.zeros(len(self.conditions))
        for wanted in listed(conditions):
            found = [
                k
                for k, one in enumerate(self.conditions)
                if one == wanted or (wanted.level is None and one.name == wanted.name)
            ]
            if not found:
                known = ", ".join(map(str, self.conditions))
                raise InputError(f"{wanted} was not measured; there are {known}")
            chosen[found] = 1
        if not chosen.any():
            raise InputError("expected at least one condition, got none")
        return np.asarray(chosen / chosen.sum())

    @property
    def mean_conditions(self) -> tuple[Condition, ...]:
        """The conditions of the mean: all but attacks and readings; else the readings; else all.

        A name is an attack's if all its levels are budgets: floats, where severities are integers.
        """
        others = {one.name for one in self.conditions if not isinstance(one.level, float)}
        names = (others - set(READINGS)) | CORRUPTION_NAMES
        perturbed = tuple(one for one in self.conditions if one.name in names)
        return perturbed or self.systematic or self.conditions

    @property
    def systematic(self) -> tuple[Condition, ...]:
        """The readings of the same files by other libraries, which have a mean of their own."""
        return tuple(one for one in self.conditions if one.name in READINGS)

    def over(self, conditions: Conditions | None = None) -> Split:
        """Return the split of the mean over some conditions, see `weights`; by default of all."""
        return self.weighted(self.weights(conditions))

    def weighted(self, weights: npt.ArrayLike) -> Split:
        """Return the split of a sum over conditions with weights (C,).

        Intervals are 95 % intervals over images; all conditions have the same images.
        """
        w = np.asarray(weights, dtype=np.float64)
        clean, perturbed = sum_over(self.clean[None], [w.sum()]), sum_over(self.perturbed, w)
        if self.rates:
            ends = np.minimum(w, 0).sum(), np.maximum(w, 0).sum()
            clean, perturbed = (
                replace(one, interval=one.interval.clip(*ends)) for one in (clean, perturbed)
            )
        return Split(
            clean=clean,
            bands=sum_over(self.bands, w),
            perturbed=perturbed,
            added=sum_over(self.perturbed - self.clean, w),
        )

    def in_bands(
        self,
        shares: npt.ArrayLike,
        conditions: Conditions | None = None,
    ) -> Estimate:
        """Return a sum of the bands' contributions, each times its share, ().

        Args:
            shares: Of the bands (M,): 1 and 0 for some of them, -1 for a difference.
            conditions: Their mean, see `weights`; by default of all.
        """
        summed = self.bands @ np.asarray(shares, dtype=np.float64)
        return sum_over(summed, self.weights(conditions))

    def repaired(self, conditions: Conditions | None = None) -> tuple[Estimate, Estimate]:
        """Return what is won where the perturbation is taken out of the high, or the low, bands.

        Args:
            conditions: Their mean, see `weights`; by default of all.

        Returns:
            Perturbed value less that without perturbation in bands k to M - 1, k = 1 to M - 1
            (M - 1,), and the same for bands 0 to k - 1.

        Raises:
            InputError: If it was not measured.
        """
        w = self.weights(conditions)
        high, low = np.split(self.won(), 2, axis=2)
        return sum_over(high, w), sum_over(low, w)

    def won(self) -> Array:
        """Return what leaving the perturbation in the sets of `nested` alone wins, (C, N, 2 M - 2).

        Of the N images on which that was measured.

        Raises:
            InputError: If there are none.
        """
        there, nested = self._nested()
        return np.asarray(self.perturbed[:, there, None] - nested)

    def left(self, conditions: Conditions | None = None) -> tuple[Array, Array]:
        """Return what is left where the perturbation is taken out of the high, or the low, bands.

        On the images on which that was measured.

        Args:
            conditions: Their mean, see `weights`; by default of all.

        Returns:
            The value without perturbation in bands k to M - 1, k = 1 to M - 1 (M - 1,), and the
            same for bands 0 to k - 1.

        Raises:
            InputError: If it was not measured.
        """
        means = self._nested()[1].mean(axis=1)
        high, low = np.split(np.tensordot(self.weights(conditions), means, axes=1), 2)
        return high, low

    def _nested(self) -> tuple[npt.NDArray[np.int64], Array]:
        """Return the N images on which `nested` was measured, and its values there."""
        if self.nested is None:
            raise InputError(
                "what taking bands out would repair was not measured: use repair=True, or a "
                "protocol with estimator='exact'"
            )
        there = np.flatnonzero(~np.isnan(self.nested).any(axis=(0, 2)))
        if not len(there):
            raise InputError("what taking bands out would repair was measured on no image of these")
        return there, self.nested[:, there]

    def corruption_errors(
        self, reference: CorruptionErrors | Mapping[str, float] | ReferenceTable | str
    ) -> tuple[dict[str, Split], Split | None]:
        """Return the splits of every CE, and of the mCE, normalised by a reference's errors.

        ``CE_c = sum over s of E(c, s) / sum over s of E_ref(c, s)``; mCE is their mean. Only for
        the game of errors.

        Args:
            reference: As for `error_rates.corruption_errors`, or the mean error by corruption.

        Returns:
            Corruption -> its split, and that of the mCE: None where `mean_corruption_error` would
            refuse a mean over these corruptions.

        Raises:
            InputError: If the conditions are not corruptions at the severities 1 to 5, and as
                `error_rates.corruption_errors`.
        """
        if isinstance(reference, Mapping):
            reference = {
                name: [errors] * len(SEVERITIES)
                if isinstance(errors, float | int | np.floating)
                else errors
                for name, errors in reference.items()
            }
        theirs = reference_means(reference)
        names = list(dict.fromkeys(one.name for one in self.conditions))
        scales = over_reference(dict.fromkeys(names, 1 / len(SEVERITIES)), theirs)
        weights = {}
        for name in names:
            levels = sorted(one.level or 0 for one in self.conditions if one.name == name)
            if levels != list(SEVERITIES):
                raise InputError(
                    f"a CE needs the severities 1 to 5; {name} was measured at {levels}"
                )
            mask = np.array([one.name == name for one in self.conditions], dtype=np.float64)
            weights[name] = mask * scales[name]
        errors = {name: self.weighted(w) for name, w in weights.items()}
        try:
            check_benchmark(names, theirs)
        except InputError:
            return errors, None
        return errors, self.weighted(np.mean(list(weights.values()), axis=0))

    def __repr__(self) -> str:
        n_bands = self.bands.shape[2]
        return (
            f"Contributions({self.n_images} images, {len(self.conditions)} conditions, "
            f"{n_bands} bands)"
        )

    def __sub__(self, other: Contributions) -> Contributions:
        """Return the paired difference, image by image, of two models on the same images."""
        nested = None
        if self.nested is not None and other.nested is not None:
            nested = self.nested - other.nested
        return Contributions(
            self.conditions,
            self.clean - other.clean,
            self.perturbed - other.perturbed,
            self.bands - other.bands,
            nested,
        )


def sum_over(values: Array, weights: npt.ArrayLike) -> Estimate:
    """Return the mean over images of values (C, K) or (C, K, B) summed over conditions, (B,).

    Most images have 0 where a perturbation flips few predictions, and a sample may hold none of
    those it flips: the plain interval would have no width. So half an image more is counted, whose
    square in each condition is the mean of those that are not 0 (1 where all are, split evenly over
    the bands), as Agresti and Min (Statistics in Medicine 24, 2005) add half to every cell of
    paired proportions. Coverage is measured by `tests/bench/bench_decomposition.py`.
    """
    w = np.asarray(weights, dtype=np.float64)
    each = values if values.ndim == 3 else values[:, :, None]
    n_bands = each.shape[2]
    touched = int(each.any(axis=2).sum())
    square = float((each**2).sum()) / touched / n_bands if touched else 1 / n_bands
    return sparse_mean(np.tensordot(w, values, axes=1), square / 2 * float(np.square(w).sum()))
