"""Two models on the same images: paired differences, each with its interval over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.display.html import html_table
from iaside_plugins.errors import InputError, InputTypeError
from iaside_plugins.importance import ties
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.importance.result import PREDICTED, SpectralImportance
from iaside_plugins.importance.run import ImportanceRun, importance_work
from iaside_plugins.importance.stopping import CHECK_EVERY, Stopping
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.protocol import Protocol, protocol_or
from iaside_plugins.shapley.score import importance_distribution, score, signed_score
from iaside_plugins.stats.intervals import jackknife
from iaside_plugins.storage.files import jsonable
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.progress import Progress, times
from iaside_plugins.value_table.rows import prepare_store, restore
from iaside_plugins.value_table.stream import count, items, numbered

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """First model minus second, on the same images; intervals are 95 % paired jackknife.

    Those of the scores are wider where bands tie at a model's minimum (see `ties`).

    Attributes:
        n_images: Number of images K.
        protocol: The protocol of both results.
        shapley_difference: (M,) in nats, with interval (M, 2).
        distribution_difference: (M,), shares, with interval (M, 2).
        score_difference: With interval (2,).
        signed_score_difference: With interval (2,).
    """

    n_images: int
    protocol: Protocol
    shapley_difference: Array
    shapley_difference_interval: Array
    distribution_difference: Array
    distribution_difference_interval: Array
    score_difference: float
    score_difference_interval: Array
    signed_score_difference: float
    signed_score_difference_interval: Array

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name, as JSON values."""
        return {**jsonable(vars(self)), "protocol": self.protocol.to_dict()}

    def __repr__(self) -> str:
        low, high = self.signed_score_difference_interval
        ends = f" [{low:+.3f}, {high:+.3f}]" if self.n_images > 1 else ""
        return (
            f"Comparison({self.n_images} images, {self.protocol.n_bands} bands, signed score "
            f"{self.signed_score_difference:+.3f}{ends})"
        )

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.to_frame())

    def to_frame(self) -> pd.DataFrame:
        """Return one row a band: differences of Shapley values and of shares, with intervals."""
        import pandas as pd

        return pd.DataFrame(
            {
                "band": np.arange(self.protocol.n_bands),
                "shapley_difference": self.shapley_difference,
                "shapley_low": self.shapley_difference_interval[:, 0],
                "shapley_high": self.shapley_difference_interval[:, 1],
                "share_difference": self.distribution_difference,
                "share_low": self.distribution_difference_interval[:, 0],
                "share_high": self.distribution_difference_interval[:, 1],
            }
        )


def compare(first: SpectralImportance, second: SpectralImportance) -> Comparison:
    """Return paired differences (first minus second) of two models on the same images.

    Models may differ in input size as long as the images carry names (`ids`) that say they are
    the same; images without names are known by the digest of their pixels. Their order may differ.

    Raises:
        InputError: If the images, their labels or the protocols differ.
        InputTypeError: For other results, such as error decompositions.
    """
    for one in (first, second):
        if not isinstance(one, SpectralImportance):
            raise InputTypeError(
                f"expected two results of spectral_importance, or two of error_decomposition, got "
                f"{type(one).__name__}"
            )
    if not first.protocol.same(second.protocol):
        raise InputError(
            f"results of different protocols cannot be compared: {first.protocol.protocol_id} "
            f"and {second.protocol.protocol_id}"
        )
    order = same_images(first.ids, second.ids)
    check_same_labels(first, second, range(first.n_images), order)
    m, beta = first.protocol.n_bands, first.protocol.beta
    psi = first.per_image, second.per_image[order]
    rows = np.concatenate(psi, axis=1)

    def difference(statistic: Any) -> Any:
        return jackknife(rows, lambda x: statistic(x[..., :m]) - statistic(x[..., m:]))

    shapley = difference(lambda x: x)
    shares = difference(importance_distribution)
    plain = ties.difference(*psi, lambda shares: score(shares, beta))
    signed = ties.difference(*psi, lambda shares: signed_score(shares, beta))
    return Comparison(
        n_images=first.n_images,
        protocol=first.protocol,
        shapley_difference=shapley.value,
        shapley_difference_interval=shapley.interval,
        distribution_difference=shares.value,
        distribution_difference_interval=shares.interval,
        score_difference=float(plain.value),
        score_difference_interval=plain.interval,
        signed_score_difference=float(signed.value),
        signed_score_difference_interval=signed.interval,
    )


