"""What a Fourier heat map of a model costs, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.heatmap.basis import default_step, half_frequencies
from iaside_plugins.workflows.probe import in_words, seconds_an_image


@dataclass(frozen=True)
class HeatMapCost:
    """What a heat map costs.

    Attributes:
        n_images: Images.
        n_frequencies: Frequencies up to symmetry.
        seconds: Time in the model, from a probe.
    """

    n_images: int
    n_frequencies: int
    seconds: float

    def __str__(self) -> str:
        total = self.n_images * (1 + self.n_frequencies)
        return (
            f"cost: {self.n_images:,} images x (1 + {self.n_frequencies:,} frequencies) = "
            f"{total:,} forward passes, about {in_words(self.seconds)} in the model (a probe)"
        )


def heatmap_cost(
    model: Classifier,
    images: ImageFolderData,
    step: int | None = None,
    *,
    batch_size: int | str = 64,
    precision: str = "float32",
) -> HeatMapCost:
    """Return what a heat map will cost, from one timed pass over a batch of noise.

    Args:
        model: The model.
        images: The images.
        step: As for `fourier_heatmap`.
        batch_size: As for `fourier_heatmap`.
        precision: As for `fourier_heatmap`.

    Raises:
        InputError: For a step below 1.
    """
    shape = tuple(next(iter(images))[0].shape[1:])
    size = shape[1:]
    n = len(half_frequencies(size, default_step(size) if step is None else step))
    each = seconds_an_image(model, shape, batch_size, precision)
    return HeatMapCost(len(images.records), n, each * len(images.records) * (1 + n))
