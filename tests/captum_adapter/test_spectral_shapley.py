"""SpectralShapley keeps Captum's conventions, and refuses what it cannot explain."""

from __future__ import annotations

import warnings

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from iaside_plugins import InputError, Protocol, SpectralPartition, spectral_importance
from iaside_plugins.errors import InputTypeError
from iaside_plugins.inference.output_checks import AGAIN_ROWS

pytest.importorskip("captum", reason="needs the extra captum")

from captum.attr import ClassSummarizer, Mean, NoiseTunnel, PerturbationAttribution, StdDev
from captum.metrics import infidelity, sensitivity_max

from iaside_plugins.adapters.captum_adapter import BandSplit, SpectralShapley

pytestmark = pytest.mark.captum
M = 3
IMAGES, LABELS = oracles.sample(5, (10, 9))


class Counted(nn.Module):
    """A tiny network that counts calls and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.net = oracles.TinyNet()
        self.calls = self.rows = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(images)
        return self.net(images)


class Drops(oracles.TinyNet):
    """A network whose dropout is left on."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(images, 0.3, training=True))


def test_a_model_that_draws_random_numbers_is_said(caplog):
    explain(oracles.TinyNet())
    assert not caplog.messages
    state = torch.get_rng_state()
    explain(Drops())
    (said,) = caplog.messages
    assert "draws random numbers" in said
    torch.set_rng_state(state)


@pytest.fixture
def net():
    """A fresh counting network."""
    return Counted()


def expected(images=IMAGES, labels=LABELS, baselines=None) -> np.ndarray:
    """Values by the oracle in double, from all orders."""
    table = oracles.value_table(
        oracles.TinyNet().double(), images.double().numpy(), labels, M, baselines=baselines
    )
    return np.array([oracles.shapley_by_orders(row) for row in table])


def explain(model, images=IMAGES, **options):
    """Attributions to the labels with three bands."""
    return SpectralShapley(model).attribute(images, **{"target": LABELS, "n_bands": M, **options})


# ---- values -------------------------------------------------------------------------------------
@pytest.mark.parametrize("per_eval", [1, 2, 3, 8, 50])
def test_values_are_the_oracles_whatever_the_batching(net, per_eval):
    found = explain(net, perturbations_per_eval=per_eval)
    assert found.shape == (5, M)
    np.testing.assert_allclose(found.numpy(), expected(), atol=1e-5)  # single against double
    assert net.rows == 5 * 2**M
    assert net.calls == -(-(2**M) // per_eval)


def test_double_in_double_out():
    found = explain(oracles.TinyNet().double(), IMAGES.double())
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected(), rtol=0, atol=1e-12)


def test_bfloat16_in_bfloat16_out():
    found = explain(oracles.TinyNet().bfloat16(), IMAGES.bfloat16())
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float().numpy(), expected(), atol=0.03)
    assert np.abs(expected()).max() > 0.3, "beside which 0.03 is little: 8 bits of logits of 6"


def test_logits_in_half_precision_are_valued_in_single():
    bare = oracles.TinyNet()
    # Both round the same logits to bfloat16, and nothing else.
    found = explain(lambda x: bare(x).bfloat16())
    single = explain(lambda x: bare(x).bfloat16().float())
    assert torch.equal(found, single)


def test_one_by_one_equals_the_batch(net):
    whole = explain(net)
    for k in range(5):
        one = explain(net, IMAGES[k : k + 1], target=int(LABELS[k]))
        np.testing.assert_allclose(one[0].numpy(), whole[k].numpy(), atol=1e-6)


def test_a_network_of_log_probabilities_gives_the_same():
    bare = oracles.TinyNet()
    plain, logs = explain(bare), explain(lambda x: bare(x).log_softmax(dim=1))
    np.testing.assert_allclose(plain.numpy(), logs.numpy(), atol=1e-5)