def same_images(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """Return the places of the first result's images in the second, by their ids.

    Raises:
        InputError: If one has other images.
    """
    names, place = numbered(first), {name: k for k, name in enumerate(numbered(second))}
    if set(names) != set(place):
        raise InputError(
            f"expected the same images, got {len(first)} and {len(second)} with "
            f"{len(set(names) & set(place))} in common; for models of different input size pass "
            "the ids of the images with every batch"
        )
    return [place[name] for name in names]


def check_same_labels(
    first: Any, second: Any, places: Sequence[int], others: Sequence[int]
) -> None:
    """Raise InputError if two results explain other classes of the same images.

    Models may each be held against their own predictions, if the data say so.

    Args:
        first: A result with `labels` and `label_space`.
        second: Another one.
        places: Of the images in the first.
        others: Of the same images in the second.
    """
    n_other = int((first.labels[places] != second.labels[others]).sum())
    if n_other and not first.label_space == second.label_space == PREDICTED:
        raise InputError(
            f"expected the same labels, got others for {n_other} of {len(others)} images: measure "
            "both models against the same classes, in one numbering"
        )


def paired_importance(  # noqa: PLR0913  the public signature
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
    """Measure two models side by side on as many images as their difference needs.

    ``compare(*paired_importance(...))`` gives the differences with their intervals.

    Args:
        first: As for `spectral_importance`.
        second: Another, of the same input size.
        data: As for `spectral_importance`, in random order; both models see the same images.
        protocol: Any whose rows depend on one image alone: not with the "replacement" absence or
            the released script's rescaling of batches.
        target_error: Stop once the half-width of the target is at most this (checked every 25
            images from 100 on).
        target: The difference of the "signed_score" or of the "score", or the "sign" of every
            band's difference of Shapley values (see `stopping.Stopping`).
        device: Where both models are; by default where their parameters are.
        batch_size: Rows in one forward pass.
        precision: Of the forward passes, as for `spectral_importance`.
        resume: Folder in which finished images of both are stored.
        max_images: Stop after so many images.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: For input that cannot be used, before or as soon as it is met.
    """
    protocol = protocol_or(protocol, Protocol())
    stopping = Stopping(target_error, target, protocol.beta)
    if protocol.needs_all_images or protocol.is_script:
        choice = "range_handling" if protocol.is_script else "absence"
        raise InputError(
            "paired_importance needs rows that depend on one image alone: not "
            f"{choice}={getattr(protocol, choice)!r}; run spectral_importance on each model and "
            "compare"
        )
    games, runs = [], []
    for name, model in (("first", first), ("second", second)):
        where = model_device(model, device)
        games.append(Game.of(model, protocol, where, batch_size, precision))
        games[-1].runner.known_classes = KnownClasses.of(data)
        runs.append(
            ImportanceRun(
                model,
                data,
                protocol,
                precision=precision,
                resume=None if resume is None else Path(resume) / name,
                max_images=max_images,
                target_error=None,
            )
        )
    for game, run in zip(games, runs, strict=True):
        prepare_store(run.store, protocol)
        restore(game.runner, run.store)
    stream = items(data, protocol.n_bands, max_images)
    known, each = count(data, max_images), times(importance_work(protocol), 2)
    try:
        with Progress(None if known is None else times(each, known), show_progress) as bar:
            while chunk := list(islice(stream, CHECK_EVERY)):
                for game, run in zip(games, runs, strict=True):
                    run.take(game, chunk)
                bar.update(times(each, len(chunk)))
                if len(chunk) == CHECK_EVERY:
                    check = stopping.check(*(run.per_image for run in runs))
                    bar.set_work(times(each, check.expected(known)))
                    if check.done:
                        break
    finally:
        for run in runs:
            run.store.flush()
    results = [
        run.result(game.n_forward, tuple(game.runner.forward.choices()))
        for game, run in zip(games, runs, strict=True)
    ]
    for name, one in zip(("first model", "second model"), results, strict=True):
        warn_at_chance(int(one.correct.sum()), one.n_images, one.n_classes, name)
    return results[0], results[1]
