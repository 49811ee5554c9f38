"""fourier_heatmap: a model and images to its errors under noise of every spatial frequency."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.errors import InputError
from iaside_plugins.heatmap.basis import (
    IntArray,
    basis_images,
    frequency_step,
    half_frequencies,
    noisy_images,
    signs,
)
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.inference.checks import KnownClasses, model_device, non_finite
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import ModelRunner
from iaside_plugins.integers import as_integer
from iaside_plugins.protocol import method_identity
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.tensors import to_device
from iaside_plugins.value_table.progress import Progress, Work, times
from iaside_plugins.value_table.rows import record_choices, restore
from iaside_plugins.value_table.stream import (
    Item,
    check_max_images,
    count,
    items,
    say_copies,
    say_if_by_class,
)

Array = npt.NDArray[np.float64]
NORM_SMALL, NORM_LARGE = 4.0, 15.7  # Yin et al.: CIFAR-10, ImageNet at 224 x 224
SMALL = 64  # pixels: up to here the norm is that of CIFAR-10
FLUSH_EVERY = 128  # rows of one file of the store


def default_norm(image_size: tuple[int, int]) -> float:
    """Return the norm that Yin et al. take: 4 up to 64 pixels, 15.7 at 224 x 224.

    Of other sizes above 64 pixels it has the same mean square a pixel as at 224 x 224.
    """
    if max(image_size) <= SMALL:
        return NORM_SMALL
    return NORM_LARGE * math.sqrt(math.prod(image_size)) / 224


def fourier_heatmap(  # noqa: PLR0913  the public signature
    model: Model,
    data: Any,
    *,
    norm: float | None = None,
    step: int | None = None,
    grid: int | None = None,
    partition: SpectralPartition | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    batch_size: int | str = 64,
    precision: str = "float32",
    resume: Path | str | None = None,
    max_images: int | None = None,
    show_progress: bool = False,
) -> FourierHeatMap:
    """Return the error of a model when noise of one frequency is added, for every frequency.

    The noise is a real Fourier basis image with a random sign for every channel and image, added in
    pixel space before any normalisation; the sum is clipped to [0, 1]. Source: Yin et al.,
    NeurIPS 2019.

    Args:
        model: As for `spectral_importance`.
        data: As for `spectral_importance`; images of one size.
        norm: L2 norm of the noise in each channel, on the scale of [0, 1]; by default 4 up to 64
            pixels and 15.7 at 224 x 224, as Yin et al., see `default_norm`.
        step: Only frequencies that are multiples of it, on each axis; by default all up to 64
            pixels, and about 33 an axis above.
        grid: Instead of a step: so many frequencies on the longer axis at most.
        partition: The bands of the band means; eight square rings by default.
        seed: Of the signs.
        device: The model's own by default; the model is never moved.
        batch_size: Images in one forward pass, or "auto".
        precision: As for `spectral_importance`.
        resume: Folder in which finished images are stored; a run that stopped resumes from there.
        max_images: Stop after so many images.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: For input that cannot be used, before or as soon as it is met; finished images
            are stored in `resume`.
        InputTypeError: For images that are not floating-point numbers.
    """
    bands = partition or SpectralPartition()
    check_max_images(max_images)
    seed = as_integer("seed", seed, 0)
    if norm is not None and not 0 < norm < math.inf:
        raise InputError(f"norm must be above 0, got {norm!r}")
    runner = ModelRunner(model, model_device(model, device), batch_size, precision)
    runner.known_classes = KnownClasses.of(data)
    stream = items(data, bands.n_bands, max_images)
    first = next(stream, None)
    if first is None:
        raise InputError("no images: the data are empty")
    size = (first.image.shape[1], first.image.shape[2])
    norm = default_norm(size) if norm is None else float(norm)
    if norm > (most := math.sqrt(math.prod(size))):
        raise InputError(
            f"norm={norm:g} is beyond any change of {size[0]} x {size[1]} pixels in [0, 1], "
            f"{most:g} at most; of pixels in 0 to 255 divide it by 255"
        )
    step = frequency_step(size, step, grid)
    frequencies = half_frequencies(size, step)
    identity = {
        "heat_map": {"norm": norm, "step": step, "seed": seed, "image_size": list(size)},
        "precision": precision,
        **model_identity(model, resume),
        **method_identity(),
    }
    width = 2 + len(frequencies)  # classes, wrong on the clean image, wrong at every frequency
    store = RowStore(resume, identity, FLUSH_EVERY, width=width, finite=True)
    restore(runner, store)
    done: list[Item] = []
    try:
        known, each = count(data, max_images), heatmap_work(len(frequencies))
        with Progress(None if known is None else times(each, known), show_progress) as bar:
            bar.set_description("noise")
            for item in _of_one_size(chain([first], stream), size):
                if item.digest not in store.rows:
                    wrong = _wrong(runner, item, frequencies, norm, seed)
                    record_choices(runner, store)
                    store.add(item.digest, np.array([float(runner.n_classes or 0), *wrong]))
                done.append(item)
                bar.update(each)
    finally:
        store.flush()
    store.compact()
    digests = [item.digest for item in done]
    say_copies(digests)
    rows = np.stack([store.rows[digest] for digest in digests])
    found = FourierHeatMap(
        norm=norm,
        step=step,
        seed=seed,
        partition=bands,
        image_size=size,
        frequencies=frequencies,
        clean_wrong=rows[:, 1] > 0,
        wrong=rows[:, 2:] > 0,
        labels=np.array([item.label for item in done]),
        ids=tuple(item.name for item in done),
        n_classes=int(rows[0, 0]),
        n_forward=runner.n_forward,
        precision=precision,
    )
    warn_at_chance(int((~found.clean_wrong).sum()), found.n_images, found.n_classes)
    limited = found.n_images == max_images
    say_if_by_class(model, data, found.labels.tolist(), found.n_classes, limited=limited)
    return found


def heatmap_work(n_frequencies: int) -> Work:
    """Return the work of one image: clean, then with noise of every frequency."""
    return {"forward": 1 + n_frequencies}


def _of_one_size(stream: Iterator[Item], size: tuple[int, int]) -> Iterator[Item]:
    """Yield images; raise InputError for one of another size than the first."""
    for item in stream:
        if tuple(item.image.shape[1:]) != size:
            raise InputError(
                f"expected images of one size, {size[0]} x {size[1]} as the first, got "
                f"{item.image.shape[1]} x {item.image.shape[2]} ({item.name}); crop them"
            )
        yield item


@torch.no_grad()
def _wrong(runner: ModelRunner, item: Item, frequencies: IntArray, norm: float, seed: int) -> Array:
    """Return whether an image is misclassified clean, then at every frequency (1 + F,)."""
    image = to_device(item.image, runner.device, runner.dtype)
    drawn = torch.from_numpy(signs(item.digest, frequencies, len(image), seed))
    sign = to_device(drawn, runner.device, runner.dtype)

    def logits(n_rows: int) -> Tensor:
        parts = [runner.logits(image[None].clone(), item.label).clone()]
        n_parts = -(-len(frequencies) // n_rows)
        for part in np.array_split(np.arange(len(frequencies)), n_parts):
            basis = basis_images(frequencies[part], image.shape[1:], runner.dtype, runner.device)
            noisy = noisy_images(image, basis, sign[part[0] : part[-1] + 1], norm)
            runner.tune_if_needed(noisy, item.label)
            parts.append(runner.logits(noisy, item.label).clone())  # a model may reuse its output
        return torch.cat(parts)

    found = runner.within_memory(logits)
    if not bool(torch.isfinite(found).all()):
        raise non_finite(f"image {item.name}")
    return np.asarray((found.argmax(dim=1) != item.label).double().cpu().numpy())
