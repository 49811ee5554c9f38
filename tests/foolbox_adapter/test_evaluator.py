"""SpectralEvaluator and spectral_score: the same numbers for every kind of Foolbox model."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from foolbox_nets import generator, images, small_net
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, SpectralImportance, spectral_importance
from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.foolbox_adapter import SpectralEvaluator, spectral_score
from iaside_plugins.adapters.foolbox_adapter.models import foolbox
from iaside_plugins.errors import InputTypeError

pytest.importorskip("foolbox", reason="needs the extra foolbox")
fb = foolbox()
import eagerpy as ep  # noqa: E402 - after Foolbox, whose import warns

EVALUATE = SpectralEvaluator(n_bands=4)
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]


class Normalised(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        return self.net((x - mean) / std)


class Own:
    """A Foolbox model of one's own: bounds and a call, nothing else."""

    bounds = (0, 1)

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, inputs: Tensor) -> Tensor:
        x, restore = ep.astensor_(inputs)
        return restore(ep.astensor(self.net(x.raw)))


class Last(Own):
    """Channels last, as TensorFlow's models."""

    data_format = "channels_last"

    def __call__(self, inputs: Tensor) -> Tensor:
        return super().__call__(inputs.movedim(-1, 1).contiguous())


def fmodel(net: nn.Module | None = None, **options: object):
    return fb.PyTorchModel(net or small_net(), bounds=(0, 1), device="cpu", **options)


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(6) % 5


def test_the_same_numbers_as_spectral_importance(labels):
    result = EVALUATE(fmodel(), images(), labels)
    plain = spectral_importance(small_net(), (images(), labels), Protocol(n_bands=4))
    np.testing.assert_array_equal(result.values, plain.values)
    assert result.ids == plain.ids
    assert result.score == plain.score
    assert spectral_score(fmodel(), images(), labels, n_bands=4) == plain.score
    signed = spectral_score(fmodel(), images(), labels, n_bands=4, signed=True)
    assert signed == plain.signed_score


def test_preprocessing_is_normalisation_inside_the_model(labels):
    preprocessing = {"mean": MEAN, "std": STD, "axis": -3}
    result = EVALUATE(fmodel(preprocessing=preprocessing), images(), labels)
    plain = spectral_importance(
        Normalised(small_net()).eval(), (images(), labels), EVALUATE.protocol
    )
    np.testing.assert_allclose(result.values, plain.values, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "scale"),
    [
        (lambda m: m.transform_bounds((0, 255)), lambda x: 255 * x),
        (lambda m: m.transform_bounds((-1, 1), wrapper=True), lambda x: 2 * x - 1),
        (lambda m: fb.models.ExpectationOverTransformationWrapper(m, 2), lambda x: x),
        (lambda m: Own(small_net()), lambda x: x),
        (lambda m: Last(small_net()), lambda x: x.movedim(1, -1)),
    ],
    ids=["bounds", "bounds wrapped", "expectation", "own class", "channels last"],
)
def test_wrappers_bounds_and_layouts_change_nothing(labels, wrap, scale):
    plain = EVALUATE(fmodel(), images(), labels)
    wrapped = EVALUATE(wrap(fmodel()), scale(images()), labels)
    np.testing.assert_allclose(wrapped.values, plain.values, atol=2e-5)  # float32 of the bounds


def test_eagerpy_and_misclassification(labels):
    plain = EVALUATE(fmodel(), images(), labels)
    for x, y in (
        (ep.astensor(images()), ep.astensor(labels)),
        (images(), fb.criteria.Misclassification(labels)),
        (ep.astensor(images()), fb.criteria.Misclassification(ep.astensor(labels))),
    ):
        np.testing.assert_array_equal(EVALUATE(fmodel(), x, y).values, plain.values)


