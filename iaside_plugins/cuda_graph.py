"""Forward passes of a fixed shape replayed as one CUDA graph: no launch waits for the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
WARM_UP = 3  # passes before a capture, as libraries choose their algorithms in the first
_log = logging.getLogger(__name__)


@dataclass
class _Captured:
    images: Tensor
    logits: Tensor
    graph: Any


class Graphed:
    """A model that captures one graph for the shape it sees most and replays it.

    The second batch of a shape is captured: a shape that comes once (the last rows of an image)
    is not worth one. What cannot be captured runs as before. The output of a replay lives in
    memory that the next replay overwrites.

    Args:
        model: (N, C, H, W) -> (N, n_classes) logits, on a CUDA device, without gradients.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
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
        if self._able and self._seen[key] == 2:
            self._capture(key, images)
        return self.model(images)

    def _capture(self, key: Any, images: Tensor) -> None:
        """Capture a graph for this shape, compared with the model before it is ever used."""
        try:
            static = images.clone(memory_format=torch.preserve_format)
            side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    expected = self.model(static)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = self.model(static)
            graph.replay()
            if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3, equal_nan=True):
                raise RuntimeError("a replay gives other logits")
            self._captured[key] = _Captured(static, logits, graph)
        except Exception as error:  # noqa: BLE001  a model may do anything that a graph cannot hold
            self._able = False
            _log.info("no CUDA graph: %s", error)
