"""Spectra of perturbations on one set of images, compared with a model's importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.display.html import html_table
from iaside_plugins.importance.forecast import forecast, survival
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.spectra.forecasts import MIN_CONDITIONS, ForecastCheck
from iaside_plugins.spectra.perturbation import PerturbationSpectrum
from iaside_plugins.spectra.stored import StoredSpectrum
from iaside_plugins.spectral.energy import BandEnergies, decibel
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.spectral.power_law import FIT
from iaside_plugins.stats.correlation import rank_correlation
from iaside_plugins.stats.intervals import Estimate, bootstrap, wilson
from iaside_plugins.storage.files import jsonable, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
FORMAT = 1
ENERGIES = ("clean", "noise")  # of a `StoredSpectrum`


@dataclass(frozen=True, eq=False)
class SpectrumReport:
    """Perturbations of one set of images, and the model's importance if there is a model.

    Attributes:
        conditions: The perturbations.
        partition: The bands.
        image_size: Height and width of the images as they are perturbed.
        n_channels: Number of channels of the images.
        importance: Spectral importance of the model, or None without one.
        info: Further facts for `to_dict`: model, settings of corruptions and attacks, provenance.
    """

    conditions: tuple[PerturbedCondition, ...]
    partition: SpectralPartition
    image_size: tuple[int, int]
    n_channels: int
    importance: SpectralImportance | None
    info: Mapping[str, Any]

    @cached_property
    def spectra(self) -> list[tuple[PerturbedCondition, PerturbationSpectrum]]:
        """Every condition with its spectrum; the mean over its severities before a corruption's."""
        conditions: list[PerturbedCondition] = []
        for condition in self.conditions:
            known = [c.name for c in conditions if c.kind == condition.kind == "corruption"]
            has_severity = condition.kind == "corruption" and condition.strength is not None
            if has_severity and condition.name not in known:
                conditions.append(pooled([c for c in self.corruptions if c.name == condition.name]))
            conditions.append(condition)
        form = (self.partition, self.image_size, self.n_channels)
        return [(condition, condition.spectrum(*form)) for condition in conditions]

    @property
    def corruptions(self) -> list[PerturbedCondition]:
        """The corruptions, one a severity."""
        return [c for c in self.conditions if c.kind == "corruption"]

    @property
    def names(self) -> list[str]:
        """Names of the corruptions, in order."""
        return list(dict.fromkeys(c.name for c in self.corruptions))

    def plot(self) -> Figure:
        """Plot SNR against frequency of every perturbation in a new figure (needs matplotlib)."""
        from iaside_plugins.spectra.plots import plot_spectrum

        return plot_spectrum(self.to_dict())

    def __repr__(self) -> str:
        n_images = max((len(one.ids) for one in self.conditions), default=0)
        return (
            f"SpectrumReport({len(self.conditions)} conditions, {n_images} images, "
            f"{self.partition.n_bands} bands)"
        )

    def _repr_html_(self) -> str:
        columns = ["kind", "name", "strength", "n_images", "snr_db", "slope", "r_squared"]
        return html_table(repr(self), self.to_frame()[columns])

    def to_frame(self) -> pd.DataFrame:
        """Return counts, SNR, the fit of a power law and the model's error: a row per condition.

        `snr_db` is of whole images; `slope`, `curvature`, `r_squared`, `residual_db` are of log SNR
        over log frequency (`power_law.FIT`); `density_slope` of the perturbation itself;
        `success` of an attack: on which share of the images that are classified correctly without
        it (`n_correct`). With 95 % intervals over images (`_low`, `_high`).
        """
        import pandas as pd

        rows = []
        for condition, spectrum in self.spectra:
            row: dict[str, Any] = {
                **identity(condition),
                "n_images": spectrum.n_images,
                "n_failed": spectrum.n_failed,
                "n_unchanged": spectrum.n_unchanged,
                **_ends("snr_db", spectrum.overall_snr_db),
            }
            if condition.kind != "band attack":  # one band is no spectrum
                for k, name in enumerate(FIT):
                    row |= _ends(name, spectrum.snr_fit, k)
                row |= _ends("density_slope", spectrum.density_fit, 0)
            rows.append(row | error(condition) | success(condition))
        return pd.DataFrame(rows)

    def bands(self) -> pd.DataFrame:
        """Return `PerturbationSpectrum.to_frame` of every condition, one row per band."""
        import pandas as pd

        parts = []
        for condition, spectrum in self.spectra:
            part = spectrum.to_frame()
            for k, (name, value) in enumerate(identity(condition).items()):
                part.insert(k, name, value)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def matches(self) -> pd.DataFrame:
        """Return how well each perturbation's bands match the model's important bands.

        Rank correlation, over bands, of Shapley values with the perturbation's energy per band
        (`energy`), its density per frequency bin (`density`) and its SNR (`snr`), with bootstrap
        intervals over the images that both have. Empty without a model.
        """
        import pandas as pd

        if self.importance is None:
            return pd.DataFrame()
        rows = []
        for condition, spectrum in self.spectra:
            psi, place = self._importance_of(condition)
            used = np.flatnonzero(condition.is_used[place])
            row: dict[str, Any] = {**identity(condition), "n_images": len(used)}
            if len(used):
                energies = BandEnergies.of_rows(condition.energies[place][used])
                joint = np.concatenate([psi[used], energies.signal, energies.noise], axis=1)
                row |= _correlations(joint, spectrum.n_bins)
            rows.append(row)
        return pd.DataFrame(rows)

    @cached_property
    def forecast(self) -> dict[str, ForecastCheck]:
        """Forecast beside measured errors: over corruptions, and over corruptions x severities.

        The forecast of a corruption is the mean of those of its severities. Empty without a model,
        without the hit of every coalition, or with fewer than `MIN_CONDITIONS` corruptions.
        """
        chosen, found = self.corruptions, self.importance
        if found is None or found.hits is None or len(self.names) < MIN_CONDITIONS:
            return {}
        known = set(found.ids).intersection(*(c.ids for c in chosen))
        rows = [k for k, name in enumerate(found.ids) if name in known]
        hits, forecasts, wrong = found.hits[rows], [], []
        spectra = []
        for condition in chosen:
            place = {name: k for k, name in enumerate(condition.ids)}
            at = [place[found.ids[k]] for k in rows]
            spectra.append(self._stored(condition, at))
            weights = survival(spectra[-1].clean, spectra[-1].noise)
            forecasts.append(forecast(hits, weights).per_image)
            wrong.append(condition.wrong[at])
        signal, noise = (np.array([getattr(s, n).sum() for s in spectra]) for n in ENERGIES)
        check = ForecastCheck(
            tuple(one.condition for one in spectra),
            np.stack(forecasts, axis=1),
            np.stack(wrong, axis=1),
            (~found.correct[rows]).astype(np.float64),
            np.array([one.image_share(self.partition) for one in spectra]),
            decibel(signal, noise),
        )
        return {"corruptions": check.by_name(), "severities": check}

    def stored(self) -> list[StoredSpectrum]:
        """Return the mean energies of every corruption at every severity, for a file."""
        return [self._stored(one, list(range(len(one.ids)))) for one in self.corruptions]

    def to_dict(self) -> dict[str, Any]:
        """Return every table as JSON values, without single images."""
        out: dict[str, Any] = {
            "format": FORMAT,
            **jsonable(dict(self.info)),
            "n_bands": self.partition.n_bands,
            "band_norm": self.partition.norm,
            "image_size": list(self.image_size),
            "conditions": jsonable(self.to_frame().to_dict("records")),
            "bands": jsonable(self.bands().to_dict("records")),
            "matches": jsonable(self.matches().to_dict("records")),
            "forecast": {k: v.to_dict() for k, v in self.forecast.items()},
            "importance": None,
        }
        if self.importance is not None:
            per_image = ("per_image", "values", "labels", "ids", "value_table")
            importance = self.importance.to_dict()
            out["importance"] = {k: v for k, v in importance.items() if k not in per_image} | {
                "bands": jsonable(self.importance.to_frame().to_dict("records"))
            }
        return out

    def save(self, path: Path | str) -> None:
        """Write `to_dict` to a JSON file, whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        write_json(Path(path), self.to_dict())

    def _importance_of(self, condition: PerturbedCondition) -> tuple[Array, npt.NDArray[np.int64]]:
        """Return Shapley values of the images shared with a condition, and their rows in it."""
        assert self.importance is not None
        row = {name: k for k, name in enumerate(self.importance.ids)}
        place = [k for k, name in enumerate(condition.ids) if name in row]
        psi = self.importance.per_image[[row[condition.ids[k]] for k in place]]
        return psi, np.array(place, dtype=np.int64)

    def _stored(self, condition: PerturbedCondition, rows: Sequence[int]) -> StoredSpectrum:
        """Return the mean energies of a condition over some of its images."""
        mean = BandEnergies.of_rows(condition.energies[rows].mean(axis=0))
        products = condition.products
        return StoredSpectrum(
            Condition(condition.name, condition.strength),
            self.partition,
            self.image_size,
            mean.signal,
            mean.noise,
            np.full(self.partition.n_bands, np.nan)
            if products is None
            else products[rows].mean(axis=0),
            len(rows),
        )


def _ends(name: str, estimate: Estimate, k: int | None = None) -> dict[str, float]:
    value, (low, high) = (
        (estimate.value, estimate.interval)
        if k is None
        else (estimate.value[k], estimate.interval[k])
    )
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def _correlations(rows: Array, n_bins: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return the rank correlations of importance with a perturbation's energy, density and SNR.

    Args:
        rows: Shapley values, energies of the images and of the perturbation (K, 3 M).
        n_bins: Frequencies in each band (M,).
    """

    def statistic(x: Array) -> Array:
        psi, signal, noise = np.split(x, 3, axis=-1)
        with np.errstate(divide="ignore"):
            others = (noise, noise / n_bins, signal / noise)
        return np.stack([rank_correlation(psi, other) for other in others], axis=-1)

    values, intervals = bootstrap(rows, statistic)
    out: dict[str, float] = {}
    for name, value, (low, high) in zip(
        ("energy", "density", "snr"), values, intervals, strict=True
    ):
        out |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
    return out


