"""How long one piece of each kind of work takes, and how much memory, from a few timed tries."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.devices import peak_memory
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.seeds import preserved_generators
from iaside_plugins.spectral.coalition_images import (
    coalition_images,
    coalition_matrix,
    image_components,
)
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import GRADIENT_PASSES, WEIGHTS, Work, n_passes

WARM_ROWS = 4  # of a pass before the timed one
MOST_TRIES, LONG_TRIES = 5, 2.0  # of a call that is timed; seconds after which there is no other


@dataclass(frozen=True)
class Speed:
    """What one piece of work costs on this machine.

    Attributes:
        seconds: Kind of work, see `progress.WEIGHTS`, -> seconds of one.
        memory: Greatest memory of the process so far, of the GPU where the model is on one, in
            bytes; None where it is not known.
        rows: Images in the timed pass.
        pixels: Numbers in one image.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: int | None = None
    rows: int = 0
    pixels: int = 0

    @property
    def weights(self) -> dict[str, float]:
        """Return how many plain forward passes each kind of work takes as long as."""
        each = self.seconds.get("forward", 0.0)
        return {kind: value / each for kind, value in self.seconds.items()} if each else {}

    def of(self, work: Work) -> float:
        """Return the seconds of some work."""
        return n_passes(work, {**dict.fromkeys(WEIGHTS, 0.0), **self.seconds})


def speed_of(
    model: Model,
    shape: Sequence[int],
    *,
    batch_size: int | str = 64,
    precision: str = "float32",
    protocol: Protocol | None = None,
    n_images: int = 64,
    n_devices: int = 1,
    classes: KnownClasses | None = None,
) -> Speed:
    """Return what a forward pass, a gradient and a coalition cost, from a few passes over noise.

    The pass is as large as those of the run will be, and the forwards are plain ones. A gradient
    counts `GRADIENT_PASSES` forward passes: timed alone it lacks what an attack does beside it.

    Args:
        model: The model.
        shape: Channels, height and width.
        batch_size: Images in one forward pass.
        precision: Of the pass.
        protocol: Of the coalitions; none are made without it.
        n_images: Images of the run, which a pass never has more of, each with its coalitions.
        n_devices: Devices that share all of it.
        classes: Those of the labels, where they are known.

    Raises:
        InputError: The model fails, or has another number of outputs than there are classes.
    """
    device = model_device(model)
    runner = ModelRunner(model, device, batch_size, precision)
    passes = 1 if protocol is None else RowLayout(protocol).n_passes
    with preserved_generators(device), torch.no_grad():
        forward, rows = runner.within_memory(
            lambda n: _timed_pass(runner, shape, min(n, max(1, n_images * passes)), classes)
        )
        making = 0.0 if protocol is None else _timed_coalitions(shape, protocol, rows, device)
    seconds = {
        "forward": forward,
        "gradient": GRADIENT_PASSES * forward,
        "coalition": forward + making,
    }
    seconds = {kind: each / n_devices for kind, each in seconds.items()}
    return Speed(seconds, peak_memory(device), rows, math.prod(shape))


def _timed_pass(
    runner: ModelRunner, shape: Sequence[int], n: int, classes: KnownClasses | None
) -> tuple[float, int]:
    """Return the seconds of an image in a forward pass of n, and n."""
    batch = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    batch = batch.to(runner.device, runner.dtype)

    def run(some: Tensor) -> None:
        logits = runner.forward(runner.forward.copy_of(some))
        if torch.is_tensor(logits):  # else the run says what is wrong
            logits.flatten()[:1].sum().item()  # waits for a GPU
            if classes is not None and logits.ndim == 2:
                classes.check(logits.shape[1])

    run(batch[:WARM_ROWS])
    return median_seconds(lambda: run(batch)) / n, n


def _timed_coalitions(
    shape: Sequence[int], protocol: Protocol, n: int, device: torch.device
) -> float:
    """Return the seconds of making one coalition image, in a batch of n."""
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    norm = "chebyshev" if protocol.band_norm == "boxes" else protocol.band_norm
    index = SpectralPartition(protocol.n_bands, norm).index(*shape[1:]).to(device)
    some = np.resize([True, False, True, False, False], (n, protocol.n_bands))

    def run() -> None:
        components = image_components(image, None, index, protocol.n_bands)
        matrix = coalition_matrix(some, components)
        coalition_images(components, matrix, image, np.zeros(n, dtype=bool)).flatten()[0].item()

    run()
    return median_seconds(run) / n


def median_seconds(run: Callable[[], Any]) -> float:
    """Return the time of a call, the median of several if it is short: others use the machine."""
    ends = [time.perf_counter()]
    while len(ends) <= MOST_TRIES and ends[-1] - ends[0] < LONG_TRIES:
        run()
        ends.append(time.perf_counter())
    return float(np.median(np.diff(ends)))