def test_the_mask_space_is_pixel_and_recorded(labels):
    preprocessing = {"mean": MEAN, "std": STD, "axis": -3}
    result = EVALUATE(fmodel(preprocessing=preprocessing), images(), labels)
    # The empty coalition is a black image, -mean/std after normalisation, not a grey one.
    black = fmodel(preprocessing=preprocessing)(torch.zeros(1, 3, 16, 16)).log_softmax(1)[0]
    np.testing.assert_allclose(result.values[:, 0], black[labels], rtol=1e-5)
    grey = small_net()(torch.zeros(1, 3, 16, 16)).log_softmax(1)[0]
    assert np.abs(result.values[:, 0] - grey[labels].detach().numpy()).max() > 0.01
    # Normalisation moves DC only: an absent band that is not DC means the same in both spaces.
    record = EVALUATE(fmodel().transform_bounds((0, 255)), 255 * images(), labels).to_dict()
    assert record["mask_space"] == "pixel"
    assert record["bounds"] == [0, 255]
    json.dumps(record, allow_nan=False)


def test_a_saved_result_comes_back_with_its_bounds(labels, tmp_path):
    result = EVALUATE(fmodel().transform_bounds((-1, 3)), 4 * images() - 1, labels)
    result.save(tmp_path / "a.npz")
    again = type(result).load(tmp_path / "a.npz")
    assert again.to_dict() == result.to_dict()
    assert again.bounds == (-1, 3)
    plain = SpectralImportance.load(tmp_path / "a.npz")  # what `iaside show` reads
    np.testing.assert_array_equal(plain.per_image, result.per_image)


def test_repr_gives_the_evaluator_back():
    for evaluator in (
        EVALUATE,
        SpectralEvaluator(),
        SpectralEvaluator(protocol=Protocol(seed=3, temperature=2), batch_size=8),
        SpectralEvaluator(estimator="permutation", n_permutations=2, precision="bfloat16"),
    ):
        again = eval(repr(evaluator), {"SpectralEvaluator": SpectralEvaluator})
        assert again == evaluator
        assert hash(again) == hash(evaluator)
    assert SpectralEvaluator(n_bands=6) != SpectralEvaluator()


def test_it_keeps_no_state(labels):
    evaluator = SpectralEvaluator(n_bands=4)
    before = dict(vars(evaluator))
    first = evaluator(fmodel(), images(), labels)
    evaluator(fmodel(), images()[:2], labels[:2])
    assert vars(evaluator) == before
    np.testing.assert_array_equal(evaluator(fmodel(), images(), labels).values, first.values)


