"""Tiny networks with known answers for the tests of the Foolbox adapters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from iaside_plugins.spectral.band_maps import keep_bands
from iaside_plugins.spectral.partition import SpectralPartition


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_net(channels: int = 3) -> nn.Module:
    """A random convolutional net whose weights do not depend on the global generator."""
    net = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator(parameter.numel())) / 3
    with torch.no_grad():  # else a random net puts all images in one class
        net[6].bias -= net(images(channels=channels)).mean(0)
    return net.eval()


class BandReader(nn.Module):
    """A linear classifier that reads one band only: the others can neither help nor harm."""

    def __init__(self, band: int, n_bands: int = 4, side: int = 16) -> None:
        super().__init__()
        index = SpectralPartition(n_bands).index(side, side)
        weight = torch.randn(5, 3, side, side, generator=generator(3))
        self.weight = nn.Parameter(keep_bands(weight, index, [band]))

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.weight)


def images(n: int = 6, side: int = 16, channels: int = 3) -> Tensor:
    """Images well inside [0, 1]: small perturbations are never cut off."""
    return 0.3 + 0.4 * torch.rand(n, channels, side, side, generator=generator(1))


class Spoilt(nn.Module):
    """A net whose gradients, or answers, are of no use to an attack."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.how = small_net(), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "rounded":
            return self.net((x * 255).round() / 255)
        if self.how == "saturated":  # the true class by far more than float32 can tell from 1
            return self.net(x) * 1e6
        if self.how == "not finite":  # the square root of 0 has an infinite slope
            return self.net(x) + (x - x.detach()).abs().sqrt().sum()
        if self.how == "dropout":
            return nn.functional.dropout(self.net(x), training=True)
        if self.how == "no_grad":
            with torch.no_grad():
                return self.net(x)
        if self.how == "detach":
            return self.net(x.detach()) + 0 * self.net[0].weight.sum()
        if self.how == "inference":
            with torch.inference_mode():
                return self.net(x)
        if self.how == "numpy":
            return torch.from_numpy(self.net(x).detach().numpy())
        if self.how == "argmax":
            return nn.functional.one_hot(self.net(x).argmax(1), 5).float() * 9 - 4
        return Backless.apply(self.net(x))  # type: ignore[no-any-return]


class Backless(torch.autograd.Function):
    """Fails in the backward pass."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        raise NotImplementedError("no kernel for this")
