"""Integers of NumPy and PyTorch are counts like Python's; truth values and fractions are not."""

from __future__ import annotations

import json

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, SpectralPartition, spectral_importance
from iaside_plugins.integers import as_integer, index_or_none


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)])
def test_integers_of_any_type_are_taken(value):
    found = as_integer("n", value, 1)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], 0, 8])
def test_others_and_those_out_of_range_are_refused(value):
    with pytest.raises(InputError, match="n must be an integer of at least 1 and at most 7, got "):
        as_integer("n", value, 1, 7)
    assert index_or_none(True) is None


def test_a_protocol_of_numpys_integers_is_the_same_protocol():
    counts = {"n_bands": 4, "n_permutations": 2, "seed": 1, "image_batch": 5, "n_coalitions": 16}
    for estimator in ("exact", "permutation", "regression"):
        plain = Protocol(**counts, estimator=estimator)
        other = Protocol(**{k: np.int64(v) for k, v in counts.items()}, estimator=estimator)
        assert other == plain
        assert other.digest == plain.digest
        assert json.dumps(other.to_dict()) == json.dumps(plain.to_dict())
    assert type(SpectralPartition(np.int64(4)).n_bands) is int


def test_a_run_takes_them(tmp_path):
    data, net = oracles.sample(4, (8, 8)), oracles.TinyNet()
    plain = spectral_importance(net, data, Protocol(3), batch_size=8, max_images=3)
    for _ in range(2):  # begun and resumed
        found = spectral_importance(
            net,
            data,
            Protocol(np.int64(3)),
            batch_size=np.int64(8),
            max_images=np.int64(3),
            resume=tmp_path / "kept",
        )
        np.testing.assert_array_equal(found.values, plain.values)
    json.dumps(found.to_dict())
