"""Captum's conventions for inputs, baselines, targets and further arguments, checked.

Captum's own helpers are private, and assert; here a mistake is an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins.attributions.per_example import Output, Value, check_rows, class_log_likelihoods
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.inference.checks import check_eval_mode, check_images, model_device
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.output_checks import OutputCheck, last_operation, said_if_random
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.inference.running import run_model
from iaside_plugins.integers import as_integer, index_or_none
from iaside_plugins.protocol import MAX_BANDS, MAX_EXACT_BANDS, Protocol
from iaside_plugins.spectral.band_maps import check_band_map
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.value_table.stream import batches, tensor

Baselines = None | int | float | Tensor | tuple[int | float | Tensor, ...]
Target = None | int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]]


def as_images(inputs: Any) -> tuple[Tensor, ...]:
    """Return inputs as a tuple of image tensors of equal length.

    Raises:
        InputTypeError: For anything but floating-point tensors.
        InputError: For a shape other than (N, C, H, W), different N, N = 0, or values that are
            not finite.
    """
    images = inputs if isinstance(inputs, tuple) else (inputs,)
    for one in images:
        if not torch.is_tensor(one) or not one.is_floating_point():
            kind = one.dtype if torch.is_tensor(one) else type(one).__name__
            raise InputTypeError(f"expected floating-point image tensors, got {kind}")
        if one.ndim != 4 or len(one) != len(images[0]) or not len(one):
            raise InputError(
                f"expected images of shape (N, C, H, W), N >= 1 the same for every input, got "
                f"{[tuple(other.shape) for other in images]}"
            )
    if not images:
        raise InputError("expected at least one image tensor, got an empty tuple")
    for one in images:
        if one.device.type != "meta" and not bool(torch.isfinite(one).all()):
            raise InputError("expected finite images, got NaN or infinite values")
    return tuple(one.detach() for one in images)


def as_baselines(baselines: Baselines, images: Sequence[Tensor]) -> list[Tensor | None]:
    """Return one baseline an input, of the input's shape; None for zero.

    Args:
        baselines: None, a number, a tensor of an input's shape or with a first axis of length 1,
            or a tuple of those, one an input.
        images: The inputs.

    Raises:
        InputError: For another number of baselines, or another shape.
        InputTypeError: For callables and other types.
    """
    given = baselines if isinstance(baselines, tuple) else (baselines,) * len(images)
    if len(given) != len(images):
        raise InputError(f"expected {len(images)} baselines, one an input, got {len(given)}")
    out: list[Tensor | None] = []
    for one, image in zip(given, images, strict=True):
        if one is None or (isinstance(one, (int, float)) and one == 0):
            out.append(None)
        elif isinstance(one, (int, float)):
            out.append(torch.full_like(image, one))
        elif not torch.is_tensor(one):
            raise InputTypeError(
                f"expected baselines as numbers or tensors, got {type(one).__name__}"
            )
        elif one.shape[1:] != image.shape[1:] or len(one) not in (1, len(image)):
            raise InputError(
                f"expected a baseline of shape {tuple(image.shape)}, or with a first axis of "
                f"length 1, got {tuple(one.shape)}"
            )
        else:
            out.append(one.detach().to(image).expand_as(image))
    return out


def as_arguments(arguments: Any) -> tuple[Any, ...]:
    """Return further arguments of the forward function as a tuple."""
    if arguments is None:
        return ()
    return arguments if isinstance(arguments, tuple) else (arguments,)


def repeat(arguments: tuple[Any, ...], times: int, n_examples: int) -> tuple[Any, ...]:
    """Repeat arguments for `times` rows an example, one after another; only tensors are repeated.

    A tensor of one entry is every example's.

    Raises:
        InputError: For a tensor whose first axis is neither the examples nor of length 1.
    """
    out = []
    for one in arguments:
        if not torch.is_tensor(one) or one.ndim == 0:
            out.append(one)
        elif len(one) == n_examples:
            out.append(one.repeat_interleave(times, dim=0))
        elif len(one) == 1:
            out.append(one.expand(n_examples * times, *one.shape[1:]))
        else:
            raise InputError(
                f"expected additional_forward_args with a first axis of {n_examples}, one entry "
                f"an example, got a tensor of shape {tuple(one.shape)}"
            )
    return tuple(out)


def as_target(target: Any, n_examples: int) -> Target:
    """Return a target in one of two forms: None or a tuple for all, or a list of tuples.

    Raises:
        InputError: For a list or tensor of another length than the examples.
        InputTypeError: For targets that are not integers.
    """
    if target is None:
        return None
    if isinstance(target, np.ndarray):
        target = tensor(target)
    if torch.is_tensor(target):
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise InputTypeError(f"expected integer targets, got {target.dtype}")
        if target.ndim > 1:
            raise InputError(f"expected targets of shape (N,), got {tuple(target.shape)}")
        target = int(target) if target.numel() == 1 else target.tolist()
    if isinstance(target, list):
        if len(target) != n_examples:
            raise InputError(
                f"expected one target an example, {n_examples} of them, or a single one for all, "
                f"got {len(target)}"
            )
        targets = [_index(one) for one in target]
        if len({len(one) for one in targets}) > 1:
            raise InputError(f"expected targets of one length, got {target}")
        return targets
    return _index(target)


def _index(target: Any) -> tuple[int, ...]:
    """Return an index of outputs, as a tuple."""
    index = target if isinstance(target, tuple) else (target,)
    whole = tuple(part for part in map(index_or_none, index) if part is not None)
    if len(whole) < len(index):
        raise InputTypeError(f"expected a target of integers, got {target!r}")
    return whole


def check_model(forward_func: Any, images: Sequence[Tensor]) -> None:
    """Raise InputError for a module in training mode, or with weights elsewhere than the images.

    A data-parallel module distributes the images itself.
    """
    if not isinstance(forward_func, nn.Module):
        return
    check_eval_mode(forward_func)
    if isinstance(forward_func, nn.DataParallel):
        return
    weights = [*forward_func.parameters(), *forward_func.buffers()]
    for one in images:
        if weights and one.device != weights[0].device:
            raise InputError(
                f"the images are on {one.device} and the model is on {weights[0].device}; call "
                f"images.to('{weights[0].device}') first: neither is moved here"
            )


def as_band_maps(
    feature_mask: Tensor | tuple[Tensor, ...] | None,
    images: tuple[Tensor, ...],
    n_bands: int,
    norm: str,
) -> list[Tensor]:
    """Return band of every bin of the unshifted fft2 grid, (H, W), one map an input.

    Raises:
        InputError: For another number of masks, or a mask that `check_band_map` refuses.
        InputTypeError: For a mask that holds no integers.
    """
    sizes = [tuple(image.shape[2:]) for image in images]
    if feature_mask is None:
        partition = SpectralPartition(n_bands, norm)
        return [partition.index(*size) for size in sizes]
    masks = feature_mask if isinstance(feature_mask, tuple) else (feature_mask,) * len(images)
    if len(masks) != len(images):
        raise InputError(f"expected {len(images)} feature masks, one an input, got {len(masks)}")
    return [check_band_map(mask, size) for mask, size in zip(masks, sizes, strict=True)]


def check_counts(n_bands: int, n_samples: int | None, per_eval: int) -> None:
    """Refuse counts that are not whole numbers, and exact values that would never end."""
    for name, count in (("n_samples", n_samples), ("perturbations_per_eval", per_eval)):
        if count is not None:
            as_integer(name, count, 1)
    most = MAX_EXACT_BANDS if n_samples is None else MAX_BANDS
    if n_bands > most:
        raise InputError(
            f"{n_bands} bands have 2**{n_bands} = {2**n_bands:,} coalitions; use at most {most} "
            + ("bands, or sample: n_samples=25" if n_samples is None else "bands")
        )


def target_values(
    forward_func: Callable[..., Any],
    value_fn: Output | None,
    images: tuple[Tensor, ...],
    target: Target,
    arguments: Any,
) -> Value:
    """Return a function of coalition images, and of their number an example, to values.

    Args:
        forward_func: Images and further arguments to outputs, one row an image.
        value_fn: Outputs to values; None for the log softmax of logits.
        images: The inputs, for the number of examples.
        target: In any of Captum's forms.
        arguments: Captum's ``additional_forward_args``.

    Raises:
        InputError: For a target or arguments that do not fit the examples.
    """
    n_examples = len(images[0])
    index, further = as_target(target, n_examples), as_arguments(arguments)
    repeat(further, 1, n_examples)  # says now what cannot be repeated
    judged = OutputCheck(forward_func)

    def value(batch: tuple[Tensor, ...], times: int) -> Tensor:
        given = (*batch, *repeat(further, times, n_examples))
        with said_if_random(forward_func, batch[0].device), _said_of_copies(n_examples, times):
            output = logits_in(run_model(forward_func, *given), forward_func)
            rows = check_rows(output, n_examples * times)
        if value_fn is None:
            judged.see(rows, lambda: last_operation(forward_func, *given))
        values = (value_fn or class_log_likelihoods)(rows)
        return select(check_rows(values, len(rows)), index, times)

    return value


@contextmanager
def _said_of_copies(n_examples: int, times: int) -> Iterator[None]:
    """Say in errors how many of the caller's images the rows of a pass are."""
    try:
        yield
    except InputError as error:
        if times == 1:
            raise
        copies = f"{n_examples} images as {n_examples * times} masked copies"
        raise type(error)(f"{error} ({copies})") from error


