"""A Foolbox model that sees some spectral bands only: any attack can run through it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.models import foolbox, native, restorer
from iaside_plugins.adapters.foolbox_adapter.pixel_space import PixelSpace
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.spectral.band_maps import image_size, keep_bands
from iaside_plugins.spectral.partition import SpectralPartition

FORWARDED = ("data_format", "dummy", "device")


class SpectralMaskModel:
    """Wraps a Foolbox model, as its own wrappers do: nothing outside a coalition reaches it.

    Bands are taken in pixel space (the bounds mapped to [0, 1], before any normalisation inside the
    model), and absent bands are zero there, so that an absent band 0 is a black mean. Band-limited
    images may leave the bounds; they are not clipped. Gradients flow through the mask.

    Args:
        fmodel: The Foolbox model; left as it is.
        coalition: The bands that stay: their numbers, or one bool a band.
        n_bands: Number of bands.
        norm: "chebyshev" or "euclidean".

    Attributes:
        bands: Numbers of the bands that stay.
        bounds: The wrapped model's. Where it has them, `data_format`, `dummy` and `device` too.

    Raises:
        InputError: Bands that do not exist, or other than `n_bands` bools.
        InputTypeError: Not a Foolbox model.
    """

    def __init__(
        self, fmodel: Any, coalition: Any, *, n_bands: int = 8, norm: str = "chebyshev"
    ) -> None:
        self._model = fmodel
        self._space = PixelSpace(fmodel)
        self.partition = SpectralPartition(n_bands, norm)
        self.bands = as_bands(coalition, n_bands)
        self.bounds = fmodel.bounds

    def __call__(self, inputs: Any) -> Any:
        """Return logits of band-limited inputs, as EagerPy tensors if the inputs are."""
        pixels = self._space.enter(native(inputs))
        outputs = self._model(self._space.leave(self.masked(pixels)))
        return restorer(inputs)(outputs)

    def masked(self, pixels: Tensor) -> Tensor:
        """Return pixels (N, C, H, W) with the bands of the coalition only."""
        if len(self.bands) == self.partition.n_bands:
            return pixels
        return keep_bands(pixels, self.partition.index(*image_size(pixels)), self.bands)

    def transform_bounds(self, bounds: Any) -> Any:
        """Return the same model with other bounds, wrapped as Foolbox does."""
        return foolbox().models.base.TransformBoundsWrapper(self, bounds)

    def __getattr__(self, name: str) -> Any:
        if name in FORWARDED:
            return getattr(self._model, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return (
            f"SpectralMaskModel({self._model!r}, {list(self.bands)}, "
            f"n_bands={self.partition.n_bands}, norm={self.partition.norm!r})"
        )


def as_bands(coalition: Any, n_bands: int) -> tuple[int, ...]:
    """Return the band numbers of a coalition, ascending and each once.

    Args:
        coalition: Numbers of bands, one number, or one bool a band; may be empty.
        n_bands: Number of bands.

    Raises:
        InputError: Bands that do not exist, or other than `n_bands` bools.
        InputTypeError: Neither integers nor bools.
    """
    if torch.is_tensor(coalition):
        coalition = coalition.cpu().numpy()
    values = np.asarray(list(coalition) if isinstance(coalition, Iterable) else [coalition])
    if values.dtype == np.bool_:
        if values.shape != (n_bands,):
            raise InputError(f"expected one bool a band, {n_bands}, got shape {values.shape}")
        return tuple(np.flatnonzero(values).tolist())
    if not values.size:
        return ()
    if not np.issubdtype(values.dtype, np.integer) or values.ndim != 1:
        raise InputTypeError(
            f"expected a coalition as band numbers or one bool a band, got {values.dtype} of shape "
            f"{values.shape}"
        )
    wrong = sorted({int(v) for v in values if not 0 <= v < n_bands})
    if wrong:
        raise InputError(f"bands are numbered 0 to {n_bands - 1}, got {wrong[0]}")
    return tuple(sorted({int(v) for v in values}))
