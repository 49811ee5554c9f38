"""Coalition images and log-likelihoods: against the oracle, in any batches and layout."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.spectral.range_handling import rescale_

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


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(4),
        Protocol(4, absence="gaussian"),
        Protocol(4, range_handling="clip"),
        Protocol(4, estimator="permutation", n_permutations=3),
        Protocol(5, estimator="regression", n_coalitions=32),
    ],
)
def test_batching_changes_nothing(protocol):
    images, labels = oracles.sample(5, (10, 10))
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


@pytest.mark.parametrize("form", ["read-only", "turned", "double", "channels-last"])
def test_images_in_any_memory_layout_are_the_same_images(form):
    images, labels = oracles.sample(2)
    expected = spectral_importance(oracles.TinyNet(), (images, labels), Protocol(3))
    array = images.numpy().copy()
    if form == "read-only":
        array.setflags(write=False)
    elif form == "turned":
        array = array[:, :, ::-1].copy()[:, :, ::-1]  # negative strides
    elif form == "double":
        array = array.astype(np.float64)
    data = (array, labels.numpy())
    if form == "channels-last":
        data = (images.to(memory_format=torch.channels_last), labels)
    found = spectral_importance(oracles.TinyNet(), data, Protocol(3))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.ids == expected.ids


def test_image_names_may_be_numbers():
    images, labels = oracles.sample(2)
    for ids in ([7, 8], torch.tensor([7, 8]), np.array([7, 8])):
        found = spectral_importance(oracles.TinyNet(), [(images, labels, ids)], Protocol(3))
        assert found.ids == ("7", "8")


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


@pytest.mark.parametrize(
    "protocol", [Protocol(4), Protocol(4, absence="gaussian"), Protocol(4, range_handling="clip")]
)
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


def _run(model=None, images=None, labels=None, **options):
    good, targets = oracles.sample(3)
    images = good if images is None else images
    labels = targets[: len(images)] if labels is None else labels
    model = oracles.TinyNet() if model is None else model
    return spectral_importance(model, (images, labels), Protocol(4), **options)


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


def test_a_runner_counts_its_rows_and_classes():
    runner = ModelRunner(oracles.TinyNet(n_classes=5), torch.device("cpu"))
    assert runner.n_classes is None
    runner.logits(torch.zeros(4, 3, 8, 8))
    assert (runner.n_forward, runner.n_classes) == (4, 5)
