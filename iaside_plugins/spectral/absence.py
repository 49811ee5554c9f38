"""Absence baselines: what stands in for the missing bands of a coalition.

`ABSENCES` is the only list of them: `Protocol`, the command line, the sensitivity study and the
value table all read it. To add a baseline, add an entry here and a case to its test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.seeds import seed_of

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageContext:
    """What the baseline of one image may depend on beside its pixels.

    Attributes:
        digest: Digest of the image.
        seed: The protocol's seed.
        std: The protocol's `absence_std`.
        donor: The image (C, H, W) that `Absence.donors` chose for this one, or None.
    """

    digest: str
    seed: int
    std: float
    donor: Tensor | None = None


@dataclass(frozen=True)
class Absence:
    """One absence baseline.

    Attributes:
        fields: Fields of `Protocol` that change its numbers.
        image: Makes the baseline (C, H, W) of one image; returns None for a black image, whose
            bands are zero. None where the baseline is of the released script only.
        spectrum: Makes the spectra that fill the missing bins in the released script, from the
            complex spectra (N, C, H, W) of a batch and a generator. None where the script has no
            such baseline.
        donors: For a baseline taken from another image of the data set: the index of each image's
            donor, from the digests of all images and the seed. None where one image is enough.
    """

    fields: tuple[str, ...] = ()
    image: Callable[[Tensor, ImageContext], Tensor | None] | None = None
    spectrum: Callable[[Tensor, torch.Generator], Tensor] | None = None
    donors: Callable[[Sequence[str], int], IntArray] | None = None

    def __post_init__(self) -> None:
        if self.image is None and self.spectrum is None:
            raise TypeError("an absence baseline needs a function that makes it")

    @property
    def script_only(self) -> bool:
        """Whether only the released script's protocol has this baseline."""
        return self.image is None

    def baselines(
        self, images: Sequence[Tensor], contexts: Sequence[ImageContext]
    ) -> Tensor | None:
        """Return the baselines (N, C, H, W) of images (C, H, W), or None where they are black."""
        if self.image is None:
            raise TypeError("this absence baseline is of the released script only")
        each = [self.image(image, one) for image, one in zip(images, contexts, strict=True)]
        found = [baseline for baseline in each if baseline is not None]
        return torch.stack(found) if found else None

    def spectra(self, spectrum: Tensor, generator: torch.Generator) -> Tensor:
        """Return the spectra (N, C, H, W) that fill a batch's missing bins, in the script."""
        if self.spectrum is None:
            raise TypeError("the released script has no such absence baseline")
        return self.spectrum(spectrum, generator)


def gaussian_baseline(image: Tensor, std: float, seed: int, digest: str) -> Tensor:
    """Return white noise of an image's shape (C, H, W): a Hermitian complex Gaussian spectrum.

    It is drawn on the CPU from the seed and the image's digest, so it depends neither on the
    device nor on the order of the images.

    Args:
        image: The image that the noise stands in for, (C, H, W).
        std: Standard deviation in pixels, on the scale of [0, 1].
        seed: The protocol's seed.
        digest: The image's digest.
    """
    generator = torch.Generator().manual_seed(seed_of("gaussian", seed, digest))
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float64)
    return (std * noise).to(image)


def derangement(digests: Sequence[str], seed: int) -> IntArray:
    """Return the index of every image's donor: a seeded random cycle, so no image gets itself.

    The cycle runs over the images in the order of their digests: it depends on the set of
    images, not on the order they come in. Source: Sattolo, Information Processing Letters 22
    (1986).

    Args:
        digests: One digest an image, at least two.
        seed: The protocol's seed.
    """
    n = len(digests)
    ranked = np.array(sorted(range(n), key=lambda k: (digests[k], k)), dtype=np.int64)
    rng = np.random.default_rng(seed_of("replacement", seed))
    cycle = np.arange(n)
    for k in range(n - 1, 0, -1):
        j = int(rng.integers(k))
        cycle[j], cycle[k] = cycle[k], cycle[j]
    donors = np.empty(n, dtype=np.int64)
    donors[ranked] = ranked[cycle]
    return donors


def _gaussian_bins(spectrum: Tensor, generator: torch.Generator) -> Tensor:
    """Return bins of N(0, 0.5^2) real and imaginary parts; not Hermitian, as in the script."""
    noise = torch.randn(2, *spectrum.shape, generator=generator, dtype=torch.float64)
    return torch.complex(noise[0], noise[1]).mul(0.5).to(spectrum)


def _shuffled_batch(spectrum: Tensor, generator: torch.Generator) -> Tensor:
    """Return the spectra of the batch in a random order; an image may get its own."""
    return spectrum[torch.randperm(len(spectrum), generator=generator)]


ABSENCES: Mapping[str, Absence] = MappingProxyType(
    {
        "zero": Absence(
            image=lambda _image, _context: None,
            spectrum=lambda spectrum, _generator: torch.zeros_like(spectrum),
        ),
        "gaussian": Absence(
            fields=("seed", "absence_std", "black_empty"),
            image=lambda image, one: gaussian_baseline(image, one.std, one.seed, one.digest),
        ),
        "replacement": Absence(
            fields=("seed", "black_empty"),
            image=lambda _image, one: one.donor,
            donors=derangement,
        ),
        "gaussian_bins": Absence(fields=("seed", "black_empty"), spectrum=_gaussian_bins),
        "batch_replacement": Absence(fields=("seed", "black_empty"), spectrum=_shuffled_batch),
    }
)
