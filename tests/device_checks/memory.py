"""Where memory runs out, rows are halved and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from device_checks.checks import Notes, check
from device_checks.nets import MIB, PROTOCOL, SAME_DEVICE, Hungry, SmallNet, data
from iaside_plugins import Protocol, spectral_importance


@check()
def out_of_memory(device: torch.device, notes: Notes) -> None:
    """Rows are halved where memory really runs out, nothing is lost, nothing stays allocated."""
    images = data(40)
    expected = spectral_importance(SmallNet().to(device), images, PROTOCOL).values
    # On a CPU faster passes of few rows are tried first.
    for forwards in ("plain", "fast") if device.type == "cuda" else ("plain",):
        Hungry.tried.clear()
        net = Hungry().to(device)
        before = _allocated(device)
        with _room(device, 1200 * MIB):
            protocol = Protocol(4, forwards=forwards)
            found = spectral_importance(net, images, protocol, batch_size="auto")
        notes.near(f"values, {forwards}", found.values, expected, 10 * SAME_DEVICE)
        most, ran = max(Hungry.tried), Hungry.tried[-1]
        notes.holds(f"{forwards}: {most} rows tried, {ran} ran", most > ran)
        kept = (_allocated(device) - before) / MIB
        notes.small(f"{forwards}: MiB still allocated", kept, 64)


def _allocated(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    return torch.cuda.memory_allocated(device)


@contextmanager
def _room(device: torch.device, n_bytes: int) -> Iterator[None]:
    """Leave this process so much memory beyond what it holds."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    share = (torch.cuda.memory_reserved(device) + n_bytes) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
