"""explain: what an attack caused, from exactly what Foolbox was given and returned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foolbox_nets import images, small_net

from iaside_plugins import InputError, Protocol, error_decomposition
from iaside_plugins.adapters.foolbox_adapter import explain
from iaside_plugins.adapters.foolbox_adapter.models import foolbox

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()
EPSILONS = [0.01, 0.1, 0.3]


def attacked(bounds: tuple[float, float] = (0, 1)):
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu").transform_bounds(bounds)
    x = images(8) * (bounds[1] - bounds[0]) + bounds[0]
    y = model(x).argmax(dim=-1)
    budgets = [e * (bounds[1] - bounds[0]) for e in EPSILONS]
    _, clipped, is_adv = fb.attacks.LinfFastGradientAttack()(model, x, y, epsilons=budgets)
    return model, x, y, clipped, is_adv, budgets


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_the_bands_sum_to_the_share_of_images_that_the_attack_fooled(bounds):
    model, x, y, clipped, is_adv, budgets = attacked(bounds)
    found = explain(model, x, y, clipped, epsilons=budgets, name="fgsm", protocol=Protocol(4))
    assert [one.level for one in found.conditions] == budgets
    np.testing.assert_array_equal(found.error.perturbed, is_adv.double().numpy())
    assert not found.error.clean.any()
    assert is_adv.any()
    assert found.efficiency_residual < 1e-9
    sums = found.error.bands.sum(axis=2)
    np.testing.assert_allclose(sums, is_adv.double().numpy(), atol=1e-12)


def test_one_epsilon_and_no_names_are_the_same_numbers_as_without_foolbox():
    model, x, y, clipped, *_ = attacked()
    one = explain(model, x, fb.criteria.Misclassification(y), clipped[1], epsilons=0.1)
    plain = error_decomposition(small_net(), (x, clipped[1], y))
    np.testing.assert_allclose(one.loss.bands, plain.loss.bands, atol=1e-6)
    assert str(one.conditions[0]) == "attack 0.1"
    assert len(explain(model, x, y, clipped).conditions) == 3


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor])
def test_epsilons_are_what_the_attack_takes(kind):
    model, x, y, clipped, *_ = attacked()
    found = explain(model, x, y, clipped, epsilons=kind(EPSILONS), protocol=Protocol(3))
    assert [one.level for one in found.conditions] == pytest.approx(EPSILONS)


def test_batches_that_do_not_fit_are_refused():
    model, x, y, clipped, *_ = attacked()
    for batches, epsilons, message in (
        (clipped, [0.1], "one epsilon for each"),
        (clipped[:2], [0.1, 0.1], "differ"),
        (clipped[0][:4], None, "shape"),
        (torch.full_like(x, 2.0), None, r"\[0, 1\]"),
    ):
        with pytest.raises(InputError, match=message):
            explain(model, x, y, batches, epsilons=epsilons)


@pytest.mark.parametrize("bounds", [(0, 1), (0, 255)])
def test_attacked_images_of_another_order_are_refused(bounds):
    model, x, y, clipped, _, budgets = attacked(bounds)
    turned = [batch.flip(0) for batch in clipped]
    with pytest.raises(InputError, match=r"within epsilon .*of 8 images\); give both in the same"):
        explain(model, x, y, turned, epsilons=budgets)
    assert len(explain(model, x, y, turned, protocol=Protocol(2)).conditions) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1)])
def test_rounding_is_no_other_order(dtype, bounds):
    model, x, y, clipped, _, budgets = attacked(bounds)
    half = [batch.to(dtype) for batch in clipped]
    found = explain(model, x.to(dtype), y, half, epsilons=budgets, protocol=Protocol(2))
    assert len(found.conditions) == 3
