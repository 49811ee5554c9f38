"""Graphs captured and replayed, with a stand-in for CUDA's; `device_checks` has the real one."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from iaside_plugins.inference import forward
from iaside_plugins.inference.forward import MOST_GRAPHS, Graphed, _capture, _Captured


class Counting(nn.Module):
    """Counts how often its code runs; a replay of a graph does not run it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        self.calls = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.net(images)


def _images(seed: int, rows: int = 4) -> Tensor:
    return torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def streams(monkeypatch):
    """Names of the streams that were made current."""
    found = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "set_stream", found.append)
    return found


def _working(model, images):
    static, logits = images.clone(), model(images).clone()
    return _Captured(
        static, logits, SimpleNamespace(replay=lambda: logits.copy_(model.net(static)))
    )


def _empty(model, images):
    return _Captured(images.clone(), model(images).clone(), SimpleNamespace(replay=lambda: None))


def _failing(_model, _images):
    raise RuntimeError("operation not permitted when stream is capturing")


def _full(_model, _images):
    raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def graphed(monkeypatch, request, streams):
    """A model whose graphs are captured by the function given as parameter."""
    monkeypatch.setattr(forward, "_capture", request.param)
    return Graphed(Counting())


@pytest.mark.parametrize("graphed", [_working], indirect=True)
@torch.no_grad()
def test_a_captured_shape_is_replayed(graphed):
    net = graphed.model
    for k in range(6):
        images = _images(k)
        before = net.calls
        found = graphed(images)
        if k >= 2:
            assert net.calls == before
        torch.testing.assert_close(found, net.net(images))


@pytest.mark.parametrize("graphed", [_empty, _failing], indirect=True)
@torch.no_grad()
def test_what_cannot_be_captured_runs_as_before(graphed):
    for k in range(5):
        torch.testing.assert_close(graphed(_images(k)), graphed.model.net(_images(k)))
    assert not graphed._captured


@pytest.mark.parametrize("graphed", [_working], indirect=True)
@torch.no_grad()
def test_few_graphs_are_held_and_freed(graphed):
    for rows in range(1, MOST_GRAPHS + 4):
        for _ in range(2):
            graphed(_images(0, rows))
    assert len(graphed._captured) == MOST_GRAPHS
    graphed.release()
    assert len(graphed._captured) == 0


@pytest.mark.parametrize("graphed", [_failing], indirect=True)
@torch.no_grad()
def test_a_shape_that_comes_once_is_not_captured(graphed):
    for rows in (1, 2, 3):
        graphed(_images(0, rows))
    assert graphed._can_capture


@pytest.mark.parametrize("graphed", [_failing], indirect=True)
def test_a_capture_that_fails_leaves_the_stream_as_it_was(graphed, streams):
    for _ in range(2):
        graphed(_images(0, 1))
    assert streams == ["stream"]


@pytest.mark.parametrize("graphed", [_full], indirect=True)
def test_running_out_of_memory_is_not_hidden(graphed):
    graphed(_images(0, 2))
    with pytest.raises(torch.OutOfMemoryError):
        graphed(_images(0, 2))
    assert graphed._can_capture  # with fewer rows


class _Stream:
    def __init__(self) -> None:
        self.waited_for = []

    def wait_stream(self, other) -> None:
        self.waited_for.append(other)


@pytest.fixture
def cuda(monkeypatch):
    """Stand-ins for what a capture calls; `log` holds its modes and streams in their order."""
    log, stream, caller = [], _Stream(), _Stream()
    modes = [0]

    def set_mode(mode):
        modes[0] = mode
        log.append(mode)

    def graph(_graph, *, stream, capture_error_mode):
        log.append((stream, capture_error_mode))
        return nullcontext()

    for name, value in {
        "current_device": lambda: 1,
        "stream": lambda _stream: nullcontext(),
        "current_stream": lambda: caller,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        "graph": graph,
        "get_sync_debug_mode": lambda: modes[0],
        "set_sync_debug_mode": set_mode,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(forward, "_side_stream", {1: stream}.__getitem__)
    return SimpleNamespace(log=log, stream=stream, caller=caller, modes=modes)


@torch.no_grad()
def test_a_capture_is_on_a_stream_of_the_current_device(cuda):
    _capture(Counting(), _images(0))
    assert cuda.log == ["error", 0, (cuda.stream, "thread_local")]
    assert cuda.stream.waited_for == [cuda.caller]
    assert cuda.caller.waited_for == [cuda.stream]


@torch.no_grad()
def test_a_model_that_waits_for_the_device_is_never_captured(cuda):
    def waits(images):
        if cuda.modes[0] == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return images

    with pytest.raises(RuntimeError, match="synchronizing"):
        _capture(waits, _images(0))
    assert cuda.log == ["error", 0]  # the mode is put back, and no capture began
    assert cuda.caller.waited_for == [cuda.stream]  # the passes before may still be under way
