"""Modules of 8-bit integers are told, counted and digested; float ones as before."""

from __future__ import annotations

import copy

import int8_nets
import pytest
import torch
from torch import nn

from iaside_plugins.errors import InputError
from iaside_plugins.inference.folding import fold_batch_norms
from iaside_plugins.inference.quantised import is_quantised, n_parameters
from iaside_plugins.inference.running import run_model
from iaside_plugins.storage.provenance import model_digest, state_digest

pytestmark = pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")


@pytest.mark.parametrize(
    ("net", "n"),
    [
        (int8_nets.static, 3 * 8 * 9 + 8 + 32 * 10 + 10),
        (int8_nets.dynamic, 3072 * 16 + 16 + 16 * 10 + 10),
    ],
)
def test_packed_weights_are_counted_and_digested(net: object, n: int) -> None:
    model = net()
    assert is_quantised(model)
    assert n_parameters(model) == n
    assert state_digest(model) == state_digest(net())
    assert model_digest(model) == model_digest(copy.deepcopy(model))
    other = net()
    part = next(p for p in other.modules() if hasattr(p, "set_weight_bias"))
    weight, bias = part._weight_bias() if hasattr(part, "_weight_bias") else (None, None)
    weight = part.weight() if weight is None else weight
    bias = part.bias() if bias is None else bias
    part.set_weight_bias(weight, bias + 1)
    assert state_digest(other) != state_digest(model)


def test_a_float_network_is_not_taken_for_one() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    assert not is_quantised(net)
    assert not is_quantised(torch.relu)
    assert n_parameters(net) == 3 * 4 * 9 + 4


def test_weights_that_differ_in_their_scale_alone_have_other_digests() -> None:
    class Holder(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            ones = torch.full((2, 3), scale)
            self.register_buffer("w", torch.quantize_per_tensor(ones, scale, 0, torch.qint8))

    first, second = Holder(0.5), Holder(0.25)
    assert torch.equal(first.w.int_repr(), second.w.int_repr())
    assert state_digest(first) != state_digest(second)


def test_another_precision_says_what_it_takes() -> None:
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    for net in (int8_nets.static(), int8_nets.dynamic()):
        with pytest.raises(InputError, match="8-bit integers, from float32 images"):
            run_model(net, images)


@pytest.mark.parametrize("make", [int8_nets.static, int8_nets.dynamic])
def test_folding_leaves_them_alone(make: object) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    net = make()
    folded, n_folded = fold_batch_norms(net)
    assert n_folded == 0
    assert torch.equal(folded(images), net(images))
