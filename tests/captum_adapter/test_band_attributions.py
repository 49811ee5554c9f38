"""Captum's methods in band space: what they must equal, what they must keep, what is refused."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import InputError, SpectralPartition
from iaside_plugins.spectral.band_maps import parseval_shares

pytest.importorskip("captum", reason="needs the extra captum")

import captum.attr as captum_attr

from iaside_plugins.adapters.captum_adapter import METHODS, SpectralShapley, band_attributions
from iaside_plugins.adapters.captum_adapter.methods import BandRun, find_method, rows_at_once
from iaside_plugins.attributions.band_space import BandForward, BandSplit

pytestmark = pytest.mark.captum
M = 4
IMAGES, LABELS = oracles.sample(3, (12, 11), dtype=torch.float64)


def network() -> nn.Module:
    """A tiny network of modules, in double, whose activations DeepLift knows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 3)).double().eval()
        net[-1].weight.data *= 30  # attributions of nats, not of thousandths
        return net


@pytest.fixture(scope="module")
def net():
    """The network."""
    return network()


def run(method, net, **options):
    """Attributions of the sample in four bands."""
    return band_attributions(method, net, IMAGES, LABELS, n_bands=M, **options)


def gain(net, baseline=0.0) -> np.ndarray:
    """Log-likelihood of the image minus that of the baseline."""
    with torch.no_grad():
        whole, absent = (
            net(x).log_softmax(dim=1) for x in (IMAGES, torch.full_like(IMAGES, baseline))
        )
    return (whole - absent).gather(1, LABELS[:, None])[:, 0].numpy()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_every_band_a_number_and_leaves_the_rest_alone(name, net):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = run(name, net)
    assert found.shape == (3, M)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert bool(torch.isfinite(found).all())
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())


@pytest.mark.parametrize("name", METHODS)
def test_neither_batches_nor_order_nor_repetition_change_the_numbers(name, net):
    found = run(name, net)
    np.testing.assert_allclose(run(name, net, batch_size=2).numpy(), found.numpy(), atol=1e-9)
    back = band_attributions(name, net, IMAGES.flip(0), LABELS.flip(0), n_bands=M)
    np.testing.assert_allclose(back.flip(0).numpy(), found.numpy(), atol=1e-9)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.random])
def test_random_methods_follow_their_seed(name, net):
    assert not torch.equal(run(name, net, seed=1), run(name, net))


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_integrated_gradients_are_the_parseval_projection(net, baseline):
    """The averaged gradient in pixels, projected on bands, against the method in band space."""
    absent = None if baseline == 0 else baseline
    found = run("ig", net, baselines=absent)
    gradients = captum_attr.IntegratedGradients(
        lambda x: net(x).log_softmax(dim=1), multiply_by_inputs=False
    ).attribute(IMAGES, baseline, LABELS, n_steps=64)
    index = SpectralPartition(M).index(12, 11)
    expected = parseval_shares(gradients, IMAGES - baseline, index, M)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-12)


def test_input_x_gradient_is_the_projection_too(net):
    images = IMAGES.clone().requires_grad_()
    net(images).log_softmax(dim=1).gather(1, LABELS[:, None]).sum().backward()
    index = SpectralPartition(M).index(12, 11)
    expected = parseval_shares(images.grad, IMAGES, index, M)
    found = run("input_x_gradient", net)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-12)


def test_saliency_is_the_size_of_the_gradient_in_each_band(net):
    images = IMAGES.clone().requires_grad_()
    net(images).log_softmax(dim=1).gather(1, LABELS[:, None]).sum().backward()
    expected = SpectralPartition(M).split(images.grad).abs().sum(dim=(2, 3, 4))
    found = run("saliency", net)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-12)
    assert float(found.std(dim=1).min()) > 1e-3, "bands must differ"


def test_feature_ablation_is_the_loss_of_one_band(net):
    masks = oracles.band_masks(M, 12, 11)
    found = run("feature_ablation", net).numpy()
    for k, label in enumerate(LABELS.tolist()):
        image = IMAGES[k].numpy()
        whole = oracles.log_likelihood(net, image, label)
        for band in range(M):
            rest = [other for other in range(M) if other != band]
            without = oracles.coalition_image(image, 0 * image, masks, rest)
            expected = whole - oracles.log_likelihood(net, without, label)
            assert found[k, band] == pytest.approx(expected, abs=1e-10)