def test_a_value_fn_explains_other_outputs():
    bare = oracles.TinyNet().double()
    images = IMAGES.double()
    found = SpectralShapley(bare, value_fn=lambda out: out).attribute(
        images, target=LABELS, n_bands=M
    )
    gain = bare(images) - bare(0 * images)
    picked = gain.gather(1, LABELS[:, None])[:, 0]
    np.testing.assert_allclose(found.sum(dim=1).numpy(), picked.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize(
    "baseline",
    [0.25, torch.full((1, 3, 10, 9), 0.25), torch.full((5, 3, 10, 9), 0.25), (0.25,)],
    ids=["number", "one", "each", "tuple"],
)
def test_every_form_of_baseline(net, baseline):
    found = explain(net, baselines=baseline)
    want = expected(baselines=np.full(IMAGES.shape, 0.25))
    np.testing.assert_allclose(found.numpy(), want, atol=1e-5)
    assert torch.equal(explain(net, baselines=0), explain(net))


@pytest.mark.parametrize(
    "target",
    [LABELS, LABELS.tolist(), [(label,) for label in LABELS.tolist()], LABELS.int()],
    ids=["tensor", "list", "tuples", "int32"],
)
def test_every_form_of_target_one_an_example(net, target):
    assert torch.equal(explain(net, target=target), explain(net))


@pytest.mark.parametrize(
    "target",
    [1, (1,), torch.tensor(1), torch.tensor([1]), np.int64(1), np.array([1]), [np.int32(1)] * 5],
)
def test_every_form_of_target_for_all(net, target):
    assert torch.equal(explain(net, target=target), explain(net, target=[1] * 5))


def test_no_target_explains_every_output(net):
    every = explain(net, target=None)
    assert every.shape == (5, 3, M)
    picked = every[torch.arange(5), LABELS]
    np.testing.assert_allclose(picked.numpy(), explain(net).numpy(), atol=1e-7)


def test_targets_of_outputs_with_more_axes():
    bare = oracles.TinyNet(n_classes=6).double()
    method = SpectralShapley(lambda x: bare(x).view(-1, 2, 3), value_fn=lambda out: out)
    flat = SpectralShapley(bare, value_fn=lambda out: out)
    images = IMAGES.double()
    np.testing.assert_allclose(
        method.attribute(images, target=(1, 2), n_bands=M).numpy(),
        flat.attribute(images, target=5, n_bands=M).numpy(),
        atol=1e-12,
    )
    assert method.attribute(images, target=1, n_bands=M).shape == (5, 3, M)
    each = method.attribute(images, target=[(k % 2, k % 3) for k in range(5)], n_bands=M)
    assert each.shape == (5, M)


def test_one_value_an_example_needs_no_target():
    bare = oracles.TinyNet().double()
    images = IMAGES.double()
    method = SpectralShapley(lambda x: bare(x)[:, 1])
    found = method.attribute(images, n_bands=M)
    gain = (bare(images) - bare(0 * images))[:, 1]
    np.testing.assert_allclose(found.sum(dim=1).numpy(), gain.detach().numpy(), atol=1e-12)


def test_further_arguments_are_repeated_with_their_example():
    bare = oracles.TinyNet().double()

    def forward(images, scale, flag):
        assert flag == "as it is"
        return bare(images) * scale[:, None]

    scale = torch.arange(1.0, 6.0, dtype=torch.float64)
    method = SpectralShapley(forward, value_fn=lambda out: out)
    found = method.attribute(
        IMAGES.double(),
        target=LABELS,
        additional_forward_args=(scale, "as it is"),
        n_bands=M,
        perturbations_per_eval=3,
    )
    plain = SpectralShapley(bare, value_fn=lambda out: out).attribute(
        IMAGES.double(), target=LABELS, n_bands=M
    )
    np.testing.assert_allclose(found.numpy(), (plain * scale[:, None]).numpy(), atol=1e-12)


@pytest.mark.parametrize("per_eval", [1, 4])
def test_an_argument_of_one_entry_is_every_examples(per_eval):
    bare = oracles.TinyNet().double()
    method = SpectralShapley(lambda x, a: torch.cat([bare(x), a], dim=1), value_fn=lambda out: out)
    shared = torch.ones(1, 2, dtype=torch.float64)
    for n in (1, 3):
        options = {"target": LABELS[:n], "n_bands": M, "perturbations_per_eval": per_eval}
        one = method.attribute(IMAGES[:n].double(), additional_forward_args=shared, **options)
        each = method.attribute(
            IMAGES[:n].double(), additional_forward_args=shared.repeat(n, 1), **options
        )
        np.testing.assert_allclose(one.numpy(), each.numpy(), rtol=0, atol=1e-14)


# ---- several inputs, band maps, painting --------------------------------------------------------
def test_a_tuple_in_gives_a_tuple_out_and_bands_are_shared():
    bare = oracles.TinyNet().double()
    first, second = IMAGES.double(), IMAGES.double()[:, :, :8, :8] * 0.5
    one = SpectralShapley(bare).attribute((first,), target=LABELS, n_bands=M)
    assert isinstance(one, tuple)
    assert torch.equal(one[0], SpectralShapley(bare).attribute(first, target=LABELS, n_bands=M))
    both = SpectralShapley(lambda a, b: bare(a) + 2 * bare(b), value_fn=lambda out: out)
    found = both.attribute((first, second), target=LABELS, n_bands=M)
    assert [part.shape for part in found] == [(5, M), (5, M)]
    assert torch.equal(found[0], found[1])
    raw = SpectralShapley(bare, value_fn=lambda out: out)
    parts = [raw.attribute(x, target=LABELS, n_bands=M) for x in (first, second)]
    np.testing.assert_allclose(found[0].numpy(), (parts[0] + 2 * parts[1]).numpy(), atol=1e-12)


def test_a_feature_mask_is_a_band_map_of_ones_own(net):
    index = SpectralPartition(M).index(10, 9)
    assert torch.equal(explain(net, feature_mask=index[None, None]), explain(net))
    merged = explain(net, feature_mask=index.clamp(max=1))
    assert merged.shape == (5, 2)
    want = SpectralPartition(M).index(10, 9).clamp(max=1)
    painted = explain(net, feature_mask=(want,), return_input_shape=True)
    assert torch.equal(painted[:, 1], merged[:, want])


def test_painted_values_stand_on_the_frequency_grid(net):
    painted = explain(net, return_input_shape=True)
    assert painted.shape == IMAGES.shape
    index = SpectralPartition(M).index(10, 9)
    assert torch.equal(painted[:, 0], explain(net)[:, index])
    assert torch.equal(painted[:, 0], painted[:, 2])
    every = explain(net, target=None, return_input_shape=True)
    assert every.shape == (5, 3, 3, 10, 9)


def test_round_bands(net):
    round_ones = explain(net, norm="euclidean")
    assert not torch.equal(round_ones, explain(net))
    mask = SpectralPartition(M, "euclidean").index(10, 9)
    assert torch.equal(round_ones, explain(net, feature_mask=mask))


# ---- sampling -----------------------------------------------------------------------------------
def test_sampling_repeats_and_follows_its_generator(net):
    def sampled(seed):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return explain(net, n_samples=1, generator=generator)

    assert torch.equal(sampled(None), sampled(None))
    assert torch.equal(sampled(4), sampled(4))
    assert len({tuple(sampled(seed)[0].tolist()) for seed in range(12)}) > 1


def test_samples_of_both_ends_only_cost_the_coalitions_they_visit(net):
    explain(net, n_samples=1)
    assert net.rows == 5 * (M + 1)


def test_many_bands_need_sampling_and_then_work(net):
    images, labels = oracles.sample(2, (40, 40))
    method = SpectralShapley(net)
    with pytest.raises(InputError, match=r"2\*\*16 = 65,536 coalitions.*n_samples=25"):
        method.attribute(images, target=labels, n_bands=16)
    assert net.calls == 0
    found = method.attribute(images, target=labels, n_bands=16, n_samples=2)
    assert found.shape == (2, 16)
    delta = method.compute_convergence_delta(found, None, images, labels)
    assert float(delta.abs().max()) < 1e-5


# ---- Captum's protocol --------------------------------------------------------------------------
def test_it_is_one_of_captums_methods(net):
    method = SpectralShapley(net)
    assert isinstance(method, PerturbationAttribution)
    assert method.get_name() == "I-ASIDE"
    assert method.multiplies_by_inputs
    assert method.has_convergence_delta()
    assert hasattr(SpectralShapley.attribute, "__wrapped__"), "log_usage wraps attribute"
    with pytest.raises(NotImplementedError, match="SpectralShapley"):
        method.attribute_future()


def test_the_convergence_delta_is_the_efficiency_residual():
    bare = oracles.TinyNet().double()
    method, images = SpectralShapley(bare), IMAGES.double()
    for baseline in (None, 0.3):
        found = method.attribute(images, baseline, LABELS, n_bands=M)
        delta = method.compute_convergence_delta(found, baseline, images, LABELS)
        assert delta.shape == (5,)
        assert float(delta.abs().max()) < 1e-12
        shifted = method.compute_convergence_delta(found + 1, baseline, images, LABELS)
        np.testing.assert_allclose(shifted.numpy(), M, atol=1e-12)
    pair = method.attribute((images,), target=LABELS, n_bands=M)
    assert (
        float(method.compute_convergence_delta(pair, None, (images,), LABELS).abs().max()) < 1e-12
    )
    several = SpectralShapley(lambda x: torch.stack([bare(x), -bare(x)], 1), lambda out: out)
    found = several.attribute(images, n_bands=M)
    assert found.ndim == 4  # outputs (N, 2, n_classes)
    assert float(several.compute_convergence_delta(found, None, images).abs().max()) < 1e-12
    found = method.attribute(images, target=LABELS, n_bands=M)
    for target in (LABELS, None):
        painted = method.attribute(images, target=target, n_bands=M, return_input_shape=True)
        with pytest.raises(InputError, match="painted"):
            method.compute_convergence_delta(painted, None, images, target)
    with pytest.raises(InputError, match=r"shape \(5, n_bands\), got \(2, 3\)"):
        method.compute_convergence_delta(found[:2], None, images, LABELS)
    with pytest.raises(InputError, match="images are on meta"):
        method.compute_convergence_delta(found, None, images.to("meta"), LABELS)
    before = images.clone()
    SpectralShapley(lambda x: bare(x.sub_(0.5))).compute_convergence_delta(
        found, None, images, LABELS
    )
    assert torch.equal(images, before), "a model that writes to its input writes to a copy"


@pytest.mark.parametrize("painted", [False, True])
def test_the_convergence_delta_comes_with_the_attributions(painted):
    method = SpectralShapley(oracles.TinyNet())
    given = {"target": LABELS, "n_bands": M, "return_input_shape": painted}
    found, delta = method.attribute(IMAGES, 0.3, return_convergence_delta=True, **given)
    assert torch.equal(found, method.attribute(IMAGES, 0.3, **given))
    plain = method.attribute(IMAGES, 0.3, target=LABELS, n_bands=M)
    assert torch.equal(delta, method.compute_convergence_delta(plain, 0.3, IMAGES, LABELS))
    both, pair_delta = method.attribute((IMAGES,), 0.3, return_convergence_delta=True, **given)
    assert torch.equal(both[0], found)
    assert torch.equal(pair_delta, delta)
    _, deltas = NoiseTunnel(method).attribute(
        IMAGES, nt_samples=2, baselines=0.3, return_convergence_delta=True, **given
    )
    assert deltas.shape == (10,)  # one a noisy image, as of Captum's own methods
    assert float(deltas.abs().max()) < 1e-5


def test_infidelity_runs_unchanged_and_exact_values_of_an_additive_model_have_none():
    split = BandSplit(M)
    weights = torch.linspace(-1, 1, 270)

    def linear(images):
        return images.flatten(1) @ weights

    values = SpectralShapley(linear).attribute(IMAGES, n_bands=M)

    def drop(gates):
        dropped = (torch.rand_like(gates) < 0.5).float()
        return dropped, gates - dropped

    found = infidelity(
        split.gate_forward(linear),
        drop,
        torch.ones(5, M),
        values,
        additional_forward_args=(split(IMAGES),),
        n_perturb_samples=20,
    )
    assert found.shape == (5,)
    assert float(found.max()) < 1e-9
    wrong = infidelity(
        split.gate_forward(linear),
        drop,
        torch.ones(5, M),
        values.flip(1),
        additional_forward_args=(split(IMAGES),),
        n_perturb_samples=20,
    )
    assert float(wrong.min()) > 1e-3


def test_sensitivity_runs_unchanged_on_tensors_and_tuples(net):
    method = SpectralShapley(net)
    for images in (IMAGES, (IMAGES,)):
        found = sensitivity_max(method.attribute, images, target=LABELS, n_bands=M)
        assert found.shape == (5,)
        assert bool((found > 0).all())
    still = sensitivity_max(
        method.attribute, IMAGES, lambda x, r: x, target=LABELS, n_bands=M, n_perturb_samples=2
    )
    assert float(still.max()) < 1e-5


def test_it_works_through_a_noise_tunnel():
    bare = oracles.TinyNet().double()
    method, images = SpectralShapley(bare), IMAGES.double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = NoiseTunnel(method).attribute(
            images, nt_samples=4, stdevs=0.02, target=LABELS, n_bands=M
        )
    plain = method.attribute(images, target=LABELS, n_bands=M)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = torch.normal(0, torch.full((20, 3, 10, 9), 0.02))
    each = method.attribute(
        images.repeat_interleave(4, dim=0) + noise, target=LABELS.repeat_interleave(4), n_bands=M
    )
    np.testing.assert_allclose(found.numpy(), each.view(5, 4, M).mean(dim=1).numpy(), atol=1e-9)
    assert float((found - plain).abs().max()) > 1e-3
    assert found.shape == (5, M)
    masked = NoiseTunnel(method).attribute(
        images,
        nt_samples=2,
        stdevs=1e-12,
        target=LABELS,
        feature_mask=SpectralPartition(M).index(10, 9)[None, None],
    )
    np.testing.assert_allclose(masked.numpy(), plain.numpy(), atol=1e-9)
    quiet = NoiseTunnel(method).attribute(
        images, nt_samples=3, stdevs=1e-12, target=LABELS, n_bands=M
    )
    np.testing.assert_allclose(quiet.numpy(), plain.numpy(), atol=1e-9)


@pytest.mark.parametrize(("per_eval", "copies"), [(1, False), (4, True)])
def test_errors_speak_of_the_images_that_were_given(per_eval, copies):
    for broken in (nn.Linear(7, 3).eval(), lambda images: images.mean()):
        with pytest.raises(InputError) as caught:
            explain(broken, perturbations_per_eval=per_eval)
        assert ("(5 images as 20 masked copies)" in str(caught.value)) is copies


def test_data_parallel_and_scripted_modules_work(net):
    plain = explain(oracles.TinyNet())
    parallel = explain(nn.DataParallel(oracles.TinyNet()).eval())
    np.testing.assert_allclose(parallel.numpy(), plain.numpy(), atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, still in wide use
        traced = torch.jit.trace(oracles.TinyNet(), IMAGES)
        scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(270, 3)).eval())
    np.testing.assert_allclose(explain(traced).numpy(), plain.numpy(), atol=1e-6)
    found = explain(scripted)
    gain = scripted(IMAGES).log_softmax(1) - scripted(0 * IMAGES).log_softmax(1)
    want = gain.gather(1, LABELS[:, None])[:, 0].detach().numpy()
    np.testing.assert_allclose(found.sum(dim=1).numpy(), want, atol=1e-5)


