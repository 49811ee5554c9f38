"""What a Fourier heat map costs, and other views of the same bands on the same images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from iaside_plugins.adapters import foolbox_adapter
from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.display.cost import Cost
from iaside_plugins.errors import MissingExtraError
from iaside_plugins.heatmap.basis import frequency_step, half_frequencies
from iaside_plugins.heatmap.result import FourierHeatMap
from iaside_plugins.heatmap.run import heatmap_work
from iaside_plugins.heatmap.views import (
    BandView,
    BandViews,
    attack_view,
    importance_view,
    per_energy_view,
)
from iaside_plugins.importance.chance import not_judged
from iaside_plugins.importance.run import importance_work, spectral_importance
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.progress import Work, added, times
from iaside_plugins.workflows.cost import probed
from iaside_plugins.workflows.explain import PerturbedImages, explain_plan
from iaside_plugins.workflows.source import DataSource

NOISE, SEVERITY = "gaussian_noise", 3  # touches every band alike
EPSILON = 0.5  # L2: RobustBench's for CIFAR, imagenet-testbed's for ImageNet
STEPS = 20
_log = logging.getLogger(__name__)


def heatmap_cost(
    model: Classifier,
    images: ImageFolderData,
    step: int | None = None,
    grid: int | None = None,
    *,
    other: Protocol | None = None,
    **options: Any,
) -> Cost:
    """Return what a heat map will cost.

    Args:
        model: The model.
        images: The images.
        step: As for `fourier_heatmap`.
        grid: As for `fourier_heatmap`.
        other: Protocol of the other views, see `band_views`; None without them.
        options: batch_size and precision of the passes.

    Raises:
        InputError: For a step below 1, a grid below 2, or both.
    """
    size = tuple(next(iter(images))[0].shape[2:])
    n_images = len(images.records)
    n = len(half_frequencies(size, frequency_step(size, step, grid)))
    noise = f"noise, {n_images:,} images x (1 + {n:,} frequencies)"
    parts: dict[str, Work] = {noise: times(heatmap_work(n), n_images)}
    half = max(2, max(size) // frequency_step(size, step, grid) // 2)
    shorter = {noise: f"fewer frequencies, --grid {half}, or fewer images, --n-images"}
    if other is not None:
        each = importance_work(other)
        views = added(each, each, {"gradient": STEPS * other.n_bands})
        parts["other views"] = times(views, n_images)
        shorter["other views"] = "leave --views out, or take fewer images, --n-images"
    return Cost(parts, probed(model, images, protocol=other, **options), shorter)


def views_pairs(source: DataSource, model: Classifier) -> PerturbedImages:
    """Return the noisy images of the other views, checked before any of the work.

    Raises:
        InputError: As `explain_plan`, for a single image for one.
    """
    return explain_plan(source, model, corruptions=NOISE, severities=(SEVERITY,))


def band_views(
    model: Classifier,
    pairs: PerturbedImages,
    images: ImageFolderData,
    heat_map: FourierHeatMap,
    protocol: Protocol,
    *,
    folder: Path | None = None,
    **options: Any,
) -> BandViews:
    """Return importance, band-restricted attack and contribution per energy beside a heat map.

    The attack is L2 PGD inside one band, where Foolbox is installed; the contributions are those to
    the error under Gaussian noise of severity 3.

    Args:
        model: The model.
        pairs: The images with noise, see `views_pairs`.
        images: The images of the heat map.
        heat_map: Its heat map.
        protocol: Of importance and contributions, with the bands of the heat map.
        folder: Where finished work is stored, or None.
        options: batch_size, precision and show_progress of the passes.
    """
    where = {name: None if folder is None else folder / name for name in ("importance", "explain")}
    with not_judged():  # the heat map judged the same images
        views = [
            importance_view(
                spectral_importance(model, images, protocol, resume=where["importance"], **options)
            )
        ]
        attacked = _attacked(model, images, protocol, folder, bool(options.get("show_progress")))
        views += [] if attacked is None else [attacked]
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
