"""Coalition images and log-likelihoods: against the oracle, bad input, and state left alone."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.errors import InputTypeError
from iaside_plugins.game import Game, model_device, rescale_

SIZES = [(8, 8), (9, 12), (13, 7), (11, 11)]


def _recorded(protocol: Protocol, images: torch.Tensor, batch_size: int) -> np.ndarray:
    recorder = oracles.Recorder()
    labels = torch.zeros(len(images), dtype=torch.long)
    data = (images, labels)
    spectral_importance(recorder, data, protocol, batch_size=batch_size, precision="float64")
    return recorder.images()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("range_handling", ["none", "clip", "rescale"])
def test_the_model_sees_the_coalition_images_of_the_oracle(size, norm, range_handling):
    images = oracles.sample(1, size, dtype=torch.float64)[0]
    protocol = Protocol(3, norm, range_handling=range_handling)
    seen = _recorded(protocol, images, batch_size=8)
    assert len(seen) == 8
    masks = oracles.band_masks(3, *size, norm)
    for s in range(8):
        mixed = oracles.coalition_image(
            images[0].numpy(), np.zeros_like(images[0]), masks, oracles.members(s, 3)
        )
        wanted = oracles.in_range(mixed, range_handling)
        # rescale divides by a range that is a few hundredths for a high band
        np.testing.assert_allclose(seen[s], wanted, rtol=0, atol=1e-11, err_msg=f"coalition {s}")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
def test_values_equal_the_oracle(size, norm):
    images, labels = oracles.sample(3, size, dtype=torch.float64)
    net = oracles.TinyNet().double()
    protocol = Protocol(3, norm)
    found = spectral_importance(net, (images, labels), protocol, precision="float64")
    table = oracles.value_table(net, images.numpy(), labels, 3, norm=norm)
    np.testing.assert_allclose(found.values, table, rtol=0, atol=1e-9)
    psi = np.array([oracles.shapley_by_orders(row) for row in table])
    np.testing.assert_allclose(found.per_image, psi, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.shapley_values, psi.mean(axis=0), rtol=0, atol=1e-9)
    p = oracles.distribution(psi.mean(axis=0).tolist())
    # the distribution divides by the spread of psi, here more than 0.01 nats
    np.testing.assert_allclose(found.distribution, p, rtol=0, atol=1e-7)
    assert found.signed_score == pytest.approx(oracles.signed_score(p), abs=1e-7)


@pytest.mark.parametrize("absence", ["gaussian", "replacement"])
@pytest.mark.parametrize("range_handling", ["none", "clip", "rescale"])
def test_values_with_a_baseline_equal_the_oracle(absence, range_handling):
    images, labels = oracles.sample(3, (9, 10), dtype=torch.float64)
    protocol = Protocol(3, absence=absence, range_handling="none")
    bare = _recorded(protocol, images, batch_size=1)  # row 0 of each image: its baseline alone
    baselines = bare.reshape(3, 8, 3, 9, 10)[:, 0]
    net = oracles.TinyNet().double()
    labels = torch.zeros_like(labels)  # digests hold the label
    protocol = Protocol(3, absence=absence, range_handling=range_handling)
    found = spectral_importance(net, (images, labels), protocol, precision="float64")
    table = oracles.value_table(
        net, images.numpy(), labels, 3, baselines=baselines, range_handling=range_handling
    )
    np.testing.assert_allclose(found.values, table, rtol=0, atol=1e-9)


@pytest.mark.parametrize("range_handling", ["clip", "rescale"])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_range_handling_and_temperature_equal_the_oracle(range_handling, temperature):
    images, labels = oracles.sample(2, (8, 9), dtype=torch.float64)
    net = oracles.TinyNet().double()
    protocol = Protocol(3, range_handling=range_handling, temperature=temperature)
    found = spectral_importance(net, (images, labels), protocol, precision="float64")
    table = oracles.value_table(
        net, images.numpy(), labels, 3, range_handling=range_handling, temperature=temperature
    )
    np.testing.assert_allclose(found.values, table, rtol=0, atol=1e-9)


def test_a_high_temperature_makes_every_coalition_flat():
    images, labels = oracles.sample(2)
    protocol = Protocol(4, temperature=1e9)
    found = spectral_importance(oracles.TinyNet(), (images, labels), protocol)
    np.testing.assert_allclose(found.values, -np.log(3), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.shapley_values, 0, atol=1e-6)


def test_rescale_maps_each_image_to_the_unit_range_and_a_constant_to_zero():
    images = torch.stack([torch.tensor([[[-2.0, 2.0], [0.0, 1.0]]]), torch.full((1, 2, 2), 0.7)])
    out = rescale_(images)
    assert out.tolist() == [[[[0.0, 1.0], [0.5, 0.75]]], [[[0.0, 0.0], [0.0, 0.0]]]]


@pytest.mark.parametrize("protocol", [Protocol(4), Protocol(4, absence="gaussian"),
                                      Protocol(4, range_handling="clip"),
                                      Protocol(4, estimator="permutation", n_permutations=3)])  # fmt: skip
def test_batching_changes_nothing(protocol):
    images, labels = oracles.sample(5, (10, 8))
    net = oracles.TinyNet()
    results = [
        spectral_importance(net, (images, labels), protocol, batch_size=size)
        for size in (1, 3, 64, 512)
    ]
    for other in results[1:]:
        assert other.n_forward == results[0].n_forward
        assert other.ids == results[0].ids
        # convolutions of other batch sizes round float32 otherwise; logits are below 10
        np.testing.assert_allclose(other.per_image, results[0].per_image, rtol=0, atol=1e-5)
        np.testing.assert_allclose(other.ends, results[0].ends, rtol=0, atol=1e-5)


def test_batches_of_the_data_change_nothing_at_all():
    images, labels = oracles.sample(5, (10, 8))
    net, protocol = oracles.TinyNet(), Protocol(4)
    whole = spectral_importance(net, (images, labels), protocol)
    loader = [(images[:1], labels[:1]), (images[1:4], labels[1:4]), (images[4:], labels[4:])]
    arrays = ((part.numpy(), target.numpy()) for part, target in loader)
    for data in (loader, arrays, iter(loader)):
        found = spectral_importance(net, data, protocol)
        np.testing.assert_array_equal(found.values, whole.values)
        assert found.ids == whole.ids


def test_images_of_different_sizes_go_through_alone():
    small, large = oracles.sample(2, (8, 8)), oracles.sample(2, (12, 9), seed=1)
    net, protocol = oracles.TinyNet(), Protocol(3)
    found = spectral_importance(net, [small, large], protocol, batch_size=512)
    apart = [spectral_importance(net, data, protocol) for data in (small, large)]
    expected = np.concatenate([one.values for one in apart])
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-5)  # other batches


@pytest.mark.parametrize(
    ("fields", "per_image", "black"),
    [
        ({}, 255, 1),
        ({"absence": "gaussian"}, 256, 0),
        ({"absence": "replacement"}, 256, 0),
        ({"absence": "gaussian", "black_empty": True}, 255, 1),
        ({"n_bands": 3}, 7, 1),
    ],
)
@pytest.mark.parametrize("batch_size", [7, 512])
def test_the_number_of_forward_passes_is_exact(fields, per_image, black, batch_size):
    images, labels = oracles.sample(3, (16, 16))
    recorder = oracles.Recorder()
    found = spectral_importance(
        recorder, (images, labels), Protocol(**fields), batch_size=batch_size
    )
    assert found.n_forward == 3 * per_image + black
    assert len(recorder.images()) == found.n_forward
    assert max(len(batch) for batch in recorder.seen) <= batch_size


def test_grey_images_work():
    images, labels = oracles.sample(2, (8, 11), channels=1, dtype=torch.float64)
    net = oracles.TinyNet(channels=1).double()
    found = spectral_importance(net, (images, labels), Protocol(3), precision="float64")
    table = oracles.value_table(net, images.numpy(), labels, 3)
    np.testing.assert_allclose(found.values, table, rtol=0, atol=1e-9)


@pytest.mark.parametrize("protocol", [Protocol(4), Protocol(4, absence="gaussian"),
                                      Protocol(4, range_handling="clip")])  # fmt: skip
def test_the_grand_coalition_is_the_clean_image_to_the_bit(protocol):
    images, labels = oracles.sample(6)
    recorder = oracles.Recorder()
    spectral_importance(recorder, (images, labels), protocol, batch_size=16)
    seen = torch.cat(recorder.seen)
    for image in images:
        assert bool((seen == image).flatten(1).all(dim=1).any())
    net = oracles.TinyNet()
    found = spectral_importance(net, (images, labels), protocol)
    with torch.no_grad():
        logits = net(images)
    assert found.clean_accuracy == float((logits.argmax(dim=1) == labels).double().mean())
    assert found.correct.tolist() == (logits.argmax(dim=1) == labels).tolist()
    plain = torch.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
    # the same pixels in another batch size: float32 rounding of convolutions only
    np.testing.assert_allclose(found.ends[:, 1], plain.numpy(), rtol=0, atol=1e-5)


# ---- bad input --------------------------------------------------------------------------------
def _run(model=None, images=None, labels=None, **options):
    good, targets = oracles.sample(3)
    images = good if images is None else images
    labels = targets[: len(images)] if labels is None else labels
    model = oracles.TinyNet() if model is None else model
    return spectral_importance(model, (images, labels), Protocol(4), **options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 12, 12, dtype=torch.uint8), r"torch\.uint8; .*float\(\) / 255"),
        (torch.zeros(1, 3, 12, 12, dtype=torch.int64), r"torch\.int64"),
        (np.zeros((1, 3, 12, 12), dtype=np.uint8), r"torch\.uint8"),
    ],
)
def test_integer_images_are_refused(images, message):
    labels = torch.zeros(1, dtype=torch.long)
    labels = labels if torch.is_tensor(images) else labels.numpy()
    with pytest.raises(InputTypeError, match=message):
        _run(images=images, labels=labels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 3, 12, 12), -2.1), r"\[-2.1, -2.1\]; .*normalis"),
        (torch.full((1, 3, 12, 12), 255.0), r"\[255, 255\]; .*divide by 255"),
        (torch.full((1, 3, 12, 12), float("nan")), r"\[nan, nan\]"),
        (torch.full((1, 3, 12, 12), 1.00001), r"in \[0, 1\]"),
        (torch.zeros(3, 12, 12), r"\(N, C, H, W\), got \(3, 12, 12\)"),
        (torch.zeros(1, 3, 12, 7), r"12 x 7 are too small for n_bands=4: .* = 8; .*<= 3"),
        (torch.zeros(1, 3, 7, 12), r"7 x 12 are too small"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        _run(images=images, labels=torch.zeros(len(images), dtype=torch.long))


def test_rounding_beyond_the_unit_range_is_let_through():
    assert _run(images=torch.full((1, 3, 12, 12), 1 + 5e-7)).n_images == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), r"shape \(3,\), one an image, got \(2,\)"),
        (torch.zeros(3, 3, dtype=torch.long), r"got \(3, 3\)"),
        (torch.tensor([0, 1, 3]), r"label 3 is out of range: .* 3 outputs \(labels 0 to 2\)"),
        (torch.tensor([0, -1, 2]), "class indices"),
        (torch.tensor([0.5, 1, 2]), "class indices"),
        (torch.tensor([0, float("nan"), 2]), "class indices"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        _run(labels=labels)


def test_whole_labels_of_any_dtype_are_taken():
    images, labels = oracles.sample(3)
    expected = _run(images=images, labels=labels).values
    for other in (labels.double(), labels.to(torch.uint8), labels.to(torch.int32)):
        np.testing.assert_array_equal(_run(images=images, labels=other).values, expected)


@pytest.mark.parametrize("data", [[], (torch.zeros(0, 3, 12, 12), torch.zeros(0)), iter(())])
def test_no_images_are_refused(data):
    with pytest.raises(InputError, match="no images"):
        spectral_importance(oracles.TinyNet(), data, Protocol(4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "iterable of .* got int"),
        (torch.zeros(2, 3, 12, 12), "got Tensor"),
        ([(torch.zeros(1, 3, 12, 12),)], r"\(images, labels\) .* got tuple"),
        ([{"images": 1}], "got dict"),
        ([(torch.zeros(2, 3, 12, 12), torch.zeros(2), ["only one"])], "1 ids for 2 images"),
    ],
)
def test_data_of_another_form_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        spectral_importance(oracles.TinyNet(), data, Protocol(4))


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(InputError, match=r"training mode \(the model\); call model\.eval\(\)"):
        _run(model=oracles.TinyNet().train())
    net = nn.Sequential(nn.Dropout(), oracles.TinyNet()).eval()
    net[0].train()
    with pytest.raises(InputError, match=r"training mode \(0\)"):
        _run(model=net)


class Poisoned(oracles.TinyNet):
    """NaN for images whose mean lies within 1e-4 of a given one."""

    def __init__(self, mean: float):
        super().__init__()
        self.mean = mean

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hit = (images.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0] - self.mean).abs() < 1e-4
        return torch.where(hit, torch.nan, super().forward(images))


@pytest.mark.parametrize("batch_size", [4, 16, 64])
def test_non_finite_logits_name_the_image_and_the_coalition(batch_size):
    images, labels = oracles.sample(3)
    data = [(images, labels, ["first.png", "second.png", "third.png"])]
    net = Poisoned(float(images[1].mean()))  # every coalition with band 0 keeps the mean
    with pytest.raises(InputError, match=r"non-finite .* second\.png, coalition of bands \[0\]"):
        spectral_importance(net, data, Protocol(4), batch_size=batch_size)
    with pytest.raises(InputError, match="non-finite logits for a black image"):
        spectral_importance(Poisoned(0.0), data, Protocol(4))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda x: x, r"\(1, 3, 12, 12\)"),
        (lambda x: x.mean(dim=(1, 2, 3)), r"\(1,\)"),
        (lambda x: torch.zeros(7, 3), r"\(7, 3\)"),
        (lambda x: (torch.zeros(len(x), 3),), "tuple"),
    ],
)
def test_wrong_logits_are_refused(model, shape):
    with pytest.raises(InputError, match=rf"expected logits of shape \(1, n_classes\), got {shape}"):
        _run(model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "float32, float64, bfloat16, float16, got 'int8'"),
        ({"batch_size": 0}, "batch_size must be .*at least 1, got 0"),
        ({"batch_size": True}, "batch_size .* got True"),
        ({"batch_size": 2.5}, "batch_size .* got 2.5"),
        ({"max_images": 0}, "max_images must be .*at least 1, got 0"),
        ({"max_images": 1.5}, "max_images .* got 1.5"),
        ({"device": "meta"}, r"on cpu and device=meta .*model\.to\('meta'\)"),
        ({"precision": "float64"}, r"float64.*model\.double\(\)"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        _run(**options)


def test_the_device_is_the_models_own():
    assert model_device(oracles.TinyNet()) == torch.device("cpu")
    assert model_device(lambda x: x) == torch.device("cpu")
    assert model_device(lambda x: x, "meta") == torch.device("meta")
    assert model_device(nn.Flatten().eval(), "meta") == torch.device("meta")


# ---- state left alone ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(4),
        Protocol(4, absence="gaussian"),
        Protocol(4, absence="replacement"),
        Protocol(4, estimator="permutation"),
        Protocol.reference(4, absence="gaussian_bins"),
        Protocol.reference(4, absence="batch_replacement", shuffled=True),
    ],
)
def test_no_state_is_touched(protocol):
    net, (images, labels) = oracles.TinyNet(), oracles.sample(3)
    net.conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kept, targets = images.clone(), labels.clone()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    with torch.enable_grad():
        spectral_importance(net, (images, labels), protocol)
        assert torch.is_grad_enabled()
    with torch.no_grad():
        spectral_importance(net, (images, labels), protocol)
        assert not torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))
    assert torch.equal(images, kept)
    assert torch.equal(labels, targets)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    grads = {name: value.requires_grad for name, value in net.named_parameters()}
    assert grads == {name: name != "conv.weight" for name in grads}
    assert all(value.grad is None for value in net.parameters())
    assert not net.training


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_precision_of_matrix_products_is_left_as_it_was(precision):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        _run()
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


class InPlace(oracles.TinyNet):
    """Destroys its input, as a model whose first layer works in place does."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        images.fill_(7.0)
        return logits


