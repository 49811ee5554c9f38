"""Forecast errors of one model under many perturbations, alone and beside the measured errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.importance.forecast import Forecast, mean_forecast
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.spectra.stored import StoredSpectrum
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.stats.correlation import rank_correlation
from iaside_plugins.stats.intervals import bootstrap, wilson
from iaside_plugins.storage.files import jsonable

Array = npt.NDArray[np.float64]
NO_NOISE = 0.25  # image share from which a perturbation is called no additive noise
MIN_CONDITIONS = 3
PREDICTORS = ("forecast", "clean_error", "overall_snr")


def forecast_table(
    importance: SpectralImportance, spectra: Sequence[StoredSpectrum]
) -> dict[str, Any]:
    """Return the forecasts of a model as JSON values: by condition, by name, and their mean.

    The mean gives every name the same weight. Intervals are over the model's images; the spectra
    are taken as known.

    Args:
        importance: Of the model, with the hit of every coalition.
        spectra: Of the perturbations.

    Raises:
        InputError: As `SpectralImportance.forecast`.
    """
    partition = SpectralPartition(importance.protocol.n_bands, importance.protocol.band_norm)
    by_name: dict[str, list[tuple[StoredSpectrum, Forecast]]] = {}
    for one in spectra:
        found = importance.forecast(one)
        by_name.setdefault(one.condition.name, []).append((one, found))
    conditions, names = [], []
    for name, cells in by_name.items():
        shares = [one.image_share(partition) for one, _ in cells]
        for (one, found), share in zip(cells, shares, strict=True):
            row = {"name": name, "level": one.condition.level, **ends("error", found)}
            conditions.append({**row, "survival": found.survival, "image_share": share})
        mean = mean_forecast([found for _, found in cells])
        row = {"name": name, "n_conditions": len(cells), **ends("error", mean)}
        names.append({**row, "image_share": float(np.mean(shares))})
    means = [mean_forecast([found for _, found in cells]) for cells in by_name.values()]
    wrong = int((~importance.correct).sum())
    low, high = wilson(wrong, importance.n_images)
    out = {
        "n_images": importance.n_images,
        "clean": {"error": wrong / importance.n_images, "error_low": low, "error_high": high},
        "mean": {"n_names": len(names), **ends("error", mean_forecast(means))},
        "names": names,
        "conditions": conditions,
    }
    found_values: dict[str, Any] = jsonable(out)
    return found_values


def ends(name: str, found: Forecast) -> dict[str, float]:
    """Return a forecast error with its interval, as columns of a table."""
    low, high = found.interval
    return {name: found.error, f"{name}_low": float(low), f"{name}_high": float(high)}


@dataclass(frozen=True, eq=False)
class ForecastCheck:
    """Forecast beside measured errors on the same K images, one column a condition.

    Intervals are percentile bootstrap intervals over images, with the spectra taken as known.

    Attributes:
        conditions: The C conditions.
        forecast: Forecast error of every image (K, C).
        measured: Measured error of every image (K, C), in [0, 1].
        clean: Whether every image is misclassified without a perturbation (K,), 0 or 1.
        image_share: `StoredSpectrum.image_share` of every condition (C,).
        snr_db: Signal-to-noise ratio of the whole images under every condition (C,), a rival that
            knows neither bands nor model.
    """

    conditions: tuple[Condition, ...]
    forecast: Array
    measured: Array
    clean: Array
    image_share: Array
    snr_db: Array

    def by_name(self) -> ForecastCheck:
        """Return the means over the conditions of one name, such as severities."""
        names = list(dict.fromkeys(one.name for one in self.conditions))
        of = [[one.name == name for one in self.conditions] for name in names]

        def means(x: Array) -> Array:  # no product of matrices: 0 times an infinite SNR is NaN
            return np.stack([x[..., own].mean(axis=-1) for own in of], axis=-1)

        return ForecastCheck(
            tuple(map(Condition, names)),
            means(self.forecast),
            means(self.measured),
            self.clean,
            means(self.image_share),
            means(self.snr_db),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return one record a condition, and how far the forecast and its rivals are right.

        "mean_absolute_error" is over conditions; the rival "clean_error" takes the error without
        a perturbation for the error under each and ranks none; "overall_snr" only ranks.
        "advantage" is the rival's mean absolute error minus the forecast's, paired over images.
        """
        n = len(self.conditions)
        rows = np.concatenate([self.forecast, self.measured, self.clean[:, None]], axis=1)
        value, interval = bootstrap(rows, self._figures)
        shown, parts = bootstrap(rows, lambda x: _columns(x, n))
        conditions = []
        for k, one in enumerate(self.conditions):
            row: dict[str, Any] = {"name": one.name, "level": one.level}
            for place, name in enumerate(("forecast", "error", "difference")):
                row[name] = shown[place, k]
                row[f"{name}_low"], row[f"{name}_high"] = parts[place, k]
            conditions.append({**row, "image_share": self.image_share[k]})
        names = ("mean_absolute_error", "rank_correlation")
        cells = [("forecast", names[0]), ("forecast", names[1]), ("clean_error", names[0])]
        cells += [("overall_snr", names[1]), ("clean_error", "advantage")]
        predictors: dict[str, dict[str, Any]] = {name: {"predictor": name} for name in PREDICTORS}
        for k, (predictor, name) in enumerate(cells):
            low, high = interval[k]
            predictors[predictor] |= {name: value[k], f"{name}_low": low, f"{name}_high": high}
        found: dict[str, Any] = jsonable(
            {
                "n_images": len(rows),
                "n_conditions": n,
                "clean_error": self.clean.mean(),
                "status": "exploratory: one model" if n < 30 else "one model",
                "conditions": conditions,
                "predictors": list(predictors.values()),
            }
        )
        return found

    def _figures(self, x: Array) -> Array:
        """Return the five figures (..., 5) of means over images (..., 2 C + 1)."""
        n = len(self.conditions)
        forecast, measured, clean = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
        own = np.abs(forecast - measured).mean(axis=-1)
        rival = np.abs(clean - measured).mean(axis=-1)
        ranks = [rank_correlation(one, measured) for one in (forecast, -self.snr_db)]
        return np.stack([own, ranks[0], rival, ranks[1], rival - own], axis=-1)


def _columns(x: Array, n: int) -> Array:
    """Return forecast, measured error and their difference (..., 3, C) of means over images."""
    forecast, measured = x[..., :n], x[..., n : 2 * n]
    return np.stack([forecast, measured, forecast - measured], axis=-2)


def misses(check: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions that a forecast misses, the worst first.

    Those whose difference has an interval that excludes 0.

    Args:
        check: Of `ForecastCheck.to_dict`.
    """
    found = [
        row
        for row in check["conditions"]
        if row["difference_low"] is not None
        and (row["difference_low"] > 0 or row["difference_high"] < 0)
    ]
    return sorted(found, key=lambda row: -round(abs(row["difference"]), 9))
