"""Groups begun one ahead, as on a GPU, and what a store says of them later without the model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, SpectralImportance, spectral_importance
from iaside_plugins import rows as rows_module
from iaside_plugins.importance import read_run
from iaside_plugins.store import RowStore


@pytest.mark.parametrize("protocol", [
    Protocol(3), Protocol(3, absence="replacement"),
    Protocol(4, estimator="permutation"), Protocol.reference(3),
])  # fmt: skip
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


@pytest.mark.parametrize("protocol", [
    Protocol(3, temperature=2.0), Protocol(4, estimator="permutation", seed=3),
    Protocol(3, absence="gaussian"), Protocol.reference(3),
])  # fmt: skip
def test_a_run_is_read_without_model_or_images(tmp_path, protocol):
    images, labels = oracles.sample(5)
    data = [(images, labels, [f"n0{k % 2}/{k}.png" for k in range(5)])]
    result = spectral_importance(oracles.TinyNet(), data, protocol, resume=tmp_path)
    found = read_run(tmp_path)
    other = {"n_forward": 0, "protocol": protocol.protocol_id}  # fields it does not use may differ
    assert {**found.to_dict(), **other} == {**result.to_dict(), **other}
    assert found.protocol.protocol_id == protocol.protocol_id
    assert found.by_class().equals(result.by_class())
    if not protocol.is_script:
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
