"""Forward passes of a fixed shape replayed as one CUDA graph: no launch waits for the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iaside_plugins.inference.memory import is_out_of_memory

Model = Callable[[Tensor], Tensor]
WARM_UP = 3  # passes before a capture, as libraries choose their algorithms in the first
MOST_GRAPHS = 4  # shapes: a full batch, an image's last rows, and as much for another image size
_log = logging.getLogger(__name__)


@dataclass
class _Captured:
    images: Tensor
    logits: Tensor
    graph: Any


class Graphed:
    """A model that captures a graph for each of the first shapes that come twice, and replays it.

    What cannot be captured runs as before. The output of a replay lives in memory that the next
    replay overwrites. The current device must be the model's.

    Args:
        model: (N, C, H, W) -> (N, n_classes) logits, on a CUDA device, without gradients.
        capture: Captures a graph; another one in tests.
    """

    def __init__(self, model: Model, capture: Callable[..., _Captured] | None = None) -> None:
        self.model = model
        self._capture = capture or _capture
        self._seen: dict[Any, int] = {}
        self._captured: dict[Any, _Captured] = {}
        self._able = True

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        key = (images.shape, images.stride(), images.dtype, torch.is_autocast_enabled())
        captured = self._captured.get(key)
        if captured is not None:
            captured.images.copy_(images)
            captured.graph.replay()
            return captured.logits
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._able and self._seen[key] == 2 and len(self._captured) < MOST_GRAPHS:
            self._try_to_capture(key, images)
        return self.model(images)

    def release(self) -> None:
        """Give back the memory of all graphs."""
        self._captured.clear()
        self._seen.clear()

    def _try_to_capture(self, key: Any, images: Tensor) -> None:
        """A graph for this shape, compared with the model on another batch before it is used."""
        stream = torch.cuda.current_stream()
        try:
            captured = self._capture(self.model, images)
            other = images.flip(0)
            expected = self.model(other).clone()
            captured.images.copy_(other)
            captured.logits.zero_()  # a graph that does nothing must not pass
            captured.graph.replay()
            if not torch.allclose(captured.logits, expected, rtol=1e-3, atol=1e-3, equal_nan=True):
                raise RuntimeError("a replay gives other logits")
            self._captured[key] = captured
        except Exception as error:
            self._able = False
            if is_out_of_memory(error):
                raise
            _log.info("no CUDA graph: %s", error)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails does not put it back


def _capture(model: Model, images: Tensor) -> _Captured:
    """Warm up on a stream of its own, then capture."""
    static = images.clone(memory_format=torch.preserve_format)
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            model(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Of this thread only: one that pins decoded images may go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        logits = model(static)
    return _Captured(static, logits, graph)
