"""Graphs captured and replayed, with a stand-in for CUDA's; the real one where there is a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from iaside_plugins.inference import cuda_graph
from iaside_plugins.inference.cuda_graph import MOST_GRAPHS, Graphed, _Captured


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()


@pytest.fixture(autouse=True)
def _streams(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)


def _working(model, images):
    static, logits = images.clone(), model(images).clone()
    return _Captured(static, logits, SimpleNamespace(replay=lambda: logits.copy_(model(static))))


def _empty(model, images):
    return _Captured(images.clone(), model(images).clone(), SimpleNamespace(replay=lambda: None))


def _failing(_model, _images):
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("capture", [_working, _empty, _failing])
@torch.no_grad()
def test_every_batch_gets_its_own_logits(capture):
    net = _net()
    graphed = Graphed(net, capture)
    for k in range(5):
        images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(k))
        torch.testing.assert_close(graphed(images), net(images))
    assert len(graphed._captured) == (capture is _working)


@torch.no_grad()
def test_few_graphs_are_held_and_given_back():
    graphed = Graphed(_net(), _working)
    for rows in range(1, MOST_GRAPHS + 4):
        for _ in range(2):
            graphed(torch.rand(rows, 3, 4, 4))
    assert len(graphed._captured) == MOST_GRAPHS
    graphed.release()
    assert len(graphed._captured) == 0


@torch.no_grad()
def test_a_shape_that_comes_once_is_not_captured():
    graphed = Graphed(_net(), _failing)
    for rows in (1, 2, 3):
        graphed(torch.rand(rows, 3, 4, 4))
    assert graphed._able


def test_a_capture_that_fails_leaves_the_stream_as_it_was(monkeypatch):
    put_back = []
    monkeypatch.setattr(torch.cuda, "set_stream", put_back.append)
    graphed = Graphed(_net(), _failing)
    for _ in range(2):
        graphed(torch.rand(1, 3, 4, 4))
    assert put_back == ["stream"]


def test_running_out_of_memory_is_not_hidden():
    def full(_model, _images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    graphed = Graphed(_net(), full)
    graphed(torch.rand(1, 3, 4, 4))
    with pytest.raises(torch.OutOfMemoryError):
        graphed(torch.rand(1, 3, 4, 4))


@pytest.mark.cuda
@torch.no_grad()
def test_a_real_graph(monkeypatch):
    monkeypatch.undo()
    net = _net().cuda()
    graphed = Graphed(net)
    for k in range(4):
        images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(k)).cuda()
        torch.testing.assert_close(graphed(images), net(images))
    assert graphed._captured
    assert cuda_graph.WARM_UP > 0