@pytest.mark.parametrize("kind", ["int32", "uint8", "numpy", "list"])
def test_guard_label_types(labels, kind):
    given = {
        "int32": labels.int(),
        "uint8": labels.byte(),
        "numpy": labels.numpy(),
        "list": labels.tolist(),
    }[kind]
    plain = EVALUATE(fmodel(), images(), labels)
    np.testing.assert_array_equal(EVALUATE(fmodel(), images(), given).values, plain.values)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_guard_modes_gradients_and_generators(labels, mode):
    net = small_net()
    plain = EVALUATE(fmodel(), images(), labels)
    net[0].weight.requires_grad_(False)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    with mode():
        enabled = torch.is_grad_enabled()
        found = EVALUATE(fmodel(net), images().requires_grad_() * 1, labels)
        assert torch.is_grad_enabled() == enabled
    np.testing.assert_array_equal(found.values, plain.values)
    assert all(p.grad is None for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 5
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_guard_half_precision(labels, dtype):
    x = images().to(dtype)
    whole = EVALUATE(fmodel(preprocessing={"mean": MEAN, "std": STD, "axis": -3}), x, labels)
    assert np.isfinite(whole.values).all()  # Foolbox itself stops with a bare assertion here
    half = EVALUATE(fmodel(small_net().to(dtype)), x, labels)
    plain = EVALUATE(fmodel(), x.float(), labels)
    np.testing.assert_allclose(half.values, plain.values, atol=0.2)  # nats; 8 bits of mantissa


def test_guard_training_mode(labels):
    net = small_net()
    model = fmodel(net)
    net[1].train()
    with pytest.raises(InputError, match=r"1 is in training mode; call model\.eval\(\)"):
        EVALUATE(model, images(), labels)
    assert net[1].training


def test_guard_training_mode_behind_an_ensemble(labels):
    class Ensemble:
        bounds = (0, 1)

        def __init__(self, members: list) -> None:
            self.members = members

        def __call__(self, inputs: Tensor) -> Tensor:
            return sum(member(inputs) for member in self.members)

    nets = [small_net(), small_net()]
    model = Ensemble([fmodel(net) for net in nets])
    EVALUATE(model, images(), labels)
    nets[1].train()
    with pytest.raises(InputError, match="the model is in training mode"):
        EVALUATE(model, images(), labels)


def test_guard_device(labels, monkeypatch):
    net = small_net()
    model = fmodel(net)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    EVALUATE(model, images(), labels)
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    net[6].to("meta")  # stands for a second device on a machine that has none
    with pytest.raises(InputError, match=r"6\.weight is on meta"):
        EVALUATE(model, images(), labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, y: (m, x * 0 + 1.00001, y), r"\[0, 1\], .* beyond by [0-9.]+e-0[56]; clip"),
        (lambda m, x, y: (m, (x - 0.5) / 0.25, y), "if they are already normalised"),
        (lambda m, x, y: (m.transform_bounds((0, 255)), x * 400, y), r"images in \[0, 255\], got"),
        (lambda m, x, y: (m, x * torch.nan, y), "got \\[nan, nan\\]"),
        (lambda m, x, y: (m, x[:0], y[:0]), "no images: the data are empty"),
        (lambda m, x, y: (m, x, y[:3]), r"labels of shape \(6,\), one an image, got \(3,\)"),
        (lambda m, x, y: (m, x, y - 1), "class indices .*got -1"),
        (lambda m, x, y: (m, x, y + 4), r"label \d is out of range: the model has 5 outputs"),
        (lambda m, x, y: (m, x, y.float()), r"integer class labels, got torch\.float32"),
        (
            lambda m, x, y: (m, x, fb.criteria.TargetedMisclassification(y)),
            "Misclassification\\(labels\\), got TargetedMisclassification",
        ),
    ],
    ids=[
        "1e-5 above",
        "normalised",
        "255",
        "nan",
        "empty",
        "labels",
        "negative",
        "beyond",
        "float",
        "criterion",
    ],
)
def test_guard_bad_input(labels, change, message):
    with pytest.raises(InputError, match=message):
        EVALUATE(*change(fmodel(), images(), labels))


def test_guard_wrong_types(labels):
    with pytest.raises(InputTypeError, match=r"a Foolbox model.*got Sequential.*PyTorchModel"):
        EVALUATE(small_net(), images(), labels)
    for wrong, kind in ((images().numpy(), "ndarray"), (images().mul(255).byte(), "uint8")):
        with pytest.raises(InputTypeError, match=f"floating-point PyTorch images, got .*{kind}"):
            EVALUATE(fmodel(), wrong, labels)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"bands": 4}, "unknown hyper-parameter 'bands'; known: n_bands"),
        ({"n_bands": 1}, "n_bands must be an integer of at least 2"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"precision": "half"}, "precision must be one of"),
    ],
)
def test_bad_hyper_parameters(choices, message):
    with pytest.raises(InputError, match=message):
        SpectralEvaluator(**choices)


def test_the_adapter_offers_its_names():
    for name in foolbox_adapter.__all__:
        assert getattr(foolbox_adapter, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'SparseFool'"):
        _ = foolbox_adapter.SparseFool


def test_attacked_images_can_be_evaluated(labels):
    model = fmodel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, clipped, _ = fb.attacks.FGSM()(model, images(), labels, epsilons=0.1)
        attacked = EVALUATE(model, clipped, labels)
    assert attacked.ends[:, 1].mean() < EVALUATE(model, images(), labels).ends[:, 1].mean()
    assert generator(0).initial_seed() == 0
