"""What rows hold: hits of every coalition beside the log-likelihoods, packed and unpacked."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import Protocol, SpectralImportance, spectral_importance
from iaside_plugins.value_table.layout import pack_flags, unpack_flags


@pytest.mark.parametrize("n", [1, 8, 31, 32, 33, 256, 4096])
def test_flags_come_back_as_they_went_in(n):
    flags = np.random.default_rng(n).random((5, n)) < 0.5
    words = pack_flags(flags)
    assert words.shape == (5, -(-n // 32))
    assert (words < 2**32).all()
    np.testing.assert_array_equal(unpack_flags(words, n), flags)


@pytest.mark.parametrize("absence", ["zero", "gaussian", "replacement"])
def test_hits_and_accuracy_shapley_values_are_those_of_the_definition(absence, tmp_path):
    images, labels = oracles.sample(6, dtype=torch.float64)
    net = oracles.TinyNet(scale=30).double()
    given = {"precision": "float64", "resume": tmp_path / absence}
    found = spectral_importance(net, (images, labels), Protocol(3, absence=absence), **given)
    assert found.hits is not None
    assert 0 < found.hits.mean() < 1
    for k in range(6):
        by_orders = oracles.shapley_by_orders(found.hits[k].astype(float))
        np.testing.assert_allclose(found.per_image_accuracy[k], by_orders, atol=1e-12)
    np.testing.assert_array_equal(found.hits[:, -1], found.correct)
    if absence == "zero":
        masks = oracles.band_masks(3, 12, 12)
        for k in range(6):
            for s in range(8):
                x = oracles.coalition_image(
                    images[k].numpy(), np.zeros((3, 12, 12)), masks, oracles.members(s, 3)
                )
                hit = int(net(torch.from_numpy(x)[None]).argmax()) == int(labels[k])
                assert found.hits[k, s] == hit
    total = found.accuracy_shapley_values.sum()
    assert total == pytest.approx(found.hits[:, -1].mean() - found.hits[:, 0].mean())
    file = tmp_path / "r.npz"
    found.save(file)
    for again in (SpectralImportance.load(file), SpectralImportance.load(tmp_path / absence)):
        np.testing.assert_array_equal(again.hits, found.hits)
        np.testing.assert_array_equal(again.per_image_accuracy, found.per_image_accuracy)


def test_images_whose_draws_differ_in_number_share_no_pass_and_give_the_same():
    images, labels = oracles.sample(6)
    protocol = Protocol(4, estimator="permutation", n_permutations=6)  # a second cycle
    net = oracles.TinyNet()
    many, one = (
        spectral_importance(net, (images, labels), protocol, batch_size=n) for n in (512, 8)
    )
    np.testing.assert_allclose(many.per_image, one.per_image, rtol=0, atol=1e-5)
