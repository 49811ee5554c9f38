"""What an attack by gradients sees of a model: whether it has gradients, and answers that stay.

Robustness that comes from gradients that lead nowhere is none: Athalye et al., Obfuscated Gradients
Give a False Sense of Security, ICML 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError, first_line
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.output_checks import HALF_SAME, SAME
from iaside_plugins.inference.quantised import is_quantised
from iaside_plugins.inference.running import run_model

VANISHED = 1e-12  # norm of a gradient: Foolbox's L2 steps divide by no less
FINE, ZERO, NON_FINITE = 0.0, 1.0, 2.0
N_TRIED = 2  # images of a trial before the long work
NO_GRADIENT = (
    "attacks follow gradients, and the model gives none with respect to its images (no_grad, "
    "detach, argmax or NumPy inside?): give a model that PyTorch can differentiate, or attacks=none"
)
NO_INTEGER_GRADIENT = (
    "attacks follow gradients, and a model of 8-bit integers has none: give the network of floats "
    "that it was made from, or attacks=none"
)
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GradientView:
    """What an attack by gradients saw on the images that are classified rightly.

    Attributes:
        n_images: Those images.
        n_zero: Of them, with a gradient of norm below `VANISHED`.
        n_non_finite: With a gradient that is NaN or infinite.
        n_varying: With other logits in a second pass.
    """

    n_images: int
    n_zero: int
    n_non_finite: int
    n_varying: int

    @classmethod
    def of(cls, rows: Array, correct: npt.NDArray[np.bool_]) -> GradientView:
        """Count rows (K, 2) of `gradient_rows` among images that are classified rightly (K,)."""
        own = rows[correct]
        zero, non_finite = (int((own[:, 0] == kind).sum()) for kind in (ZERO, NON_FINITE))
        return cls(len(own), zero, non_finite, int(own[:, 1].sum()))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)


def try_gradient(model: Any, images: Tensor) -> None:
    """Take a gradient on the first images, before work that an attack's error would waste.

    A model that fails in its forward pass is left to those who judge it.

    Args:
        model: (N, C, H, W) images -> (N, n_classes) logits.
        images: On the model's device.

    Raises:
        InputError: There is no gradient, or the backward pass fails.
    """
    some = images[:N_TRIED]
    with _differentiable(some):
        probe = some.detach().clone().requires_grad_()
        try:
            logits = logits_in(run_model(model, probe.clone()), model)
        except InputError:
            return
        is_rows = torch.is_tensor(logits) and logits.ndim == 2 and len(logits) == len(some)
        if is_rows and logits.shape[1] > 1:
            _gradient(model, logits, probe, logits.detach().argmax(dim=1))


def try_first_gradient(model: Any, batches: Iterable[Any], device: torch.device) -> None:
    """Take a gradient on the first images of a stream, unless it can be read only once.

    Args:
        model: As for `try_gradient`.
        batches: (images, labels, ...).
        device: The model's.

    Raises:
        InputError: As `try_gradient`.
    """
    if iter(batches) is not batches:
        first = next((images for images, *_ in batches if len(images)), None)
        if first is not None:
            try_gradient(model, first.to(device))


def gradient_rows(model: Any, images: Tensor, labels: Tensor) -> Array:
    """Return rows (N, 2): kind of the cross-entropy's gradient, and 1.0 where answers change.

    The kinds are `FINE`, `ZERO` and `NON_FINITE`. Global generators of torch are put back.

    Args:
        model: (N, C, H, W) images -> (N, n_classes) logits.
        images: On the model's device.
        labels: (N,) the true classes, on that device.

    Raises:
        InputError: There is no gradient, or a pass fails.
    """
    with _differentiable(images):
        probe = images.detach().clone().requires_grad_()
        logits = logits_in(run_model(model, probe.clone()), model)
        gradient = _gradient(model, logits, probe, labels)
        with torch.no_grad():
            again = logits_in(run_model(model, images.detach().clone()), model)
    first = logits.detach()
    size = torch.linalg.vector_norm(gradient.double().flatten(1), dim=1)
    kinds = torch.where(size < VANISHED, ZERO, FINE)
    kinds[~torch.isfinite(size)] = NON_FINITE
    limit = SAME if first.dtype in (torch.float32, torch.float64) else HALF_SAME
    moved = (again.to(first) - first).abs().amax(dim=1) > limit * first.abs().amax(dim=1)
    return np.asarray(torch.stack([kinds.cpu(), moved.cpu()], dim=1).double().numpy())


@contextmanager
def _differentiable(images: Tensor) -> Iterator[None]:
    """Compute gradients whatever the caller's mode, and put generators back."""
    gpus = [images.device] if images.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=gpus),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(images.device.type, enabled=False),
    ):
        yield


def _gradient(model: Any, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to the images."""
    if not logits.requires_grad:
        raise _no_gradient(model)
    try:
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        (found,) = torch.autograd.grad(loss, images, allow_unused=True)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise backward_failure(error, model=model) from error
    if found is None:
        raise _no_gradient(model)
    return found


def _no_gradient(model: Any) -> InputError:
    """Return the error for a model without gradients: its cause, and what to do."""
    return InputError(NO_INTEGER_GRADIENT if is_quantised(model) else NO_GRADIENT)


def backward_failure(
    error: BaseException,
    what: str = "the model's backward pass",
    instead: str = "attacks=none",
    model: Any = None,
) -> InputError:
    """Return the error for an attack or backward pass that failed: its cause, and what to do.

    Args:
        error: What was raised.
        what: What failed.
        instead: What to choose where the model cannot be differentiated.
        model: The model, if it is at hand.
    """
    reason = first_line(error)[:300].rstrip(".")
    if "does not require grad" in reason or "appears to not have been used" in reason:
        return _no_gradient(model)
    said = reason if type(error) is RuntimeError else f"{type(error).__name__}: {reason}"
    return InputError(
        f"{what} failed: {said}; give a model that PyTorch can differentiate, or {instead}"
    )
