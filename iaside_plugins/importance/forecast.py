"""Errors under a perturbation, forecast from clean images and the perturbation's spectrum alone.

Band i, of mean energy S_i in the images and N_i in the perturbation, survives with the weight
``w_i = S_i / (S_i + N_i)`` (Wiener's gain). With a(T) the share of images that are classified
correctly when only the bands in T are left, the accuracy is forecast by the multilinear extension
of a at w (Owen, Management Science 18, 1972):

    sum over T of a(T) * prod_{i in T} w_i * prod_{i not in T} (1 - w_i)

Nothing is fitted, and no perturbed image goes through the model. Only spectra are known, so the
forecast takes every perturbation for noise that has nothing to do with the image.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iaside_plugins.errors import InputError
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.stats.intervals import Estimate, sparse_mean

Array = npt.NDArray[np.float64]
HALF_AN_IMAGE = 0.5  # more, of which the forecast was wrong: a few images may show no error


class Spectrum(typing.Protocol):
    """Mean energies of images and of a perturbation: measured, shipped or read from a file."""

    def band_means(
        self, partition: SpectralPartition, image_size: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Return the mean energies (M,) of the images and of the perturbation in some bands.

        Raises:
            InputError: If the spectrum is of another image size, or of bands that do not add up
                to these.
        """


@dataclass(frozen=True, eq=False)
class Forecast:
    """The forecast error of a model under one perturbation, or its mean over several.

    Attributes:
        per_image: Forecast error of every image (K,), in [0, 1].
        survival: Weight with which every band survives (M,), in [0, 1].
    """

    per_image: Array
    survival: Array

    @property
    def n_images(self) -> int:
        """Number of images K."""
        return len(self.per_image)

    @property
    def error(self) -> float:
        """Forecast error rate in [0, 1]."""
        return float(self.per_image.mean())

    @property
    def interval(self) -> Array:
        """95 % interval (2,) of the error over images, cut to [0, 1]; NaN for a single image.

        It covers the choice of images; neither the spectrum, which is taken as known, nor what the
        forecast itself misses. Half an image more is counted, as for error decompositions.
        """
        return np.asarray(np.clip(self._estimate.interval, 0, 1))

    @property
    def _estimate(self) -> Estimate:
        return sparse_mean(self.per_image, HALF_AN_IMAGE)

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Forecast(error {self.error:.1%} [{low:.1%}, {high:.1%}], {self.n_images} images)"


def survival(signal: npt.ArrayLike, noise: npt.ArrayLike) -> Array:
    """Return Wiener's gain S / (S + N) of bands, in [0, 1]; 1 where there is no noise."""
    s, n = (np.asarray(x, dtype=np.float64) for x in (signal, noise))
    whole = s + n
    return np.asarray(np.divide(s, whole, out=np.ones(whole.shape), where=n > 0))


def coalition_chances(weights: npt.ArrayLike) -> Array:
    """Return the chance of every coalition (2**M,) if band i is in it with chance weights[i].

    Bit i of an index is band i; bands are in or out independently. The chances sum to 1.
    """
    chances = np.ones(1)
    for weight in np.asarray(weights, dtype=np.float64):
        chances = np.concatenate([chances * (1 - weight), chances * weight])
    return chances


def forecast(hits: npt.NDArray[np.bool_], weights: npt.ArrayLike) -> Forecast:
    """Return the forecast of images whose coalitions are classified correctly or not.

    Args:
        hits: Whether every coalition of every image is classified correctly (K, 2**M).
        weights: Weight with which every band survives (M,), in [0, 1].
    """
    weights = np.asarray(weights, dtype=np.float64)
    chances = coalition_chances(weights)
    right = np.array([chances[row].sum() for row in hits])
    return Forecast(np.clip(1 - right, 0, 1), weights)


def mean_forecast(forecasts: Sequence[Forecast]) -> Forecast:
    """Return the mean of forecasts on the same images, paired over them; the survival's too.

    Raises:
        InputError: For none, or for different numbers of images.
    """
    sizes = sorted({one.n_images for one in forecasts})
    if len(sizes) != 1:
        raise InputError(f"expected forecasts on the same images, got numbers of images {sizes}")
    return Forecast(
        np.mean([one.per_image for one in forecasts], axis=0),
        np.mean([one.survival for one in forecasts], axis=0),
    )