def test_i_aside_is_spectral_shapley(net):
    expected = SpectralShapley(net).attribute(IMAGES, target=LABELS, n_bands=M)
    for name in ("iaside", SpectralShapley):
        np.testing.assert_allclose(run(name, net).numpy(), expected.numpy(), rtol=0, atol=1e-12)


# Tolerances, beside sums of 0.02 to 0.24: rounding of double and (Captum's) single precision;
# 1e-5 for Kernel SHAP, which holds the sum by a finite weight; the quadrature's own error, which
# falls with the steps, for Integrated Gradients.
@pytest.mark.parametrize(
    ("name", "options", "atol"),
    [
        ("iaside", {}, 1e-12),
        ("shapley_sampling", {}, 1e-6),
        ("kernel_shap", {}, 1e-5),
        ("ig", {}, 2e-3),
        ("ig", {"n_steps": 256}, 3e-4),
    ],
)
@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_completeness(net, name, options, atol, baseline):
    found = run(name, net, baselines=baseline, **options)
    np.testing.assert_allclose(found.sum(dim=1).numpy(), gain(net, baseline), rtol=0, atol=atol)


def test_gradient_shap_is_complete_in_expectation(net):
    found = run("gradient_shap", net, n_samples=4000).sum(dim=1).numpy()
    few = np.stack([run("gradient_shap", net, n_samples=100, seed=s).sum(dim=1) for s in range(20)])
    se = few.std(axis=0, ddof=1) / np.sqrt(40)  # 4,000 samples are 40 times 100
    assert (np.abs(found - gain(net)) < 4 * se).all()


def test_deep_lift_is_complete_on_logits_it_has_rules_for(net):
    """The log softmax has no rule of its own: completeness holds for logits, not through it."""
    found = run("deep_lift", net, value_fn=lambda out: out).sum(dim=1).numpy()
    with torch.no_grad():
        logits = net(IMAGES) - net(0 * IMAGES)
    expected = logits.gather(1, LABELS[:, None])[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_sampling_methods_come_near_the_exact_values(net):
    exact = run("iaside", net).numpy()
    few = np.abs(run("shapley_sampling", net).numpy() - exact).max()
    assert np.abs(exact).max() > 0.2
    # 16 times the samples take 4 times the error off; 2 leaves room for chance
    assert np.abs(run("shapley_sampling", net, n_samples=400).numpy() - exact).max() < few / 2
    assert np.abs(run("kernel_shap", net, n_samples=2000).numpy() - exact).max() < 0.01


def test_classes_of_captum_run_as_well(net):
    by_class = run(captum_attr.IntegratedGradients, net, n_steps=64)
    assert torch.equal(by_class, run("IntegratedGradients", net))
    exact = run(captum_attr.ShapleyValues, net)
    np.testing.assert_allclose(exact.numpy(), run("iaside", net).numpy(), atol=1e-5)
    guided = run(captum_attr.GuidedBackprop, net)
    assert bool((guided >= 0).all()), "a gradient's size in each band"


def test_own_band_maps_and_further_arguments(net):
    index = SpectralPartition(M).index(12, 11)
    for name in ("iaside", "ig", "kernel_shap"):
        same = band_attributions(name, net, IMAGES, LABELS, feature_mask=index)
        np.testing.assert_allclose(same.numpy(), run(name, net).numpy(), atol=1e-12)
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for name in ("iaside", "ig", "feature_ablation"):
        found = band_attributions(
            name,
            lambda x, s: net(x) * s[:, None],
            IMAGES,
            LABELS,
            n_bands=M,
            additional_forward_args=scale,
            value_fn=lambda out: out,
            batch_size=2,
        )
        plain = run(name, net, value_fn=lambda out: out)
        np.testing.assert_allclose(found.numpy(), (plain * scale[:, None]).numpy(), atol=1e-10)


def test_arguments_of_one_entry_and_of_other_lengths(net):
    one = torch.tensor([2.0], dtype=torch.float64)
    for name in METHODS:
        if name == "deep_lift":  # takes modules of one input
            continue
        found = band_attributions(
            name,
            lambda x, s: net(x) * s[:, None],
            IMAGES,
            LABELS,
            n_bands=M,
            additional_forward_args=one,
            value_fn=lambda out: out,
            batch_size=2,
        )
        plain = run(name, net, value_fn=lambda out: out)
        np.testing.assert_allclose(found.numpy(), 2 * plain.numpy(), atol=1e-6, err_msg=name)
        with pytest.raises(InputError, match="first axis of 3"):
            band_attributions(
                name,
                lambda x, s: net(x) * s,
                IMAGES,
                LABELS,
                n_bands=M,
                batch_size=2,
                additional_forward_args=torch.ones(10),
            )


def test_sampled_values_draw_anew_for_each_image(net):
    """With the same orders for all images, a mean over images would keep their error."""
    interacting = lambda x: 40 * x.mean(dim=(2, 3)).prod(dim=1, keepdim=True) * torch.ones(1, 3)  # noqa: E731
    images = IMAGES[:1].repeat(60, 1, 1, 1) + 1e-3 * torch.arange(60.0)[:, None, None, None]
    assert net(IMAGES).shape == (3, 3)
    sampled, exact = (
        band_attributions(
            "iaside", interacting, images, 0, n_bands=M, value_fn=lambda out: out, **options
        ).numpy()
        for options in ({"n_samples": 1}, {})
    )
    errors = sampled - exact
    shared = SpectralShapley(interacting, lambda out: out).attribute(
        images, target=0, n_bands=M, n_samples=1
    )
    assert np.abs(errors.mean(axis=0)).max() < np.abs((shared.numpy() - exact).mean(axis=0)).max()


def test_training_mode_is_refused():
    with pytest.raises(InputError, match=r"expected eval mode, but .* is in training mode"):
        run("saliency", network().train())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("LayerIntegratedGradients", "takes forward_func, layer"),
        ("FeaturePermutation", "exchanges features between the examples"),
        ("NoiseTunnel", "cannot run on bands.*takes attribution_method"),
        ("GradientAttribution", "cannot run on bands"),
    ],
)
def test_classes_that_cannot_run_on_bands_are_refused(net, kind, message):
    with pytest.raises(InputError, match=message):
        run(getattr(captum_attr, kind), net)


