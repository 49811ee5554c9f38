"""Spectra of perturbations kept in a JSON file: mean energies by band, without single images.

Shipped with the package are those of the 15 corruptions at five severities, at 32 and 224 pixels
(`shipped_spectra`); `iaside spectrum --save FILE` writes others in the same form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.errors import InputError
from iaside_plugins.importance.forecast import survival
from iaside_plugins.spectra.perturbation import check_size
from iaside_plugins.spectral.energy import in_bands
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.files import jsonable, parse_json, read_file, rounded, write_atomic

Array = npt.NDArray[np.float64]
FORMAT = 1
DIGITS = 4  # significant ones of an energy in a file
HUNDREDTHS = 100  # in which a file gives coherences: they only tell noise from other things
SHIPPED = Path(__file__).with_name("corruptions")
SIZES = (32, 224)  # pixels of the shipped spectra


@dataclass(frozen=True, eq=False)
class StoredSpectrum:
    """Mean energies of images and of one perturbation of them, by band.

    Attributes:
        condition: The perturbation.
        partition: The bands that were measured.
        image_size: Height and width of the images.
        clean: Mean energy of the images in every band (M,), squared pixels.
        noise: Mean energy of the perturbation x' - x (M,).
        product: Mean inner product of x and x' - x (M,), see `band_products`.
        n_images: Images behind the means.
    """

    condition: Condition
    partition: SpectralPartition
    image_size: tuple[int, int]
    clean: Array
    noise: Array
    product: Array
    n_images: int

    @classmethod
    def of_coherence(
        cls,
        condition: Condition,
        partition: SpectralPartition,
        image_size: tuple[int, int],
        clean: Array,
        noise: Array,
        coherence: Array,
        n_images: int,
    ) -> StoredSpectrum:
        """Return a spectrum from its `coherence` (M,) instead of its inner products."""
        product = coherence * np.sqrt(clean * noise)
        return cls(condition, partition, image_size, clean, noise, product, n_images)

    @property
    def coherence(self) -> Array:
        """The products over the root of both energies (M,), in [-1, 1]; 0 without either."""
        size = np.sqrt(self.clean * self.noise)
        return np.divide(self.product, size, out=np.zeros(size.shape), where=size > 0)

    def band_means(
        self, partition: SpectralPartition, image_size: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Return the mean energies (M,) of images and perturbation in some bands.

        Raises:
            InputError: For another image size, or bands to which these do not add up.
        """
        check_size(self.image_size, image_size)
        signal, noise = (
            in_bands(one, self.partition, partition, image_size) for one in (self.clean, self.noise)
        )
        return signal, noise

    def image_share(self, partition: SpectralPartition) -> float:
        """Return the share of what the forecast takes for lost that is the image itself, [0, 1].

        In every band x' - x is a multiple of the image (the least-squares one) and a rest R that is
        orthogonal to it. Additive noise is rest alone. Blurs take the image away, contrast scales
        it, displacements do both: there the forecast counts as noise what is none. With
        ``w = S / (S + N)`` and ``w' = S / (S + R)`` the share is
        ``sum over bands of (w' - w) / sum over bands of (1 - w)``; NaN without a perturbation or
        its products.
        """
        signal, noise = self.band_means(partition, self.image_size)
        if not np.isfinite(self.product).all():
            return float("nan")
        product = in_bands(self.product, self.partition, partition, self.image_size)
        own = np.divide(product**2, signal, out=np.zeros(signal.shape), where=signal > 0)
        kept, lost = survival(signal, np.maximum(noise - own, 0)), 1 - survival(signal, noise)
        if not lost.sum() > 0:
            return float("nan")
        return float(1 - (1 - kept).sum() / lost.sum())


def save_spectra(path: Path, spectra: Sequence[StoredSpectrum], info: dict[str, Any]) -> None:
    """Write spectra of one set of images, in the same bands, to a JSON file.

    Args:
        path: The file.
        spectra: The spectra.
        info: Where they come from: settings, provenance.

    Raises:
        InputError: If there are none, one has no inner products, or the file cannot be written.
    """
    if not spectra:
        raise InputError("there are no spectra to save")
    for one in spectra:
        if not np.isfinite(one.product).all():
            raise InputError(f"{one.condition} has no inner products to save: measure it again")
    first = spectra[0]
    conditions = [
        {
            "name": one.condition.name,
            "level": one.condition.level,
            "n_images": one.n_images,
            **({} if np.array_equal(one.clean, first.clean) else {"clean": jsonable(one.clean)}),
            "noise": jsonable(one.noise),
            "coherence": [round(HUNDREDTHS * float(x)) for x in one.coherence],
        }
        for one in spectra
    ]
    data = {
        "format": FORMAT,
        **info,
        "n_bands": first.partition.n_bands,
        "band_norm": first.partition.norm,
        "image_size": list(first.image_size),
        "clean": jsonable(first.clean),
        "conditions": conditions,
    }
    short = json.dumps(rounded(data, DIGITS, exact=("level",)), separators=(",", ":"))
    write_atomic(path, (short.replace('{"name"', '\n{"name"') + "\n").encode())


def load_spectra(path: Path | str) -> tuple[StoredSpectrum, ...]:
    """Return the spectra that `save_spectra` wrote.

    Raises:
        InputError: If the file is something else, or of a later version.
    """
    try:
        data = parse_json(read_file(Path(path)).decode())
        if data["format"] != FORMAT:
            raise InputError(f"{path} was written by another version of iaside-plugins")
        partition = SpectralPartition(data["n_bands"], data["band_norm"])
        height, width = (int(side) for side in data["image_size"])
        found = tuple(
            StoredSpectrum.of_coherence(
                Condition(str(row["name"]), row["level"]),
                partition,
                (height, width),
                _energies(row.get("clean", data["clean"]), partition),
                _energies(row["noise"], partition),
                _energies(row["coherence"], partition, signed=True) / HUNDREDTHS,
                int(row["n_images"]),
            )
            for row in data["conditions"]
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} holds no spectra: expected what `iaside spectrum --save FILE` writes ({error})"
        ) from error
    if not found:
        raise InputError(f"{path} holds no spectra: its list of conditions is empty")
    return found


@lru_cache
def shipped_spectra(size: int) -> tuple[StoredSpectrum, ...]:
    """Return the spectra of the 15 corruptions at five severities, for square images.

    Args:
        size: 32 (CIFAR-10 images, with CIFAR-10-C's constants) or 224 (photographs, with
            ImageNet-C's).

    Raises:
        InputError: For another size.
    """
    if size not in SIZES:
        raise InputError(
            f"spectra of the corruptions are shipped for images of {' and '.join(map(str, SIZES))} "
            f"pixels, not {size}: measure them with `iaside spectrum --data DIR --save FILE` and "
            "give spectrum=FILE"
        )
    return load_spectra(SHIPPED / f"{size}.json")


def _energies(values: Iterable[float], partition: SpectralPartition, signed: bool = False) -> Array:
    """Return the numbers of every band (M,), or raise ValueError."""
    found = np.array(list(values), dtype=np.float64)
    if found.shape != (partition.n_bands,):
        raise ValueError(f"expected {partition.n_bands} numbers a band, got {found.shape}")
    if not np.isfinite(found).all() or (not signed and (found < 0).any()):
        raise ValueError("energies are finite and not negative")
    return found
