"""Ways of running the model: half precision, faster forward passes, CUDA graphs."""

from __future__ import annotations

import numpy as np
import torch

from device_checks.checks import Notes, check
from device_checks.nets import (
    PROTOCOL,
    SAME_DEVICE,
    Aside,
    Halved,
    SmallNet,
    Waiting,
    Writing,
    data,
    settled,
    with_steps,
)
from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.inference.forward import Forward, Graphed
from iaside_plugins.inference.tuning import HALF_TOLERANCE, TOLERANCE


@check()
def half_precision(device: torch.device, notes: Notes) -> None:
    single = spectral_importance(SmallNet().to(device), data(), PROTOCOL)
    for precision in ("bfloat16", "float16") if device.type == "cuda" else ("bfloat16",):
        found = spectral_importance(SmallNet().to(device), data(), PROTOCOL, precision=precision)
        mean = float(np.abs(found.values - single.values).mean())
        notes.small(f"{precision}: mean difference of values", mean, HALF_TOLERANCE)
        notes.near(f"{precision}: signed score", found.signed_score, single.signed_score, 0.1)


@check()
def model_that_returns_halves(device: torch.device, notes: Notes) -> None:
    single = spectral_importance(SmallNet().to(device), data(), PROTOCOL)
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    found = spectral_importance(Halved().to(device, dtype), data(), PROTOCOL)
    mean = float(np.abs(found.values - single.values).mean())
    notes.small("mean difference of values", mean, HALF_TOLERANCE)


@check()
def forwards_fast(device: torch.device, notes: Notes) -> None:
    for net in (SmallNet, Writing):
        plain = spectral_importance(net().to(device), data(), PROTOCOL).values
        for size in (64, "auto"):
            protocol = Protocol(4, forwards="fast")
            found = spectral_importance(net().to(device), data(), protocol, batch_size=size)
            taken = ", ".join(found.forwards) or "no step taken"
            notes.near(f"{net.__name__}, batch {size}: {taken}", found.values, plain, 2 * TOLERANCE)


@check(cuda_only=True, slow=True)
def forwards_compiled(device: torch.device, notes: Notes) -> None:
    plain = spectral_importance(SmallNet().to(device), data(), PROTOCOL)
    protocol = Protocol(4, forwards="compiled")
    found = spectral_importance(SmallNet().to(device), data(), protocol)
    notes.near(f"values: {found.forwards}", found.values, plain.values, 2 * TOLERANCE)


@check()
def steps_one_by_one(device: torch.device, notes: Notes) -> None:
    """Every step that this device has, taken whether it gains or not."""
    probe, labels = (one.to(device) for one in data())
    ways = [("channels_last",), ("fold_batch_norms",), ("channels_last", "fold_batch_norms")]
    if device.type == "cuda":
        ways += [("cuda_graph",), (*ways[-1], "cuda_graph")]
    for net in (SmallNet().to(device), Writing().to(device)):
        plain = spectral_importance(net, data(), PROTOCOL).values
        for steps in ways:
            forward = with_steps(Forward(net, device), steps, probe, labels)
            with settled(forward):
                found = spectral_importance(net, data(), Protocol(4, forwards="fast"))
            name = f"{type(net).__name__}: {', '.join(steps)}"
            notes.holds(f"{name}, taken", found.forwards == steps)
            notes.near(name, found.values, plain, 10 * SAME_DEVICE)


@check(cuda_only=True)
@torch.no_grad()
def cuda_graphs(device: torch.device, notes: Notes) -> None:
    """Graphs of several shapes give the model's logits, also of one that writes into its input."""
    for net in (SmallNet().to(device), Writing().to(device), Aside().to(device)):
        with torch.cuda.device(device):
            graphed, images = Graphed(net), data(8)[0].to(device)
            for k in range(5):
                for rows in (8, 3):
                    x = images.roll(k, 0)[:rows].clone()
                    found, expected = graphed(x.clone()).clone(), net(x.clone())
                    name = f"{type(net).__name__}, pass {k}, {rows} rows"
                    notes.near(name, found, expected, SAME_DEVICE)
            notes.holds(f"{type(net).__name__}: two graphs", len(graphed._captured) == 2)


@check(cuda_only=True)
@torch.no_grad()
def model_that_cannot_be_captured(device: torch.device, notes: Notes) -> None:
    """It runs as before, and torch's allocator and generators are as good as before."""
    net = Waiting().to(device)
    images = data(8)[0].to(device)
    with torch.cuda.device(device):
        graphed = Graphed(net)
        for k in range(4):
            notes.near(f"pass {k}", graphed(images.clone()), net(images), SAME_DEVICE)
        notes.holds("no graph", not graphed._captured)
        torch.cuda.empty_cache()
        torch.rand(4, device=device).sum().item()
        notes.holds("waiting is allowed again", torch.cuda.get_sync_debug_mode() == 0)
        stream = torch.cuda.current_stream(device)
        notes.holds("the stream", stream == torch.cuda.default_stream(device))
