"""How a model is run: as it is, or by steps that make a forward pass faster."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.running import run_model

Model = Callable[[Tensor], Tensor]
PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
WARM_UP = 2  # passes before a capture, and another; libraries choose algorithms in the first
MOST_GRAPHS = 4  # shapes: a full batch, an image's last rows, and as much for another image size
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One way to a faster forward pass, and what came of it.

    Attributes:
        name: "fold_batch_norms", "channels_last", "threads", "compile", "cuda_graph" or
            "onnxruntime".
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
        """Return the model's logits, or whatever else it returns; it may write into the images.

        Raises:
            InputError: The model fails.
        """
        dtype = PRECISIONS[self.precision] if self.half else None
        # Without the cache of cast weights: a CUDA graph would outlive it.
        autocast = torch.autocast(self.device.type, dtype, enabled=self.half, cache_enabled=False)
        with _threads(self.threads), autocast:
            out: Tensor = logits_in(run_model(self.model, images), self.model)
            return out

    def to_memory_format(self, images: Tensor) -> Tensor:
        """Return images in the memory format that this way of running the model takes."""
        if not self.channels_last:
            return images.contiguous()
        return images.contiguous(memory_format=torch.channels_last)

    def copy_of(self, images: Tensor) -> Tensor:
        """Return a copy of images in that memory format: a model may write into its input."""
        return self.to_memory_format(images.clone())

    def release(self) -> None:
        """Free the memory of CUDA graphs."""
        if isinstance(self.model, Graphed):
            self.model.release()

    def choices(self) -> dict[str, Any]:
        """Return the steps in use by name, as JSON values: a resumed run repeats them."""
        return {s.name: self.threads if s.name == "threads" else True for s in self.steps if s.used}

    def to_list(self) -> list[dict[str, Any]]:
        """Return all steps as JSON values."""
        return [asdict(step) for step in self.steps]


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """Run with n threads of the CPU, then with as many as before; None changes nothing."""
    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Captured:
    """A captured graph with the memory that it reads and writes."""

    images: Tensor
    logits: Tensor
    graph: Any


class Graphed:
    """A model whose passes of a fixed shape are replayed as one CUDA graph.

    A replay launches all kernels of a pass at once, so no kernel waits for the host. A graph is
    captured for each of the first shapes that come twice; what cannot be captured runs as before.
    The output of a replay is in memory that the next replay overwrites. Each graph keeps a batch of
    its own, and what the model needs for it. The current device must be the model's.

    Args:
        model: (N, C, H, W) -> (N, n_classes) logits, on a CUDA device, without gradients.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._calls: dict[Any, int] = {}
        self._captured: dict[Any, _Captured] = {}
        self._can_capture = True

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of a batch."""
        key = (images.shape, images.stride(), images.dtype, torch.is_autocast_enabled())
        captured = self._captured.get(key)
        if captured is not None:
            captured.images.copy_(images)
            captured.graph.replay()
            return captured.logits
        self._calls[key] = self._calls.get(key, 0) + 1
        if self._can_capture and self._calls[key] == 2 and len(self._captured) < MOST_GRAPHS:
            self._try_to_capture(key, images)
        return self.model(images)

    def release(self) -> None:
        """Free the memory of all graphs."""
        self._captured.clear()
        self._calls.clear()

    def _try_to_capture(self, key: Any, images: Tensor) -> None:
        """Capture a graph for this shape; use it only if it gives another batch's logits right."""
        stream = torch.cuda.current_stream()
        try:
            other = images.flip(0)
            # Before the capture, whose memory this pass then need not share with the graph's.
            expected = logits_in(self.model(other.clone())).clone()  # it may write into them
            captured = _capture(self.model, images)
            captured.images.copy_(other)
            captured.logits.zero_()  # a graph that does nothing must not pass
            captured.graph.replay()
            if not torch.allclose(captured.logits, expected, rtol=1e-3, atol=1e-3, equal_nan=True):
                raise RuntimeError("a replay gives other logits")
            self._captured[key] = captured
        except Exception as error:
            if is_out_of_memory(error):
                raise  # there may be room for fewer rows
            self._can_capture = False
            _log.info("no CUDA graph: %s", error)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails does not put it back


def _capture(model: Model, images: Tensor) -> _Captured:
    """Warm up on another stream, then capture a graph of one pass there.

    Raises:
        RuntimeError: The model waits for the device, which no graph can.
    """
    static = images.clone(memory_format=torch.preserve_format)
    side = _side_stream(torch.cuda.current_device())
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                model(static)
            with _waiting_refused():
                model(static)
    finally:
        torch.cuda.current_stream().wait_stream(side)  # which may still write into `static`
    graph = torch.cuda.CUDAGraph()
    # Of this thread only: one that pins decoded images may go on meanwhile.
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        logits = logits_in(model(static))
    return _Captured(static, logits, graph)


@cache
def _side_stream(device: int) -> Any:
    """Return the stream for captures on a device; the same one, as cuBLAS keeps memory for each.

    Not torch's own, which belongs to the device of the first capture.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Raise RuntimeError where the host waits for the device.

    A capture that fails for this leaves torch's allocator (before 2.13) unable to free memory ever
    after: https://github.com/pytorch/pytorch/pull/180395.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
