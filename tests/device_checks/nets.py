"""Tiny networks and images, and the bounds of what is compared."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

import oracles
import torch
from torch import Tensor, nn

from iaside_plugins import Protocol
from iaside_plugins.inference import runner
from iaside_plugins.inference.forward import Forward
from iaside_plugins.inference.tuning import tune

CPU = torch.device("cpu")
ROUNDING = 1e-4  # nats: float32 sums in another order, at logits of a few units
SAME_DEVICE = 1e-5  # nats: the same device, other batches or layouts
PROTOCOL = Protocol(4)
MIB = 2**20


class SmallNet(nn.Module):
    """Two convolutions with batch norms, five classes; `before` is called with the images."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
                *(nn.Conv2d(8, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            )
            self.head = nn.Linear(64, 5)
            for norm in (self.features[1], self.features[4]):
                nn.init.uniform_(norm.weight, 0.5, 3)
                nn.init.uniform_(norm.running_mean, -0.3, 0.3)
                nn.init.uniform_(norm.running_var, 0.1, 1)
        self.eval()

    def before(self, images: Tensor) -> Tensor:
        return images

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(self.before(images))
        return self.head(nn.functional.adaptive_avg_pool2d(features, 2).flatten(1))


class Writing(SmallNet):
    """Normalises its input in place."""

    def before(self, images: Tensor) -> Tensor:
        return images.sub_(0.5).mul_(2)


class Waiting(SmallNet):
    """Asks the device for a number in every pass, which no graph can hold."""

    def before(self, images: Tensor) -> Tensor:
        return images if float(images.sum()) > -math.inf else images * 0


class Aside(SmallNet):
    """Runs on a stream of its own, and joins the caller's."""

    def forward(self, images: Tensor) -> Tensor:
        own, caller = _stream(images.device), torch.cuda.current_stream()
        own.wait_stream(caller)
        with torch.cuda.stream(own):
            logits = super().forward(images)
        caller.wait_stream(own)
        return logits  # whose memory is used again by `own` alone, which waits for the caller


class Halved(SmallNet):
    """Weights and logits in half precision, images in float32."""

    def before(self, images: Tensor) -> Tensor:
        return images.to(self.head.weight.dtype)


class Hungry(SmallNet):
    """Takes 8 MiB more an image; on a CPU it says that there is room for 20 images."""

    tried: ClassVar[list[int]] = []  # of all copies

    def before(self, images: Tensor) -> Tensor:
        self.tried.append(len(images))
        if images.device.type == "cpu":
            if len(images) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return images
        return images + torch.zeros(len(images), 2 * MIB, device=images.device)[:, :1, None, None]


@functools.cache
def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)


def data(n_images: int = 10) -> tuple[Tensor, Tensor]:
    """Images of 12 pixels on the CPU, three of four of the class that `SmallNet` sees."""
    images, labels = oracles.sample(n_images, n_classes=5)
    with torch.no_grad():
        seen = SmallNet()(images).argmax(dim=1)
    return images, torch.where(torch.arange(n_images) % 4 > 0, seen, labels)


def perturbed(images: Tensor) -> Tensor:
    """The images with noise."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    return (images + 0.4 * (noise - 0.5)).clamp(0, 1)


def with_steps(plain: Forward, steps: Sequence[str], probe: Tensor, labels: Tensor) -> Forward:
    """The forward pass with these steps, whether they gain anything or not."""
    kind = "compiled" if "compile" in steps else "fast"
    return tune(plain, kind, probe, labels, dict.fromkeys(steps, True))


@contextmanager
def settled(forward: Forward) -> Iterator[None]:
    """Let runs with ``forwards="fast"`` or in half precision take this forward pass, untried."""
    with mock.patch.object(runner, "tune", return_value=forward):
        yield
