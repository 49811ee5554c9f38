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


def image_components(
    images: Tensor, baselines: Tensor | None, index: Tensor, n_bands: int
) -> Tensor:
    """Return what coalition images are summed from: (N, n_bands or n_bands + 1, C*H*W).

    Args:
        images: (N, C, H, W), floating point.
        baselines: Absence baselines (N, C, H, W), or (1, C, H, W) for one that all images share,
            which become a last component; None for zero.
        index: Band of every bin on the unshifted fft2 grid, (H, W).
        n_bands: Number of bands.
    """
    if baselines is None:
        return split_bands(images, index, n_bands).flatten(2)
    baselines = baselines.to(images)
    bands = split_bands(images - baselines, index, n_bands)
    return torch.cat([bands, baselines.expand_as(images)[:, None]], dim=1).flatten(2)


def coalition_matrix(coalitions: BoolMatrix, components: Tensor) -> Tensor:
    """Return coalitions (..., R, n_bands) as 0/1 rows over the components; a baseline is in all."""
    matrix = to_device(torch.from_numpy(coalitions), components.device, components.dtype)
    if components.shape[1] > matrix.shape[-1]:
        matrix = torch.cat([matrix, torch.ones_like(matrix[..., :1])], dim=-1)
    return matrix


def channels_last_components(components: Tensor, images: Tensor) -> Tensor:
    """Return `image_components` with the channels of every pixel side by side in memory."""
    maps = components.view(*components.shape[:2], *images.shape[1:])
    return maps.movedim(2, -1).flatten(2)


def coalition_images(
    components: Tensor,
    matrix: Tensor,
    images: Tensor,
    grand: BoolMatrix,
    buffer: Tensor | None = None,
    *,
    channels_last: bool = False,
) -> Tensor:
    """Return coalition images (N * R, C, H, W), the R coalitions of the first image first.

    Args:
        components: From `image_components`.
        matrix: Rows of `coalition_matrix`, (R, components), or (N, R, components).
        images: The images themselves, which the grand coalition gives exactly.
        grand: Which of the rows are the grand coalition, (R,) bool.
        buffer: Flat memory for the product, N * R * C * H * W numbers; new by default.
        channels_last: Whether the components are `channels_last_components`; the coalition images
            then are channels-last too.
    """
    shape = (len(images), matrix.shape[-2], components.shape[2])
    out = components.new_empty(shape) if buffer is None else buffer.view(shape)
    with exact_product():
        torch.matmul(matrix, components, out=out)
    pixels = images.movedim(1, -1) if channels_last else images
    for row in np.flatnonzero(grand):
        out[:, row] = pixels.flatten(1)  # exactly the clean image: its accuracy is free
    batch = out.view(-1, *pixels.shape[1:])
    return batch.movedim(-1, 1) if channels_last else batch
