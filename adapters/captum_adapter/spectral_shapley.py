"""SpectralShapley: I-ASIDE as one more of Captum's perturbation methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from iaside_plugins.adapters.captum_adapter import host as captum_host
from iaside_plugins.adapters.captum_adapter.host import log_usage
from iaside_plugins.adapters.captum_adapter.inputs import (
    Baselines,
    Target,
    as_band_maps,
    as_baselines,
    as_images,
    check_counts,
    check_model,
    predicted,
    target_values,
)
from iaside_plugins.attributions.per_example import (
    Example,
    Output,
    example_shapley_values,
)
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import PREDICTED, SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.protocol import Protocol
from iaside_plugins.seeds import preserved_generators
from iaside_plugins.shapley.coalitions import cyclic_chains
from iaside_plugins.spectral.band_maps import check_no_gaps
from iaside_plugins.value_table.sampling import chain_draw, exact_draw

Images = TypeVar("Images", Tensor, tuple[Tensor, ...])


class SpectralShapley(captum_host.attr.PerturbationAttribution):  # type: ignore[misc]  # no types
    r"""Shapley values of spatial-frequency bands (I-ASIDE; Luo et al., TMLR 2024).

    The players are the bands of the image's spectrum. The value of a coalition is the log
    likelihood, in nats, that the model gives to `target` when the other bands are replaced by the
    baseline's. Exact from all 2 ** n_bands coalitions, or sampled by permutations.

    The log softmax is applied here: give a model that returns logits. One that already returns
    log probabilities gives the same numbers, and a forward function of shape (N,) is taken as it
    is.

    Args:
        forward_func (Callable or torch.nn.Module): Images (N, C, H, W), or several such inputs,
            and further arguments, to logits (N, n_classes) or one value an example (N,).
        value_fn (Callable, optional): Outputs to values instead of the log softmax, for example
            ``lambda out: out`` for the outputs themselves. Default: None

    Examples::

        >>> # ImageNet model of images in [0, 1], normalising inside: (N, 3, 224, 224) -> (N, 1000)
        >>> method = SpectralShapley(model)
        >>> # Nats that each of 8 bands brings to the true class, lowest frequency first: (N, 8)
        >>> values = method.attribute(images, target=labels, perturbations_per_eval=8)
        >>> # One explanation of the model over a data set, with intervals
        >>> result = method.attribute_dataset(loader)
        >>> # What each band of a perturbation costs every example, in nats of its true class
        >>> costs = -method.attribute(perturbed, baselines=images, target=labels)
        >>> # The errors that the perturbation causes over a data set, split over bands
        >>> split = method.explain_dataset(batches_of_clean_perturbed_labels)
    """

    def __init__(self, forward_func: Callable[..., Any], value_fn: Output | None = None) -> None:
        super().__init__(forward_func)
        self.value_fn = value_fn

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(  # noqa: PLR0913  the public signature
        self,
        inputs: Images,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: Any = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        n_samples: int | None = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        n_bands: int = 8,
        norm: str = "chebyshev",
        return_input_shape: bool = False,
        generator: torch.Generator | None = None,
        return_convergence_delta: bool = False,
    ) -> Images | tuple[Images, Tensor]:
        r"""Return the Shapley values of the bands of every example.

        The model is called without gradients; its mode, its device and the global generators are
        left as they are. In training mode it is refused, as by `spectral_importance`: a batch norm
        would learn from every pass.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Images (N, C, H, W), floating point, of any
                range. Several inputs share their bands: a band is taken from all of them.
            baselines (scalar, Tensor, tuple of scalar, or Tensor, optional): What stands in for a
                missing band, in the space of the inputs: a number, or a tensor of the input's
                shape or with a first axis of length 1. Default: None, for zero
            target (int, tuple, Tensor, or list, optional): Output to explain, one for all examples
                or one an example. Default: None, for all outputs
            additional_forward_args (Any, optional): Further arguments of the forward function;
                tensors hold one entry an example. Default: None
            feature_mask (Tensor or tuple[Tensor, ...], optional): A band map of one's own: the
                band of every bin on the unshifted fft2 grid, integers from 0 without gaps, (H, W)
                or with leading axes of length 1, symmetric under k -> -k; then `n_bands` is
                ignored. Default: None
            n_samples (int, optional): Permutations of the bands to sample, in antithetic pairs,
                the same for all examples; only coalitions that they pass through are evaluated.
                For a mean over many images use `attribute_dataset` with a permutation protocol,
                which draws anew for each. Default: None, for the exact values
            perturbations_per_eval (int, optional): Coalitions in one forward pass, which has so
                many times N rows. Never changes the result beyond rounding. Default: 1
            show_progress (bool, optional): Whether to show a bar over forward passes on stderr.
                Default: False
            n_bands (int, optional): Bands of equal radial width from DC to Nyquist. Default: 8
            norm (str, optional): "chebyshev" for square rings, "euclidean" for round ones.
                Default: "chebyshev"
            return_input_shape (bool, optional): Whether to paint the values on the frequency
                grid, every bin with its band's value, (N, C, H, W). Default: False
            generator (torch.Generator, optional): Draws the permutations. Default: None, for
                permutations that are the same in every call
            return_convergence_delta (bool, optional): Whether to return the efficiency residual
                too, see `compute_convergence_delta`, as a second element. Default: False

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**: (N, n_bands), in nats, of the
            inputs' dtype and on their device; a tuple for a tuple, each with the same values. With
            ``target=None`` and outputs (N, n_classes): (N, n_classes, n_bands). An example's
            values sum to value(inputs) - value(baselines). With ``return_convergence_delta`` a pair
            of these and of the residuals.

        Raises:
            InputError: A ValueError that says what to do, for input that cannot be used, or a
                module in training mode.
        """
        images = as_images(inputs)
        check_model(self.forward_func, images)
        maps = as_band_maps(feature_mask, images, n_bands, norm)
        n_bands = n_bands if feature_mask is None else check_no_gaps(maps)
        check_counts(n_bands, n_samples, perturbations_per_eval)
        drawn = exact_draw(n_bands)
        if n_samples is not None:
            drawn = chain_draw(_chains(n_bands, n_samples, generator))
        examples = [
            Example(*one) for one in zip(images, as_baselines(baselines, images), maps, strict=True)
        ]
        value = target_values(
            self.forward_func, self.value_fn, images, target, additional_forward_args
        )
        passes = ceil(len(drawn.coalitions) / perturbations_per_eval)
        bar = tqdm(total=passes, desc=f"{self.get_name()} attribution", disable=not show_progress)
        with bar, preserved_generators(images[0].device):
            values = example_shapley_values(
                value,
                examples,
                drawn,
                per_pass=perturbations_per_eval,
                on_pass=partial(bar.update, 1),
            )
        out = tuple(
            (_painted(values, one.index, image) if return_input_shape else values).to(image)
            for image, one in zip(images, examples, strict=True)
        )
        found = out if isinstance(inputs, tuple) else out[0]
        if not return_convergence_delta:
            return found
        return found, self.compute_convergence_delta(
            (values.to(images[0]),), baselines, images, target, additional_forward_args
        )

    def attribute_future(self) -> NoReturn:
        """Raise NotImplementedError.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("attribute_future is not implemented for SpectralShapley")

    def attribute_dataset(
        self,
        dataloader: Any,
        *,
        n_bands: int = 8,
        protocol: Protocol | None = None,
        target: str = "label",
        show_progress: bool = False,
        **options: Any,
    ) -> SpectralImportance:
        """Explain the model over a data set: spectral importance, with intervals.

        One pass over the data, streamed. The Shapley values are the means of the per-example
        values over images, each image counted once whatever the sizes of batches.

        Args:
            dataloader: Batches (images, labels); images (N, C, H, W) in [0, 1]. A model of
                normalised images is given as ``nn.Sequential(Normalize(mean, std), model)``.
            n_bands: Number of bands of the default protocol.
            protocol: Every choice that changes a number, instead of the default one.
            target: "label" explains the likelihood of the true class, "predicted" that of the
                class which the model gives the whole image. Labels and accuracy of the result are
                then those of the predictions; they cost one more pass an image, which `n_forward`
                leaves out.
            show_progress: Whether to show a progress bar on stderr.
            options: Of `spectral_importance`: device, batch_size, precision, resume, max_images,
                target_error.

        Returns:
            The same result as `spectral_importance`; ``by_class()`` summarises it by class.

        Raises:
            InputError: As `spectral_importance`; for another `target`; with a `value_fn`, since
                a data set is explained in log-likelihoods.
        """
        if self.value_fn is not None:
            raise InputError(
                "attribute_dataset explains log-likelihoods: leave value_fn out, or average "
                "attribute() over the data"
            )
        if target not in ("label", "predicted"):
            raise InputError(f"target must be 'label' or 'predicted', got {target!r}")
        protocol = _protocol(protocol, Protocol(n_bands=n_bands))
        data = (
            dataloader
            if target == "label"
            else predicted(self.forward_func, dataloader, protocol, **options)
        )
        result = spectral_importance(
            self.forward_func,
            data,
            protocol,
            show_progress=show_progress,
            **options,
        )
        return result if target == "label" else replace(result, label_space=PREDICTED)

    def explain_dataset(
        self,
        pairs: Any,
        *,
        n_bands: int = 8,
        protocol: Protocol | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> ErrorDecomposition:
        """Split the errors that perturbations cause over bands, on a data set, with intervals.

        The loss part is what ``attribute(perturbed, baselines=clean)`` gives for each example, with
        the opposite sign; the error part counts what a benchmark counts.

        Args:
            pairs: Batches (clean, perturbed, labels), as for `error_decomposition`.
            n_bands: Number of bands of the default protocol.
            protocol: Every choice that changes a number, instead of the default one: by default
                one pair of chains for each image and condition.
            show_progress: Whether to show a progress bar on stderr.
            options: Of `error_decomposition`: repair, device, batch_size, precision, resume,
                max_images, target_error.

        Raises:
            InputError: As `error_decomposition`; with a `value_fn`, since errors are counted.
        """
        if self.value_fn is not None:
            raise InputError("explain_dataset counts errors of logits: leave value_fn out")
        found: ErrorDecomposition = error_decomposition(
            self.forward_func,
            pairs,
            _protocol(protocol, Protocol(n_bands=n_bands, estimator="permutation")),
            show_progress=show_progress,
            **options,
        )
        return found

    def has_convergence_delta(self) -> bool:
        """Return whether there is a convergence delta: yes, the efficiency residual."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Images,
        start_point: Baselines,
        end_point: Images,
        target: Target = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """Return the efficiency residual of every example.

        It is the sum of its values - (value(end) - value(start)): rounding only, also
        for sampled values, whose error it does not measure: they are efficient for every
        permutation.

        Args:
            attributions: From `attribute`, not painted: (N, ..., n_bands).
            start_point: The baselines.
            end_point: The inputs.
            target: As for `attribute`.
            additional_forward_args: As for `attribute`.

        Returns:
            (N,), or (N, n_classes) where all outputs were explained; float64, on the CPU.

        Raises:
            InputError: For painted attributions, or input that cannot be used.
        """
        images = tuple(image.clone() for image in as_images(end_point))  # the model may write
        check_model(self.forward_func, images)
        first = attributions[0] if isinstance(attributions, tuple) else attributions
        starts = [
            torch.zeros_like(image) if one is None else one.clone()
            for one, image in zip(as_baselines(start_point, images), images, strict=True)
        ]
        value = target_values(
            self.forward_func, self.value_fn, images, target, additional_forward_args
        )
        with torch.no_grad(), preserved_generators(images[0].device):
            gain: Tensor = value(images, 1).double() - value(tuple(starts), 1).double()
        if first.shape[:-1] != gain.shape:
            raise InputError(
                f"expected attributions of shape ({', '.join(map(str, gain.shape))}, n_bands), got "
                f"{tuple(first.shape)}; painted ones have no residual: leave return_input_shape out"
            )
        return (first.double().sum(dim=-1) - gain).cpu()

    def get_name(self) -> str:
        """Return the method's name."""
        return "I-ASIDE"


def _protocol(given: Protocol | None, default: Protocol) -> Protocol:
    """Return the protocol that is given, or the default one of so many bands.

    Raises:
        InputError: If the numbers of bands of the two differ, and both were chosen.
    """
    if given is not None and default.n_bands not in (Protocol().n_bands, given.n_bands):
        raise InputError(
            f"n_bands={default.n_bands} does not fit the protocol's n_bands={given.n_bands}; "
            "give one of them"
        )
    return given or default


def _chains(
    n_bands: int, n_samples: int, generator: torch.Generator | None
) -> npt.NDArray[np.int64]:
    """Return so many orders in which bands join, the same for all examples."""
    seed = 0
    if generator is not None:
        draw = torch.randint(2**62, (), generator=generator, device=generator.device)
        seed = int(draw)
    rng = np.random.default_rng(seed)
    return cyclic_chains(n_bands, ceil(n_samples / 2), rng)[:n_samples]


def _painted(values: Tensor, band_map: Tensor, image: Tensor) -> Tensor:
    """Return every bin of the frequency grid with its band's value, (N, ..., C, H, W)."""
    grid = values[..., band_map].unsqueeze(-3)
    return grid.expand(*grid.shape[:-3], *image.shape[1:]).contiguous()
