"""Streams, where the images come from, and flags and devices other than the current ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from device_checks.checks import Notes, check, tf32
from device_checks.every_door import HEAT
from device_checks.nets import CPU, PROTOCOL, SAME_DEVICE, Aside, SmallNet, data
from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.heatmap.run import fourier_heatmap
from iaside_plugins.inference.forward import Graphed
from iaside_plugins.inference.tuning import TOLERANCE


@check(cuda_only=True)
def streams(device: torch.device, notes: Notes) -> None:
    """The caller's stream is not the default one; the model runs on one of its own."""
    expected = spectral_importance(SmallNet().to(device), data(), PROTOCOL).values
    caller = torch.cuda.Stream(device)
    for forwards in ("plain", "fast"):
        for net in (SmallNet, Aside):
            one = net().to(device)
            torch.cuda.synchronize(device)
            with torch.cuda.stream(caller):
                images, labels = data()
                busy = torch.rand(4096, 4096, device=device)
                for _ in range(20):  # so that a missing wait would read too early
                    busy = busy @ busy / 4096
                there = images.to(device, non_blocking=True) + 0 * busy[0, 0].nan_to_num()
                protocol = Protocol(4, forwards=forwards)
                found = spectral_importance(one, (there, labels), protocol, batch_size=32)
                notes.holds("the stream stays", torch.cuda.current_stream(device) == caller)
            notes.near(f"{net.__name__}, {forwards}", found.values, expected, 10 * SAME_DEVICE)


@check()
def where_the_images_come_from(device: torch.device, notes: Notes) -> None:
    """The host, the device, pinned memory, a loader, memory that is written again at once."""
    images, labels = data()
    net, pin = SmallNet().to(device), device.type == "cuda"
    expected = spectral_importance(net, (images, labels), PROTOCOL, batch_size=16).values
    held = images[:1].clone().pin_memory() if pin else images[:1].clone()

    def again() -> Iterator[tuple[Tensor, Tensor]]:
        for image, label in zip(images, labels, strict=True):
            held.copy_(image[None])
            yield held, label[None]
            held.zero_()

    pairs = torch.utils.data.TensorDataset(images, labels)
    sources = {
        "the device": (images.to(device), labels.to(device)),
        "a loader": torch.utils.data.DataLoader(pairs, 4, pin_memory=pin),
        "memory written again": again(),
        "channels last": (images.to(memory_format=torch.channels_last), labels),
        "double": (images.double(), labels),
    }
    for name, source in sources.items():
        found = spectral_importance(net, source, PROTOCOL, batch_size=16)
        notes.near(name, found.values, expected, SAME_DEVICE)
    two = fourier_heatmap(net, again(), **HEAT), fourier_heatmap(net, (images, labels), **HEAT)
    notes.near("heat map, memory written again", two[0].wrong, two[1].wrong, 0)


@check()
def tf32_flags(device: torch.device, notes: Notes) -> None:
    """They stay as they were, and coalition images do not round to TF32 where they allow it."""

    def model(images: Tensor) -> Tensor:  # without products
        low = images[..., ::2].mean(dim=(2, 3)) * 9
        return torch.cat([low, -low[:, :2].square()], dim=1)

    expected = spectral_importance(model, data(), PROTOCOL, device=CPU).values
    for allowed in (True, False):
        with tf32(allowed):
            before = _flags()
            found = spectral_importance(model, data(), PROTOCOL, device=device)
            notes.holds(f"flags, TF32 {'on' if allowed else 'off'}", _flags() == before)
            notes.near(f"values, TF32 {'on' if allowed else 'off'}", found.values, expected, 1e-5)


def _flags() -> tuple[Any, ...]:
    backends = torch.backends
    return (
        torch.get_float32_matmul_precision(),
        backends.cuda.matmul.allow_tf32,
        backends.cudnn.allow_tf32,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
    )


@check(cuda_only=True, n_gpus=2)
def second_gpu(device: torch.device, notes: Notes) -> None:
    """A model on another device than the current one, with graphs on both."""
    expected = spectral_importance(SmallNet(), data(), PROTOCOL).values
    for k in (0, 1):
        other = torch.device("cuda", k)
        for forwards in ("plain", "fast"):
            protocol = Protocol(4, forwards=forwards)
            found = spectral_importance(SmallNet().to(other), data(), protocol)
            notes.near(f"cuda:{k}, {forwards}", found.values, expected, 2 * TOLERANCE)
        graphed, x = Graphed(SmallNet().to(other)), data()[0].to(other)
        with torch.no_grad(), torch.cuda.device(other):
            for _ in range(3):
                graphed(x)
        notes.holds(f"a graph on cuda:{k}", len(graphed._captured) == 1)