def select(values: Tensor, target: Target, times: int) -> Tensor:
    """Select the target's values of outputs (N * times, ...), `times` rows an example.

    Args:
        values: Outputs as values, the rows of the first example first.
        target: From `as_target`.
        times: Rows an example.

    Raises:
        InputError: For targets that the outputs do not have.
    """
    if target is None:
        return values
    check_target(values, target)
    index = target if isinstance(target, list) else [target] * (len(values) // times)
    rows = torch.arange(len(values), device=values.device)
    columns = torch.tensor(index, device=values.device).repeat_interleave(times, dim=0)
    return values[(rows, *columns.unbind(dim=1))]


def check_target(values: Tensor, target: Target) -> None:
    """Raise InputError for a target (from `as_target`) that the outputs (N, ...) do not have."""
    if target is None:
        return
    shape = f"(N, {', '.join(map(str, values.shape[1:]))})" if values.ndim > 1 else "(N,)"
    for one in target if isinstance(target, list) else [target]:
        if not isinstance(one, tuple) or len(one) >= values.ndim:
            raise InputError(
                f"target {one} has more axes than the outputs, {shape}; a forward "
                "function that returns one value an example takes no target"
            )
        for part, length in zip(one, values.shape[1:], strict=False):
            if not -length <= part < length:
                raise InputError(
                    f"target {part if len(one) == 1 else one} is out of range: the outputs have "
                    f"shape {shape}, targets 0 to {length - 1}"
                )


def predicted(
    forward_func: Callable[..., Any],
    data: Any,
    protocol: Protocol,
    device: Any = None,
    batch_size: int = 64,
    precision: str = "float32",
    **_: Any,
) -> Iterator[Sequence[Any]]:
    """Yield the data with the model's own classes as labels, `batch_size` images at a time.

    Args:
        forward_func: Images in [0, 1] to logits.
        data: Batches, as `spectral_importance` takes them.
        protocol: For the size that images must have.
        device: Where the model is.
        batch_size: Images in one forward pass.
        precision: Of the forward passes.

    Raises:
        InputError: As `spectral_importance`.
    """
    runner = ModelRunner(forward_func, model_device(forward_func, device), batch_size, precision)
    for images, _labels, *ids in batches(data):
        for start in range(0, len(images), runner.n_rows):
            some = slice(start, start + runner.n_rows)
            part = tensor(images[some])
            check_images(part, protocol.n_bands)
            with torch.no_grad():
                logits = runner.logits(part.to(runner.device, runner.dtype, copy=True))
            yield part, logits.argmax(dim=1).cpu(), *(names[some] for names in ids)
