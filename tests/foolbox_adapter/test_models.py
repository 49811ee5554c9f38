"""find_networks: guards hold however a Foolbox model holds its network."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from foolbox_nets import BandReader, images, small_net
from torch import Tensor, nn

from iaside_plugins import InputError
from iaside_plugins.adapters.foolbox_adapter import SpectralEvaluator, robust_evaluation
from iaside_plugins.adapters.foolbox_adapter.models import find_networks, foolbox, native, restorer

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()
NET = small_net()
X, Y = images(4), torch.arange(4)
PGD = {"pgd": fb.attacks.LinfPGD(steps=2)}


class Duck:
    bounds = fb.types.Bounds(0, 1)

    def __call__(self, inputs: object) -> object:
        return restorer(inputs)(self.logits(native(inputs)))

    def logits(self, x: Tensor) -> Tensor:
        return NET(x)


class Bound(Duck):
    def __init__(self, net: nn.Module) -> None:
        self.logits = net.forward


class Partial(Duck):
    def __init__(self, net: nn.Module) -> None:
        self.logits = functools.partial(torch.func.functional_call, net, {})


def held(kind: str, net: nn.Module) -> Duck:
    global NET
    NET = net
    return {"global": Duck, "bound": lambda: Bound(net), "partial": lambda: Partial(net)}[kind]()


def normed() -> nn.Module:
    net = small_net()
    return nn.Sequential(nn.BatchNorm2d(3).eval(), net).eval()


KINDS = pytest.mark.parametrize("kind", ["global", "bound", "partial"])


@KINDS
@pytest.mark.parametrize("net", [normed(), BandReader(1).eval()], ids=["layers", "own weight"])
def test_guard_parameters_that_are_held_elsewhere(kind, net):
    model = held(kind, net)
    robust_evaluation(model, (X, Y), PGD, [0.05])
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    PGD["pgd"](model, X, Y, epsilons=0.05)
    assert any(p.grad is not None for p in net.parameters())  # Foolbox left to itself
    net.zero_grad()


@KINDS
def test_guard_training_mode_that_is_held_elsewhere(kind):
    net = normed().train()
    mean = net[0].running_mean.clone()
    for call in (
        lambda model: robust_evaluation(model, (X, Y), PGD, [0.05]),
        lambda model: SpectralEvaluator(n_bands=4)(model, X, Y),
    ):
        with pytest.raises(InputError, match=r"is in training mode; call model\.eval\(\)"):
            call(held(kind, net))
    assert torch.equal(net[0].running_mean, mean)
    assert net[0].num_batches_tracked == 0


def test_hooks_are_removed_and_errors_of_the_model_are_named():
    count = len(torch.nn.modules.module._global_forward_pre_hooks)
    with pytest.raises(InputError, match=r"the model failed .* channels"):
        find_networks(held("global", small_net(channels=1)), X)
    assert len(torch.nn.modules.module._global_forward_pre_hooks) == count


def test_a_half_precision_network_is_found_as_one():
    found = find_networks(held("bound", small_net().bfloat16()), X)
    assert found.half is torch.bfloat16
    assert len(found.parameters) == 6


class InPlace(nn.Module):
    """Writes into its input, and returns more than its logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, x):
        x.sub_(0.5)
        return self.net(x + 0.5), x


@pytest.mark.parametrize("run", [robust_evaluation, SpectralEvaluator(n_bands=2)])
def test_a_network_that_writes_and_returns_a_tuple_has_the_plain_network_s_figures(run):
    def figures(net):
        fmodel = foolbox().PyTorchModel(net, bounds=(0, 1), device="cpu")
        if run is not robust_evaluation:
            return run(fmodel, X.clone(), Y).values
        attacks = {"fgsm": foolbox().attacks.FGSM()}
        return run(fmodel, (X.clone(), Y), attacks, [0.1]).to_frame()["accuracy"].to_numpy()

    np.testing.assert_allclose(
        figures(InPlace(small_net())), figures(small_net()), rtol=0, atol=1e-5
    )
    assert not [part for part in InPlace(small_net()).modules() if part._forward_hooks]


def test_logits_that_are_no_numbers_are_refused():
    net = small_net()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="non-finite logits"):
        robust_evaluation(net, (X, Y), {"fgsm": foolbox().attacks.FGSM()}, [0.1])
