"""ModelRunner: one model, run on batches of images with checks, counts and a batch size.

It knows nothing of bands: `value_table.game.Game` runs coalitions through it, the evaluation runs
clean, corrupted and attacked images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.errors import InputError
from iaside_plugins.inference.checks import SINGLE_LOGIT, KnownClasses, check_in_range
from iaside_plugins.inference.forward import PRECISIONS, Forward, Model
from iaside_plugins.inference.logits import described
from iaside_plugins.inference.output_checks import (
    AGAIN_ROWS,
    OutputCheck,
    check_same_again,
    last_operation,
    may_vary,
    random_state,
)
from iaside_plugins.inference.tuning import quickest_rows, tune
from iaside_plugins.integers import index_or_none

T = TypeVar("T")
FIRST_ROWS = {"cuda": 512}  # what "auto" tries first on a device, 64 on others
PROBE_ROWS = 16  # images on which faster passes are compared and timed on a CPU
_log = logging.getLogger(__name__)


def first_batch_size(batch_size: int | str, device: torch.device) -> int:
    """Return the number of rows in one forward pass to begin with.

    Args:
        batch_size: A number, or "auto": the device's number in `FIRST_ROWS`, halved where memory
            runs out.
        device: Where the model is.

    Raises:
        InputError: For anything else.
    """
    if batch_size == "auto":
        return FIRST_ROWS.get(device.type, 64)
    found = index_or_none(batch_size)
    if found is None or found < 1:
        raise InputError(
            f"batch_size must be 'auto' or an integer of at least 1, got {batch_size!r}"
        )
    return found


@dataclass
class ModelRunner:
    """One model on one device.

    Attributes:
        model: (N, C, H, W) images -> (N, n_classes) logits.
        device: Where the model is.
        batch_size: Rows in one forward pass; "auto" begins with many, halves them where memory
            runs out, and on a CPU takes the quickest number where `forwards` are not plain.
        precision: "float32", "float64" (images and log-likelihoods in double; the model must be
            double too), or "bfloat16" / "float16" (autocast around the model alone).
        forwards: How passes may be made faster: "plain", "fast" or "compiled" (see `Protocol`).
        choices: `Forward.choices` of the run being resumed, which `tune` repeats, or None.
        known_classes: Those of the labels; outputs must be as many.
        n_forward: Rows that went through the model so far.
        n_classes: Number of classes, once known.
        n_rows: Rows in one forward pass now.
        forward: How the model is run now; `tune` makes it faster.
        needs_tuning: Whether `tune` has to be called before the first batch.
        tuned: Whether it was called.

    Raises:
        InputError: For an unknown precision or batch size, or a single-precision model with
            precision="float64".
    """

    model: Model
    device: torch.device
    batch_size: int | str = 64
    precision: str = "float32"
    forwards: str = "plain"
    choices: Mapping[str, Any] | None = None
    known_classes: KnownClasses | None = None
    n_forward: int = 0
    n_classes: int | None = None
    _buffer: Tensor | None = None
    _check: OutputCheck = field(default_factory=OutputCheck)
    _judged: bool = False

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
        self._check = OutputCheck(self.model, self.forward.half)
        plain = self.forwards == "plain"
        self._rows_are_fixed = plain or self.batch_size != "auto" or self.device.type != "cpu"
        self.tuned = False
        self.needs_tuning = not plain or self.forward.half

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the images: double for float64, else single."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def logits(self, images: Tensor, top_label: int = 0, *, counted: bool = True) -> Tensor:
        """Return the logits (N, n_classes) of one batch, float32 or float64.

        The first batch is judged: whether its outputs are logits (`OutputCheck`), and, of a model
        that draws random numbers, whether it answers the same images in the same way.

        Args:
            images: (N, C, H, W) on the model's device; the model may write into them.
            top_label: The greatest label of the images.
            counted: Whether `n_forward` counts the rows.

        Raises:
            InputError: If the model fails, returns anything but (N, n_classes), returns
                probabilities, or has no output for `top_label`.
        """
        head = self._head(images) if counted else None
        before = None if head is None else random_state(self.device)
        n_images = len(images)
        out = self.forward(images)
        if not torch.is_tensor(out) or out.ndim != 2 or len(out) != n_images:
            hint = ""
            if n_images == 1 and torch.is_tensor(out) and out.ndim == 1:
                hint = "; a squeeze() drops the axis of a single image: use flatten(1)"
            raise InputError(
                f"expected logits of shape ({n_images}, n_classes), got {described(out)}{hint}"
            )
        if out.shape[1] < 2:
            none = f"expected logits of at least 2 classes, got ({n_images}, 0)"
            raise InputError(SINGLE_LOGIT if out.shape[1] else none)
        self.n_forward += len(images) if counted else 0
        self.n_classes = out.shape[1]
        if self.known_classes is not None:
            self.known_classes.check(out.shape[1])
        check_in_range(top_label, out.shape[1])
        logits = out.to(self.dtype)
        if head is not None:
            self._judge(head, logits, drew=before != random_state(self.device))
        return logits

    def _head(self, images: Tensor) -> Tensor | None:
        """Return a copy of the first images of a batch that is to be judged, or None."""
        if self._check.done and self._judged:
            return None
        n = len(images) if self.forwards == "compiled" else AGAIN_ROWS  # another shape compiles
        return self.forward.copy_of(images[:n])

    def _judge(self, head: Tensor, logits: Tensor, *, drew: bool) -> None:
        """Check that logits of a first batch are logits, and the same in a second pass."""
        self._check.see(logits, lambda: last_operation(self.forward, head))
        alone = len(logits) == 1 < self.n_rows  # an image among others says more
        if self._judged or (alone and not drew):
            return
        self._judged = True
        if drew or may_vary(self.model):
            given = logits[: len(head)].clone()  # a graph's next pass overwrites its output
            half = self.forward.half
            check_same_again(self.forward, head, given, half=half, model=self.model)

    def tune_if_needed(self, images: Tensor, label: int) -> None:
        """Call `tune` with the first of a batch's images, and the class of the first one."""
        if self.needs_tuning:
            probe = images[: self.n_probe(len(images), len(images))]
            self.tune(probe, torch.tensor([label], device=self.device))

    def batch_logits(self, images: Tensor, top_label: int = 0) -> Tensor:
        """Return the logits of one batch, split only if batch_size="auto"; see `logits`.

        The images stay as they are, whatever the model writes into its own copy. If `tune` is
        needed, it is called with them first.
        """
        self.tune_if_needed(images, top_label)
        if self.batch_size != "auto":
            return self.logits(self.forward.copy_of(images), top_label)
        return self.within_memory(
            lambda n: torch.cat(
                [  # cloned, since a graph's next pass overwrites its output
                    self.logits(self.forward.copy_of(part), top_label).clone()
                    for part in torch.split(images, n)
                ]
            )
        )

    def log_likelihood(self, logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
        """Return log softmax(logits / temperature) of the labels, (N,), in nats."""
        return torch.log_softmax(logits / temperature, dim=1).gather(1, labels[:, None])[:, 0]

    def buffer(self, size: int) -> Tensor:
        """Return flat memory for `size` numbers of a batch, the same memory on every call."""
        if self._buffer is None or self._buffer.numel() < size or self._buffer.dtype != self.dtype:
            self._buffer = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._buffer[:size]

    def within_memory(self, run: Callable[[int], T]) -> T:
        """Return what `run` gives for the number of rows that may go through the model at once.

        With ``batch_size="auto"`` it is called again with half as many where memory runs out; rows
        of the failed call are not counted.

        Raises:
            InputError: If memory runs out with a single row.
        """
        counted = self.n_forward
        while True:
            try:
                return run(self.n_rows)
            except Exception as error:  # of any kind: a model may wrap what torch raises
                if self.batch_size != "auto" or not is_out_of_memory(error):
                    raise
                if self.n_rows == 1:
                    raise InputError(
                        "out of memory with a batch of a single image: use smaller images or a "
                        "smaller model"
                    ) from error
            # Outside of the except clause: the error held the tensors of the pass.
            self._buffer, self.n_forward = None, counted
            self.forward.release()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            n = self.n_rows
            _log.warning("out of memory with batches of %d; going on with %d", n, n // 2)
            self.n_rows = n // 2

    def set_rows(self, n_rows: int) -> None:
        """Run so many rows at once from now on, as the run being resumed did."""
        self.n_rows, self._rows_are_fixed = n_rows, True

    def n_probe(self, n_coalitions: int, n_pass: int) -> int:
        """Return the number of images that `tune` wants.

        Args:
            n_coalitions: Different ones that there are.
            n_pass: Rows of the first pass.
        """
        if self._probe_whole_batch:
            return n_pass
        most = self.n_rows if not self._rows_are_fixed else min(PROBE_ROWS, self.n_rows)
        return min(most, n_coalitions)

    @property
    def _probe_whole_batch(self) -> bool:
        """Whether passes are compared with as many rows as there will be: shapes matter there."""
        return self.forwards == "compiled" or (
            self.forwards != "plain" and self.device.type == "cuda"
        )

    def tune(self, probe: Tensor, label: Tensor) -> None:
        """Choose how the model is run, by passes over some images.

        Args:
            probe: Images as they will come, `n_probe` of them (N, C, H, W), on the device.
            label: Class of all of them, (1,).

        Raises:
            InputError: As `logits` and `tuning.tune`.
        """
        # Refuses a model whose outputs are no logits before any step is tried on it.
        self.logits(probe[:1].clone(), int(label.max()), counted=False)
        some = probe if self._probe_whole_batch else probe[:PROBE_ROWS]
        self.forward = tune(
            self.forward, self.forwards, some, label.expand(len(some)), self.choices
        )
        if not self._rows_are_fixed:
            self.n_rows = quickest_rows(self.forward, probe, self.n_rows)
        self._rows_are_fixed, self.needs_tuning, self.tuned = True, False, True
