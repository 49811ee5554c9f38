"""From a forward function's outputs to the values that Captum's target names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.adapters.captum_adapter.inputs import Target, as_arguments, as_target, repeat
from iaside_plugins.attributions.per_example import Output, Value, check_rows, class_log_likelihoods
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import check_images, model_device
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.stream import batches, tensor


def target_values(
    forward_func: Callable[..., Any], value_fn: Output | None, images: tuple[Tensor, ...],
    target: Target, arguments: Any,
) -> Value:  # fmt: skip
    """A function of coalition images, and how many there are of an example, to values.

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

    def value(batch: tuple[Tensor, ...], times: int) -> Tensor:
        output = forward_func(*batch, *repeat(further, times, n_examples))
        rows = check_rows(output, n_examples * times)
        values = (value_fn or class_log_likelihoods)(rows)
        return select(check_rows(values, len(rows)), index, times)

    return value


def select(values: Tensor, target: Target, times: int) -> Tensor:
    """The target's values of outputs (N * times, ...), `times` rows an example.

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
    for one in target if isinstance(target, list) else [target]:
        if not isinstance(one, tuple) or len(one) >= values.ndim:
            raise InputError(
                f"target {one} has more axes than the outputs, {tuple(values.shape)}; a forward "
                "function that returns one value an example takes no target"
            )
        for part, length in zip(one, values.shape[1:], strict=False):
            if not -length <= part < length:
                raise InputError(
                    f"target {part if len(one) == 1 else one} is out of range: the outputs have "
                    f"shape {tuple(values.shape)}, targets 0 to {length - 1}"
                )


def predicted(
    forward_func: Callable[..., Any], data: Any, protocol: Protocol, device: Any = None,
    batch_size: int = 64, precision: str = "float32", **_: Any,
) -> Iterator[Sequence[Any]]:  # fmt: skip
    """The data with the model's own classes for labels, `batch_size` images at a time.

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
    own = model_device(forward_func, device)
    game = Game(forward_func, protocol, own, batch_size, precision)
    for images, _labels, *ids in batches(data):
        for start in range(0, len(images), game.n_rows):
            some = slice(start, start + game.n_rows)
            part = tensor(images[some])
            check_images(part, protocol.n_bands)
            with torch.no_grad():
                logits = game.logits(part.to(game.device, game.dtype))
            yield part, logits.argmax(dim=1).cpu(), *(names[some] for names in ids)