KINDS = ("corruption", "attack", "band attack")


@dataclass(frozen=True, eq=False)
class PerturbedCondition:
    """One perturbation of K images: a corruption at a severity, an attack at a budget.

    Attributes:
        kind: One of `KINDS`; a "band attack" is confined to one band.
        name: Short name.
        title: Name in tables.
        strength: Severity 1 to 5 or epsilon; None for all severities together (each image's
            energies and errors averaged over them), for a folder of perturbed images, and for
            least perturbations.
        norm: Norm of an attack's budget.
        ids: Names of the images.
        energies: Rows of `band_energies` (K, 2 M + 2).
        counts: Whether an image's perturbation counts (K,): False for failed attacks and for
            images that are misclassified without one.
        wrong: Whether the model errs on the perturbed image (K,), 1.0 or 0.0; NaN without a model.
        products: Rows of `band_products` (K, M); None where they were not measured.
    """

    kind: str
    name: str
    title: str
    strength: float | None
    norm: str | None
    ids: tuple[str, ...]
    energies: Array
    counts: npt.NDArray[np.bool_]
    wrong: Array
    products: Array | None = None

    @property
    def is_used(self) -> npt.NDArray[np.bool_]:
        """Whether an image counts and is changed (K,)."""
        return self.counts & BandEnergies.of_rows(self.energies).changed

    def spectrum(
        self, partition: SpectralPartition, image_size: tuple[int, int], n_channels: int
    ) -> PerturbationSpectrum:
        """Return the spectrum over the images that count and are changed."""
        return PerturbationSpectrum(
            partition,
            image_size,
            n_channels,
            self.energies[self.is_used],
            n_failed=int((~self.counts).sum()),
            n_unchanged=int((self.counts & ~self.is_used).sum()),
        )


