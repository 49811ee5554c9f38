"""The value table: one image's coalitions through the model, to log-likelihoods in nats.

One FFT an image; every coalition image is a 0/1 combination of the image's bands, so a batch of
them is one matrix product. Memory is (n_bands + 1 + batch) images, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins.band_maps import image_size
from iaside_plugins.bands import SpectralPartition, check_image_size
from iaside_plugins.coalition_images import band_parts, coalition_images, kept_parts
from iaside_plugins.coalitions import BoolMatrix
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.precision import PRECISIONS
from iaside_plugins.protocol import Protocol

Model = Callable[[Tensor], Tensor]
SINGLE_LOGIT = (
    "expected logits of at least 2 classes, got (N, 1): the likelihood of a single class is always "
    "1; return two logits, for example torch.cat([torch.zeros_like(z), z], dim=1)"
)


def model_device(model: Any, device: torch.device | str | None = None) -> torch.device:
    """The device to run on: the model's own; the model is never moved.

    Raises:
        InputError: If `device` is given and the model's weights are elsewhere, or if the model
            is in training mode.
    """
    wanted = None if device is None else torch.device(device)
    if not isinstance(model, nn.Module):
        return wanted or torch.device("cpu")
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise InputError(
            f"the model is in training mode ({training[0]}); call model.eval() first: batch norm "
            "and dropout would make every number depend on the batch"
        )
    tensors = [*model.parameters(), *model.buffers()]
    own = tensors[0].device if tensors else wanted or torch.device("cpu")
    if wanted is not None and (own.type, own.index or 0) != (wanted.type, wanted.index or 0):
        raise InputError(
            f"the model is on {own} and device={wanted} was asked for: move it with "
            f"model.to('{wanted}') or leave device out"
        )
    return own


def check_images(images: Tensor, n_bands: int | None = None) -> None:
    """Raise unless images are (N, C, H, W), floating point, finite and in [0, 1].

    Raises:
        InputTypeError: For integer images.
        InputError: For another shape, for images below 2 * n_bands (if given), or for values
            outside [0, 1] by more than 1e-6 (rounding of float32 arithmetic is let through).
    """
    if not torch.is_tensor(images) or not images.is_floating_point():
        kind = images.dtype if torch.is_tensor(images) else type(images).__name__
        raise InputTypeError(
            f"expected float images in [0, 1], got {kind}; for uint8 use images.float() / 255"
        )
    if images.ndim != 4:
        raise InputError(f"expected images of shape (N, C, H, W), got {tuple(images.shape)}")
    low, high = (float(end) for end in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(
            f"expected images in [0, 1], got values in [{low:.4g}, {high:.4g}]; if they are "
            "already normalised, undo it and let the model normalise (normalisation belongs "
            "inside the model); if they are 0..255, divide by 255"
        )
    if n_bands is not None:
        check_image_size(images.shape[2], images.shape[3], n_bands)


def check_labels(labels: Tensor, n_images: int) -> Tensor:
    """Labels as int64 (N,).

    Raises:
        InputError: For another shape, or negative or fractional labels.
    """
    labels = torch.as_tensor(labels)
    if labels.shape != (n_images,):
        raise InputError(
            f"expected labels of shape ({n_images},), one an image, got {tuple(labels.shape)}"
        )
    whole = labels.to(torch.int64)
    if not torch.equal(whole.to(labels.dtype), labels) or (len(whole) and int(whole.min()) < 0):
        raise InputError("expected labels that are class indices 0, 1, 2, ...")
    return whole


@dataclass
class Game:
    """Runs coalitions of images through one model.

    Attributes:
        model: (N, C, H, W) images -> (N, n_classes) logits.
        protocol: The choices that change a number.
        device: Where the model is.
        batch_size: Rows in one forward pass.
        precision: "float32", "float64" (images and log-likelihoods in double; the model must be
            double too), or "bfloat16" / "float16" (autocast around the model alone).
        n_forward: Rows evaluated so far.
        n_classes: Number of classes, once known.
    """

    model: Model
    protocol: Protocol
    device: torch.device
    batch_size: int = 64
    precision: str = "float32"
    n_forward: int = 0
    n_classes: int | None = None
    _empty: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    _buffer: Tensor | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise InputError(
                f"batch_size must be an integer of at least 1, got {self.batch_size!r}"
            )
        if self.precision == "float64" and isinstance(self.model, nn.Module):
            single = [n for n, p in self.model.named_parameters() if p.dtype == torch.float32]
            if single:
                raise InputError(
                    f"precision='float64' needs a model in double, {single[0]} is float32: "
                    "call model.double()"
                )

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
        half = self.precision in ("bfloat16", "float16")
        dtype = PRECISIONS[self.precision] if half else None
        with torch.autocast(self.device.type, dtype=dtype, enabled=half):
            out = self.model(images)
        if not torch.is_tensor(out) or out.ndim != 2 or len(out) != len(images):
            shape = tuple(out.shape) if torch.is_tensor(out) else type(out).__name__
            raise InputError(f"expected logits of shape ({len(images)}, n_classes), got {shape}")
        if out.shape[1] == 1:
            raise InputError(SINGLE_LOGIT)
        self.n_forward += len(images)
        self.n_classes = out.shape[1]
        if top_label >= out.shape[1]:
            raise InputError(
                f"label {top_label} is out of range: the model has {out.shape[1]} outputs "
                f"(labels 0 to {out.shape[1] - 1}); check the class map of the data"
            )
        return out.to(self.dtype)

    def log_likelihood(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Log softmax(logits / temperature) of the labels, (N,), in nats."""
        scaled = torch.log_softmax(logits / self.protocol.temperature, dim=1)
        return scaled.gather(1, labels[:, None])[:, 0]

    def rows(
        self, images: Tensor, baselines: Tensor | None, labels: Tensor, coalitions: BoolMatrix,
        names: Sequence[str],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
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
        images = images.to(self.device, self.dtype)
        top_label = int(labels.max())
        labels = labels.to(self.device)
        black = baselines is None or self.protocol.black_empty
        run = np.flatnonzero(coalitions.any(axis=1)) if black else np.arange(len(coalitions))
        grand = np.flatnonzero(coalitions.all(axis=1))
        values = torch.zeros(len(images), len(coalitions), dtype=self.dtype, device=self.device)
        finite = torch.ones(values.shape, dtype=torch.bool, device=self.device)
        hits = torch.zeros(len(images), dtype=torch.bool, device=self.device)
        if len(run) < len(coalitions):
            empty = ~torch.from_numpy(coalitions.any(axis=1)).to(self.device)
            values[:, empty] = self.log_likelihood(
                self._empty_logits(images, top_label).expand(len(images), -1), labels
            )[:, None]
        partition = SpectralPartition(self.protocol.n_bands, self.protocol.band_norm)
        parts = band_parts(
            images, baselines, partition.index(*image_size(images)), partition.n_bands
        )
        keep = kept_parts(coalitions[run], parts)
        step = max(1, self.batch_size // len(images))
        for start in range(0, len(run), step):
            index = run[start : start + step]
            batch = self._batch(parts, keep[start : start + step], images, np.isin(index, grand))
            logits = self.logits(batch, top_label)
            target = labels.repeat_interleave(len(index))
            values[:, index] = self.log_likelihood(logits, target).view(len(images), -1)
            finite[:, index] = torch.isfinite(logits).all(dim=1).view(len(images), -1)
            for k in np.flatnonzero(np.isin(index, grand)):
                hits = logits.view(len(images), len(index), -1)[:, k].argmax(dim=1) == labels
        self._check_finite(finite.cpu(), coalitions, names)
        return values.double().cpu(), hits.cpu()

    def _batch(self, parts: Tensor, keep: Tensor, images: Tensor, grand: BoolMatrix) -> Tensor:
        """Coalition images (G * rows, C, H, W) in a buffer that is used again, in their range."""
        size = len(images) * len(keep) * parts.shape[2]
        if self._buffer is None or self._buffer.numel() < size or self._buffer.dtype != self.dtype:
            self._buffer = torch.empty(size, dtype=self.dtype, device=self.device)
        batch = coalition_images(parts, keep, images, grand, self._buffer[:size])
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
            logits = self.logits(black, top_label)
            if not bool(torch.isfinite(logits).all()):
                raise InputError("the model gives non-finite logits for a black image")
            self._empty[shape] = logits
        return self._empty[shape]

    def _check_finite(self, finite: Tensor, coalitions: BoolMatrix, names: Sequence[str]) -> None:
        if bool(finite.all()):
            return
        image, row = (int(k) for k in torch.nonzero(~finite)[0])
        bands = np.flatnonzero(coalitions[row]).tolist()
        raise InputError(
            f"the model gives non-finite logits (NaN or infinite) for image {names[image]}, "
            f"coalition of bands {bands}; check the model's weights and precision"
        )


def rescale_(images: Tensor) -> Tensor:
    """Each image's minimum and maximum to 0 and 1, in place; a constant image becomes 0."""
    flat = images.flatten(1)
    low, high = flat.aminmax(dim=1, keepdim=True)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    flat.sub_(low).div_(span)
    return images
