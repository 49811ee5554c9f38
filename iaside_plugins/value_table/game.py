"""The game: coalitions of an image's bands through a model, to log-likelihoods in nats.

One FFT an image; a batch of coalition images is one matrix product with the image's bands, into
memory that is used again. Nothing waits for the device between batches: what an image gives is
copied to the host behind the passes of the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iaside_plugins.inference.checks import check_in_range, non_finite
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.protocol import Protocol
from iaside_plugins.shapley.coalitions import BoolMatrix
from iaside_plugins.spectral.band_maps import image_size
from iaside_plugins.spectral.coalition_images import (
    channels_last_components,
    coalition_images,
    coalition_matrix,
    image_components,
)
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS
from iaside_plugins.tensors import on_device, to_device
from iaside_plugins.value_table.table import ValueTable, coalition_batches


@dataclass
class Game:
    """Runs coalitions of images through one model.

    Attributes:
        runner: Runs the model, as the protocol's ``forwards`` say.
        protocol: The choices that change a number.
    """

    runner: ModelRunner
    protocol: Protocol
    _black: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    _baseline: tuple[Tensor, Tensor] | None = None
    _index: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _matrix: dict[Any, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Model,
        protocol: Protocol,
        device: torch.device,
        batch_size: int | str = 64,
        precision: str = "float32",
        choices: Mapping[str, Any] | None = None,
    ) -> Game:
        """Return the game of a model under a protocol; the other arguments are `ModelRunner`'s."""
        runner = ModelRunner(model, device, batch_size, precision, protocol.forwards, choices)
        return cls(runner, protocol)

    @property
    def n_forward(self) -> int:
        """Rows that went through the model so far; a black image counts once for each size."""
        return self.runner.n_forward + len(self._black)

    def log_likelihood(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return log softmax(logits / temperature) of the labels, (N,), in nats."""
        return self.runner.log_likelihood(logits, labels, self.protocol.temperature)

    def start(
        self,
        images: Tensor,
        baselines: Tensor | None,
        labels: Tensor,
        coalitions: BoolMatrix,
        names: Sequence[str],
        *,
        shared: bool = False,
    ) -> ValueTable:
        """Start the passes of some images over coalitions of their bands.

        On a GPU they run on after this returns; `ValueTable.wait` waits for them.

        Args:
            images: (N, C, H, W) in [0, 1].
            baselines: Absence baselines (N, C, H, W), or None for black ones.
            labels: (N,) int64.
            coalitions: (R, n_bands) bool, or (N, R, n_bands) where each image has its own; the
                empty one first, the grand one last.
            names: What the images are called in error messages.
            shared: Whether all images have the one baseline (1, C, H, W), as their common empty
                coalition: it runs once, alone, also for further calls one after the other.

        Raises:
            InputError: For labels out of range, and with ``batch_size="auto"`` where memory runs
                out for a single row.
        """
        given = shared or baselines is None or self.protocol.black_empty

        def run(n: int) -> ValueTable:
            table = ValueTable.empty(coalitions, names, self.runner, given=given)
            for k in range(0, len(images), n):
                some = slice(k, k + n)
                own = baselines if baselines is None or shared else baselines[some]
                self._run(table, some, images[some], own, labels[some])
            table.start_copy()
            return table

        with on_device(self.runner.device):
            return self.runner.within_memory(run)

    def _run(
        self,
        table: ValueTable,
        places: slice,
        images: Tensor,
        baselines: Tensor | None,
        labels: Tensor,
    ) -> None:
        """Fill the rows of at most `n_rows` images, whose places in the table are given."""
        runner, coalitions, top_label = self.runner, table.running, int(labels.max())
        coalitions = coalitions if coalitions.ndim == 2 else coalitions[places]
        images = to_device(images, runner.device, runner.dtype)
        labels = to_device(labels, runner.device)
        components = self._components(images, baselines)
        matrix = self._coalition_matrix(coalitions, components)
        bands = components[:, : self.protocol.n_bands]
        table.energy[places] = bands.square().sum(dim=2)
        if runner.needs_tuning:
            self._tune(components, matrix, images, labels)
        if runner.forward.channels_last:
            components = channels_last_components(components, images)
        if table.n_given:
            if baselines is None or self.protocol.black_empty:
                logits = self._black_logits(images, top_label)
            else:
                logits = self._baseline_logits(baselines, top_label)
            values = self.log_likelihood(logits.expand(len(images), -1), labels)
            table.fill_empty(places, logits, values, labels)
        per_pass = max(1, runner.n_rows // len(images))
        for some, grand in coalition_batches(coalitions, per_pass):
            batch = self._batch(components, matrix[..., some, :], images, grand)
            logits = runner.logits(batch, top_label)
            values = self.log_likelihood(logits, labels.repeat_interleave(len(grand)))
            table.fill(places, some, logits, values, labels)

    def _components(self, images: Tensor, baselines: Tensor | None) -> Tensor:
        """Return `image_components`; the map of bands stays on the device."""
        size = image_size(images)
        partition = SpectralPartition(self.protocol.n_bands, self.protocol.band_norm)
        if size not in self._index:
            self._index[size] = partition.index(*size).to(self.runner.device)
        if baselines is not None:
            baselines = to_device(baselines, self.runner.device, self.runner.dtype)
        return image_components(images, baselines, self._index[size], partition.n_bands)

    def _coalition_matrix(self, coalitions: BoolMatrix, components: Tensor) -> Tensor:
        """Return `coalition_matrix`, kept on the device while the coalitions are the same."""
        key = (coalitions.tobytes(), components.shape[1])
        if key not in self._matrix:
            self._matrix = {key: coalition_matrix(coalitions, components)}
        return self._matrix[key]

    def _tune(self, components: Tensor, matrix: Tensor, images: Tensor, labels: Tensor) -> None:
        """Choose how the model is run, by the black image and coalitions of the first image."""
        own = matrix if matrix.ndim == 2 else matrix[0]
        per_image = min(max(1, self.runner.n_rows // len(images)), len(own))
        n_probe = self.runner.n_probe(len(own), len(images) * per_image)
        chosen = np.linspace(0, len(own) - 1, n_probe).astype(int)
        some = own[torch.from_numpy(chosen).to(matrix.device)]
        none_grand = np.zeros(len(chosen), dtype=bool)
        probe = self._in_range(coalition_images(components[:1], some, images[:1], none_grand))
        probe[0] = 0  # the empty coalition, whose value is in every row
        self.runner.tune(probe, labels[:1])

    def _batch(
        self, components: Tensor, matrix: Tensor, images: Tensor, grand: BoolMatrix
    ) -> Tensor:
        """Return the model's input (N * R, C, H, W), in memory that is used again."""
        buffer = self.runner.buffer(len(images) * matrix.shape[-2] * components.shape[2])
        last = self.runner.forward.channels_last
        return self._in_range(
            coalition_images(components, matrix, images, grand, buffer, channels_last=last)
        )

    def _in_range(self, batch: Tensor) -> Tensor:
        """Apply the protocol's range handling, in place."""
        return RANGE_HANDLINGS[self.protocol.range_handling].apply(batch)

    def _baseline_logits(self, baseline: Tensor, top_label: int) -> Tensor:
        """Return the logits (1, n_classes) of a baseline (1, C, H, W), kept while it is the same.

        It always runs alone, so that its value does not depend on what it is the baseline of.
        """
        if self._baseline is None or not torch.equal(self._baseline[0], baseline):
            image = to_device(baseline, self.runner.device, self.runner.dtype).clone()
            logits = self.runner.logits(self._in_range(image), top_label).clone()
            self._baseline = baseline, logits
        return self._baseline[1]

    def _black_logits(self, images: Tensor, top_label: int) -> Tensor:
        """Return the logits (1, n_classes) of a black image, evaluated once for every shape."""
        runner, shape = self.runner, tuple(images.shape[1:])
        if shape not in self._black:
            black = torch.zeros(1, *shape, dtype=runner.dtype, device=runner.device)
            black = runner.forward.to_memory_format(black)
            logits = runner.logits(black, top_label, counted=False).clone()
            if not bool(torch.isfinite(logits).all()):
                raise non_finite("a black image")
            self._black[shape] = logits
        check_in_range(top_label, self._black[shape].shape[1])  # of an image after the first
        return self._black[shape]
