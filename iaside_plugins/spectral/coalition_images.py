"""Images of coalitions: 0/1 combinations of an image's bands, made by one matrix product.

``x_S = sum over i in S of band_i(x) + sum over i not in S of band_i(b)`` is written as
``b + sum over i in S of band_i(x - b)``: one split an image, whatever the number of coalitions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.shapley.coalitions import BoolMatrix
from iaside_plugins.spectral.band_maps import split_bands
from iaside_plugins.tensors import exact_product, to_device


def band_parts(images: Tensor, baselines: Tensor | None, index: Tensor, n_bands: int) -> Tensor:
    """What coalition images are summed from, (N, n_bands, C*H*W) or (N, n_bands + 1, C*H*W).

    Args:
        images: (N, C, H, W), floating point.
        baselines: Absence baselines (N, C, H, W), which become a last part; None for zero.
        index: Band of every bin on the unshifted fft2 grid, (H, W).
        n_bands: Number of bands.
    """
    if baselines is None:
        return split_bands(images, index, n_bands).flatten(2)
    baselines = baselines.to(images)
    bands = split_bands(images - baselines, index, n_bands)
    return torch.cat([bands, baselines[:, None]], dim=1).flatten(2)


def kept_parts(coalitions: BoolMatrix, parts: Tensor) -> Tensor:
    """Coalitions (R, n_bands) bool as 0/1 rows over the parts; a baseline is in every one."""
    keep = to_device(torch.from_numpy(coalitions), parts.device, parts.dtype)
    if parts.shape[1] > keep.shape[1]:
        keep = torch.cat([keep, torch.ones_like(keep[:, :1])], dim=1)
    return keep


def channels_last_parts(parts: Tensor, images: Tensor) -> Tensor:
    """Parts of `band_parts` with the channels of every pixel side by side in memory."""
    maps = parts.view(*parts.shape[:2], *images.shape[1:])
    return maps.movedim(2, -1).flatten(2)


def coalition_images(
    parts: Tensor,
    keep: Tensor,
    images: Tensor,
    grand: BoolMatrix,
    buffer: Tensor | None = None,
    *,
    channels_last: bool = False,
) -> Tensor:
    """Coalition images (N * R, C, H, W), the R coalitions of the first image first.

    Args:
        parts: From `band_parts`.
        keep: Rows of `kept_parts`, (R, parts).
        images: The images themselves, which the grand coalition gives exactly.
        grand: Which of the rows are the grand coalition, (R,) bool.
        buffer: Flat memory for the product, N * R * C * H * W numbers; new by default.
        channels_last: Whether the parts are `channels_last_parts`; the images then are too.
    """
    shape = (len(images), len(keep), parts.shape[2])
    out = parts.new_empty(shape) if buffer is None else buffer.view(shape)
    with exact_product():
        torch.matmul(keep, parts, out=out)
    pixels = images.movedim(1, -1) if channels_last else images
    for row in np.flatnonzero(grand):
        out[:, row] = pixels.flatten(1)  # exactly the clean image: its accuracy is free
    batch = out.view(-1, *pixels.shape[1:])
    return batch.movedim(-1, 1) if channels_last else batch
