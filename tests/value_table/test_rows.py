"""Groups begun one ahead, as on a GPU, and what a store says of them later without the model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, SpectralImportance, spectral_importance
from iaside_plugins.importance.run import read_run
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table import rows as rows_module


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(3),
        Protocol(3, absence="replacement"),
        Protocol(4, estimator="permutation"),
        Protocol.reference(3),
    ],
)
def test_a_group_may_be_begun_before_the_last_one_is_done(monkeypatch, tmp_path, protocol):
    data = oracles.sample(5)
    at_once = spectral_importance(oracles.TinyNet(), data, protocol)
    monkeypatch.setattr(rows_module, "groups_ahead", lambda _device: 1)
    ahead = spectral_importance(oracles.TinyNet(), data, protocol, batch_size=8, resume=tmp_path)
    same = spectral_importance(oracles.TinyNet(), data, protocol, batch_size=8)
    np.testing.assert_array_equal(ahead.per_image, same.per_image)
    np.testing.assert_allclose(ahead.per_image, at_once.per_image, rtol=0, atol=1e-6)
    assert ahead.ids == at_once.ids


def test_a_bad_image_does_not_cost_the_one_that_was_begun(monkeypatch, tmp_path):
    monkeypatch.setattr(rows_module, "groups_ahead", lambda _device: 1)
    images = oracles.sample(3)[0]
    bad = torch.cat([images, torch.full_like(images[:1], 7.0)])
    batches = [(bad[k : k + 1], torch.tensor([0])) for k in range(4)]
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        spectral_importance(oracles.TinyNet(), batches, Protocol(3), batch_size=4, resume=tmp_path)
    assert read_run(tmp_path).n_images == 3


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(3, temperature=2.0),
        Protocol(4, estimator="permutation", seed=3),
        Protocol(3, absence="gaussian"),
        Protocol.reference(3),
    ],
)
def test_a_run_is_read_without_model_or_images(tmp_path, protocol):
    images, labels = oracles.sample(5)
    data = [(images, labels, [f"n0{k % 2}/{k}.png" for k in range(5)])]
    result = spectral_importance(oracles.TinyNet(), data, protocol, resume=tmp_path)
    found = read_run(tmp_path)
    other = {"n_forward": 0, "protocol": protocol.protocol_id}  # fields it does not use may differ
    assert {**found.to_dict(), **other} == {**result.to_dict(), **other}
    assert found.protocol.protocol_id == protocol.protocol_id
    assert found.by_class().equals(result.by_class())
    assert SpectralImportance.load(tmp_path).to_dict() == found.to_dict()


def test_other_scores_of_the_same_rows(tmp_path):
    data = oracles.sample(5)
    spectral_importance(oracles.TinyNet(), data, Protocol(3), resume=tmp_path)
    steep = spectral_importance(oracles.TinyNet(), data, Protocol(3, beta=0.5))
    found = read_run(tmp_path, beta=0.5)
    assert (found.score, found.protocol) == (steep.score, steep.protocol)
    assert replace(found, protocol=Protocol(3)).score == read_run(tmp_path).score


def test_an_unfinished_run_can_be_read(tmp_path):
    data = oracles.sample(5)
    spectral_importance(oracles.TinyNet(), data, Protocol(3), resume=tmp_path, max_images=3)
    whole = spectral_importance(oracles.TinyNet(), data, Protocol(3))
    np.testing.assert_array_equal(read_run(tmp_path).values, whole.values[:3])


def _same(found, result):
    assert found.ids == result.ids
    np.testing.assert_array_equal(found.per_image, result.per_image)
    assert (found.score, found.protocol.beta) == (result.score, result.protocol.beta)


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(3, absence="replacement"),
        Protocol.reference(3),
        Protocol(3, beta=0.5),
    ],
)
def test_a_folder_that_holds_more_shows_its_last_run(tmp_path, protocol):
    images, labels = oracles.sample(6)
    images[5], labels[5] = images[4], labels[4]  # the same image twice
    net = oracles.TinyNet()
    for n in (3, 6, 4):
        result = spectral_importance(net, (images, labels), protocol, resume=tmp_path, max_images=n)
        _same(read_run(tmp_path), result)


def test_the_folder_of_an_evaluation_is_known(tmp_path):
    result = spectral_importance(
        oracles.TinyNet(), oracles.sample(2), Protocol(3), resume=tmp_path / "spectral"
    )
    _same(read_run(tmp_path), result)


def test_reading_touches_nothing(tmp_path):
    spectral_importance(oracles.TinyNet(), oracles.sample(3), Protocol(3), resume=tmp_path)
    (tmp_path / "rows-000009-aa.npz").write_bytes(b"half a chunk")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert read_run(tmp_path).n_images == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_size_that_memory_allowed_is_kept(tmp_path):
    """Resumed where there is more room, batches are as before, and so is every bit."""
    data, calls = oracles.sample(6), []

    class Small(oracles.TinyNet):
        room = 4

        def forward(self, images):
            calls.append(len(images))
            if len(images) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(images)

    whole = spectral_importance(Small(), data, Protocol(3), batch_size="auto")
    options = {"batch_size": "auto", "resume": tmp_path}
    spectral_importance(Small(), data, Protocol(3), **options, max_images=2)
    Small.room, calls[:] = 1000, []
    found = spectral_importance(Small(), data, Protocol(3), **options)
    assert max(calls) <= 4
    np.testing.assert_array_equal(found.values, whole.values)


def test_folders_that_hold_no_run(tmp_path):
    with pytest.raises(InputError, match="does not say what run"):
        read_run(tmp_path)
    RowStore(tmp_path / "other", {"model": "x"})
    with pytest.raises(InputError, match="holds no run of spectral_importance"):
        read_run(tmp_path / "other")
    net = oracles.TinyNet()
    with pytest.raises(InputError, match="no images"):
        spectral_importance(net, [], Protocol(3), resume=tmp_path / "empty")
    with pytest.raises(InputError, match="no finished image yet"):
        read_run(tmp_path / "empty")
    spectral_importance(net, oracles.sample(1), Protocol(3), resume=tmp_path / "run")
    header = tmp_path / "run" / "run.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "protocol n_bands": "many"}))
    with pytest.raises(InputError, match="n_bands must be an integer"):
        read_run(tmp_path / "run")
