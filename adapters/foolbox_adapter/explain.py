"""Why an attack succeeded: the errors of a Foolbox model, split over frequency bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.foolbox_adapter.inputs import checked_labels, labels_of
from iaside_plugins.adapters.foolbox_adapter.models import native
from iaside_plugins.adapters.foolbox_adapter.pixel_space import PixelSpace, pixel_model, pixels_of
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol


def explain(
    fmodel: Any,
    inputs: Any,
    criterion: Any,
    clipped: Any,
    *,
    epsilons: Sequence[float | None] | float | None = None,
    name: str = "attack",
    protocol: Protocol | None = None,
    **options: Any,
) -> ErrorDecomposition:
    """Split the errors that an attack caused exactly over the bands of its perturbations.

    Called with what a Foolbox attack was given and returned::

        raw, clipped, is_adv = attack(fmodel, images, labels, epsilons=epsilons)
        result = explain(fmodel, images, labels, clipped, epsilons=epsilons)
        result.error.over().bands.value  # sums to the loss of accuracy

    Args:
        fmodel: Any Foolbox model of PyTorch tensors.
        inputs: The images that were attacked, within its bounds.
        criterion: True classes (N,), or `Misclassification`.
        clipped: The attacked images of one epsilon, or a list of them, one an epsilon.
        epsilons: The epsilons of `clipped`, for the names of the conditions; None without names.
            In the model's bounds, as the attack takes them: under every Lp norm with p >= 1 no
            value can change by more.
        name: Of the attack, for the names of the conditions.
        protocol: As for `error_decomposition`.
        options: `repair`, `batch_size`, `precision`, `resume`, `show_progress` of
            `error_decomposition`.

    Raises:
        InputError: Numbers of epsilons and of attacked batches that differ, attacked images of
            another shape or further from the clean ones than their epsilon, and as
            `SpectralEvaluator`.
        InputTypeError: Not a Foolbox model, or not PyTorch's floating-point tensors.
    """
    space, precision = PixelSpace(fmodel), options.get("precision", "float32")
    pixels = pixels_of(space, native(inputs), precision)
    labels = checked_labels(labels_of(criterion), len(pixels)).cpu()
    several = isinstance(clipped, (list, tuple))
    batches = list(clipped) if several else [clipped]
    given = getattr(epsilons, "tolist", lambda: epsilons)()  # of an array or a tensor
    levels: list[Any] = list(given) if isinstance(given, Sequence) else [given]
    if epsilons is None and several:
        levels = list(range(1, len(batches) + 1))
    if len(levels) != len(batches):
        raise InputError(
            f"expected one epsilon for each batch of attacked images, got {len(levels)} epsilons "
            f"and {len(batches)} batches"
        )
    perturbed = {}
    for level, batch in zip(levels, batches, strict=True):
        attacked = pixels_of(space, native(batch), precision)
        if epsilons is not None and level is not None:
            _check_within(space, pixels, attacked, float(level), native(batch).dtype)
        perturbed[Condition(name, None if level is None else float(level))] = attacked
    if len(perturbed) < len(batches):
        raise InputError(f"expected epsilons that differ, got {levels}")
    with pixel_model(fmodel, space, pixels) as (model, device):
        return error_decomposition(
            model,
            (pixels, perturbed, labels),
            protocol,
            device=device,
            **options,
        )


def _check_within(
    space: PixelSpace, clean: Tensor, attacked: Tensor, epsilon: float, dtype: torch.dtype
) -> None:
    """Raise InputError for pairs of pixels that are further apart than an attack may take them."""
    if clean.shape != attacked.shape:  # which is refused with the other pairs
        return
    lower, upper = space.bounds
    far = (attacked - clean).flatten(1).abs().amax(dim=1) * (upper - lower)
    rounding = 0.01 * epsilon + 2 * torch.finfo(dtype).eps * (upper - lower)
    beyond = far > epsilon + rounding
    if bool(beyond.any()):
        raise InputError(
            f"expected attacked images within epsilon {epsilon:.4g} of the clean ones, got values "
            f"that differ by {float(far.max()):.4g} ({int(beyond.sum())} of {len(clean)} images); "
            "give both in the same order, and the epsilons that the attack was given, or leave "
            "them out if they are no Lp budgets"
        )
