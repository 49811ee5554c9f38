"""Shapley values of spectral bands for each example of a batch, of any function of the images.

The game of one example: a coalition's value is the function at the image of that coalition. The
log-likelihood game over a data set is the mean of such games (`spectral_importance`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import SINGLE_LOGIT
from iaside_plugins.shapley.coalitions import BoolMatrix, all_coalitions, chain_coalitions, members
from iaside_plugins.shapley.exact import chain_shapley_values, shapley_values
from iaside_plugins.spectral.coalition_images import band_parts, coalition_images, kept_parts

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


def example_shapley_values(
    value: Value,
    inputs: Sequence[Example],
    n_bands: int,
    *,
    chains: npt.NDArray[np.int64] | None = None,
    per_pass: int = 1,
    on_pass: Callable[[], object] = lambda: None,
) -> Tensor:
    """Shapley values (N, ..., n_bands) of every example, float64 on the CPU.

    Args:
        value: Called with a tuple of coalition images, one (N * R, C, H, W) an input with the R
            coalitions of the first example first, and R; returns values (N * R, ...).
        inputs: Image inputs that share their bands: a coalition applies to all of them.
        n_bands: Number of bands.
        chains: Orders in which bands join, (n_chains, n_bands), for the permutation estimate;
            None for the exact values from all 2**n_bands coalitions.
        per_pass: Coalitions of one call, R at most; never changes the result beyond rounding.
        on_pass: Called after every call.

    Raises:
        InputError: If a value is not finite (which example, which bands).
    """
    table = _values(value, inputs, visited(n_bands, chains), per_pass, on_pass)
    if chains is None:
        return torch.from_numpy(shapley_values(table))
    _, place = np.unique(chain_coalitions(chains), return_inverse=True)
    along = table[..., place.reshape(len(chains), n_bands + 1)]
    return torch.from_numpy(chain_shapley_values(along, chains))


def visited(n_bands: int, chains: npt.NDArray[np.int64] | None) -> BoolMatrix:
    """Coalitions to evaluate (R, n_bands): all of them, or those that the chains pass through."""
    if chains is None:
        return all_coalitions(n_bands)
    return members(np.unique(chain_coalitions(chains)), n_bands)


@torch.no_grad()
def _values(
    value: Value,
    inputs: Sequence[Example],
    coalitions: BoolMatrix,
    per_pass: int,
    on_pass: Callable[[], object],
) -> npt.NDArray[np.float64]:
    """Value table (N, ..., R) in float64."""
    n_bands, n_examples = coalitions.shape[1], len(inputs[0].images)
    parts = [
        band_parts(
            _computed(one.images),
            None if one.baselines is None else _computed(one.baselines),
            one.index,
            n_bands,
        )
        for one in inputs
    ]
    columns = []
    for start in range(0, len(coalitions), per_pass):
        rows = coalitions[start : start + per_pass]
        grand = np.asarray(rows.all(axis=1))
        batch = tuple(
            coalition_images(part, kept_parts(rows, part), one.images, grand).to(one.images)
            for part, one in zip(parts, inputs, strict=True)
        )
        out = value(batch, len(rows))
        _check_finite(out, rows)
        columns.append(out.double().cpu().view(n_examples, len(rows), *out.shape[1:]))
        on_pass()
    return np.asarray(torch.cat(columns, dim=1).movedim(1, -1).numpy())


def _computed(images: Tensor) -> Tensor:
    """In single precision at least: there are no Fourier transforms of half ones."""
    return images if images.dtype == torch.float64 else images.float()


def _check_finite(values: Tensor, coalitions: BoolMatrix) -> None:
    if bool(torch.isfinite(values).all()):
        return
    row = int(torch.nonzero(~torch.isfinite(values))[0, 0])
    bands = np.flatnonzero(coalitions[row % len(coalitions)]).tolist()
    raise InputError(
        f"the value is not finite (NaN or infinite) for example {row // len(coalitions)}, "
        f"coalition of bands {bands}; check the model's weights and precision"
    )


def class_log_likelihoods(output: Tensor) -> Tensor:
    """Log softmax of logits (N, n_classes) in nats; values (N,) stay as they are.

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
    return output if output.ndim == 1 else output.log_softmax(dim=1)


def check_rows(output: object, n_rows: int) -> Tensor:
    """The output of a forward function, if it has one row an image.

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
