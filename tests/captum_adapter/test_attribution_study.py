"""I-ASIDE and Captum's methods side by side: one function, the same images, nothing done twice."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, spectral_importance

pytest.importorskip("captum", reason="needs the extra captum")

from iaside_plugins.adapters.captum_adapter import BandSplit, band_attributions
from iaside_plugins.adapters.captum_adapter import host as captum_host
from iaside_plugins.adapters.captum_adapter.comparison import (
    DEFAULT_METHODS,
    check_methods,
    compare_attributions,
    comparison_work,
)
from iaside_plugins.adapters.captum_adapter.methods import BandRun
from iaside_plugins.adapters.captum_adapter.metrics import Metrics, residual_and_infidelity
from iaside_plugins.value_table.stream import items

pytestmark = pytest.mark.captum
M = 3
IMAGES, LABELS = oracles.sample(10, (12, 12))
METHODS = ["ig", "saliency", "kernel_shap"]
METRICS = Metrics(n_perturbations=16, n_sensitivity=4, sensitivity_samples=2)


class Counted(nn.Module):
    """A tiny network with a count of rows, which can stop after so many."""

    def __init__(self) -> None:
        super().__init__()
        self.net = oracles.TinyNet()
        self.rows, self._stop_after = 0, 10**9
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if self.rows >= self._stop_after:
            raise KeyboardInterrupt
        self.rows += len(images)
        return self.net(images)


def compare(net, methods=METHODS, **options):
    """A comparison with three bands and cheap metrics."""
    given = {"methods": methods, "protocol": Protocol(M), "metrics": METRICS, **options}
    return compare_attributions(net, (IMAGES, LABELS), **given)


@pytest.fixture(scope="module")
def report():
    """The comparison."""
    return compare(Counted())


def test_every_method_explains_the_same_images(report):
    assert report.names == ["iaside", *METHODS]
    assert report.n_images == 10
    for method in report.methods:
        found = band_attributions(method.name, oracles.TinyNet(), IMAGES, LABELS, n_bands=M)
        np.testing.assert_allclose(method.per_image, found.numpy(), atol=1e-5)
    same = spectral_importance(oracles.TinyNet(), (IMAGES, LABELS), Protocol(M))
    np.testing.assert_allclose(report.methods[0].per_image, same.per_image, atol=1e-5)
    assert report.ids == same.ids


def test_costs_and_metrics_are_those_of_the_method(report):
    iaside, ig, saliency, kernel = report.methods
    assert (iaside.rows == 2**M).all()
    assert (iaside.gradient_rows == 0).all()
    assert (ig.rows == 64).all()
    assert (ig.gradient_rows == 64).all()
    assert (saliency.rows == 1).all()
    assert (kernel.rows == 200).all()
    for method in report.methods:
        assert (method.seconds > 0).all()
        assert (method.infidelity >= 0).all()
        assert np.isfinite(method.sensitivity[:4]).all()
        assert np.isnan(method.sensitivity[4:]).all()
    assert np.abs(iaside.residual).max() < 1e-5
    assert np.abs(ig.residual).max() < 0.05
    with torch.no_grad():
        gain = oracles.TinyNet()(IMAGES).log_softmax(1) - oracles.TinyNet()(0 * IMAGES).log_softmax(
            1
        )
    picked = gain.gather(1, LABELS[:, None])[:, 0].numpy()
    np.testing.assert_allclose(
        saliency.residual, saliency.per_image.sum(axis=1) - picked, atol=1e-4
    )


@pytest.mark.parametrize("n_sensitivity", [0, 2, 50])
def test_what_is_announced_is_what_is_made(n_sensitivity):
    net, names = Counted(), check_methods([*DEFAULT_METHODS, "ig"])
    metrics = Metrics(n_perturbations=9, n_sensitivity=n_sensitivity, sensitivity_samples=1)
    data = IMAGES[:3], LABELS[:3]
    work = comparison_work(net, data, names, Protocol(M), metrics, batch_size=4)
    assert list(work) == [*names, "infidelity", *(["sensitivity"] if n_sensitivity else [])]
    tried, net.rows = net.rows, 0
    assert tried < 60, "methods are tried with few passes"
    compare_attributions(net, data, names, protocol=Protocol(M), metrics=metrics, batch_size=4)
    assert net.rows - tried == sum(sum(part.values()) for part in work.values())


def test_the_best_scaled_infidelity_of_reversed_values_is_worse(report):
    """What the metric is for: values on the wrong bands explain the drops worse."""
    run = BandRun("iaside", oracles.TinyNet(), BandSplit(M))
    worse = []
    for k, item in enumerate(items((IMAGES, LABELS), M)):
        value = torch.from_numpy(report.methods[0].per_image[k : k + 1]).float()
        right, wrong = (
            residual_and_infidelity(
                run, item.image[None], item.label, given, METRICS, (0, item.digest)
            )[1]
            for given in (value, value.flip(1))
        )
        assert right == pytest.approx(report.methods[0].infidelity[k], rel=1e-3)
        worse.append(wrong > right)
    assert np.mean(worse) > 0.7


def test_two_runs_agree_and_batches_do_not_matter(report):
    again = compare(oracles.TinyNet(), "ig, saliency,kernel_shap", batch_size=16)
    for one, other in zip(report.methods, again.methods, strict=True):
        for name in ("per_image", "residual", "infidelity", "sensitivity", "rows"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), atol=1e-4, err_msg=name
            )


@pytest.mark.parametrize("after", [40, 400, 2500])
def test_a_run_that_stops_goes_on_where_it_was(report, tmp_path, after):
    net = Counted()
    net._stop_after = after
    with pytest.raises(KeyboardInterrupt):
        compare(net, resume=tmp_path)
    done = net.rows
    net._stop_after, net.rows = 10**9, 0
    resumed = compare(net, resume=tmp_path)
    if after == 2500:
        whole = Counted()
        compare(whole)
        assert net.rows < whole.rows - done / 2, "finished images are not explained again"
    for one, other in zip(report.methods, resumed.methods, strict=True):
        for name in ("per_image", "residual", "infidelity", "sensitivity", "rows"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def test_a_method_can_be_added_to_finished_work(tmp_path):
    net = Counted()
    compare(net, ["saliency"], resume=tmp_path)
    first, net.rows = net.rows, 0
    both = compare(net, ["saliency", "input_x_gradient"], resume=tmp_path)
    assert both.names == ["iaside", "saliency", "input_x_gradient"]
    assert net.rows < first
    with pytest.raises(InputError, match="holds another run"):
        compare(net, ["saliency"], resume=tmp_path, protocol=Protocol(4))


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": Protocol(M, seed=1)},
        {"protocol": Protocol(M, band_norm="euclidean")},
        {"metrics": Metrics(n_perturbations=17)},
        {"batch_size": 16},
    ],
)
def test_other_choices_do_not_reuse_finished_work(tmp_path, change):
    compare(Counted(), ["kernel_shap"], resume=tmp_path, max_images=2)
    with pytest.raises(InputError, match="holds another run"):
        compare(Counted(), ["kernel_shap"], resume=tmp_path, max_images=2, **change)


def test_another_version_of_captum_does_not_reuse_finished_work(tmp_path, monkeypatch):
    compare(Counted(), ["saliency"], resume=tmp_path, max_images=2)
    monkeypatch.setattr(captum_host, "VERSION", "99")
    with pytest.raises(InputError, match=r"captum was .* and is now '99'"):
        compare(Counted(), ["saliency"], resume=tmp_path, max_images=2)


def test_images_of_different_sizes_go_one_by_one():
    other, label = oracles.sample(1, (14, 12))
    batches = [(IMAGES[:3], LABELS[:3]), (other, label)]
    report = compare_attributions(
        Counted(), batches, ["saliency"], protocol=Protocol(M), metrics=METRICS
    )
    assert report.n_images == 4


def test_what_cannot_work_is_said_before_the_work():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.relu, self.rows = oracles.TinyNet(), nn.ReLU(), 0

        def forward(self, images):
            self.rows += len(images)
            return self.relu(self.net(self.relu(images)))

    net = Twice().eval()
    with pytest.raises(InputError, match="DeepLift cannot explain this model"):
        compare(net, ["ig", "deep_lift"])
    assert net.rows < 200, "one image was tried"


def test_an_accuracy_at_chance_is_said(caplog):
    net = oracles.TinyNet()
    for labels, said in ((net(IMAGES).argmax(1), False), ((net(IMAGES).argmax(1) + 1) % 3, True)):
        compare_attributions(net, (IMAGES, labels), [], protocol=Protocol(M), metrics=METRICS)
        assert ("is at or below chance, 33.33% for 3 classes" in caplog.text) == said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["ig", "bla"]}, "unknown attribution method name 'bla'"),
        ({"protocol": Protocol(M, absence="gaussian")}, "needs absence=zero.*'gaussian'"),
        ({"protocol": Protocol(M, range_handling="clip")}, "needs range_handling=none"),
        ({"protocol": Protocol(M, estimator="permutation")}, "needs estimator=exact"),
        ({"protocol": "default"}, "expected a Protocol, got 'default'"),
        ({"methods": [dict]}, "expected names of methods"),
        ({"max_images": 2.5}, "max_images must be an integer of at least 1, got 2.5"),
        ({"max_images": 0}, "max_images must be an integer of at least 1, got 0"),
        ({"protocol": Protocol(M, temperature=2)}, "needs temperature=1.0"),
        ({"protocol": Protocol.reference(M)}, "needs range_handling=none"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"device": "meta"}, "model is on cpu and device=meta"),
    ],
)
def test_wrong_choices_are_refused_before_the_work(options, message):
    net = Counted()
    with pytest.raises(InputError, match=message):
        compare(net, **options)
    assert net.rows == 0


def test_metrics_are_checked():
    with pytest.raises(InputError, match="n_perturbations must be"):
        Metrics(n_perturbations=0)
    with pytest.raises(InputError, match="sensitivity_radius must be a number above 0"):
        Metrics(sensitivity_radius=0)
    for radius in ("a", float("inf")):
        with pytest.raises(InputError, match="sensitivity_radius must be a number above 0"):
            Metrics(sensitivity_radius=radius)
    assert Metrics(n_sensitivity=0).n_sensitivity == 0


def test_no_images_and_training_mode_are_refused():
    with pytest.raises(InputError, match="no images"):
        compare_attributions(Counted(), [], METHODS)
    with pytest.raises(InputError, match="training mode"):
        compare(Counted().train())


def test_the_generators_are_left_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    compare(Counted(), ["gradient_shap"], max_images=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