@pytest.mark.parametrize("per_eval", [1, 3, 8])
def test_the_bar_reaches_its_end(net, capsys, per_eval):
    explain(net, perturbations_per_eval=per_eval, show_progress=True)
    shown = capsys.readouterr().err
    assert "I-ASIDE attribution: 100%" in shown
    assert f"{net.calls}/{net.calls}" in shown
    explain(net)
    assert capsys.readouterr().err == ""


def test_what_belongs_to_the_caller_is_left_alone():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = oracles.TinyNet()

        def forward(self, images):
            assert not torch.is_grad_enabled()
            return self.net(nn.functional.dropout(images, 0.1))  # of its own, in either mode

    net, images = Noisy().eval(), IMAGES.clone().requires_grad_()
    modes = [part.training for part in net.modules()]
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.enable_grad():
        found = explain(net, images)
        assert torch.is_grad_enabled()
    assert [part.training for part in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    assert images.grad is None


def test_training_mode_is_refused_before_a_batch_norm_learns():
    norm = nn.BatchNorm2d(IMAGES.shape[1])
    net = nn.Sequential(norm, oracles.TinyNet()).eval()
    explain(net)
    norm.train()
    before = norm.running_mean.clone()
    method = SpectralShapley(net)
    for refused in (
        lambda: explain(net),
        lambda: method.compute_convergence_delta(torch.zeros(5, M), None, IMAGES, LABELS),
        lambda: method.attribute_dataset((IMAGES, LABELS), n_bands=M),
    ):
        with pytest.raises(InputError, match="expected eval mode, but 0 is in training mode"):
            refused()
    assert torch.equal(norm.running_mean, before)


# ---- the global method --------------------------------------------------------------------------
@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 1, 3), (4, 1)])
def test_the_data_set_is_the_mean_of_its_examples_whatever_the_batches(net, sizes):
    parts = list(zip(IMAGES.split(sizes), LABELS.split(sizes), strict=True))
    found = SpectralShapley(net).attribute_dataset(iter(parts), n_bands=M)
    assert net.rows == 5 * (2**M - 1) + 1 + AGAIN_ROWS, "one pass over the data"
    np.testing.assert_allclose(found.per_image, explain(net).numpy(), atol=1e-6)
    np.testing.assert_allclose(
        found.shapley_values, explain(net).double().mean(dim=0).numpy(), atol=1e-6
    )
    same = spectral_importance(net, (IMAGES, LABELS), Protocol(M))
    np.testing.assert_array_equal(found.per_image, same.per_image)