@pytest.mark.parametrize("method", ["ig", "shapley_sampling", "iaside"])
def test_probabilities_are_refused(method):
    net = nn.Sequential(network(), nn.Softmax(dim=1)).eval()
    with pytest.raises(InputError, match="returns probabilities"):
        band_attributions(method, net, IMAGES, LABELS, n_bands=3)


@pytest.mark.parametrize("method", ["ig", "saliency", "shapley_sampling", "iaside"])
def test_a_model_that_draws_random_numbers_is_said_once(method, caplog):
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            return self.net(nn.functional.dropout(x, 0.3, training=True))

    band_attributions(method, Drops().eval(), IMAGES, LABELS, n_bands=3)
    assert len([m for m in caplog.messages if "draws random numbers" in m]) == 1


def test_rows_are_counted(net):
    def count(name):
        one = BandRun(name, net, BandSplit(M))
        one.attribute(IMAGES, LABELS)
        return one.rows / 3, one.gradient_rows / 3

    assert count("iaside") == (2**M, 0)
    assert count("ig") == (64, 64)
    assert count("saliency") == (1, 1)
    assert count("deep_lift") == (2, 2)
    assert count("feature_ablation") == (M + 1, 0)
    assert count("shapley_sampling") == (25 * M + 1, 0)


def test_names_are_found_in_any_case():
    assert find_method("IG").name == find_method("integratedgradients").name == "ig"
    with pytest.raises(InputError, match=r"unknown attribution method name 'salience'.*saliency"):
        find_method("salience")
    with pytest.raises(InputError, match="unknown attribution method"):
        find_method("")


@pytest.mark.parametrize("method", METHODS)
def test_inference_mode_changes_nothing(net, method):
    expected = run(method, net, baselines=0.3)
    with torch.inference_mode():
        found = band_attributions(
            method, net, IMAGES.clone(), LABELS.clone(), n_bands=M, baselines=0.3
        )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("method", ["iaside", "ig"])
