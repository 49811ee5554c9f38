"""Two models side by side on the same images, until their difference is known closely enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.importance.stopping import CHECK_EVERY, Stopping
from iaside_plugins.inference.checks import model_device
from iaside_plugins.protocol import Protocol
from iaside_plugins.value_table.game import Game, Model
from iaside_plugins.value_table.stream import check_max_images, count, expect, items, progress_bar


def paired_importance(
    first: Model,
    second: Model,
    data: Any,
    protocol: Protocol | None = None,
    *,
    target_error: float,
    target: str = "signed_score",
    device: torch.device | str | None = None,
    batch_size: int = 64,
    precision: str = "float32",
    resume: Path | str | None = None,
    max_images: int | None = None,
    show_progress: bool = False,
) -> tuple[SpectralImportance, SpectralImportance]:
    """Spectral importance of two models on as many images as their difference needs.

    ``compare(*paired_importance(...))`` gives the differences with their intervals.

    Args:
        first: As for `spectral_importance`.
        second: Another, of the same input size.
        data: As for `spectral_importance`, in random order; both models see the same images.
        protocol: Any whose rows depend on one image alone: not with the "replacement" absence or
            the released script's rescaling of batches.
        target_error: Stop once the half-width of the target is at most this (looked at every 25
            images from 100 on).
        target: The difference of the "signed_score" or of the "score", or the "sign" of every
            band's difference of Shapley values (see `stopping.Stopping`).
        device: Where both models are; by default where their parameters are.
        batch_size: Rows in one forward pass.
        precision: Of the forward passes, as for `spectral_importance`.
        resume: Folder in which finished images of both are kept.
        max_images: Stop after so many images.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: For input that cannot be used, before or as soon as it is met.
    """
    protocol = protocol or Protocol()
    stopping = Stopping(target_error, target, protocol.beta)
    if protocol.absence == "replacement" or protocol.is_script:
        raise InputError(
            "paired_importance needs rows that depend on one image alone: not "
            "absence='replacement' or range_handling='batch_modulus'; run spectral_importance on "
            "each model and compare"
        )
    check_max_images(max_images)
    models = first, second
    for model in models:  # what is wrong with the second must not come out after the first's work
        Game(model, protocol, model_device(model, device), batch_size, precision)
    folders = [None if resume is None else Path(resume) / name for name in ("first", "second")]
    parts: tuple[list[SpectralImportance], list[SpectralImportance]] = [], []
    stream = items(data, protocol.n_bands, max_images)
    with progress_bar(known := count(data, max_images), show_progress) as bar:
        while chunk := list(islice(stream, CHECK_EVERY)):
            batches = [
                (item.image[None], torch.tensor([item.label]), [item.name]) for item in chunk
            ]
            for model, folder, done in zip(models, folders, parts, strict=True):
                done.append(
                    spectral_importance(
                        model,
                        batches,
                        protocol,
                        device=device,
                        batch_size=batch_size,
                        precision=precision,
                        resume=folder,
                    )
                )
            bar.update(len(chunk))
            rows = [np.concatenate([part.per_image for part in done]) for done in parts]
            if len(chunk) == CHECK_EVERY:
                look = stopping.look(*rows)
                expect(bar, look.n_expected, known)
                if look.done:
                    break
    if not parts[0]:
        raise InputError("no images: the data are empty")
    return _joined(parts[0]), _joined(parts[1])


def _joined(parts: Sequence[SpectralImportance]) -> SpectralImportance:
    """One result of the images of several, in their order."""
    values = [part.values for part in parts if part.values is not None]
    return replace(
        parts[0],
        per_image=np.concatenate([part.per_image for part in parts]),
        ends=np.concatenate([part.ends for part in parts]),
        values=np.concatenate(values) if values else None,
        labels=np.concatenate([part.labels for part in parts]),
        ids=tuple(name for part in parts for name in part.ids),
        correct=np.concatenate([part.correct for part in parts]),
        n_forward=sum(part.n_forward for part in parts),
    )
