"""Batch sizes left to memory: halved where it runs out, nothing lost, the same numbers."""

from __future__ import annotations

import logging
import time

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.devices import is_out_of_memory
from iaside_plugins.evaluation.conditions import ConditionRunner
from iaside_plugins.inference import tuning
from iaside_plugins.inference.runner import first_batch_size
from iaside_plugins.value_table.progress import Progress

REAL = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"
)


class Small(oracles.TinyNet):
    """Has room for so many rows, and says so as `error`."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error, self.tried = room, error, []

    def forward(self, images: Tensor) -> Tensor:
        self.tried.append(len(images))
        if len(images) > self.room:
            try:
                raise self.error
            except Exception as error:
                raise InputError("the model failed on images") from error  # as wrappers do
        return super().forward(images)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), REAL]
)
@pytest.mark.parametrize("room", [1, 7, 20])
def test_rows_are_halved_until_they_fit(error, room, caplog, tmp_path):
    data = oracles.sample(6)
    whole = spectral_importance(oracles.TinyNet(), data, Protocol(3))
    net = Small(room, error)
    with caplog.at_level(logging.WARNING):
        found = spectral_importance(net, data, Protocol(3), batch_size="auto", resume=tmp_path)
    # Of other batches: rounding of float32 only.
    np.testing.assert_allclose(found.values, whole.values, rtol=0, atol=1e-6)
    assert found.n_forward == whole.n_forward  # rows that failed are not counted
    assert max(net.tried) > room >= net.tried[-1]
    assert "out of memory with batches of 64; going on with 32" in caplog.text


def test_an_image_that_does_not_fit_at_all_is_named():
    net = Small(0, MemoryError())
    with pytest.raises(InputError, match="out of memory with a batch of a single image"):
        spectral_importance(net, oracles.sample(2), Protocol(3), batch_size="auto")


def test_a_batch_size_that_was_given_is_kept():
    net = Small(2, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(InputError, match="the model failed"):
        spectral_importance(net, oracles.sample(2), Protocol(3), batch_size=8)


def test_other_errors_are_not_taken_for_memory():
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(InputError("bad"))
    net = Small(2, RuntimeError("shapes differ"))
    with pytest.raises(InputError, match="the model failed"):
        spectral_importance(net, oracles.sample(2), Protocol(3), batch_size="auto")


def test_an_error_of_the_allocator_is_known():
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**60)
    assert is_out_of_memory(found.value)


def test_conditions_are_split_too():
    images, labels = oracles.sample(6)
    batches = [(images, labels, [f"{k}" for k in range(6)])]
    outcomes = []
    for net, size in ((oracles.TinyNet(), 64), (Small(2, MemoryError()), "auto")):
        with Progress(None, False) as bar:
            outcomes.append(ConditionRunner(net, None, bar, size).run("clean", batches))
    np.testing.assert_allclose(outcomes[1].probability, outcomes[0].probability, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(outcomes[1].correct, outcomes[0].correct)


def test_what_auto_begins_with():
    assert first_batch_size("auto", torch.device("cuda:1")) == 512
    assert first_batch_size("auto", torch.device("cpu")) == 64
    assert first_batch_size(7, torch.device("cpu")) == 7
    with pytest.raises(InputError, match="'auto' or an integer"):
        first_batch_size("most", torch.device("cpu"))


class Timed(oracles.TinyNet):
    """Takes so many seconds a row, by the rows of its batch."""

    def __init__(self, seconds: dict[int, float]) -> None:
        super().__init__()
        self.seconds, self.sizes = seconds, []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        time.sleep(self.seconds.get(len(images), 0.0) * len(images))
        return super().forward(images)


@pytest.mark.usefixtures("without_onnxruntime")
@pytest.mark.parametrize("best", [4, 16, 64])
def test_auto_takes_the_quickest_batch_on_a_cpu(best, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_GAIN", np.inf)  # no other step is taken, by noise or not
    net = Timed({n: 0.0005 if n == best else 0.005 for n in (4, 16, 64)})
    data = oracles.sample(4, size=(14, 14))
    fast = Protocol(7, forwards="fast")
    found = spectral_importance(net, data, fast, batch_size="auto", resume=tmp_path, max_images=3)
    tried = 64 in net.sizes  # or its time was up: other work may slow the machine down
    last = len(net.sizes) - net.sizes[::-1].index(64) if tried and best < 64 else -2
    assert max(net.sizes[last:]) == best
    plain = spectral_importance(oracles.TinyNet(), data, Protocol(7), batch_size=best, max_images=3)
    np.testing.assert_array_equal(found.values, plain.values)
    assert found.n_forward == plain.n_forward
    net.sizes.clear()
    again = spectral_importance(net, data, fast, batch_size="auto", resume=tmp_path)
    assert max(net.sizes) == best  # not tried again
    np.testing.assert_array_equal(again.values[:3], found.values)