def pooled(severities: Sequence[PerturbedCondition]) -> PerturbedCondition:
    """Return a corruption over its severities: each image's energies and errors averaged."""
    first = severities[0]
    shared = set(first.ids).intersection(*(c.ids for c in severities))
    ids = tuple(name for name in first.ids if name in shared)
    energies, wrong = [], []
    for condition in severities:
        place = {name: k for k, name in enumerate(condition.ids)}
        at = [place[name] for name in ids]
        energies.append(condition.energies[at])
        wrong.append(condition.wrong[at])
    return PerturbedCondition(
        first.kind,
        first.name,
        first.title,
        None,
        first.norm,
        ids,
        np.mean(energies, axis=0),
        np.ones(len(ids), dtype=bool),
        np.mean(wrong, axis=0),
    )


def identity(condition: PerturbedCondition) -> dict[str, Any]:
    """Return the columns of tables that identify a condition."""
    return {
        "kind": condition.kind,
        "name": condition.name,
        "title": condition.title,
        "strength": condition.strength,
        "norm": condition.norm,
    }


def error(condition: PerturbedCondition) -> dict[str, float]:
    """Return the error rate with an interval: Wilson's, or a bootstrap for several severities."""
    wrong = condition.wrong
    if np.isnan(wrong).any():
        return {"error": np.nan, "error_low": np.nan, "error_high": np.nan}
    if np.isin(wrong, (0, 1)).all():
        low, high = wilson(float(wrong.sum()), len(wrong))
    else:
        low, high = bootstrap(wrong[:, None], lambda x: x[..., 0])[1]
    return {"error": float(wrong.mean()), "error_low": float(low), "error_high": float(high)}


def success(condition: PerturbedCondition) -> dict[str, float]:
    """Return the share of correctly classified images on which an attack succeeds, else NaN."""
    n_success = int(condition.counts.sum())
    n_correct = n_success + int((condition.wrong == 0).sum())
    if condition.kind == "corruption" or not n_correct:
        return {"n_correct": np.nan} | dict.fromkeys(
            ("success", "success_low", "success_high"), np.nan
        )
    low, high = wilson(n_success, n_correct)
    return {
        "n_correct": n_correct,
        "success": n_success / n_correct,
        "success_low": low,
        "success_high": high,
    }