def test_predicted_classes_instead_of_labels(net):
    predicted = net(IMAGES).argmax(dim=1)
    wrong = (predicted + 1) % 3
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(IMAGES, wrong), batch_size=2
    )
    found = SpectralShapley(net).attribute_dataset(loader, n_bands=M, target="predicted")
    assert found.labels.tolist() == predicted.tolist()
    assert found.label_space == "predicted"
    assert found.clean_accuracy == 1
    same = spectral_importance(net, (IMAGES, predicted), Protocol(M))
    np.testing.assert_array_equal(found.per_image, same.per_image)


def test_predictions_keep_to_the_batch_size_and_the_number_of_images(net):
    largest = []
    net.register_forward_pre_hook(lambda _, given: largest.append(len(given[0])))
    images, labels = oracles.sample(40, (10, 9))
    found = SpectralShapley(net).attribute_dataset(
        (images, labels), n_bands=M, target="predicted", batch_size=8, max_images=3
    )
    assert found.n_images == 3
    assert max(largest) <= 8
    assert net.rows == 8 + found.n_forward + 2 * AGAIN_ROWS  # of the labels, and of the bands


def test_options_and_protocols_reach_the_core(net, tmp_path):
    method = SpectralShapley(net)
    protocol = Protocol(4, absence="gaussian", range_handling="clip")
    found = method.attribute_dataset(
        (IMAGES, LABELS), protocol=protocol, batch_size=16, max_images=3, resume=tmp_path
    )
    assert (found.n_images, found.protocol) == (3, protocol)
    assert any(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"n_bands=5 does not fit.*n_bands=4"):
        method.attribute_dataset((IMAGES, LABELS), protocol=protocol, n_bands=5)
    with pytest.raises(InputError, match="'label' or 'predicted', got 'best'"):
        method.attribute_dataset((IMAGES, LABELS), target="best")
    with pytest.raises(InputError, match="leave value_fn out"):
        SpectralShapley(net, value_fn=lambda out: out).attribute_dataset((IMAGES, LABELS))
    for target in ("label", "predicted"):
        with pytest.raises(InputError, match="already normalised"):
            method.attribute_dataset((IMAGES * 5 - 2, LABELS), n_bands=M, target=target)


