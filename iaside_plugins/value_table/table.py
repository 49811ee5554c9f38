"""Value tables while they are filled: coalitions in passes, finite outputs, copy to the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.inference.checks import non_finite
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.shapley.coalitions import BoolMatrix
from iaside_plugins.tensors import to_host

Array = npt.NDArray[np.float64]


def coalition_batches(coalitions: BoolMatrix, per_pass: int) -> Iterator[tuple[slice, BoolMatrix]]:
    """Yield the coalitions of every pass: their places, and which of them are grand (R,) bool.

    Args:
        coalitions: (R, n_bands), or (N, R, n_bands) with every image's grand coalition last.
        per_pass: Coalitions of an image in one pass.
    """
    grand = coalitions.all(axis=-1).reshape(-1, coalitions.shape[-2])[0]
    for start in range(0, len(grand), per_pass):
        places = slice(start, min(start + per_pass, len(grand)))
        yield places, np.asarray(grand[places])


def check_finite(
    finite: Tensor, coalitions: BoolMatrix, names: Sequence[str], what: str = "logits"
) -> None:
    """Raise InputError unless everything is finite; names the first image and coalition.

    Args:
        finite: Whether the outputs are, (N, R) bool.
        coalitions: The coalitions, (R, n_bands) or (N, R, n_bands).
        names: What the N images are called.
        what: What the outputs are.
    """
    if bool(finite.all()):
        return
    image, place = (int(k) for k in torch.nonzero(~finite)[0])
    own = coalitions if coalitions.ndim == 2 else coalitions[image]
    bands = np.flatnonzero(own[place]).tolist()
    raise non_finite(f"{names[image]}, coalition of bands {bands}", what)


@dataclass
class ValueTable:
    """Values of N images over R coalitions; on a GPU they may still be under way.

    Attributes:
        coalitions: (R, n_bands) where all images have the same ones, else (N, R, n_bands); the
            empty one first where it does not run, the grand one last.
        names: One name an image, for error messages.
        n_given: 1 where the value of the empty coalition is given and does not run, else 0.
        values: Log-likelihoods (N, R), nats.
        finite: Whether the logits are finite (N, R).
        hits: Whether each coalition is classified correctly (N, R).
        energy: Squared norm of each band of image minus baseline (N, n_bands).
    """

    coalitions: BoolMatrix
    names: Sequence[str]
    n_given: int
    values: Tensor
    finite: Tensor
    hits: Tensor
    energy: Tensor
    _copied: Any = None  # the event after the copies to the host

    @classmethod
    def empty(
        cls, coalitions: BoolMatrix, names: Sequence[str], runner: ModelRunner, *, given: bool
    ) -> ValueTable:
        """Return a table to be filled, on the model's device.

        Args:
            coalitions: (R, n_bands) or (N, R, n_bands).
            names: One name an image.
            runner: What gives the values.
            given: Whether the value of the empty coalition is given and it does not run.
        """
        shape, device = (len(names), coalitions.shape[-2]), runner.device
        return cls(
            coalitions,
            names,
            int(given),
            values=torch.zeros(shape, dtype=runner.dtype, device=device),
            finite=torch.ones(shape, dtype=torch.bool, device=device),
            hits=torch.zeros(shape, dtype=torch.bool, device=device),
            energy=torch.zeros(len(names), coalitions.shape[-1], dtype=runner.dtype, device=device),
        )

    @property
    def running(self) -> BoolMatrix:
        """The coalitions that go through the model, (Q, n_bands) or (N, Q, n_bands)."""
        return np.asarray(self.coalitions[..., self.n_given :, :])

    def fill(
        self, images: slice | Tensor, places: slice, logits: Tensor, values: Tensor, labels: Tensor
    ) -> None:
        """Fill in what one pass gave.

        Args:
            images: Places of its images.
            places: Places of its coalitions among `running`.
            logits: (images * coalitions, n_classes), those of the first image first.
            values: Log-likelihoods (images * coalitions,).
            labels: Classes of the images.
        """
        shape = (len(labels), places.stop - places.start)
        columns = slice(places.start + self.n_given, places.stop + self.n_given)
        self.values[images, columns] = values.view(shape)
        self.finite[images, columns] = torch.isfinite(logits).all(dim=1).view(shape)
        self.hits[images, columns] = logits.argmax(dim=1).view(shape) == labels[:, None]

    def fill_empty(self, images: slice, logits: Tensor, values: Tensor, labels: Tensor) -> None:
        """Fill in the empty coalition of images, whose logits (1, n_classes) all share."""
        self.values[images, 0] = values
        self.finite[images, 0] = torch.isfinite(logits).all()
        self.hits[images, 0] = logits.argmax(dim=1) == labels

    def start_copy(self) -> None:
        """Begin the copy to the host, behind the passes that fill the table."""
        on_gpu = self.values.device.type == "cuda"
        self.values, self.finite = to_host(self.values), to_host(self.finite)
        self.hits, self.energy = to_host(self.hits), to_host(self.energy)
        if on_gpu:
            self._copied = torch.cuda.current_stream().record_event()

    def wait(self) -> tuple[Array, BoolMatrix, Array]:
        """Wait for the copy; return values and hits (N, R), and energy (N, n_bands), float64.

        Raises:
            InputError: For non-finite logits or log-likelihoods; says which image and coalition.
        """
        if self._copied is not None:
            self._copied.synchronize()
        check_finite(self.finite, self.coalitions, self.names)
        wide = "log-likelihoods (logits too far apart, or too small a temperature)"
        check_finite(torch.isfinite(self.values), self.coalitions, self.names, wide)
        return self.values.double().numpy(), self.hits.numpy(), self.energy.double().numpy()
