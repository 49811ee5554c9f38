"""Shapley values of spectral bands for each example of a batch, of any function of the images.

A coalition's value is the function at the image of that coalition. The Shapley values that
`spectral_importance` gives for a data set are means of those of its examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import SINGLE_LOGIT
from iaside_plugins.spectral.band_maps import computable
from iaside_plugins.spectral.coalition_images import (
    coalition_images,
    coalition_matrix,
    image_components,
)
from iaside_plugins.value_table.sampling import Draw
from iaside_plugins.value_table.table import check_finite, coalition_batches

Value = Callable[[tuple[Tensor, ...], int], Tensor]
Output = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Example:
    """One image input of a batch: images, what stands in for their bands, and where bands are.

    Attributes:
        images: (N, C, H, W), floating point.
        baselines: Of the same shape, or None for zero.
        index: Band of every bin on the unshifted fft2 grid, (H, W), symmetric under k -> -k.
    """

    images: Tensor
    baselines: Tensor | None
    index: Tensor


@torch.no_grad()
def example_shapley_values(
    value: Value,
    inputs: Sequence[Example],
    drawn: Draw,
    *,
    per_pass: int = 1,
    on_pass: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return the Shapley values (N, ..., n_bands) of every example, float64 on the CPU.

    Args:
        value: Called with a tuple of coalition images, one (N * R, C, H, W) an input with the R
            coalitions of the first example first, and R; returns values (N * R, ...).
        inputs: Image inputs that share their bands: a coalition applies to all of them.
        drawn: The coalitions, the same for all examples: `exact_draw` or `chain_draw`.
        per_pass: Coalitions of one call, R at most; never changes the result beyond rounding.
        on_pass: Called after every call.

    Raises:
        InputError: If a value is not finite (which example, which bands).
    """
    coalitions, n_examples = drawn.coalitions, len(inputs[0].images)
    names = [f"example {k}" for k in range(n_examples)]
    components = [
        image_components(
            computable(one.images),
            None if one.baselines is None else computable(one.baselines),
            one.index,
            coalitions.shape[1],
        )
        for one in inputs
    ]
    columns = []
    for places, grand in coalition_batches(coalitions, per_pass):
        some = coalitions[places]
        batch = tuple(
            coalition_images(bands, coalition_matrix(some, bands), one.images, grand).to(one.images)
            for bands, one in zip(components, inputs, strict=True)
        )
        out = value(batch, len(some))
        out = out.reshape(n_examples, len(some), *out.shape[1:])
        check_finite(torch.isfinite(out).view(*out.shape[:2], -1).all(dim=2), some, names, "values")
        columns.append(out.double().cpu())
        on_pass()
    table = torch.cat(columns, dim=1).movedim(1, -1).numpy()
    return torch.from_numpy(drawn.shapley_values(table))


def class_log_likelihoods(output: Tensor) -> Tensor:
    """Return the log softmax of logits (N, n_classes) in nats; values (N,) stay as they are.

    It is computed in single precision at least, as `ModelRunner.logits` has it.

    Raises:
        InputError: For outputs of more axes, where it is not known which one holds the classes, and
            for a single class.
    """
    if output.ndim > 2:
        raise InputError(
            f"expected logits (N, n_classes) or values (N,), got {tuple(output.shape)}; say how "
            "such outputs become values: value_fn=lambda out: out.log_softmax(dim=1), or "
            "value_fn=lambda out: out for the outputs themselves"
        )
    if output.ndim == 2 and output.shape[1] == 1:
        raise InputError(SINGLE_LOGIT)
    return output if output.ndim == 1 else computable(output).log_softmax(dim=1)


def check_rows(output: object, n_rows: int) -> Tensor:
    """Return the output of a forward function, if it has one row an image.

    Raises:
        InputError: For a single number, or another number of rows.
    """
    if torch.is_tensor(output) and output.ndim > 0 and len(output) == n_rows:
        return output
    got = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
    raise InputError(
        f"expected one row of outputs an image, shape ({n_rows}, ...), got {got}: a forward "
        "function that returns one number for the whole batch has no values for each example; "
        "return logits (N, n_classes) or one value an example (N,)"
    )