def test_classes_are_summarised_as_captum_does():
    images, labels = oracles.sample(12, (10, 9))
    found = SpectralShapley(oracles.TinyNet()).attribute_dataset((images, labels), n_bands=M)
    summarizer = ClassSummarizer([Mean(), StdDev(order=1)])
    for row, label in zip(torch.from_numpy(found.per_image), labels.tolist(), strict=True):
        summarizer.update(row[None], [label])
    frame = found.by_class().set_index("label")
    assert len(summarizer.summaries) == len(frame) == 3
    for label, one in summarizer.summaries.items():
        (summary,) = one.summary
        row = frame.loc[label]
        mean = row[[f"band_{i}" for i in range(M)]].to_numpy(float)
        np.testing.assert_allclose(mean, summary["mean"].numpy(), atol=1e-12)
        se = row[[f"se_{i}" for i in range(M)]].to_numpy(float)
        std = summary["sample_std_dev"].numpy()
        np.testing.assert_allclose(se * np.sqrt(row["n_images"]), std, atol=1e-12)


# ---- what is refused ----------------------------------------------------------------------------
def number(images):
    """One number for a whole batch."""
    return images.mean()


def nested(images):
    """One number in an axis of length 1."""
    return images.mean().view(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": [0, 1]}, "one target an example, 5.*got 2"),
        ({"target": torch.tensor([0, 1])}, "5 of them.*got 2"),
        ({"target": torch.zeros(5, 1, dtype=torch.long)}, r"shape \(N,\), got \(5, 1\)"),
        ({"target": 3}, "target 3 is out of range.*0 to 2"),
        ({"target": [0, 1, 2, 3, 0]}, r"target 3 is out of range: .* shape \(N, 3\), targets"),
        ({"target": (0, 1)}, "more axes than the outputs"),
        ({"target": 0.5}, "target of integers, got 0.5"),
        ({"target": True}, "target of integers, got True"),
        ({"target": np.array([0.5] * 5)}, "integer targets, got torch.float64"),
        ({"target": torch.tensor([0.0] * 5)}, "integer targets, got torch.float32"),
        ({"target": [(0,), (0, 1), (0,), (0,), (0,)]}, "targets of one length"),
        ({"n_bands": 1}, "n_bands must be an integer of at least 2"),
        ({"n_bands": 5}, "too small for n_bands=5"),
        ({"norm": "round"}, "norm must be one of chebyshev, euclidean"),
        ({"n_samples": 0}, "n_samples must be an integer of at least 1"),
        ({"perturbations_per_eval": 0}, "perturbations_per_eval must be"),
        ({"baselines": torch.zeros(1, 3, 8, 9)}, r"baseline of shape \(5, 3, 10, 9\)"),
        ({"baselines": (0, 0)}, "expected 1 baselines, one an input, got 2"),
        ({"baselines": lambda: 0}, "numbers or tensors, got function"),
        ({"feature_mask": torch.arange(90).view(10, 9)}, "not symmetric under k -> -k"),
        ({"feature_mask": torch.zeros(10, 9, dtype=torch.long)}, "at least two bands"),
        ({"feature_mask": torch.zeros(4, 4, dtype=torch.long)}, r"\(10, 9\).*got \(4, 4\)"),
        ({"feature_mask": (torch.zeros(4, 4),) * 2}, "1 feature masks, one an input, got 2"),
        ({"additional_forward_args": torch.zeros(3)}, "first axis of 5.*shape \\(3,\\)"),
    ],
)
def test_wrong_arguments_are_refused_before_the_work(net, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        explain(net, **options)
    assert isinstance(caught.value, InputError)
    assert net.calls <= 1, "an index can only be checked against outputs"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"\(N, C, H, W\)"),
        (IMAGES[:0], "N >= 1"),
        ((), "empty tuple"),
        ((IMAGES, IMAGES[:2]), "the same for every input"),
        (IMAGES * torch.nan, "NaN or infinite"),
        (IMAGES / 0, "NaN or infinite"),
        ((IMAGES * 255).byte(), "floating-point image tensors, got torch.uint8"),
        (IMAGES.numpy(), "floating-point image tensors, got ndarray"),
    ],
)
def test_wrong_images_are_refused(net, images, message):
    with pytest.raises(InputError, match=message):
        explain(net, images)
    assert net.calls == 0


