"""Independent views of the same bands on the same images, and how far their rankings agree.

Importance (what the clean prediction rests on), errors under an attack confined to one band,
contribution to errors per energy of a perturbation, and the means of a Fourier heat map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.result import ErrorDecomposition, over_energy
from iaside_plugins.errors import InputError
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.stats.correlation import spearman_matrix
from iaside_plugins.stats.intervals import (
    Estimate,
    bootstrap_means,
    jackknife,
    percentile_interval,
    rate_interval,
)
from iaside_plugins.storage.files import jsonable
from iaside_plugins.value_table.stream import numbered

Array = npt.NDArray[np.float64]


def _itself(mean: Array) -> Array:
    return mean


@dataclass(frozen=True, eq=False)
class BandView:
    """One number for every band, from rows of images.

    Attributes:
        name: Its name.
        unit: What is measured, in which unit.
        ids: Name or digest of every image, in order.
        rows: Rows of images (K, R).
        statistic: Maps means of rows (..., R) to the bands (..., M).
        is_rate: Whether rows are rates in percent, whose interval stays within 0 and 100.
    """

    name: str
    unit: str
    ids: tuple[str, ...]
    rows: Array
    statistic: Callable[[Array], Array] = _itself
    is_rate: bool = False

    @cached_property
    def _estimate(self) -> Estimate:
        return jackknife(self.rows, self.statistic)

    @property
    def value(self) -> Array:
        """The value of every band (M,)."""
        return self._estimate.value

    @property
    def interval(self) -> Array:
        """The 95 % interval of every value over images (M, 2): of a rate, or by the jackknife."""
        if not self.is_rate:
            return self._estimate.interval
        return 100 * np.array([rate_interval(column / 100) for column in self.rows.T])

    def at(self, ids: Sequence[str]) -> BandView:
        """Return the view on some of its images, in their order."""
        place = {name: k for k, name in enumerate(numbered(self.ids))}
        rows = self.rows[[place[name] for name in numbered(ids)]]
        return replace(self, ids=tuple(ids), rows=rows)


def importance_view(result: SpectralImportance) -> BandView:
    """Return the Shapley values of the clean prediction, in nats."""
    return BandView("importance", "Shapley value, nats", result.ids, result.per_image)


def attack_view(
    wrong: npt.NDArray[np.bool_], ids: Sequence[str], epsilon: float, norm: str = "L2"
) -> BandView:
    """Return errors under an attack confined to one band.

    Args:
        wrong: Whether each image is misclassified under the attack inside each band (K, M).
        ids: Name or digest of every image, in order.
        epsilon: Budget of the attack.
        norm: Its norm.
    """
    unit = f"error in %, {norm} {epsilon:g}"
    rows = 100 * wrong.astype(np.float64)
    return BandView("attack inside the band", unit, tuple(ids), rows, is_rate=True)


def per_energy_view(result: ErrorDecomposition) -> BandView:
    """Return contributions to the mean error per energy, see `ErrorDecomposition.per_energy`."""
    rows = np.concatenate([result.error.bands.mean(axis=0), result.energy.mean(axis=0)], axis=1)
    name = "contribution per energy"
    unit = f"points a squared pixel, {_conditions(result)}"
    return BandView(name, unit, result.ids, rows, lambda means: 100 * over_energy(means))


def heatmap_view(result: FourierHeatMap) -> BandView:
    """Return the band means of a Fourier heat map, in percent."""
    unit = f"error in %, norm {result.norm:g}"
    return BandView("Fourier heat map", unit, result.ids, 100 * result.per_image, is_rate=True)


def _conditions(result: ErrorDecomposition) -> str:
    """Return the conditions of a decomposition, or how many there are."""
    some = result.conditions
    return str(some[0]).replace("_", " ") if len(some) == 1 else f"{len(some)} conditions"


@dataclass(frozen=True, eq=False)
class BandViews:
    """Views of the same M bands on the same K images.

    Attributes:
        views: The V views, at least two.
        heat_map: The heat map among them.
    """

    views: tuple[BandView, ...]
    heat_map: FourierHeatMap

    @classmethod
    def of(cls, heat_map: FourierHeatMap, *others: BandView) -> BandViews:
        """Return views on the images that all of them have, the heat map's last.

        Raises:
            InputError: Without another view, for other numbers of bands, or no image in common.
        """
        views = (*others, heatmap_view(heat_map))
        if len(views) < 2:
            raise InputError("expected another view beside the heat map, got none")
        for view in others:
            if len(view.value) != heat_map.partition.n_bands:
                raise InputError(
                    f"expected views of {heat_map.partition.n_bands} bands, got "
                    f"{len(view.value)} of {view.name}"
                )
        known = [set(numbered(view.ids)) for view in others]
        names = numbered(heat_map.ids)
        shared = [one[0] for one in names if all(one in own for own in known)]
        if not shared:
            raise InputError("expected views of the same images, got none in common")
        return cls(tuple(view.at(shared) for view in views), heat_map)

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.views[0].ids)

    @property
    def values(self) -> Array:
        """Values of every view (V, M)."""
        return np.stack([view.value for view in self.views])

    @property
    def agreement(self) -> Array:
        """Spearman's correlation over bands of every two views (V, V)."""
        return spearman_matrix(self._comparable(self.values))

    @cached_property
    def agreement_interval(self) -> Array:
        """Percentile intervals of `agreement` over images, drawn together, (V, V, 2).

        They say how well these images determine the rankings, not what other bands would give.
        """
        if self.n_images < 2:
            return np.full((len(self.views), len(self.views), 2), np.nan)
        drawn = bootstrap_means(np.concatenate([view.rows for view in self.views], axis=1))
        ends = np.cumsum([view.rows.shape[1] for view in self.views])[:-1]
        parts = np.split(drawn, ends, axis=1)
        values = [view.statistic(part) for view, part in zip(self.views, parts, strict=True)]
        stacked = self._comparable(np.stack(values, axis=1))
        return percentile_interval([spearman_matrix(each) for each in stacked])

    def _comparable(self, values: Array) -> Array:
        """Return values (..., M) of the bands that every view has a number for."""
        return values[..., ~np.isnan(self.values).any(axis=0)]

    def to_dict(self) -> dict[str, Any]:
        """Return the views with intervals and their agreement as JSON values."""
        views = [
            {
                "name": view.name,
                "unit": view.unit,
                "value": view.value,
                "interval": view.interval,
            }
            for view in self.views
        ]
        found: dict[str, Any] = jsonable(
            {
                "n_images": self.n_images,
                "views": views,
                "agreement": self.agreement,
                "agreement_interval": self.agreement_interval,
            }
        )
        return found

    def plot(self, name: str = "") -> Any:
        """Plot map, views and agreement in a new figure (needs matplotlib).

        Args:
            name: Name of the model, for the title.
        """
        from iaside_plugins.heatmap.plots import plot_views

        return plot_views(self, name)

    def __repr__(self) -> str:
        return f"BandViews({', '.join(view.name for view in self.views)}; {self.n_images} images)"
