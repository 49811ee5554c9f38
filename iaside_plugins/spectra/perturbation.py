"""Energy of perturbations by band, compared with the energy of the images.

For a clean image x and a perturbed one x', band by band (Luo et al., TMLR 2024):
``SNR_i = E||band_i(x)||^2 / E||band_i(x' - x)||^2``, means over images, shown in decibel
(10 log10). All in float64, whatever the images' precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.checks import unpaired_warning
from iaside_plugins.spectral.band_maps import image_size
from iaside_plugins.spectral.energy import (
    BandEnergies,
    band_energies,
    band_frequencies,
    decibel,
    in_bands,
)
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.spectral.power_law import FIT, FIT_RANGES, fit_power_law
from iaside_plugins.stats.intervals import Estimate, jackknife
from iaside_plugins.storage.files import jsonable
from iaside_plugins.value_table.stream import tensor

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)
Array = npt.NDArray[np.float64]
COLUMNS = ("clean_energy", "energy", "density", "share", "snr_db", "snr_without_dc_db")


@dataclass(frozen=True, eq=False)
class PerturbationSpectrum:
    """Band energies of a perturbation and of the clean images, over K images and M bands.

    Intervals are 95 % delete-one jackknife intervals over images, of ratios of means where a
    figure is one. A figure that K images cannot give (none for K = 0, an interval for K = 1) is
    NaN; the SNR of a band that no image's perturbation touches is infinite.

    Attributes:
        partition: The bands.
        image_size: Height and width.
        n_channels: Number of channels of the images.
        per_image: Rows of `band_energies` of the images that count, (K, 2 M + 2).
        n_failed: Images left out by the mask (failed attacks).
        n_unchanged: Images left out because the perturbed image is the clean one.
    """

    partition: SpectralPartition
    image_size: tuple[int, int]
    n_channels: int
    per_image: Array
    n_failed: int = 0
    n_unchanged: int = 0

    @property
    def n_images(self) -> int:
        """Images that count, K."""
        return len(self.per_image)

    @property
    def n_bins(self) -> npt.NDArray[np.int64]:
        """Frequencies in each band (M,): wide rings have many, so band totals grow with them."""
        index = self.partition.index(*self.image_size).flatten()
        return np.asarray(torch.bincount(index, minlength=self.partition.n_bands).numpy())

    @cached_property
    def frequencies(self) -> Array:
        """Frequency of each band in fits and plots, cycles/image (M,); NaN for a band of DC alone.

        The geometric mean of the radial frequencies of its bins without DC, in the partition's
        norm, along the shorter side.
        """
        return band_frequencies(self.partition, *self.image_size)

    @cached_property
    def clean_energy(self) -> Estimate:
        """Energy of each band of the clean images (M,): by Parseval in squared pixels."""
        return self._estimate(lambda x: x.signal)

    @cached_property
    def energy(self) -> Estimate:
        """Energy of each band of the perturbation (M,), in squared pixels, summed over bins."""
        return self._estimate(lambda x: x.noise)

    @cached_property
    def density(self) -> Estimate:
        """Energy of the perturbation per frequency bin and channel (M,): flat for white noise.

        White noise has the variance of its pixels in every bin.
        """
        cells = self.n_bins * self.n_channels
        return self._estimate(lambda x: x.noise / cells)

    @cached_property
    def share(self) -> Estimate:
        """Share of the perturbation's energy in each band (M,); sums to 1."""
        return self._estimate(lambda x: _shares(x.noise))

    @cached_property
    def snr_db(self) -> Estimate:
        """Signal-to-noise ratio of each band (M,) in dB: the ratio of the mean energies.

        Band totals and densities give the same ratio, since both count the same bins.
        """
        return self._estimate(lambda x: decibel(x.signal, x.noise))

    @cached_property
    def snr_without_dc_db(self) -> Estimate:
        """`snr_db` without DC in band 0: the points of the fits; NaN for a band of DC alone."""
        return self._estimate(lambda x: decibel(*self._without_dc(x)))

    @cached_property
    def overall_snr_db(self) -> Estimate:
        """Signal-to-noise ratio of whole images in dB, without bands."""
        return self._estimate(lambda x: decibel(x.signal.sum(axis=-1), x.noise.sum(axis=-1)))

    @cached_property
    def snr_fit(self) -> Estimate:
        """`power_law.FIT` of the SNR against frequency (4,): slope -2 is SNR ~ 1 / f^2."""
        return self._fit(lambda signal, noise: signal / noise)

    @cached_property
    def density_fit(self) -> Estimate:
        """`power_law.FIT` of the perturbation's density: slope 0 for white noise."""
        bins = self._bins_without_dc
        return self._fit(lambda signal, noise: noise / bins)

    @cached_property
    def clean_fit(self) -> Estimate:
        """`power_law.FIT` of the clean images' density; its slope is near -2 for photographs."""
        bins = self._bins_without_dc
        return self._fit(lambda signal, noise: signal / bins)

    @property
    def slope(self) -> float:
        """Slope of log10 SNR over log10 frequency: the exponent of a power law.

        Fitted by least squares through one point a band, each of the same weight, without DC (its
        frequency is 0): band 0 enters with its other bins. Ten times it is dB per decade.
        """
        return float(self.snr_fit.value[0])

    @property
    def slope_interval(self) -> Array:
        """Interval (2,) of the slope."""
        return np.asarray(self.snr_fit.interval[0])

    def band_means(
        self, partition: SpectralPartition, image_size: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Return the mean energies (M,) of images and perturbation in some bands, for a forecast.

        Raises:
            InputError: For another image size, bands to which these do not add up, or no images.
        """
        check_size(self.image_size, image_size)
        if not self.n_images:
            raise InputError("the spectrum is of no images: none counts and is changed")
        signal, noise = (
            in_bands(one.value, self.partition, partition, image_size)
            for one in (self.clean_energy, self.energy)
        )
        return signal, noise

    def to_frame(self) -> pd.DataFrame:
        """Return one row per band: range and frequency (cycles/image), energies, shares, SNR."""
        import pandas as pd

        edges = self.partition.edges_in_cycles(*self.image_size)
        columns: dict[str, Any] = {
            "band": np.arange(self._m),
            "low": edges[:-1],
            "high": edges[1:],
            "frequency": self.frequencies,
            "n_bins": self.n_bins,
        }
        for name in COLUMNS:
            estimate: Estimate = getattr(self, name)
            columns |= {
                name: estimate.value,
                f"{name}_low": estimate.interval[:, 0],
                f"{name}_high": estimate.interval[:, 1],
            }
        return pd.DataFrame(columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values; NaN and infinities become null."""
        fits = {"snr_fit": self.snr_fit, "density_fit": self.density_fit}
        return {
            "n_images": self.n_images,
            "n_failed": self.n_failed,
            "n_unchanged": self.n_unchanged,
            "overall_snr_db": jsonable(float(self.overall_snr_db.value)),
            "overall_snr_db_interval": jsonable(self.overall_snr_db.interval),
            **{name: _fit_dict(estimate) for name, estimate in fits.items()},
            "bands": jsonable(self.to_frame().to_dict("records")),
        }

    @property
    def _m(self) -> int:
        return self.partition.n_bands

    @property
    def _bins_without_dc(self) -> Array:
        bins = self.n_bins.astype(np.float64)
        bins[0] -= 1
        return bins * self.n_channels

    def _without_dc(self, x: BandEnergies) -> tuple[Array, Array]:
        """Return signal and noise (..., M) without DC; NaN for a band of DC alone."""
        signal, noise = x.without_dc()
        if self.n_bins[0] == 1:
            signal[..., 0] = noise[..., 0] = np.nan
        return signal, noise

    def _estimate(self, statistic: Callable[[BandEnergies], Array]) -> Estimate:
        """Return a jackknife estimate over images; NaN if there are too few images."""
        if not self.n_images:
            shape = np.shape(statistic(BandEnergies.of_rows(np.ones(2 * self._m + 2))))
            nan = np.full(shape, np.nan)
            return Estimate(nan, nan, nan, np.full((*shape, 2), np.nan))
        with np.errstate(divide="ignore", invalid="ignore"):
            return jackknife(self.per_image, lambda x: statistic(BandEnergies.of_rows(x)))

    def _fit(self, quantity: Callable[[Array, Array], Array]) -> Estimate:
        bins = self._bins_without_dc

        def statistic(x: BandEnergies) -> Array:
            signal, noise = self._without_dc(x)
            with np.errstate(divide="ignore", invalid="ignore"):
                return fit_power_law(self.frequencies[used], quantity(signal, noise)[..., used])

        has_energy = bins > 0
        if self.n_images:
            mean = BandEnergies.of_rows(self.per_image.mean(axis=0))
            signal, noise = self._without_dc(mean)
            has_energy &= (signal > 0) & (noise > 0)
        used = np.flatnonzero(has_energy)
        estimate = self._estimate(statistic)
        limits = np.array([FIT_RANGES[name] for name in FIT])
        return replace(estimate, interval=np.clip(estimate.interval, limits[:, :1], limits[:, 1:]))


def perturbation_spectrum(
    clean: Any,
    perturbed: Any,
    mask: Any = None,
    *,
    n_bands: int = 8,
    norm: str = "chebyshev",
) -> PerturbationSpectrum:
    """Return band energies of perturbations, and their SNR against the clean images.

    Images for which the mask is False, and those whose perturbation is exactly zero (attacks return
    the clean image if they fail or it is misclassified already), are left out and counted.

    Args:
        clean: (N, C, H, W) floating-point images, of any range.
        perturbed: The same images perturbed, (N, C, H, W).
        mask: (N,) bool, which images count, for example Foolbox's `is_adv`; all by default.
        n_bands: Number of bands.
        norm: "chebyshev" or "euclidean".

    Raises:
        InputError: Shapes that differ or are not (N, C, H, W), images too small for the bands,
            values that are not finite, a mask that does not fit.
        InputTypeError: Images that are not floating point, a mask that is not bool.
    """
    partition = SpectralPartition(n_bands, norm)
    x, y = tensor(clean), tensor(perturbed)
    rows = band_energies(x, y, partition)
    if text := unpaired_warning(x, y):
        _log.warning("%s", text)
    keep = np.ones(len(rows), dtype=bool) if mask is None else _checked_mask(mask, len(rows))
    changed = BandEnergies.of_rows(rows).changed
    return PerturbationSpectrum(
        partition,
        image_size(x),
        int(x.shape[1]),
        rows[keep & changed],
        n_failed=int((~keep).sum()),
        n_unchanged=int((keep & ~changed).sum()),
    )


def check_size(measured: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raise InputError unless a spectrum was measured on images of the wanted size."""
    if tuple(measured) != tuple(wanted):
        raise InputError(
            f"the spectrum is of images of {measured[0]} x {measured[1]}, the model's are "
            f"{wanted[0]} x {wanted[1]}: measure it on images of that size"
        )


def _shares(energy: Array) -> Array:
    return np.asarray(energy / energy.sum(axis=-1, keepdims=True))


def _fit_dict(estimate: Estimate) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for k, name in enumerate(FIT):
        out[name] = jsonable(float(estimate.value[k]))
        out[f"{name}_interval"] = jsonable(estimate.interval[k])
    return out


def _checked_mask(mask: Any, n: int) -> npt.NDArray[np.bool_]:
    flags = np.asarray(tensor(mask).cpu().numpy())
    if flags.dtype != np.bool_:
        raise InputTypeError(f"expected a mask of bool, one an image, got {flags.dtype}")
    if flags.shape != (n,):
        raise InputError(
            f"expected a mask of shape ({n},), one an image, got {flags.shape}; of several "
            "epsilons take one row at a time: perturbation_spectrum(x, clipped[k], is_adv[k])"
        )
    return flags