@pytest.mark.parametrize("protocol", [Protocol(4), Protocol(4, absence="replacement"),
                                      Protocol.reference(4)])  # fmt: skip
@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_model_that_works_in_place_does_no_harm(protocol, batch_size):
    images, labels = oracles.sample(3)
    kept = images.clone()
    options = {"batch_size": batch_size}
    found = spectral_importance(InPlace(), (images, labels), protocol, **options)
    assert torch.equal(images, kept)
    expected = spectral_importance(oracles.TinyNet(), (kept, labels), protocol, **options)
    np.testing.assert_array_equal(found.values, expected.values)


def test_attacks_inside_the_iterable_have_their_gradients():
    net, (images, labels) = oracles.TinyNet(), oracles.sample(4)

    def attacked():
        for k in range(0, 4, 2):
            x = images[k : k + 2].clone().requires_grad_()
            loss = nn.functional.cross_entropy(net(x), labels[k : k + 2])
            (slope,) = torch.autograd.grad(loss, x)
            yield (x + 0.1 * slope.sign()).clamp(0, 1), labels[k : k + 2]

    found = spectral_importance(net, attacked(), Protocol(3))
    fixed = [(x.detach(), y) for x, y in attacked()]
    expected = spectral_importance(net, fixed, Protocol(3))
    np.testing.assert_array_equal(found.values, expected.values)


