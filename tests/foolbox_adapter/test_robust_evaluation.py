"""robust_evaluation: Foolbox's own loop to the last bit, one test a guard, and budgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foolbox_nets import Spoilt, images, small_net
from torch import nn

from iaside_plugins import InputError
from iaside_plugins.adapters.foolbox_adapter import attack_seed, robust_evaluation
from iaside_plugins.adapters.foolbox_adapter.masked_model import SpectralMaskModel
from iaside_plugins.adapters.foolbox_adapter.models import foolbox
from iaside_plugins.errors import InputTypeError

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()
import eagerpy as ep  # noqa: E402 - after Foolbox, whose import warns

A = fb.attacks
EPSILONS = {"Linf": [0.0, 0.05, 0.02], "L2": [0.5, 1.0], "L1": [5.0]}
ATTACKS = {
    "fgsm": A.FGSM(),
    "pgd": A.LinfPGD(steps=5),
    "noise": A.LinfAdditiveUniformNoiseAttack(),
    "deepfool": A.L2DeepFoolAttack(),
    "ddn": A.DDNAttack(steps=10),
    "l2": A.L2PGD(steps=4),
    "fmn": A.L1FMNAttack(steps=10),
    "best": A.LinfPGD(steps=3).repeat(2),
}


def batches(n: int = 6, size: int = 4):
    x, y = images(n), torch.arange(n) % 5
    return [(x[k : k + size], y[k : k + size]) for k in range(0, n, size)]


def by_hand(fmodel, attack, name, epsilons, seed):
    """The loop that a Foolbox user writes."""
    out, far, first = [], [], 0
    for x, y in batches():
        rows, norms = [], []
        for epsilon in epsilons:
            torch.manual_seed(attack_seed(seed, name, first))
            np.random.seed(attack_seed(seed, name, first) % 2**32)
            _, clipped, is_adv = attack(fmodel, x, y, epsilons=epsilon)
            rows.append(is_adv)
            norms.append(attack.distance(x, clipped).where(is_adv, torch.inf))
        out.append(torch.stack(rows))
        if isinstance(attack, A.base.MinimizationAttack):
            raw, _, is_adv = attack(fmodel, x, y, epsilons=None)
            norms.append(attack.distance(x, raw).where(is_adv, torch.inf))
            correct = fmodel(x).argmax(1) == y  # else no attack is needed
            far.append(torch.stack(norms).amin(0).where(correct, 0))
        first += len(x)
    return torch.cat(out, dim=1).numpy(), torch.cat(far).double().numpy() if far else None


@pytest.mark.parametrize("name", ATTACKS)
def test_equal_to_foolboxs_own_loop_to_the_last_bit(name):
    attack = ATTACKS[name]
    found = robust_evaluation(
        fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu"),
        batches(),
        {name: attack},
        EPSILONS,
        seed=7,
    )
    (outcome,) = found.outcomes
    # In a context of its own: Foolbox leaves gradients and generators behind.
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu")
    with torch.random.fork_rng(devices=[]):
        is_adv, far = by_hand(model, attack, name, outcome.epsilons, 7)
    np.testing.assert_array_equal(outcome.is_adv, is_adv)
    assert outcome.is_adv.any()
    if far is not None:
        np.testing.assert_array_equal(outcome.distances, far)


def test_everything_at_once_is_the_same_as_one_by_one():
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu")
    together = robust_evaluation(model, batches(), ATTACKS, EPSILONS, seed=7)
    for outcome in together.outcomes:
        alone = robust_evaluation(
            model, batches(), {outcome.name: ATTACKS[outcome.name]}, EPSILONS, seed=7
        )
        np.testing.assert_array_equal(alone.outcomes[0].is_adv, outcome.is_adv)
        np.testing.assert_array_equal(alone.outcomes[0].distances, outcome.distances)
    clean = np.concatenate([(model(x).argmax(1) == y).numpy() for x, y in batches()])
    np.testing.assert_array_equal(together.correct, clean)
    worst = together.worst_case()
    assert set(worst["norm"]) == {"Linf", "L2", "L1"}
    assert together.to_dict()["n_images"] == 6


def test_a_least_distance_is_never_above_a_budget_of_success():
    """DDN of few steps stops far out; what it finds within a budget is nearer."""
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu")
    for budgets in ([0.5], [0.2, 0.5, 1.0]):
        found = robust_evaluation(model, batches(), A.DDNAttack(steps=5), budgets).outcomes[0]
        for epsilon, is_adv in zip(found.epsilons, found.is_adv, strict=True):
            assert (found.distances[is_adv] <= epsilon + 1e-6).all()


def test_budget_0_is_the_clean_images():
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu")
    for attack in (A.LinfPGD(steps=2), A.LinfDeepFoolAttack(steps=2)):
        found = robust_evaluation(model, batches(), attack, 0)  # one attack, one budget
        frame = found.to_frame()
        assert list(frame["epsilon"]) == [0]
        assert list(frame["accuracy"]) == [found.clean_accuracy]
        assert list(found.worst_case()["accuracy"]) == [found.clean_accuracy]
        assert found.areas().empty
        both = robust_evaluation(model, batches(), attack, {"Linf": [0.05, 0]})
        assert list(both.to_frame()["epsilon"]) == [0, 0.05]
    assert (found.distances()["minimal"] == [True]).all()
    wrong = ~found.correct
    assert wrong.any()
    assert (found.outcomes[0].distances[wrong] == 0).all()


def test_failures_are_infinite():
    hopeless = A.L0FMNAttack(steps=1)
    model = fb.PyTorchModel(small_net(), bounds=(0, 1), device="cpu")
    x = images()
    found = robust_evaluation(model, (x, model(x).argmax(1)), [hopeless], {"L0": [None]})
    assert np.isinf(found.outcomes[0].distances).any()
    assert found.outcomes[0].epsilons == ()
    assert found.to_frame().empty


@pytest.fixture
def net() -> nn.Module:
    return small_net()


QUICK = {"pgd": A.LinfPGD(steps=3)}


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference"]
)
def test_guard_modes_of_the_caller(net, mode):
    plain = robust_evaluation(net, batches(), QUICK, [0.05])
    with mode():
        inside = robust_evaluation(net, batches(), QUICK, [0.05])
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(inside.outcomes[0].is_adv, plain.outcomes[0].is_adv)


def test_guard_parameters_mode_and_generators(net):
    net[0].weight.requires_grad_(False)
    data = batches()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
    for fmodel in (
        net,
        model,
        model.transform_bounds((0, 1), wrapper=True),
        SpectralMaskModel(model, [0, 1], n_bands=4),
    ):
        robust_evaluation(fmodel, data, QUICK, [0.05])
        assert all(p.grad is None for p in net.parameters())
        assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 5
        assert not net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    # Foolbox left to itself does accumulate gradients, or this guard would be for nothing.
    QUICK["pgd"](model, *data[0], epsilons=0.05)
    assert any(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("kind", ["int32", "uint8", "numpy", "list", "eagerpy", "criterion"])
def test_guard_label_types(net, kind):
    convert = {
        "int32": lambda y: y.int(),
        "uint8": lambda y: y.byte(),
        "numpy": lambda y: y.numpy(),
        "list": lambda y: y.tolist(),
        "eagerpy": ep.astensor,
        "criterion": fb.criteria.Misclassification,
    }[kind]
    plain = robust_evaluation(net, batches(), QUICK, [0.05])
    found = robust_evaluation(net, [(x, convert(y)) for x, y in batches()], QUICK, [0.05])
    np.testing.assert_array_equal(found.outcomes[0].is_adv, plain.outcomes[0].is_adv)


def test_guard_training_mode_and_device(net, monkeypatch):
    model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    robust_evaluation(net, batches(), QUICK, [0.05])  # would be moved to the first GPU
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    net[1].train()
    for wrong in (net, model):
        with pytest.raises(InputError, match=r"1 is in training mode; call model\.eval\(\)"):
            robust_evaluation(wrong, batches(), QUICK, [0.05])
    net.eval()[6].to("meta")
    with pytest.raises(InputError, match=r"6\.weight is on meta"):
        robust_evaluation(model, batches(), QUICK, [0.05])


def test_guard_half_precision():
    model = fb.PyTorchModel(small_net().bfloat16(), bounds=(0, 1), device="cpu")
    found = robust_evaluation(model, batches(), QUICK, [0.1])
    assert found.n_images == 6
    half = [(x.half(), y) for x, y in batches()]
    whole = fb.PyTorchModel(
        small_net(),
        bounds=(0, 1),
        device="cpu",
        preprocessing={"mean": [0.5] * 3, "std": [0.2] * 3, "axis": -3},
    )
    assert robust_evaluation(whole, half, QUICK, [0.1]).n_images == 6


def test_guard_empty_batches(net):
    x, y = batches()[0]
    data = [batches()[0], (x[:0], y[:0]), batches()[1]]
    plain = robust_evaluation(net, batches(), QUICK, [0.05])
    found = robust_evaluation(net, data, QUICK, [0.05])
    np.testing.assert_array_equal(found.outcomes[0].is_adv, plain.outcomes[0].is_adv)
    with pytest.raises(InputError, match="no images: the data are empty"):
        robust_evaluation(net, [(x[:0], y[:0])], QUICK, [0.05])


def test_bounds_are_the_models(net):
    wide = fb.PyTorchModel(net, bounds=(0, 1), device="cpu").transform_bounds((0, 255))
    data = [(255 * x, y) for x, y in batches()]
    found = robust_evaluation(wide, data, {"fgsm": A.FGSM()}, [0.05 * 255])
    plain = robust_evaluation(net, batches(), {"fgsm": A.FGSM()}, [0.05])
    np.testing.assert_array_equal(found.outcomes[0].is_adv, plain.outcomes[0].is_adv)
    assert found.info["bounds"] == [0, 255]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (([(images() + 1, [0] * 6)], QUICK, [0.1]), InputError, r"in \[0, 1\], got .* beyond by"),
        (([(images(), [0.5] * 6)], QUICK, [0.1]), InputTypeError, "integer class labels"),
        (([(images(), [5] * 6)], QUICK, [0.1]), InputError, "label 5 is out of range: .* 5 out"),
        ((batches(), {}, [0.1]), InputError, "at least one attack"),
        (
            (batches(), QUICK, []),
            InputError,
            "pgd: expected finite budgets .*, got none",
        ),
        ((batches(), QUICK, -0.1), InputError, r"some above 0, got \[-0\.1\]"),
        (
            (batches(), QUICK, [8]),
            InputError,
            r"pgd: expected Linf budgets in units .*\(0, 1\), 1 at most, got 8; .* give 8/255",
        ),
        ((batches(), A.GaussianBlurAttack(), 1), InputError, "GaussianBlurAttack: expected .*l2"),
        ((batches(), QUICK, [None]), InputError, "pgd attacks at fixed budgets"),
        ((batches(), QUICK, {"L2": [1]}), InputError, r"no budgets for pgd \(Linf\).* got L2"),
        ((batches(), [A.SpatialAttack()], [1]), InputTypeError, "got SpatialAttack"),
        ((5, QUICK, [0.1]), InputError, "expected data as"),
    ],
    ids=[
        "images",
        "labels",
        "label 5",
        "no attack",
        "zero",
        "negative",
        "of 255",
        "no distance",
        "none",
        "norm",
        "spatial",
        "data",
    ],
)
def test_bad_input(net, arguments, kind, message):
    with pytest.raises(kind, match=message):
        robust_evaluation(net, *arguments)


@pytest.mark.parametrize(
    ("how", "message"),
    [("no_grad", "the model gives none"), ("backless", "NotImplementedError: no kernel for this")],
)
def test_gradients_that_are_missing_are_one_line(how, message):
    net = Spoilt(how).eval()
    with pytest.raises(InputError, match=message):
        robust_evaluation(net, (images(2), torch.arange(2)), fb.attacks.FGSM(), 0.1)
    noise = fb.attacks.LinfAdditiveUniformNoiseAttack()  # needs none
    found = robust_evaluation(net, (images(2), torch.arange(2)), noise, 0.1)
    assert found.masking is None


def test_ids_are_those_of_the_other_doors(net):
    x, y = images(), [0] * 6
    found = robust_evaluation(net, [(x, y, torch.arange(6))], {"fgsm": A.FGSM()}, 0)
    assert found.ids == tuple("012345")
    with pytest.raises(InputError, match="got 2 ids for 6 images"):
        robust_evaluation(net, [(x, y, {"a": 1, "b": 2})], {"fgsm": A.FGSM()}, 0)


def test_a_clean_accuracy_at_chance_is_said(net, caplog):
    x = images()
    robust_evaluation(net, (x, (net(x).argmax(1) + 1) % 5), {"fgsm": A.FGSM()}, 0.1)
    assert "accuracy 0.0% (0 of 6 images) is at or below chance" in caplog.text


def test_what_attacks_saw_is_counted_and_said(caplog):
    net = Spoilt("rounded").eval()
    data = images(3), net(images(3)).argmax(1)
    attacks = {"fgsm": fb.attacks.FGSM(), "pgd": fb.attacks.LinfPGD(steps=2)}
    found = robust_evaluation(net, data, attacks, 8 / 255)
    assert found.masking["n_zero"] == found.masking["n_images"] == 3
    assert "may be too high: the gradient is zero on 3 of 3 images" in caplog.text
    assert found.to_dict()["masking"] == found.masking


class NotWhite(nn.Module):
    """A network whose logits are NaN once a pixel is bright, as no clean image is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        bright = x.flatten(1).amax(dim=1, keepdim=True) > 0.75
        return self.net(x).where(~bright, torch.nan)


def test_nan_under_attack_is_no_accuracy():
    x, y = images(4) * 0.9, torch.arange(4) % 5
    fmodel = fb.PyTorchModel(NotWhite().eval(), bounds=(0, 1), device="cpu")
    with pytest.raises(InputError, match="non-finite logits"):
        robust_evaluation(fmodel, (x, y), {"fgsm": A.FGSM()}, {"Linf": [0.2]})
