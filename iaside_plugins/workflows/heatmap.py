"""What a Fourier heat map costs, and other views of the same bands on the same images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.errors import MissingExtraError
from iaside_plugins.heatmap.basis import default_step, half_frequencies
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.heatmap.views import (
    BandView,
    BandViews,
    attack_view,
    importance_view,
    per_energy_view,
)
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.protocol import Protocol
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.probe import in_words, seconds_an_image
from iaside_plugins.workflows.source import DataSource

NOISE, SEVERITY = "gaussian_noise", 3  # touches every band alike
EPSILON = 0.5  # L2: RobustBench's for CIFAR, imagenet-testbed's for ImageNet
STEPS = 20
EXACT_BANDS = 8  # up to here every coalition is run
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeatMapCost:
    """What a heat map costs.

    Attributes:
        n_images: Images.
        n_frequencies: Frequencies up to symmetry.
        seconds: Time in the model, from a probe.
        n_other: Passes of an image for the other views, an attack's step counted as three.
    """

    n_images: int
    n_frequencies: int
    seconds: float
    n_other: int = 0

    def __str__(self) -> str:
        total = self.n_images * (1 + self.n_frequencies + self.n_other)
        other = f" + {self.n_other:,} of the other views" if self.n_other else ""
        return (
            f"cost: {self.n_images:,} images x (1 + {self.n_frequencies:,} frequencies{other}) = "
            f"{total:,} forward passes, about {in_words(self.seconds)} in the model (a probe)"
        )


def heatmap_cost(
    model: Classifier,
    images: ImageFolderData,
    step: int | None = None,
    *,
    other: Protocol | None = None,
    batch_size: int | str = 64,
    precision: str = "float32",
) -> HeatMapCost:
    """Return what a heat map will cost, from one timed pass over a batch of noise.

    Args:
        model: The model.
        images: The images.
        step: As for `fourier_heatmap`.
        other: Protocol of the other views, see `band_views`; None without them.
        batch_size: As for `fourier_heatmap`.
        precision: As for `fourier_heatmap`.

    Raises:
        InputError: For a step below 1.
    """
    shape = tuple(next(iter(images))[0].shape[1:])
    size = shape[1:]
    n = len(half_frequencies(size, default_step(size) if step is None else step))
    each = seconds_an_image(model, shape, batch_size, precision)
    n_other = 0
    if other is not None:
        passes = 2**other.n_bands if other.estimator == "exact" else 2 * other.n_bands
        n_other = 2 * passes + 3 * STEPS * other.n_bands
    n_images = len(images.records)
    return HeatMapCost(n_images, n, each * n_images * (1 + n + n_other), n_other)


def views_protocol(partition: SpectralPartition, seed: int) -> Protocol:
    """Return the protocol of the other views: the heat map's bands, exact up to eight."""
    m = partition.n_bands
    estimator = "exact" if m <= EXACT_BANDS else "permutation"
    return Protocol(m, partition.norm, estimator=estimator, seed=seed)


def band_views(
    model: Classifier,
    source: DataSource,
    images: ImageFolderData,
    heat_map: FourierHeatMap,
    *,
    folder: Path | None = None,
    **options: Any,
) -> BandViews:
    """Return importance, band-restricted attack and contribution per energy beside a heat map.

    The attack is L2 PGD inside one band, where Foolbox is installed; the contributions are those to
    the error under Gaussian noise of severity 3.

    Args:
        model: The model.
        source: Where the images come from.
        images: The images of the heat map.
        heat_map: Its heat map.
        folder: Where finished work is stored, or None.
        options: batch_size, precision and show_progress of the passes.
    """
    protocol = views_protocol(heat_map.partition, heat_map.seed)
    where = {name: None if folder is None else folder / name for name in ("importance", "explain")}
    views = [
        importance_view(
            spectral_importance(model, images, protocol, resume=where["importance"], **options)
        )
    ]
    attacked = _attacked(model, images, protocol, folder, bool(options.get("show_progress")))
    views += [] if attacked is None else [attacked]
    pairs = explain_plan(source, model, corruptions=NOISE, severities=(SEVERITY,))
    split = error_decomposition(model, pairs, protocol, resume=where["explain"], **options)
    return BandViews.of(heat_map, *views, per_energy_view(split))


def _attacked(
    model: Classifier,
    images: ImageFolderData,
    protocol: Protocol,
    folder: Path | None,
    show_progress: bool,
) -> BandView | None:
    """Return errors under L2 PGD inside each band; None, said in the log, without Foolbox."""
    try:
        foolbox_adapter.check_installed()
    except MissingExtraError as error:
        _log.warning("no view of band-restricted attacks: %s", error)
        return None
    attacks = {
        f"band_{band}": foolbox_adapter.BandRestrictedPGD(
            [band],
            n_bands=protocol.n_bands,
            band_norm=protocol.band_norm,
            steps=STEPS,
            rel_stepsize=2 / STEPS,
            keep="bounds",
        )
        for band in range(protocol.n_bands)
    }
    found = foolbox_adapter.robust_evaluation(
        model,
        images,
        attacks,
        EPSILON,
        seed=protocol.seed,
        resume=None if folder is None else folder / "attack",
        show_progress=show_progress,
    )
    wrong = np.stack([outcome.is_adv[0] for outcome in found.outcomes], axis=1)
    return attack_view(wrong | ~found.correct[:, None], found.ids, EPSILON)
