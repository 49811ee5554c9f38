"""The released script restated: its boxes, its rescaling, and each of its flags alone."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch

from iaside_plugins import InputError, Protocol, spectral_importance
from iaside_plugins.seeds import seed_of
from iaside_plugins.value_table.reference_script import box_masks


def _seen(protocol: Protocol, images: torch.Tensor) -> np.ndarray:
    """What the model is shown, (2**M, K, C, H, W), of one batch."""
    recorder = oracles.Recorder()
    labels = torch.zeros(len(images), dtype=torch.long)
    spectral_importance(recorder, (images, labels), protocol, precision="float64")
    return recorder.images().reshape(2**protocol.n_bands, *images.shape)


def _rings(n_bands: int, size: int) -> np.ndarray:
    boxes = oracles.script_boxes(n_bands, size)
    return boxes[1:] & ~boxes[:-1]


@pytest.mark.parametrize(
    ("n_bands", "size"), [(8, 32), (8, 224), (3, 10), (5, 13), (4, 9), (7, 30)]
)
def test_boxes_equal_the_definition_and_partition_the_grid(n_bands, size):
    masks = box_masks(n_bands, size, size)
    shifted = np.fft.fftshift(masks.numpy(), axes=(-2, -1))
    if size < 100:
        np.testing.assert_array_equal(shifted, _rings(n_bands, size))
    assert bool((masks.sum(dim=0) == 1).all())


def test_even_boxes_are_not_symmetric():
    masks = box_masks(8, 32, 32)
    assert not torch.equal(masks, masks.flip(1, 2).roll((1, 1), dims=(1, 2)))


def test_boxes_of_images_that_are_not_square_are_refused():
    data = (torch.zeros(1, 3, 16, 20), torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="square images, got 16 x 20"):
        spectral_importance(oracles.TinyNet(), data, Protocol.reference(4))


@pytest.mark.parametrize("size", [8, 9])
def test_the_model_sees_the_images_of_the_script(size):
    images = oracles.sample(4, (size, size), dtype=torch.float64)[0]
    seen = _seen(Protocol.reference(3), images)
    for s in range(8):
        wanted = oracles.script_batch(images.numpy(), oracles.members(s, 3), _rings(3, size))
        np.testing.assert_allclose(seen[s], wanted, rtol=0, atol=1e-12, err_msg=f"coalition {s}")
    assert seen.min() == 0
    assert seen[1:].max(axis=(1, 2, 3, 4)).tolist() == [1.0] * 7


@pytest.mark.parametrize("image_batch", [1, 3, 10])
def test_values_equal_the_script_in_batches_of_any_size(image_batch):
    images, labels = oracles.sample(7, (10, 10), dtype=torch.float64)
    net = oracles.TinyNet().double()
    protocol = Protocol.reference(3, image_batch=image_batch, temperature=2.0)
    loader = [(images[:5], labels[:5]), (images[5:], labels[5:])]  # its batches do not matter
    found = spectral_importance(net, loader, protocol, precision="float64", batch_size=2)
    table = oracles.script_table(
        net, images.numpy(), labels, 3, image_batch=image_batch, temperature=2.0
    )
    np.testing.assert_allclose(found.values, table, rtol=0, atol=1e-9)
    psi = oracles.shapley_by_orders(table.mean(axis=0))
    np.testing.assert_allclose(found.shapley_values, psi, rtol=0, atol=1e-9)
    assert found.n_forward == 7 * 8


@pytest.mark.parametrize("norm", ["chebyshev", "euclidean"])
def test_symmetric_bands_alone(norm):
    images = oracles.sample(3, (10, 12), dtype=torch.float64)[0]
    seen = _seen(Protocol.reference(3, band_norm=norm), images)
    rings = np.fft.fftshift(oracles.band_masks(3, 10, 12, norm), axes=(-2, -1))
    for s in range(8):
        wanted = oracles.script_batch(images.numpy(), oracles.members(s, 3), rings)
        np.testing.assert_allclose(seen[s], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("absence", ["gaussian_bins", "batch_replacement"])
def test_the_empty_coalition_is_black_unless_that_flag_is_off(absence):
    images = oracles.sample(4, (8, 8), dtype=torch.float64)[0]
    assert not _seen(Protocol.reference(2, absence=absence), images)[0].any()
    shown = _seen(Protocol.reference(2, absence=absence, black_empty=False), images)[0]
    assert shown.max() == 1
    np.testing.assert_array_equal(
        _seen(Protocol.reference(2, absence=absence), images)[1:],
        _seen(Protocol.reference(2, absence=absence, black_empty=False), images)[1:],
    )


def _draws(seed: int, coalition: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of("absent", seed, coalition, 0, 0))


def test_gaussian_bins_have_the_scripts_deviation_and_are_not_hermitian():
    images = oracles.sample(3, (8, 8), dtype=torch.float64)[0]
    seen = _seen(Protocol.reference(2, absence="gaussian_bins", seed=7), images)
    for s in range(1, 4):
        draws = torch.randn(2, 3, 3, 8, 8, generator=_draws(7, s), dtype=torch.float64).numpy()
        noise = 0.5 * (draws[0] + 1j * draws[1])
        members = oracles.members(s, 2)
        wanted = oracles.script_batch(images.numpy(), members, _rings(2, 8), noise)
        np.testing.assert_allclose(seen[s], wanted, rtol=0, atol=1e-12)


def test_batch_replacement_takes_whole_spectra_of_the_same_batch():
    images = oracles.sample(5, (8, 8), dtype=torch.float64)[0]
    protocol = Protocol.reference(2, absence="batch_replacement", black_empty=False)
    seen = _seen(protocol, images)
    low, high = float(images.min()), float(images.max())
    rescaled = ((images - low) / (high - low)).numpy()
    donors = [int(abs(rescaled - shown).max(axis=(1, 2, 3)).argmin()) for shown in seen[0]]
    assert sorted(donors) == list(range(5))
    np.testing.assert_allclose(seen[0], rescaled[donors], atol=1e-12)
    for s in (1, 2):  # each coalition draws its own permutation
        order = torch.randperm(5, generator=_draws(0, s)).numpy()
        spectra = np.fft.fft2(images.numpy())[order]
        wanted = oracles.script_batch(images.numpy(), oracles.members(s, 2), _rings(2, 8), spectra)
        np.testing.assert_allclose(seen[s], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("absence", ["gaussian_bins", "batch_replacement"])
def test_what_is_random_follows_the_seed(absence):
    data, net = oracles.sample(4), oracles.TinyNet()

    def run(seed):
        protocol = Protocol.reference(3, absence=absence, seed=seed)
        return spectral_importance(net, data, protocol).values

    np.testing.assert_array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))


def test_shuffling_batches_the_images_otherwise_for_every_coalition():
    images = oracles.sample(6, (8, 8), dtype=torch.float64)[0]
    recorder = oracles.Recorder()
    protocol = Protocol.reference(2, shuffled=True, image_batch=3)
    labels = torch.arange(6) % 3
    net = oracles.TinyNet().double()
    spectral_importance(recorder, (images, labels), protocol, precision="float64")
    assert [len(batch) for batch in recorder.seen] == [3] * 8
    grand = [batch.numpy() for batch in recorder.seen[6:]]
    generator = torch.Generator().manual_seed(seed_of("shuffle", 0, 3))
    order = torch.randperm(6, generator=generator)
    assert order.tolist() != list(range(6))
    for rows, shown in zip(order.split(3), grand, strict=True):
        wanted = oracles.script_batch(images[rows].numpy(), [0, 1], _rings(2, 8))
        np.testing.assert_allclose(shown, wanted, rtol=0, atol=1e-12)
    # values go back to their images whatever the batch they were rescaled in
    found = spectral_importance(net, (images, labels), protocol, precision="float64")
    mixed = np.zeros(6)
    for rows in order.split(3):
        batch = oracles.script_batch(images[rows].numpy(), [0, 1], _rings(2, 8))
        for k, image in zip(rows.tolist(), batch, strict=True):
            mixed[k] = oracles.log_likelihood(net, image, int(labels[k]))
    np.testing.assert_allclose(found.values[:, 3], mixed, rtol=0, atol=1e-9)


def test_one_batch_of_all_images_is_the_same_shuffled_or_not():
    data, net = oracles.sample(5), oracles.TinyNet()
    kept = spectral_importance(net, data, Protocol.reference(3))
    mixed = spectral_importance(net, data, Protocol.reference(3, shuffled=True))
    np.testing.assert_allclose(mixed.values, kept.values, rtol=0, atol=1e-5)  # row order only


def test_images_of_one_batch_must_be_of_one_size():
    data = [oracles.sample(1, (8, 8)), oracles.sample(1, (10, 10))]
    with pytest.raises(InputError, match="one size"):
        spectral_importance(oracles.TinyNet(), data, Protocol.reference(2))
    apart = Protocol.reference(2, image_batch=1)
    assert spectral_importance(oracles.TinyNet(), data, apart).n_images == 2


def test_accuracy_is_that_of_the_rescaled_images():
    images, labels = oracles.sample(6, (8, 8), dtype=torch.float64)
    net = oracles.TinyNet().double()
    found = spectral_importance(net, (images, labels), Protocol.reference(2), precision="float64")
    shown = oracles.script_batch(images.numpy(), [0, 1], _rings(2, 8))
    with torch.no_grad():
        hits = net(torch.from_numpy(shown)).argmax(dim=1) == labels
    assert found.correct.tolist() == hits.tolist()


def test_non_finite_logits_are_refused():
    def model(images):
        spread = images.flatten(1).max(dim=1).values > 0
        return torch.where(spread[:, None], torch.nan, torch.zeros(len(images), 3))

    with pytest.raises(InputError, match=r"non-finite .*coalition .*\[0\]"):
        spectral_importance(model, oracles.sample(2, (8, 8)), Protocol.reference(2))


def test_labels_out_of_range_are_refused():
    data = (torch.zeros(1, 3, 8, 8), torch.tensor([7]))
    with pytest.raises(InputError, match="label 7 is out of range"):
        spectral_importance(oracles.TinyNet(), data, Protocol.reference(2))
