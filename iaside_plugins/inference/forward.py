"""How a model is run: as it is, or by steps that make a forward pass faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.inference.cuda_graph import Graphed

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """One way to a faster forward pass, and what came of it.

    Attributes:
        name: "fold_batch_norms", "channels_last", "threads", "compile" or "cuda_graph".
        used: Whether it is in use.
        reason: Why, for people.
        deviation: Greatest difference of a log-probability on the probe, in nats; None if it
            could not be run.
        speedup: Seconds of the step before over this one's, on the probe; None if not timed.
    """

    name: str
    used: bool
    reason: str
    deviation: float | None = None
    speedup: float | None = None


@dataclass(frozen=True)
class Forward:
    """A way to run a model.

    Attributes:
        model: (N, C, H, W) -> (N, n_classes) logits.
        device: Where it is.
        precision: "bfloat16" and "float16" are autocast around the model.
        channels_last: Whether images come with their channels last in memory.
        threads: Of the CPU; None leaves torch's.
        steps: What was tried.
    """

    model: Model
    device: torch.device
    precision: str = "float32"
    channels_last: bool = False
    threads: int | None = None
    steps: tuple[Step, ...] = field(default=(), compare=False)

    @property
    def half(self) -> bool:
        """Whether the model runs under autocast."""
        return self.precision in ("bfloat16", "float16")

    def __call__(self, images: Tensor) -> Tensor:
        """The model's output."""
        dtype = PRECISIONS[self.precision] if self.half else None
        # Without the cache of cast weights: a CUDA graph would outlive it.
        autocast = torch.autocast(self.device.type, dtype, enabled=self.half, cache_enabled=False)
        with _threads(self.threads), autocast:
            return self.model(images)

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the memory layout that it wants."""
        if not self.channels_last:
            return images.contiguous()
        return images.contiguous(memory_format=torch.channels_last)

    def release(self) -> None:
        """Give back memory that only makes it faster."""
        if isinstance(self.model, Graphed):
            self.model.release()

    def choices(self) -> dict[str, Any]:
        """What a resumed run must repeat, as JSON values: the steps in use by name."""
        return {s.name: self.threads if s.name == "threads" else True for s in self.steps if s.used}

    def to_list(self) -> list[dict[str, Any]]:
        """All steps as JSON values."""
        return [asdict(step) for step in self.steps]


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """So many threads of the CPU, then as many as before."""
    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
