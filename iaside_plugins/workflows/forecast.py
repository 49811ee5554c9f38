"""The spectra of a forecast, checked before the model runs."""

from __future__ import annotations

from pathlib import Path

from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import check_forecast
from iaside_plugins.protocol import Protocol
from iaside_plugins.spectra.stored import StoredSpectrum, load_spectra, shipped_spectra
from iaside_plugins.spectral.partition import SpectralPartition


def forecast_spectra(
    path: Path | None, images: ImageFolderData, protocol: Protocol
) -> tuple[StoredSpectrum, ...]:
    """Return the spectra of a file, or the shipped ones of the corruptions, for some images.

    Args:
        path: File of `save_spectra`; None for the 15 corruptions at five severities.
        images: The images as the model takes them.
        protocol: Of the importance that will be asked for the forecast.

    Raises:
        InputError: For a protocol that gives no forecast, a file that cannot be used, spectra of
            another image size, or of bands that do not add up to the protocol's.
    """
    check_forecast(protocol)
    first, _, _ = next(iter(images))
    height, width = (int(side) for side in first.shape[2:])
    if path is None and height != width:
        raise InputError(
            f"spectra of the corruptions are shipped for square images, not {height} x {width}: "
            "give spectrum=FILE"
        )
    spectra = shipped_spectra(height) if path is None else load_spectra(path)
    partition = SpectralPartition(protocol.n_bands, protocol.band_norm)
    for one in spectra:
        one.band_means(partition, (height, width))
    return spectra