@pytest.mark.parametrize("forward", [number, nested, lambda x: 0.5, lambda x: x[:1]])
@pytest.mark.parametrize("per_eval", [1, 2])
def test_a_forward_of_one_number_for_a_batch_is_refused(forward, per_eval):
    with pytest.raises(ValueError, match="one number for the whole batch"):
        explain(forward, target=None, perturbations_per_eval=per_eval)


def test_the_ambiguous_batch_of_one_is_refused_where_captum_guesses():
    with pytest.raises(ValueError, match="one number for the whole batch"):
        explain(nested, IMAGES[:1], target=None, perturbations_per_eval=2)


def test_images_on_another_device_than_the_model_are_refused(net):
    with pytest.raises(
        ValueError, match=r"images are on meta and the model is on cpu.*to\('cpu'\)"
    ):
        explain(net, IMAGES.to("meta"))


def test_a_single_logit_is_refused():
    with pytest.raises(InputError, match="at least 2 classes"):
        explain(lambda x: x.mean(dim=(1, 2, 3))[:, None], target=0)
    with pytest.raises(InputError, match="at least 2 classes"):
        spectral_importance(
            lambda x: x.mean(dim=(1, 2, 3))[:, None], (IMAGES, 0 * LABELS), Protocol(M)
        )


def test_segmentation_outputs_need_a_value_fn():
    with pytest.raises(InputError, match="value_fn=lambda"):
        explain(lambda x: x, target=None)


