"""The value table: one image's coalitions through the model, to log-likelihoods in nats.

One FFT an image; a batch of coalition images is one matrix product with the image's bands, into
memory that is used again. Nothing waits for the device between batches: what an image gives is
copied to the host behind the passes of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import SINGLE_LOGIT, check_in_range
from iaside_plugins.inference.forward import PRECISIONS, Forward
from iaside_plugins.inference.memory import first_batch_size, halved, is_out_of_memory
from iaside_plugins.inference.tuning import quickest_rows, tune
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import BoolMatrix
from iaside_plugins.spectral.band_maps import image_size
from iaside_plugins.spectral.coalition_images import (
    band_parts,
    channels_last_parts,
    coalition_images,
    kept_parts,
)
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.tensors import on_device, to_device, to_host

Model = Callable[[Tensor], Tensor]
T = TypeVar("T")
PROBE_ROWS = 16  # coalition images on which faster passes are compared and timed on a CPU


@dataclass
class Game:
    """Runs coalitions of images through one model.

    Attributes:
        model: (N, C, H, W) images -> (N, n_classes) logits.
        protocol: The choices that change a number.
        device: Where the model is.
        batch_size: Rows in one forward pass; "auto" begins with many, halves them where memory
            runs out, and on a CPU takes the quickest number.
        precision: "float32", "float64" (images and log-likelihoods in double; the model must be
            double too), or "bfloat16" / "float16" (autocast around the model alone).
        choices: What an earlier part of this run settled on (`Forward.choices`), or None.
        n_forward: Rows evaluated so far.
        n_classes: Number of classes, once known.
        forward: How the model is run; faster than `model` once the protocol's probe is through.
    """

    model: Model
    protocol: Protocol
    device: torch.device
    batch_size: int | str = 64
    precision: str = "float32"
    choices: Mapping[str, Any] | None = None
    n_forward: int = 0
    n_classes: int | None = None
    _empty: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    _index: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _keep: dict[Any, Tensor] = field(default_factory=dict)
    _buffer: Tensor | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )
        self.n_rows = first_batch_size(self.batch_size, self.device)
        if self.precision == "float64" and isinstance(self.model, nn.Module):
            single = [n for n, p in self.model.named_parameters() if p.dtype == torch.float32]
            if single:
                raise InputError(
                    f"precision='float64' needs a model in double, {single[0]} is float32: "
                    "call model.double()"
                )
        self.forward = Forward(self.model, self.device, self.precision)
        self.sized = self.batch_size != "auto" or self.device.type != "cpu"
        self.settled = self.protocol.forwards == "plain" and not self.forward.half and self.sized
        self.probed = False

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the images: double for float64, else single."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def logits(self, images: Tensor, top_label: int = 0) -> Tensor:
        """Logits (N, n_classes), float32 or float64, with the count of rows kept.

        Raises:
            InputError: If the model returns anything but (N, n_classes), or has no output for
                the greatest label `top_label`.
        """
        out = self.forward(images)
        if not torch.is_tensor(out) or out.ndim != 2 or len(out) != len(images):
            shape = tuple(out.shape) if torch.is_tensor(out) else type(out).__name__
            raise InputError(f"expected logits of shape ({len(images)}, n_classes), got {shape}")
        if out.shape[1] == 1:
            raise InputError(SINGLE_LOGIT)
        self.n_forward += len(images)
        self.n_classes = out.shape[1]
        check_in_range(top_label, out.shape[1])
        return out.to(self.dtype)

    def log_likelihood(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Log softmax(logits / temperature) of the labels, (N,), in nats."""
        scaled = torch.log_softmax(logits / self.protocol.temperature, dim=1)
        return scaled.gather(1, labels[:, None])[:, 0]

    def rows(
        self,
        images: Tensor,
        baselines: Tensor | None,
        labels: Tensor,
        coalitions: BoolMatrix,
        names: Sequence[str],
    ) -> tuple[Tensor, Tensor]:
        """Values and hits of a group of images, all over the same coalitions.

        Args:
            images: (G, C, H, W) in [0, 1].
            baselines: Absence baselines (G, C, H, W), or None for zero.
            labels: (G,) int64.
            coalitions: (R, n_bands) bool.
            names: One name an image, for error messages.

        Returns:
            Log-likelihoods (G, R) in nats, float64 on the CPU; and whether each image's grand
            coalition is classified correctly (G,) bool (False where it is not among the rows).

        Raises:
            InputError: For non-finite logits (which image, which coalition), labels out of range.
        """
        return self.launch(images, baselines, labels, coalitions, names).finish()

    def launch(
        self,
        images: Tensor,
        baselines: Tensor | None,
        labels: Tensor,
        coalitions: BoolMatrix,
        names: Sequence[str],
    ) -> PendingValues:
        """Begin `rows` (same arguments): on a GPU the passes run on after this returns.

        Raises:
            InputError: As `rows`, and with ``batch_size="auto"`` where memory runs out for a
                single row.
        """

        def run(n: int) -> PendingValues:
            parts = [
                self._launch(
                    images[k : k + n],
                    None if baselines is None else baselines[k : k + n],
                    labels[k : k + n],
                    coalitions,
                )
                for k in range(0, len(images), n)
            ]
            return PendingValues.of(parts, coalitions, names)

        with on_device(self.device):
            return self.within_memory(run)

    def within_memory(self, run: Callable[[int], T]) -> T:
        """What `run` gives for the number of rows that may go through the model at once.

        With ``batch_size="auto"`` it is called again with half as many where memory runs out.

        Raises:
            InputError: Where memory runs out for a single row.
        """
        counted = self.n_forward - len(self._empty)
        while True:
            try:
                return run(self.n_rows)
            except Exception as error:  # of any kind: a model may wrap what torch raises
                if self.batch_size != "auto" or not is_out_of_memory(error):
                    raise
                if self.n_rows == 1:
                    raise InputError(
                        "memory runs out for a single image: use smaller images or a smaller model"
                    ) from error
            # Outside of the except clause: the error held the tensors of the pass.
            self._buffer, self.n_forward = None, counted + len(self._empty)
            self.forward.release()
            self.n_rows = halved(self.n_rows)

    def _launch(
        self, images: Tensor, baselines: Tensor | None, labels: Tensor, coalitions: BoolMatrix
    ) -> PendingValues:
        """All coalitions of at most `n_rows` images."""
        n_images = len(images)
        top_label = int(labels.max())
        images = to_device(images, self.device, self.dtype)
        labels = to_device(labels, self.device)
        black = baselines is None or self.protocol.black_empty
        run = np.flatnonzero(coalitions.any(axis=1)) if black else np.arange(len(coalitions))
        grand: BoolMatrix = np.asarray(coalitions[run].all(axis=1))
        shape = (n_images, len(run))
        values = torch.zeros(shape, dtype=self.dtype, device=self.device)
        finite = torch.ones(shape, dtype=torch.bool, device=self.device)
        hits = torch.zeros(n_images, dtype=torch.bool, device=self.device)
        empty = None
        parts = self._parts(images, baselines)
        keep = self._kept(coalitions[run], parts)
        if not self.settled:
            self._settle(parts, keep, images, labels)
        if self.forward.channels_last:
            parts = channels_last_parts(parts, images)
        if len(run) < len(coalitions):
            logits = self._empty_logits(images, top_label).expand(n_images, -1)
            empty = self.log_likelihood(logits, labels)
        step = max(1, self.n_rows // n_images)
        for start in range(0, len(run), step):
            rows = slice(start, start + step)
            logits = self.logits(self._batch(parts, keep[rows], images, grand[rows]), top_label)
            target = labels.repeat_interleave(len(keep[rows]))
            values[:, rows] = self.log_likelihood(logits, target).view(n_images, -1)
            finite[:, rows] = torch.isfinite(logits).all(dim=1).view(n_images, -1)
            for k in np.flatnonzero(grand[rows]):
                hits = logits.view(n_images, len(keep[rows]), -1)[:, k].argmax(dim=1) == labels
        return PendingValues(run, values, finite, hits, empty)

    def _parts(self, images: Tensor, baselines: Tensor | None) -> Tensor:
        """Band images of a group, see `band_parts`; the map of bands stays on the device."""
        size = image_size(images)
        partition = SpectralPartition(self.protocol.n_bands, self.protocol.band_norm)
        if size not in self._index:
            self._index[size] = partition.index(*size).to(self.device)
        if baselines is not None:
            baselines = to_device(baselines, self.device, self.dtype)
        return band_parts(images, baselines, self._index[size], partition.n_bands)

    def _kept(self, coalitions: BoolMatrix, parts: Tensor) -> Tensor:
        """`kept_parts`, which stays on the device while the coalitions are the same."""
        key = (coalitions.tobytes(), parts.shape[1])
        if key not in self._keep:
            self._keep = {key: kept_parts(coalitions, parts)}
        return self._keep[key]

    def _settle(self, parts: Tensor, keep: Tensor, images: Tensor, labels: Tensor) -> None:
        """Choose how the model is run, by the black image and coalitions of the first image."""
        counted, top_label = self.n_forward, int(labels.max())
        full = self.device.type == "cuda" or self.protocol.forwards == "compiled"
        full = full and self.protocol.forwards != "plain"  # as many rows as there will be
        n = min(self.n_rows if full or not self.sized else PROBE_ROWS, self.n_rows, len(keep))
        chosen = np.linspace(0, len(keep) - 1, n).astype(int)
        some = keep[torch.from_numpy(chosen).to(keep.device)]
        probe = coalition_images(parts[:1], some, images[:1], np.zeros(len(chosen), dtype=bool))
        probe = self._in_range(probe)
        probe[0] = 0  # the empty coalition, whose value is in every row
        self.logits(probe[:1], top_label)  # a model of another kind is told what is wrong with it
        self.n_forward = counted
        some = probe if full else probe[:PROBE_ROWS]
        self.forward = tune(
            self.forward, self.protocol.forwards, some, labels[:1].expand(len(some)), self.choices
        )
        if not self.sized:
            self.n_rows = quickest_rows(self.forward, probe, self.n_rows)
        self.settled = self.sized = self.probed = True

    def _batch(self, parts: Tensor, keep: Tensor, images: Tensor, grand: BoolMatrix) -> Tensor:
        """Coalition images (G * rows, C, H, W) in a buffer that is used again, in their range."""
        size = len(images) * len(keep) * parts.shape[2]
        if self._buffer is None or self._buffer.numel() < size or self._buffer.dtype != self.dtype:
            self._buffer = torch.empty(size, dtype=self.dtype, device=self.device)
        last = self.forward.channels_last
        return self._in_range(
            coalition_images(parts, keep, images, grand, self._buffer[:size], channels_last=last)
        )

    def _in_range(self, batch: Tensor) -> Tensor:
        """The batch with the protocol's range handling, in place."""
        if self.protocol.range_handling == "clip":
            return batch.clamp_(0, 1)
        if self.protocol.range_handling == "rescale":
            return rescale_(batch)
        return batch

    def _empty_logits(self, images: Tensor, top_label: int) -> Tensor:
        """Logits (1, n_classes) of a black image, evaluated once for every image shape."""
        shape = tuple(images.shape[1:])
        if shape not in self._empty:
            black = torch.zeros(1, *shape, dtype=self.dtype, device=self.device)
            logits = self.logits(self.forward.laid_out(black), top_label).clone()
            if not bool(torch.isfinite(logits).all()):
                raise InputError("the model gives non-finite logits for a black image")
            self._empty[shape] = logits
        check_in_range(top_label, self._empty[shape].shape[1])  # of an image after the first
        return self._empty[shape]


def rescale_(images: Tensor) -> Tensor:
    """Each image's minimum and maximum to 0 and 1, in place; a constant image becomes 0."""
    axes = (1, 2, 3)
    low, high = images.amin(dim=axes, keepdim=True), images.amax(dim=axes, keepdim=True)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    return images.sub_(low).div_(span)


@dataclass(frozen=True)
class PendingValues:
    """Passes that were begun.

    Attributes:
        run: Which of the coalitions went through the model, (R,) indices.
        values: Their log-likelihoods (G, R), nats.
        finite: Whether their logits are finite (G, R).
        hits: Whether the grand coalition is right (G,).
        empty: Log-likelihoods of the black image (G,) for the coalitions that did not run, or None.
    """

    run: npt.NDArray[np.int64]
    values: Tensor
    finite: Tensor
    hits: Tensor
    empty: Tensor | None
    coalitions: BoolMatrix | None = None
    names: Sequence[str] = ()
    event: Any = None

    @classmethod
    def of(
        cls, parts: Sequence[PendingValues], coalitions: BoolMatrix, names: Sequence[str]
    ) -> PendingValues:
        """Several groups over the same coalitions as one, its copy to the host begun."""
        empties = [part.empty for part in parts if part.empty is not None]
        launched = cls(
            run=parts[0].run,
            values=to_host(torch.cat([part.values for part in parts])),
            finite=to_host(torch.cat([part.finite for part in parts])),
            hits=to_host(torch.cat([part.hits for part in parts])),
            empty=to_host(torch.cat(empties)) if empties else None,
            coalitions=coalitions,
            names=names,
        )
        if parts[0].values.device.type != "cuda":
            return launched
        return replace(launched, event=torch.cuda.current_stream().record_event())

    def finish(self) -> tuple[Tensor, Tensor]:
        """Log-likelihoods (G, R) float64 of all coalitions and hits (G,), once they are here.

        Raises:
            InputError: For non-finite logits; says which image and coalition.
        """
        assert self.coalitions is not None
        if self.event is not None:
            self.event.synchronize()
        if not bool(self.finite.all()):
            image, row = (int(k) for k in torch.nonzero(~self.finite)[0])
            bands = np.flatnonzero(self.coalitions[self.run[row]]).tolist()
            raise InputError(
                "the model gives non-finite logits (NaN or infinite) for image "
                f"{self.names[image]}, coalition of bands {bands}; check the model's weights and "
                "precision"
            )
        table = torch.zeros(len(self.values), len(self.coalitions), dtype=torch.float64)
        if self.empty is not None:
            table[:] = self.empty.double()[:, None]
        table[:, torch.from_numpy(self.run)] = self.values.double()
        return table, self.hits
