"""Value tables while they are filled: coalitions in passes, finite outputs, copy to the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.shapley.coalitions import BoolMatrix
from iaside_plugins.tensors import to_host


def coalition_batches(coalitions: BoolMatrix, per_pass: int) -> Iterator[tuple[slice, BoolMatrix]]:
    """Yield the coalitions of every pass: their places, and which of them are grand (R,) bool."""
    for start in range(0, len(coalitions), per_pass):
        places = slice(start, min(start + per_pass, len(coalitions)))
        yield places, np.asarray(coalitions[places].all(axis=1))


def check_finite(
    finite: Tensor, coalitions: BoolMatrix, names: Sequence[str], what: str = "logits"
) -> None:
    """Raise InputError unless everything is finite; names the first image and coalition.

    Args:
        finite: Whether the outputs are, (N, R) bool.
        coalitions: The coalitions, (R, n_bands).
        names: What the N images are called.
        what: What the outputs are.
    """
    if bool(finite.all()):
        return
    image, place = (int(k) for k in torch.nonzero(~finite)[0])
    raise InputError(
        f"the model gives non-finite {what} (NaN or infinite) for {names[image]}, coalition of "
        f"bands {np.flatnonzero(coalitions[place]).tolist()}; check the model's weights and "
        "precision"
    )


@dataclass
class ValueTable:
    """Values of N images over R coalitions; on a GPU they may still be under way.

    Attributes:
        coalitions: (R, n_bands).
        names: One name an image, for error messages.
        columns: Places of the Q coalitions that go through the model.
        values: Their log-likelihoods (N, Q), nats.
        finite: Whether their logits are finite (N, Q).
        hits: Whether each image's grand coalition is classified correctly (N,).
        black: Log-likelihoods of a black image (N,): the value of the other coalitions.
    """

    coalitions: BoolMatrix
    names: Sequence[str]
    columns: npt.NDArray[np.int64]
    values: Tensor
    finite: Tensor
    hits: Tensor
    black: Tensor
    _copied: Any = None  # the event after the copies to the host

    @classmethod
    def empty(
        cls, coalitions: BoolMatrix, names: Sequence[str], runner: ModelRunner, *, black: bool
    ) -> ValueTable:
        """Return a table to be filled, on the model's device.

        Args:
            coalitions: (R, n_bands).
            names: One name an image.
            runner: What gives the values.
            black: Whether empty coalitions have the black image's value and do not run.
        """
        ran = coalitions.any(axis=1) if black else np.ones(len(coalitions), dtype=bool)
        columns = np.flatnonzero(ran)
        shape, device = (len(names), len(columns)), runner.device
        return cls(
            coalitions,
            names,
            columns,
            values=torch.zeros(shape, dtype=runner.dtype, device=device),
            finite=torch.ones(shape, dtype=torch.bool, device=device),
            hits=torch.zeros(len(names), dtype=torch.bool, device=device),
            black=torch.zeros(len(names), dtype=runner.dtype, device=device),
        )

    @property
    def running(self) -> BoolMatrix:
        """The coalitions that go through the model, (Q, n_bands)."""
        return np.asarray(self.coalitions[self.columns])

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
        self.values[images, places] = values.view(shape)
        self.finite[images, places] = torch.isfinite(logits).all(dim=1).view(shape)
        for k in np.flatnonzero(self.running[places].all(axis=1)):
            self.hits[images] = logits.view(*shape, -1)[:, k].argmax(dim=1) == labels

    def start_copy(self) -> None:
        """Begin the copy to the host, behind the passes that fill the table."""
        on_gpu = self.values.device.type == "cuda"
        self.values, self.finite = to_host(self.values), to_host(self.finite)
        self.hits, self.black = to_host(self.hits), to_host(self.black)
        if on_gpu:
            self._copied = torch.cuda.current_stream().record_event()

    def wait(self) -> tuple[Tensor, Tensor]:
        """Wait for the copy; return values (N, R) float64 of all coalitions, and hits (N,).

        Raises:
            InputError: For non-finite logits or log-likelihoods; says which image and coalition.
        """
        if self._copied is not None:
            self._copied.synchronize()
        check_finite(self.finite, self.running, self.names)
        wide = "log-likelihoods (logits too far apart, or too small a temperature)"
        check_finite(torch.isfinite(self.values), self.running, self.names, wide)
        if not self.coalitions.any(axis=1).all():
            none = self.coalitions[~self.coalitions.any(axis=1)][:1]
            check_finite(torch.isfinite(self.black)[:, None], none, self.names, wide)
        table = torch.zeros(len(self.values), len(self.coalitions), dtype=torch.float64)
        table[:] = self.black.double()[:, None]
        table[:, torch.from_numpy(self.columns)] = self.values.double()
        return table, self.hits
