"""Band space: a model as a function of an image's band images, or of gates on its bands.

Attribution methods that know nothing of spectra run on these functions, and then say something of
every band.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from iaside_plugins.attributions.per_example import Output, check_rows, class_log_likelihoods
from iaside_plugins.errors import InputError
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.output_checks import OutputCheck, said_if_random
from iaside_plugins.inference.running import run_model
from iaside_plugins.spectral.band_maps import (
    check_band_map,
    check_no_gaps,
    image_size,
    join_bands,
    split_bands,
)
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.tensors import exact_product


class BandSplit(nn.Module):
    """Splits images into their band images, (N, C, H, W) -> (N, n_bands, C, H, W).

    Args:
        n_bands: Number of bands of equal radial width; with a `feature_mask` it says.
        norm: "chebyshev" (square rings) or "euclidean" (round rings).
        feature_mask: A band map of one's own instead: the band of every bin on the unshifted
            fft2 grid, integers 0 to n_bands - 1, (H, W) or with leading axes of length 1.

    Raises:
        InputError: For n_bands below 2, an unknown norm, or a map with fewer than two bands or
            with gaps in its numbers.
        InputTypeError: For a map that holds no integers.
    """

    def __init__(
        self, n_bands: int = 8, norm: str = "chebyshev", feature_mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self._map: Tensor | None = None
        if feature_mask is not None:
            self._map = check_band_map(feature_mask)
            n_bands = check_no_gaps([self._map])
        self.n_bands = n_bands
        self.partition = SpectralPartition(n_bands, norm)

    def index(self, height: int, width: int) -> Tensor:
        """Return the band of every bin on the unshifted fft2 grid, int64 (H, W).

        Raises:
            InputError: If the images are too small for the bands, or not of the map's size.
        """
        if self._map is None:
            return self.partition.index(height, width)
        return check_band_map(self._map, (height, width))

    def forward(self, images: Tensor) -> Tensor:
        """Return band images (N, n_bands, C, H, W) of images (N, C, H, W); they sum to the images.

        Raises:
            InputError: As `index`, or for another shape.
            InputTypeError: For images that are not floating-point numbers.
        """
        return split_bands(images, self.index(*image_size(images)), self.n_bands)

    def join(self, stack: Tensor) -> Tensor:
        """Return images (N, C, H, W) of band images, each projected on its band; undoes `forward`.

        Raises:
            InputError: As `index`, or for another shape than (N, n_bands, C, H, W).
        """
        return join_bands(stack, self.index(*stack.shape[-2:]), self.n_bands)

    def band_forward(
        self, model: Callable[..., Any], value_fn: Output | None = None
    ) -> BandForward:
        """Return the model as a function of band images, see `BandForward`."""
        return BandForward(self, model, value_fn)

    def gate_forward(
        self, model: Callable[..., Any], value_fn: Output | None = None
    ) -> GateForward:
        """Return the model as a function of gates on bands, see `GateForward`."""
        return GateForward(self, model, value_fn)


class _Counted(nn.Module):
    """A model behind a change of its input, with a count of the rows that went through it.

    Attributes:
        rows: Images that went forward so far.
        gradient_rows: Those of them that gradients were asked for: as many went backward.
    """

    def __init__(self, split: BandSplit, model: Any, value_fn: Output | None) -> None:
        super().__init__()
        self.split, self.model = split, model
        self.value_fn = value_fn or class_log_likelihoods
        self._judged = None if value_fn else OutputCheck(model)
        self.rows = self.gradient_rows = 0
        self.training = bool(getattr(model, "training", False))  # `train` would reach the model

    def _value(self, images: Tensor, arguments: tuple[Any, ...]) -> Tensor:
        self.rows += len(images)
        if images.requires_grad:
            self.gradient_rows += len(images)
        with said_if_random(self.model, images.device):
            output = self._output(images, arguments)
        rows = check_rows(output, len(images))
        if self._judged is not None:
            self._judged.see(rows)
        return self.value_fn(rows)

    def _output(self, images: Tensor, arguments: tuple[Any, ...]) -> Any:
        return logits_in(run_model(self.model, images, *arguments), self.model)


class BandForward(_Counted):
    """Band images (N, n_bands, C, H, W) to values: by default log-likelihoods (N, n_classes).

    Every band image is projected on its band before they are summed. So the gradient with respect
    to a band image is the part of the image's gradient that lies in the band. Were they only
    summed, every band would have the same gradient, and Saliency would tell none from another.

    Args:
        split: The bands.
        model: (N, C, H, W) images, and further arguments -> logits (N, n_classes).
        value_fn: Outputs to values; by default the log softmax of logits, as everywhere here.

    Attributes:
        project: Whether band images are projected. Where a gradient is multiplied by band images
            and summed, the product sees none of it outside the band: then a sum will do, which
            saves two Fourier transforms a band and row.
    """

    project = True

    def forward(self, stack: Tensor, *arguments: Any) -> Tensor:
        """Return values of band images; further arguments go to the model."""
        images = self.split.join(stack) if self.project else stack.sum(dim=1)
        return self._value(images, arguments)


class GateForward(_Counted):
    """Gates (N, n_bands) on the bands of images to values: 1 keeps a band, 0 takes it away.

    The image is ``baseline + sum over i of gate_i * band_i(image - baseline)``. Methods that
    perturb features are far cheaper with n_bands gates than with whole band images.

    Args:
        split: The bands.
        model: (N, C, H, W) images, and further arguments -> logits (N, n_classes).
        value_fn: Outputs to values; by default the log softmax of logits, as everywhere here.
    """

    def forward(
        self,
        gates: Tensor,
        stack: Tensor | list[Tensor],
        baselines: Tensor | None = None,
        *arguments: Any,
    ) -> Tensor:
        """Return values of gated images.

        Args:
            gates: (N, n_bands).
            stack: Band images of images minus baselines, (N, n_bands, C, H, W); or a list of those
                of one image, (1, n_bands, C, H, W), for all gates: Captum copies no list.
            baselines: (N, C, H, W), or None for zero.
            arguments: Further arguments of the model.
        """
        with exact_product():
            if isinstance(stack, list):
                images = torch.einsum("nm,mchw->nchw", gates.to(stack[0]), stack[0][0])
            else:
                images = torch.einsum("nm,nmchw->nchw", gates.to(stack), stack)
        return self._value(images if baselines is None else images + baselines, arguments)


def heat_map_spectrum(heat_map: Tensor, n_bands: int = 8, norm: str = "chebyshev") -> Tensor:
    """Return the share of a finished heat map's energy in each band, (N, n_bands).

    Warning:
        This is NOT the importance of the image's bands. It says how coarse or fine the map is
        drawn, a property of the explanation method (gradients are grainy, occlusion maps are as
        smooth as their window) more than of the model. For what bands contribute use
        `SpectralShapley`, or run the method in band space (`band_attributions`).

    Args:
        heat_map: Attributions of pixels, (N, C, H, W); each map not zero everywhere.
        n_bands: Number of bands.
        norm: "chebyshev" or "euclidean".

    Raises:
        InputError: If the shape is not (N, C, H, W), the maps are too small for the bands, or one
            is zero everywhere.
        InputTypeError: If the maps are not real floating-point numbers.
    """
    energy = SpectralPartition(n_bands, norm).energy(heat_map)
    if not bool((energy.sum(dim=1) > 0).all()):
        raise InputError("a heat map that is zero everywhere has no spectrum")
    return energy / energy.sum(dim=1, keepdim=True)