class Purifier(nn.Module):
    """Takes a gradient step on its input before it classifies, as purifying defences do."""

    def __init__(self):
        super().__init__()
        self.net = oracles.TinyNet()
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.net(x).square().sum(), x)
        return self.net(images - 0.01 * slope)


def test_a_model_that_differentiates_inside_works():
    assert np.isfinite(_run(model=Purifier()).values).all()


class Caching(oracles.TinyNet):
    """Makes a constant on its first call and keeps it, as position tables are kept."""

    constant = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.constant is None:
            self.constant = torch.full((1, 3, 1, 1), 0.5)
        return super().forward(images * self.constant)


def test_what_a_model_caches_can_still_be_trained_with():
    net = Caching()
    _run(model=net)
    images = oracles.sample(1)[0].requires_grad_()
    net(images).sum().backward()
    assert images.grad is not None


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_close_and_given_back_in_single(precision):
    images, labels = oracles.sample(2)
    found = _run(images=images, labels=labels, precision=precision)
    assert found.precision == precision
    exact = _run(images=images, labels=labels)
    # bfloat16 keeps 8 bits: errors of some 1e-2 in logits of about 6
    np.testing.assert_allclose(found.values, exact.values, rtol=0, atol=0.2)
    assert not np.array_equal(found.values, exact.values)


def test_double_images_differ_from_single_by_rounding_only():
    images, labels = oracles.sample(2)
    single = _run(images=images, labels=labels)
    double = _run(oracles.TinyNet().double(), images, labels, precision="float64")
    np.testing.assert_allclose(single.values, double.values, rtol=0, atol=1e-5)
    assert not np.array_equal(single.values, double.values)


def test_a_game_counts_its_rows_and_classes():
    game = Game(oracles.TinyNet(n_classes=5), Protocol(3), torch.device("cpu"))
    assert game.n_classes is None
    game.logits(torch.zeros(4, 3, 8, 8))
    assert (game.n_forward, game.n_classes) == (4, 5)
