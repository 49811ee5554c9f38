"""The embedded default: real digits, one small network, four trainings."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from PIL import Image

from iaside_plugins.errors import InputError, MissingExtraError
from iaside_plugins.workflows import digits


@pytest.fixture(scope="module")
def data():
    return digits.load_digits()


@pytest.fixture
def few(data, monkeypatch):
    """128 training images, two epochs: what training does, not how well."""
    monkeypatch.setattr(digits, "EPOCHS", 2)
    return digits.Digits(
        data.train_images[:128], data.train_labels[:128], data.test_images, data.test_labels
    )


def test_images_and_split(data):
    assert data.train_images.shape == (1397, 1, 32, 32)
    assert data.test_images.shape == (400, 1, 32, 32)
    assert data.train_images.min() == 0
    assert data.train_images.max() == 1
    assert set(data.test_labels.tolist()) == set(range(10))
    # Enlarged by copies of pixels: every block of 4 x 4 is constant.
    blocks = data.test_images.unfold(2, 4, 4).unfold(3, 4, 4)
    assert torch.equal(blocks.amax(dim=(4, 5)), blocks.amin(dim=(4, 5)))
    again = digits.load_digits()
    assert torch.equal(again.test_images, data.test_images)
    assert torch.equal(again.test_labels, data.test_labels)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"-e '\.\[demo\]'"):
        digits.load_digits()


def test_network():
    net = digits.network().eval()
    assert net(torch.rand(3, 1, 32, 32)).shape == (3, 10)
    assert 18_000 < sum(p.numel() for p in net.parameters()) < 26_000  # "22 000 weights"


@pytest.mark.parametrize("training", digits.TRAININGS)
def test_training_repeats_and_leaves_global_state(few, training):
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = digits.train(training, few, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.training
    assert not any(p.requires_grad for p in first.parameters())
    second, other = digits.train(training, few, seed=3), digits.train(training, few, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert not torch.equal(first[-1].weight, other[-1].weight)


def test_trainings_differ(few):
    heads = [digits.train(training, few, seed=0)[-1].weight for training in digits.TRAININGS]
    for k, head in enumerate(heads):
        assert not any(torch.equal(head, rest) for rest in heads[k + 1 :])


def test_unknown_training(few):
    with pytest.raises(InputError, match=r"standard, noise, blur, adversarial.*'mixup'"):
        digits.train("mixup", few, seed=0)


def test_standard_training_learns(data):
    """Ten epochs reach 97 % and more; 90 % would mean that something is wrong."""
    net = digits.train("standard", data, seed=0)
    hits = net(data.test_images).argmax(dim=1) == data.test_labels
    assert hits.float().mean() > 0.95


def test_blur_keeps_constants_and_the_mean_of_noise():
    assert torch.allclose(digits.blur(torch.full((1, 1, 32, 32), 0.7), 3.0), torch.tensor(0.7))
    impulse = torch.zeros(1, 1, 33, 33)
    impulse[0, 0, 16, 16] = 1
    spread = digits.blur(impulse, 1.5)[0, 0]
    at = torch.arange(33.0) - 16
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    # A kernel of 17 taps holds all but 1e-7 of this Gaussian; its variance is 1.5 squared.
    assert (spread.sum(dim=0) * at**2).sum() == pytest.approx(1.5**2, rel=1e-3)
    assert torch.allclose(spread, spread.T, atol=1e-7)


def test_adversarial_images_stay_in_the_ball_and_raise_the_loss(data):
    net = digits.network().eval()
    images, labels = data.train_images[:32], data.train_labels[:32]
    attacked = digits._attacked(net, images, labels, torch.Generator().manual_seed(0))
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert (attacked - images).abs().max() <= digits.EPSILON + 1e-6
    loss = torch.nn.functional.cross_entropy
    assert loss(net(attacked), labels) > loss(net(images), labels)
    assert not attacked.requires_grad


def test_written_images_are_the_images(data, tmp_path):
    digits.write_images(tmp_path, data.test_images[:30], data.test_labels[:30])
    files = sorted(tmp_path.rglob("*.png"), key=lambda path: path.name)
    assert len(files) == 30
    for file, image, label in zip(files, data.test_images, data.test_labels, strict=False):
        assert file.parent.name == str(int(label))
        pixels = np.array(Image.open(file))
        assert pixels.shape == (32, 32)
        np.testing.assert_allclose(pixels / 255, image[0].numpy(), atol=0.5 / 255 + 1e-6)


def test_fewer_training_images_are_the_first_ones(data):
    few = digits.load_digits(100)
    assert torch.equal(few.train_images, data.train_images[:100])
    assert torch.equal(few.train_labels, data.train_labels[:100])
    assert torch.equal(few.test_images, data.test_images)
    for n in (digits.BATCH - 1, digits.N_TRAIN + 1):
        with pytest.raises(InputError, match=f"64 to 1397 training images, got {n}"):
            digits.load_digits(n)
