"""Decompositions of images that are handed over one condition at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_model import network

from iaside_plugins import InputError, Protocol
from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.streaming import StreamingDecomposition, _small, _whole

CHAINS = Protocol(3, estimator="permutation")
CONDITIONS = (Condition("fog", 1), Condition("fog", 2), Condition("snow", 1))
IDS = ["b", "a", "d", "c"]
LABELS = torch.tensor([1, 0, 2, 1])


def images(seed):
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def taken(protocol=CHAINS):
    pairs = SimpleNamespace(
        records=[SimpleNamespace(image_id=name) for name in IDS], conditions=CONDITIONS
    )
    options = {"batch_size": 8, "precision": "float32", "resume": None, "pool": None}
    return StreamingDecomposition(network().eval(), pairs, protocol, **options)


def test_images_in_any_order_give_the_same():
    clean, perturbed = images(0), {c: images(k) for k, c in enumerate(CONDITIONS, 1)}
    for protocol in (CHAINS, Protocol(3)):
        alone = error_decomposition(
            network().eval(), [(clean, perturbed, LABELS, IDS)], protocol, batch_size=8
        )
        one = taken(protocol)
        for condition, batch in [*perturbed.items(), (None, clean)]:
            for some in ([3, 1], [0, 2]):
                one.take(condition, (batch[some], LABELS[some], [IDS[k] for k in some]))
            one.take(condition, (batch[:1], LABELS[:1], ["another"]))
        found = one.result()
        assert found.ids == alone.ids == tuple(IDS)
        assert found.n_forward == alone.n_forward
        assert np.array_equal(found.loss.bands, alone.loss.bands)
        assert np.array_equal(found.error.bands, alone.error.bands)
        assert np.array_equal(found.energy, alone.energy)


def test_what_lacks_a_condition_is_left_out():
    one = taken()
    for k, condition in enumerate((None, *CONDITIONS)):
        some = [0, 1, 3] if k == 2 else [0, 1, 2, 3]
        one.take(condition, (images(k)[some], LABELS[some], [IDS[n] for n in some]))
    assert one.result().ids == ("b", "a", "c")


def test_nothing_whole_is_an_error():
    one = taken()
    one.take(None, (images(0), LABELS, IDS))
    with pytest.raises(InputError, match="none could be read under every condition"):
        one.result()


def test_images_are_held_in_8_bits_only_where_that_is_exact():
    of_files = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    image = of_files.float().div_(255)
    assert _small(image).dtype == torch.uint8
    assert torch.equal(_whole(_small(image)), image)
    other = image * 0.999
    assert torch.equal(_small(other), other)
    assert _small(other).data_ptr() != other.data_ptr()
