"""Data and networks of `demo --digits`: scanned digits and four ways to train one small network.

scikit-learn's digits (1797 handwritten digits, 8 x 8 pixels, from the UCI repository) come with
that library. Enlarged to 32 x 32 they train in seconds, to about equal clean accuracy whatever the
training, yet with very different robustness: what a spectral profile has to explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from iaside_plugins.errors import InputError, MissingExtraError

TRAININGS = ("standard", "noise", "blur", "adversarial")
SIDE = 32
N_TEST = 400
N_TRAIN = 1397
EPOCHS = 10
BATCH = 64
NOISE = 0.3  # standard deviation in pixels, images in [0, 1]
BLUR = (0.5, 3.0)  # range of the Gaussian's standard deviation in pixels, for half of the batches
EPSILON, STEPS = 0.15, 5  # Linf budget and steps of adversarial training


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 32, 32) in [0, 1] and labels (N,), to train on and to test on."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits(n_train: int = N_TRAIN) -> Digits:
    """Return the digits, enlarged fourfold (nearest), split by a fixed seed into 1397 and 400.

    Args:
        n_train: Number of training images; fewer than all are the first ones of the split.

    Raises:
        InputError: For a number of training images out of range.
        MissingExtraError: If scikit-learn is not installed.
    """
    if not BATCH <= n_train <= N_TRAIN:
        raise InputError(f"expected {BATCH} to {N_TRAIN} training images, got {n_train}")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingExtraError.of("demo --digits needs scikit-learn", "demo") from error
    pixels, labels = datasets.load_digits(return_X_y=True)
    small = torch.from_numpy(np.asarray(pixels / 16, dtype=np.float32)).view(-1, 1, 8, 8)
    images = functional.interpolate(small, size=(SIDE, SIDE), mode="nearest")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, targets = images[order], torch.from_numpy(np.asarray(labels))[order]
    train = slice(N_TEST, N_TEST + n_train)
    return Digits(images[train], targets[train], images[:N_TEST], targets[:N_TEST])


def network() -> nn.Sequential:
    """Return the small network of every training: three convolutions, 22 000 random weights.

    ``load_model("python:iaside_plugins.workflows.digits:network", weights=FILE)`` loads the
    trained weights that `demo --digits` has kept.
    """
    layers: list[nn.Module] = []
    for c_in, c_out in ((1, 16), (16, 32), (32, 32)):
        layers += [
            nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def train(training: str, digits: Digits, seed: int) -> nn.Sequential:
    """Return the network after one of `TRAININGS`, in evaluation mode.

    The global random state is not changed.

    Args:
        training: "standard"; "noise" (Gaussian noise on every image); "blur" (half of the
            batches blurred); "adversarial" (projected gradient descent, Madry et al. 2018).
        digits: Training images.
        seed: Of the weights, the order and the augmentation.

    Raises:
        InputError: For an unknown training.
    """
    if training not in TRAININGS:
        raise InputError(f"training must be one of {', '.join(TRAININGS)}, got {training!r}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = network().train()
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters())
    n = len(digits.train_images)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=5e-3, total_steps=EPOCHS * -(-n // BATCH)
    )
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for index in torch.split(torch.randperm(n, generator=rng), BATCH):
                images, labels = digits.train_images[index], digits.train_labels[index]
                images = _augmented(training, net, images, labels, rng)
                optimiser.zero_grad()
                loss = functional.cross_entropy(net(images), labels)
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
    return net.eval().requires_grad_(False)


def _augmented(
    training: str, net: nn.Module, images: Tensor, labels: Tensor, rng: torch.Generator
) -> Tensor:
    if training == "noise":
        return (images + NOISE * torch.randn(images.shape, generator=rng)).clamp(0, 1)
    if training == "blur":
        use, where = torch.rand(2, generator=rng).tolist()
        return blur(images, BLUR[0] + where * (BLUR[1] - BLUR[0])) if use < 0.5 else images
    if training == "adversarial":
        return _attacked(net, images, labels, rng)
    return images


def blur(images: Tensor, std: float) -> Tensor:
    """Blur images (N, 1, H, W) by a Gaussian; `std` in pixels, edges replicated."""
    at = torch.arange(-8, 9, dtype=images.dtype)
    kernel = torch.exp(-(at**2) / (2 * std**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(images, (8, 8, 8, 8), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))


def _attacked(net: nn.Module, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
    """Return images after a few ascent steps of the loss in the Linf ball, from a random start."""
    change = EPSILON * (2 * torch.rand(images.shape, generator=rng) - 1)
    for _ in range(STEPS):
        change.requires_grad_()
        loss = functional.cross_entropy(net((images + change).clamp(0, 1)), labels)
        (slope,) = torch.autograd.grad(loss, change)
        change = change.detach() + 2.5 * EPSILON / STEPS * slope.sign()
        change = change.clamp(-EPSILON, EPSILON)
    return (images + change).clamp(0, 1)


def write_images(folder: Path, images: Tensor, labels: Tensor) -> None:
    """Write grey images as ``folder/<digit>/<number>.png``: the layout that every command reads."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (image[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(path)
