"""Outputs are what they say: probabilities, tuples, random answers, errors, images changed."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from iaside_plugins import (
    InputError,
    Protocol,
    SpectralPartition,
    fourier_heatmap,
    spectral_importance,
)
from iaside_plugins.evaluation.conditions import Predictor
from iaside_plugins.inference import tuning
from iaside_plugins.inference.checks import KnownClasses
from iaside_plugins.inference.folding import fold_batch_norms
from iaside_plugins.inference.logits import logits_in
from iaside_plugins.inference.output_checks import OutputCheck, last_operation

IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
DATA = IMAGES, torch.arange(4)


class Net(nn.Module):
    """A small network; `written` says how it normalises: not, in place, or by an own call."""

    def __init__(self, written: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.relu = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True)
        self.last, self.written = nn.Linear(8, 10), written
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.written == "methods":
            x.sub_(0.5).div_(0.1)  # the result is not used
        elif self.written == "function":
            nn.functional.threshold(x, 0.5, 0.1, True)
        elif self.written == "module":
            x = (x - 0.5) / 0.1
            self.relu(x)
        else:
            x = (x - 0.5) / 0.1
        return self.last(torch.relu(self.norm(self.conv(x))).mean((2, 3)) * 5)


@pytest.mark.usefixtures("without_onnxruntime")
@pytest.mark.parametrize("written", ["methods", "function", "module"])
def test_fast_passes_of_a_network_that_writes_into_its_input(monkeypatch, written):
    monkeypatch.setattr(tuning, "LEAST_GAIN", 0.0)
    plain = spectral_importance(Net(written), DATA, Protocol(3))
    fast = spectral_importance(Net(written), DATA, Protocol(3, forwards="fast"))
    assert "fold_batch_norms" in fast.forwards
    np.testing.assert_allclose(fast.values, plain.values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("written", ["methods", "function", "module"])
def test_folding_keeps_the_calls_that_write(written):
    folded, n = fold_batch_norms(Net(written))
    assert n == 1
    torch.testing.assert_close(folded(IMAGES.clone()), Net(written)(IMAGES.clone()))


def test_half_precision_is_compared_on_images_that_no_pass_has_changed():
    plain, written = (
        spectral_importance(Net(kind), DATA, Protocol(2), precision="bfloat16")
        for kind in ("", "methods")
    )
    np.testing.assert_array_equal(plain.values, written.values)


def test_a_network_that_writes_leaves_the_images_of_an_evaluation():
    images = IMAGES.clone()
    Predictor(Net("methods"))(images, DATA[1], list("abcd"))
    assert torch.equal(images, IMAGES)


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("layer", [nn.Softmax(1), nn.Sigmoid()])
def test_probabilities_are_refused(layer, batch_size):
    with pytest.raises(InputError, match=r"returns probabilities .* expected logits: return the"):
        spectral_importance(
            nn.Sequential(Net(), layer).eval(), DATA, Protocol(4), batch_size=batch_size
        )


def test_logarithms_of_probabilities_are_logits():
    class Logarithm(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1).clamp_min(1e-12).log()

    found = spectral_importance(Logarithm(), DATA, Protocol(2))
    expected = spectral_importance(Net(), DATA, Protocol(2))
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-5)


def test_values_in_0_1_that_may_be_logits_are_warned_of_once(caplog):
    check = OutputCheck(Net())
    rows = torch.linspace(0, 1, 40).view(10, 4)
    check.see(rows[:5])
    assert not caplog.messages
    check.see(rows[5:])
    check.see(rows)
    assert [m[:40] for m in caplog.messages] == ["all outputs of the model on the first 10"]
    for legitimate in (rows * 1.1, rows - 0.1, torch.full((9, 2), 0.5)):
        OutputCheck(Net()).see(legitimate)
    assert len(caplog.messages) == 1


def test_the_last_operation_is_seen_through_what_follows_it():
    class Last(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sigmoid().clamp(0.01, 0.99)[:, :5]

    assert last_operation(Last(), IMAGES) == "sigmoid"
    assert last_operation(Net(), IMAGES) == ""
    assert last_operation(nn.Sequential(Net(), nn.LogSoftmax(1)), IMAGES) == ""


class Noisy(nn.Module):
    """Draws random numbers in every pass, from a global generator or one of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = Net(), kind
        self.own = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "dropout":
            return self.net(nn.functional.dropout(x, 0.5))
        draw = self.own.normal() if self.kind == "own" else np.random.normal()
        return self.net(x) + torch.arange(10) * draw


@pytest.mark.parametrize("kind", ["dropout", "own", "numpy"])
def test_random_answers_are_warned_of_once(caplog, kind):
    net = Noisy(kind).eval()
    for _ in range(2):
        spectral_importance(net, DATA, Protocol(2))
    assert len([m for m in caplog.messages if "otherwise in a second pass" in m]) == 1


def test_a_callable_whose_batch_norm_is_in_training_mode_is_noticed(caplog):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 4))
    spectral_importance(lambda x: net(x), DATA, Protocol(2))
    assert len([m for m in caplog.messages if "the other images of a batch" in m]) == 1


def test_a_batch_norm_of_the_batch_that_is_no_module_is_said(caplog):
    class Adapts(oracles.TinyNet):
        def forward(self, x):
            return super().forward(torch.nn.functional.batch_norm(x, None, None, training=True))

    spectral_importance(Adapts(n_classes=4), DATA, Protocol(2))
    assert len([m for m in caplog.messages if "the other images of a batch" in m]) == 1


class Standardised(oracles.TinyNet):
    """Normalises by the mean and deviation of whatever batch comes."""

    def forward(self, x):
        return super().forward((x - x.mean()) / (x.std() + 1e-5))


