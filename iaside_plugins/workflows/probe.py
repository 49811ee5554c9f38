"""How long a model takes for one image, from one timed pass."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.inference.checks import model_device
from iaside_plugins.inference.runner import ModelRunner


def seconds_an_image(
    model: Classifier,
    shape: Sequence[int],
    batch_size: int | str = 64,
    precision: str = "float32",
) -> float:
    """Return the time of a forward pass, of one image in a batch of noise.

    Args:
        model: The model.
        shape: Channels, height and width.
        batch_size: Images in one forward pass, of which 64 at most are timed.
        precision: Of the pass.
    """
    runner = ModelRunner(model, model_device(model), batch_size, precision)
    generator = torch.Generator().manual_seed(0)
    n_rows = min(runner.n_rows, 64)
    batch = torch.rand(n_rows, *shape, generator=generator).to(runner.device, runner.dtype)
    with torch.no_grad():
        runner.logits(batch.clone())[0, 0].item()  # warms up
        start = time.perf_counter()
        runner.logits(batch.clone())[0, 0].item()
    return (time.perf_counter() - start) / n_rows


def in_words(seconds: float) -> str:
    """Return a time in minutes, or in seconds where it is short."""
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 1.5 else f"{max(seconds, 1):.0f} s"
