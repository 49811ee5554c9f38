"""Tiny networks that the tests name as python:tiny_model:FACTORY, with a count of forward rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

N_CLASSES = 10


@dataclass
class Watch:
    """What the networks below do beside computing; reset by the tests that use it."""

    rows: int = 0  # images that went through `Counted` so far
    _interrupt_after: int | None = None  # raise KeyboardInterrupt once so many are through


WATCH = Watch()


class Counted(nn.Module):
    """Two convolutions on (N, C, H, W) images of any size -> (N, 10) logits, counted."""

    def __init__(self, channels: int = 3, width: int = 4) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(7)
        self.first = nn.Conv2d(channels, width, 3)
        self.second = nn.Conv2d(width, width, 3)
        self.head = nn.Linear(2 * width, N_CLASSES)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=rng)
        self.num_classes = N_CLASSES

    def forward(self, x: Tensor) -> Tensor:
        if WATCH._interrupt_after is not None and WATCH.rows >= WATCH._interrupt_after:
            raise KeyboardInterrupt
        WATCH.rows += len(x)
        fine = self.first(x).relu()
        coarse = self.second(fine).relu()
        means = [part.mean(dim=(2, 3)) for part in (fine, coarse)]
        return self.head(torch.cat(means, dim=1))


def network() -> nn.Module:
    """Colour images as they are."""
    return Counted()


def wide() -> nn.Module:
    """Another architecture of the same interface: weights of `network` do not fit it."""
    return Counted(width=5)


def grey() -> nn.Module:
    """Images of one channel."""
    return Counted(channels=1)


def small_input() -> nn.Module:
    """Short side resized to 32, crop 32, as CIFAR networks take photographs."""
    net = Counted()
    net.preprocessing = {"resize": 32, "crop": 32}
    return net


def large_input() -> nn.Module:
    """Crop of 128 after a resize to 144: corrupted at 224 and resized."""
    net = Counted()
    net.preprocessing = {"resize": 144, "crop": 128}
    return net


class NanOnBlack(Counted):
    """NaN for images whose mean brightness is near zero: those without band 0."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        dark = (x.mean(dim=(1, 2, 3)).abs() < 1e-3) & (x.abs().amax(dim=(1, 2, 3)) > 0)
        return torch.where(dark[:, None], torch.nan, logits)


def nan_without_band_0() -> nn.Module:
    """Finite on images and on black, NaN on every other coalition without band 0."""
    return NanOnBlack()


def nan_always() -> nn.Module:
    """NaN on everything."""
    net = Counted()
    nn.init.constant_(net.head.bias, torch.nan)
    return net


def no_network() -> str:
    """What a factory must not return."""
    return "a network"


def five_channels() -> nn.Module:
    """Images that no folder holds."""
    return Counted(channels=5)


def thousand() -> nn.Module:
    """As many outputs as ImageNet has classes."""
    net = Counted()
    net.head = nn.Linear(net.head.in_features, 1000)
    net.num_classes = 1000
    return net


class HeadFirst(nn.Module):
    """Ten outputs from a head that is registered before a convolution of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, N_CLASSES)
        self.body = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


def head_first() -> nn.Module:
    """Images of a fixed size, so that they can be batched."""
    net = HeadFirst()
    net.preprocessing = {"resize": 16, "crop": 16}
    return net


class Detached(Counted):
    """No gradient reaches the images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


def detached() -> nn.Module:
    """A network that cannot be attacked by gradients."""
    return Detached()