@pytest.mark.parametrize(
    "run",
    [
        lambda net: spectral_importance(net, DATA, Protocol(2)),
        lambda net: fourier_heatmap(net, DATA, partition=SpectralPartition(2)),
    ],
    ids=["importance", "heat map"],
)
def test_statistics_of_the_batch_are_said(caplog, run):
    for net in (oracles.TinyNet(n_classes=4), Standardised(n_classes=4)):
        run(net)
        said = [m for m in caplog.messages if "the other images of a batch" in m]
        assert len(said) == isinstance(net, Standardised)


class Tokens(nn.Module):
    """Rows of pixels through a layer that takes its first axis for the sequence."""

    def __init__(self, *, right: bool) -> None:
        super().__init__()
        self.layer, self.right = nn.TransformerEncoderLayer(36, 4, 8), right
        self.last = nn.Linear(36, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 1, 3).flatten(2)
        rows = self.layer(rows.transpose(0, 1)).transpose(0, 1) if self.right else self.layer(rows)
        return 9 * self.last(rows.sum(1))


def traced(*, training: bool) -> nn.Module:
    """A program in whose code the mode is."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 4))
    net.train(training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(net, IMAGES, check_trace=False).eval()


@pytest.mark.parametrize(
    ("steady", "mixing"),
    [
        (Tokens(right=True), Tokens(right=False)),
        (traced(training=False), traced(training=True)),
    ],
    ids=["sequence", "program"],
)
def test_other_ways_to_mix_the_images_of_a_batch_are_said(caplog, steady, mixing):
    for net in (steady, mixing):
        spectral_importance(net, DATA, Protocol(2))
        said = [m for m in caplog.messages if "the other images of a batch" in m]
        assert len(said) == (net is mixing)


def test_a_steady_model_is_not_run_twice(caplog):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4)).eval()
    rows = []
    net.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    found = spectral_importance(net, DATA, Protocol(2))
    assert sum(rows) == found.n_forward
    assert not [m for m in caplog.messages if "chance" not in m]


class Output(dict):
    """As Hugging Face's: a mapping with attributes."""

    logits = property(lambda self: self["logits"])


@pytest.mark.parametrize(
    "wrap", [lambda z: (z, z + 1), lambda z: {"logits": z, "x": 0}, lambda z: Output(logits=z)]
)
def test_more_than_a_tensor_is_taken_and_said_once(caplog, wrap):
    class Wrapped(Net):
        def forward(self, x: Tensor) -> Tensor:
            return wrap(super().forward(x))

    found = spectral_importance(Wrapped(), DATA, Protocol(2))
    np.testing.assert_array_equal(
        found.values, spectral_importance(Net(), DATA, Protocol(2)).values
    )
    assert ["taken as the logits" in m for m in caplog.messages if "chance" not in m] == [True]
    assert caplog.records[0].levelno == logging.WARNING
    assert logits_in({"features": 1}) == {"features": 1}


@pytest.mark.parametrize(
    "error", [AssertionError("Input height"), KeyError("x"), SystemExit(0), RuntimeError("shape")]
)
def test_whatever_a_network_raises_is_one_error_with_its_cause(error):
    class Failing(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(InputError, match=r"the model failed on images of shape \(1, 3, 12, 12\)"):
        spectral_importance(Failing(), DATA, Protocol(2))


def test_causes_that_are_known_are_named():
    with pytest.raises(InputError, match=r"weights are float64 .* precision='float64'"):
        spectral_importance(Net().double(), DATA, Protocol(2))
    with torch.device("meta"):
        unloaded = nn.Sequential(nn.Flatten(), nn.Linear(432, 4)).eval()
    with pytest.raises(InputError, match="never loaded"):
        spectral_importance(unloaded, DATA, Protocol(2))

    class Squeezed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.conv(x).mean((2, 3), keepdim=True).squeeze()).softmax(1) * 9

    with pytest.raises(InputError, match=r"fails on a single one: .* squeeze\(\)"):
        spectral_importance(Squeezed(), DATA, Protocol(2))
    of_one_channel = nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()
    with pytest.raises(InputError, match=r"runs on images of one channel.*net\.in_channels = 1"):
        spectral_importance(of_one_channel, DATA, Protocol(2))


def test_log_likelihoods_that_overflow_are_refused():
    def far(x: Tensor) -> Tensor:
        return torch.tensor([[3e38, -3e38, 0, 1]]).expand(len(x), 4)

    with pytest.raises(InputError, match="non-finite log-likelihoods"):
        spectral_importance(far, DATA, Protocol(2))


def test_an_exported_program_is_taken():
    rows = torch.export.Dim("rows", min=1, max=64)
    exported = torch.export.export(Net(), (IMAGES,), dynamic_shapes=({0: rows},)).module()
    found = spectral_importance(exported, DATA, Protocol(2))
    expected = spectral_importance(Net(), DATA, Protocol(2))
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("known", "n_outputs", "advice"),
    [
        (KnownClasses("imagenet", 1000, 50), 1001, "background class"),
        (KnownClasses("imagenet", 1000, 50), 21843, "classes=FILE"),
        (KnownClasses("cifar10", 10, 2), 2, r"classes of cifar10, by .* labels='rank'"),
        (KnownClasses("rank", 3, 3), 10, "of the sorted folders"),
    ],
)
def test_outputs_must_be_as_many_as_the_classes_of_the_labels(known, n_outputs, advice):
    with pytest.raises(InputError, match=f"the model has {n_outputs} outputs.*{advice}") as caught:
        known.check(n_outputs)
    assert ("rank'" in str(caught.value)) == (n_outputs == known.n_found)
    known.check(known.n_classes)
