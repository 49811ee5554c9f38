"""adv-lib's APGD as a Foolbox attack, and as a cross-check of PGD."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch
from foolbox_nets import images, small_net

from iaside_plugins.adapters.foolbox_adapter import ATTACKS, adversarial, parse_attacks
from iaside_plugins.errors import MissingExtraError

pytest.importorskip("foolbox", reason="needs the extra foolbox")


def test_without_the_library_the_remedy_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "adv_lib.attacks.auto_pgd", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    from iaside_plugins.adapters.foolbox_adapter.advlib_apgd import AdvLibAPGD

    with pytest.raises(MissingExtraError, match="pip install --no-deps adv-lib"):
        AdvLibAPGD()


def test_steps_of_a_program_that_adapts_them_are_not_scaled():
    (spec,) = parse_attacks("apgd_advlib", steps=7)
    assert (spec.steps, spec.rel_stepsize) == (7, 2.0)
    assert "library" not in spec.to_dict()


@pytest.mark.skipif(
    importlib.util.find_spec("adv_lib") is None, reason="adv-lib is not installed: --no-deps"
)
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_apgd_fools_what_pgd_fools_within_the_budget(norm):
    net, x = small_net(), images(20)
    y = net(x).argmax(1)
    epsilon = 0.03 if norm == "Linf" else 0.4
    left = []
    for name in ("pgd" if norm == "Linf" else "pgd_l2", "apgd_advlib"):
        spec = replace(ATTACKS[name], norm=norm, epsilons=(epsilon,))
        (batch,) = adversarial(net, x, y, spec, seed=0)
        order = float("inf") if norm == "Linf" else 2
        assert torch.linalg.vector_norm((batch - x).flatten(1), order, dim=1).max() < epsilon + 1e-5
        left.append(int((net(batch).argmax(1) == y).sum()))
    assert left[0] < 20
    assert abs(left[0] - left[1]) <= 1