def test_types_are_errors_of_both_kinds(net):
    with pytest.raises(InputTypeError):
        explain(net, IMAGES.long())
    with pytest.raises(TypeError):
        explain(net, IMAGES.long())


def test_errors_under_a_perturbation_are_split_as_attribute_does_for_each_example():
    images, labels = oracles.sample(4)
    generator = torch.Generator().manual_seed(0)
    perturbed = (images + 0.2 * torch.rand(images.shape, generator=generator)).clamp(0, 1)
    method = SpectralShapley(oracles.TinyNet(scale=30))
    split = method.explain_dataset((images, perturbed, labels), protocol=Protocol(4))
    costs = -method.attribute(perturbed, baselines=images, target=labels, n_bands=4)
    np.testing.assert_allclose(split.loss.bands[0], costs.numpy(), atol=1e-5)
    assert method.explain_dataset((images, perturbed, labels), n_bands=3).n_forward == 4 * 6
    with pytest.raises(InputError, match="n_bands=4 does not fit the protocol's n_bands=3"):
        method.explain_dataset((images, perturbed, labels), n_bands=4, protocol=Protocol(3))
    with pytest.raises(InputError, match="value_fn"):
        SpectralShapley(oracles.TinyNet(), lambda out: out).explain_dataset(
            (images, perturbed, labels)
        )
