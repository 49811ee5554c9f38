"""SpectralMaskModel: a wrapper in Foolbox's style, and attacks that run through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foolbox_nets import images, small_net

from iaside_plugins import InputError
from iaside_plugins.adapters.foolbox_adapter import SpectralEvaluator, SpectralMaskModel
from iaside_plugins.adapters.foolbox_adapter.masked_model import as_bands
from iaside_plugins.adapters.foolbox_adapter.models import foolbox
from iaside_plugins.errors import InputTypeError
from iaside_plugins.shapley.coalitions import all_coalitions
from iaside_plugins.spectral.partition import SpectralPartition

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()
import eagerpy as ep  # noqa: E402 - after Foolbox, whose import warns

LABELS = torch.arange(6) % 5


def fmodel(**options: object):
    return fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu", **options)


def test_every_coalition_is_the_value_tables():
    preprocessing = {"mean": [0.5] * 3, "std": [0.2] * 3, "axis": -3}
    model = fmodel(preprocessing=preprocessing)
    table = SpectralEvaluator(n_bands=3)(model, images(), LABELS).values
    for column, coalition in enumerate(all_coalitions(3)):
        masked = SpectralMaskModel(model, coalition, n_bands=3)
        values = masked(images()).log_softmax(1).gather(1, LABELS[:, None])[:, 0]
        np.testing.assert_allclose(values.detach(), table[:, column], atol=1e-5)


def test_all_bands_are_the_model_itself():
    masked = SpectralMaskModel(fmodel(), range(8))
    assert torch.equal(masked(images()), fmodel()(images()))


@pytest.mark.parametrize("bounds", [(0, 1), (0, 255), (-1, 1)])
def test_bounds_are_mapped_before_the_mask(bounds):
    lower, upper = bounds
    scaled = images() * (upper - lower) + lower
    plain = SpectralMaskModel(fmodel(), [1, 2], n_bands=4)(images())
    other = SpectralMaskModel(fmodel().transform_bounds(bounds), [1, 2], n_bands=4)
    torch.testing.assert_close(other(scaled), plain, atol=1e-5, rtol=0)
    outside = SpectralMaskModel(fmodel(), [1, 2], n_bands=4).transform_bounds(bounds)
    assert tuple(outside.bounds) == bounds
    torch.testing.assert_close(outside(scaled), plain, atol=1e-5, rtol=0)


def test_it_wraps_as_foolbox_does():
    model = fmodel()
    masked = SpectralMaskModel(model, [0, 1])
    assert (masked.bounds, masked.data_format) == (model.bounds, "channels_first")
    assert masked.device == model.device
    assert masked.dummy is model.dummy
    assert isinstance(masked(ep.astensor(images())), ep.Tensor)
    assert torch.is_tensor(masked(images()))
    twice = SpectralMaskModel(SpectralMaskModel(model, [0, 1], n_bands=4), [1, 2], n_bands=4)
    once = SpectralMaskModel(model, [1], n_bands=4)
    torch.testing.assert_close(twice(images()), once(images()), atol=1e-5, rtol=0)
    with pytest.raises(AttributeError, match="no attribute 'epsilons'"):
        _ = masked.epsilons
    expectation = fb.models.ExpectationOverTransformationWrapper(model, 2)
    assert not hasattr(SpectralMaskModel(expectation, [0]), "data_format")
    assert "[0, 1], n_bands=8" in repr(masked)


@pytest.mark.parametrize("name", ["FGSM", "L2PGD", "L2DeepFoolAttack", "DDNAttack"])
def test_any_attack_runs_through_it(name):
    masked = SpectralMaskModel(fmodel(), [0, 2], n_bands=4)
    labels = masked(images()).argmax(1)
    attack = getattr(fb.attacks, name)()
    _, clipped, is_adv = attack(masked, images(), labels, epsilons=4.0)
    wrong = masked(clipped).argmax(1) != labels
    assert torch.equal(is_adv, wrong)
    assert is_adv.any()


def test_gradients_lie_in_the_bands():
    x = images().requires_grad_()
    SpectralMaskModel(fmodel(), [1], n_bands=4)(x).sum().backward()
    energy = SpectralPartition(4).energy(x.grad.double())
    assert (energy[:, 1] > 0).all()
    assert (energy[:, [0, 2, 3]] < 1e-10 * energy[:, [1]]).all()


@pytest.mark.parametrize(
    ("coalition", "bands"),
    [
        ([2, 0, 2], (0, 2)),
        (range(4), (0, 1, 2, 3)),
        (3, (3,)),
        ([], ()),
        ({1}, (1,)),
        ([True, False, False, True], (0, 3)),
        (torch.tensor([True, False, True, False]), (0, 2)),
        (np.array([1, 3]), (1, 3)),
    ],
)
def test_coalitions(coalition, bands):
    assert as_bands(coalition, 4) == bands


@pytest.mark.parametrize(
    ("coalition", "kind", "message"),
    [
        ([4], InputError, "numbered 0 to 3, got 4"),
        ([-1], InputError, "numbered 0 to 3, got -1"),
        ([True, False], InputError, "one bool a band, 4, got shape"),
        ([0.5], InputTypeError, "band numbers or one bool a band, got float64"),
    ],
)
def test_bad_coalitions(coalition, kind, message):
    with pytest.raises(kind, match=message):
        SpectralMaskModel(fmodel(), coalition, n_bands=4)
    with pytest.raises(InputTypeError, match="a Foolbox model"):
        SpectralMaskModel(small_net(), [0])