def test_a_model_of_another_precision_or_of_a_tuple_is_called_what_it_is(net, method, caplog):
    with pytest.raises(InputError, match=r"its weights are float64 and the images float32"):
        band_attributions(method, net, IMAGES.float(), LABELS, n_bands=M)

    class Pair(nn.Module):
        def forward(self, images):
            return net(images), images

    assert torch.equal(run(method, Pair().eval()), run(method, net))
    (said,) = caplog.messages
    assert said.startswith("the model (Pair) returns a tuple of 2")


def test_a_module_used_twice_is_an_error_that_says_so():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))

        def forward(self, images):
            return self.head(self.relu(self.first(self.relu(self.first(images)))))

    with pytest.raises(InputError, match=r"DeepLift cannot explain this model.*leave the method"):
        run("deep_lift", Twice().double().eval())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (dict, {}, "class of captum.attr, got <class 'dict'>"),
        ("ig", {"steps": 3}, "Integrated Gradients takes no option 'steps'; it takes.*n_steps"),
        ("iaside", {"n_steps": 3}, "I-ASIDE takes no option 'n_steps'; it takes.*n_samples"),
        ("ig", {"return_convergence_delta": True}, "takes no option 'return_convergence_delta'"),
        ("iaside", {"return_input_shape": True}, "takes no option 'return_input_shape'"),
        ("ig", {"n_steps": "a"}, "Integrated Gradients cannot explain this model"),
        ("gradient_shap", {"n_samples": 0}, "GradientShap cannot explain this model"),
        ("shapley_sampling", {"n_samples": 0}, "gave attributions not finite"),
        ("ig", {"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ("ig", {"baselines": torch.zeros(3)}, "expected a baseline of shape"),
        ("saliency", {"feature_mask": torch.arange(132).view(12, 11)}, "not symmetric"),
    ],
)
def test_wrong_arguments_are_refused(net, method, options, message):
    with pytest.raises(InputError, match=message):
        run(method, net, **options)


@pytest.mark.parametrize("name", ["iaside", "ig", "deep_lift", "kernel_shap", "feature_ablation"])
def test_wrong_labels_and_outputs_are_refused_by_every_method(net, name):
    with pytest.raises(InputError, match="target 7 is out of range"):
        band_attributions(name, net, IMAGES, [0, 7, 1], n_bands=M)
    with pytest.raises(InputError, match="one target an example"):
        band_attributions(name, net, IMAGES, [0, 1], n_bands=M)
    if name != "deep_lift":  # which takes modules only
        with pytest.raises(InputError, match="one number for the whole batch"):
            band_attributions(name, lambda x: x.mean(), IMAGES, LABELS, n_bands=M)
    with pytest.raises(InputError, match="images are on meta"):
        band_attributions(name, net, IMAGES.to("meta"), LABELS, n_bands=M)
    with pytest.raises(InputError):
        band_attributions(name, net, IMAGES, None, n_bands=M)


@pytest.mark.parametrize("name", ["ig", "gradient_shap", "input_x_gradient", "saliency"])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_gradients_in_small_batches_are_those_of_one_pass(name, batch_size):
    net, rows = network(), []
    whole = run(name, net)
    net.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    torch.testing.assert_close(run(name, net, batch_size=batch_size), whole, rtol=0, atol=1e-12)
    assert max(rows) <= batch_size


@pytest.mark.parametrize("name", ["ig", "input_x_gradient", "gradient_shap"])
def test_what_multiplies_by_band_images_needs_no_projection(name, monkeypatch):
    """Values are those of Captum on band images that are each projected on their band."""
    quick = run(name, network())
    monkeypatch.setattr(BandForward, "project", property(lambda _: True, lambda *_: None))
    torch.testing.assert_close(run(name, network()), quick, rtol=0, atol=1e-12)


def test_on_a_cpu_a_pass_is_as_large_as_memory_allows():
    small, large = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 224, 224)
    assert rows_at_once(small, 64) == 64
    assert rows_at_once(large, 64) == 8
    assert rows_at_once(large, 64, gradients=True) == 4
    assert rows_at_once(large, 2, gradients=True) == 2
    assert rows_at_once(torch.zeros(1, 3, 900, 900), 64) == 1
    assert rows_at_once(large.to("meta"), 64) == 64
