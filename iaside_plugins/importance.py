"""spectral_importance: model and images to the importance of each spectral band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from iaside_plugins.absence import derangement, gaussian_baseline, seed_of
from iaside_plugins.coalitions import all_coalitions
from iaside_plugins.errors import InputError
from iaside_plugins.game import Game, Model, model_device
from iaside_plugins.protocol import Protocol
from iaside_plugins.provenance import model_digest
from iaside_plugins.result import SpectralImportance
from iaside_plugins.sampling import draw
from iaside_plugins.script import script_rows
from iaside_plugins.shapley import shapley_values
from iaside_plugins.stopping import Look, Stopping, looks, stopping_rule
from iaside_plugins.store import RowStore
from iaside_plugins.stream import Item, check_max_images, count, expect, items, progress_bar

Array = npt.NDArray[np.float64]
Pair = tuple[Item, "Item | None"]  # an image and its donor


def spectral_importance(
    model: Model,
    data: Any,
    protocol: Protocol | None = None,
    *,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    precision: str = "float32",
    resume: Path | str | None = None,
    max_images: int | None = None,
    target_error: float | None = None,
    target: str = "signed_score",
    show_progress: bool = False,
) -> SpectralImportance:
    """Shapley values of the spectral bands of a model's log-likelihood, over a set of images.

    All coalitions of bands see the same images; an image gives a complete row of the value
    table before the next is touched. The model is called without gradients and never moved.

    Args:
        model: (N, C, H, W) float images in [0, 1] -> (N, n_classes) logits, in evaluation mode;
            normalisation belongs inside.
        data: (images, labels), or an iterable of (images, labels) or (images, labels, ids)
            batches. Streamed, except for the "replacement" absence and a shuffled protocol,
            which hold all images in memory. Where a run may stop early (`max_images`,
            `target_error`), they must come in random order, not class by class.
        protocol: Every choice that changes a number; ``Protocol()`` by default.
        device: Where the model is; by default where its parameters are.
        batch_size: Rows in one forward pass.
        precision: "float32", "float64", or "bfloat16" / "float16" (autocast, less exact).
        resume: Folder in which finished images are kept; a run that stopped goes on from there.
        max_images: Stop after so many images.
        target_error: Stop once the target's half-width is at most this (looked at every 25
            images from 100 on).
        target: What `target_error` is for: the interval of the "signed_score" or the "score", or
            the "sign" of every band's Shapley value (see `stopping.Stopping`).
        show_progress: Whether to show a progress bar on stderr.

    Returns:
        The result, with per-image values, intervals, and the number of forward passes.

    Raises:
        InputError: For input that cannot be used (see the message), before or as soon as it is
            met; rows finished until then are kept in `resume`.
        InputTypeError: For images that are not floating-point numbers.
    """
    protocol = protocol or Protocol()
    game = Game(model, protocol, model_device(model, device), batch_size, precision)
    check_max_images(max_images)
    stopping = stopping_rule(target_error, target, protocol.beta)
    identity = {
        **{f"protocol {name}": value for name, value in protocol.used().items() if name != "beta"},
        "precision": precision,
        "model": model_digest(model) if resume is not None else None,
    }
    store = RowStore(resume, identity)
    finished: list[tuple[Seen, Array]] = []
    stream = items(data, protocol.n_bands, max_images)
    try:
        with progress_bar(known := count(data, max_images), show_progress) as bar:
            bar.set_description("bands", refresh=False)
            for group in _groups(stream, protocol, batch_size):
                first = len(finished)
                keys = [_key(protocol, group, k, first) for k in range(len(group))]
                if not all(key in store.rows for key in keys):
                    rows = _rows(game, group, first)
                    for key, row in zip(keys, rows, strict=True):
                        store.add(key, row)
                for key, (item, _) in zip(keys, group, strict=True):
                    height, width = item.image.shape[1:]
                    finished.append((Seen(item.label, item.name, (height, width)), store.rows[key]))
                bar.update(len(group))
                look = _look(finished, first, protocol, stopping)
                if look is not None:
                    expect(bar, look.n_expected, known)
                    if look.done:
                        finished = finished[: look.n_images]
                        break
    finally:
        store.flush()
    if not finished:
        raise InputError("no images: the data are empty")
    return _result(game, finished)


@dataclass(frozen=True)
class Seen:
    """What is kept of an image once its row is finished."""

    label: int
    name: str
    size: tuple[int, int]


def _groups(stream: Iterator[Item], protocol: Protocol, batch_size: int) -> Iterator[list[Pair]]:
    """Images with their donors (None unless replaced), in groups that share forward passes."""
    pairs: Iterator[Pair] = ((item, None) for item in stream)
    size = 1
    if protocol.is_script:
        size = protocol.image_batch
    elif protocol.estimator == "exact":
        size = max(1, batch_size // 2**protocol.n_bands)
    if protocol.shuffled or protocol.absence == "replacement":
        everything = list(stream)
        size = len(everything) if protocol.shuffled else size
        pairs = iter(_with_donors(everything, protocol))
    while group := list(islice(pairs, size)):
        shapes = [item.image.shape for item, _ in group]
        if len(set(shapes)) == 1:
            yield group
        elif protocol.is_script:
            raise InputError(f"images of one batch must be of one size, got {set(shapes)}")
        else:
            yield from ([pair] for pair in group)


def _with_donors(everything: list[Item], protocol: Protocol) -> list[Pair]:
    """Every image with the image that stands in for its missing bands."""
    if protocol.absence != "replacement":
        return [(item, None) for item in everything]
    if len(everything) < 2:
        raise InputError("absence='replacement' needs at least two images")
    if len({item.image.shape for item in everything}) > 1:
        raise InputError("absence='replacement' needs images of one size; crop them first")
    donors = derangement([item.digest for item in everything], protocol.seed)
    return [(item, everything[k]) for item, k in zip(everything, donors, strict=True)]


def _key(protocol: Protocol, group: list[Pair], k: int, first: int) -> str:
    """What the row of the group's k-th image depends on, beside model and protocol."""
    item, donor = group[k]
    if protocol.is_script:  # rescaled together: the row depends on the whole batch
        place = 0 if protocol.absence == "zero" else first  # which seeds the batch's noise
        return f"{item.digest}-{seed_of(k, place, *(other.digest for other, _ in group)):x}"
    return item.digest if donor is None else f"{item.digest}-{donor.digest}"


@torch.no_grad()  # inference_mode would leave tensors in the model that cannot be trained with
def _rows(game: Game, group: list[Pair], first: int) -> Array:
    """Finished rows (G, 2 + ...) of one group: hit, n_classes, then values or an estimate."""
    protocol = game.protocol
    images = torch.stack([item.image for item, _ in group])
    labels = torch.tensor([item.label for item, _ in group])
    names = [item.name for item, _ in group]
    if protocol.is_script:
        values, hits = script_rows(game, images, labels, first)
    elif protocol.estimator == "exact":
        coalitions = all_coalitions(protocol.n_bands)
        values, hits = game.rows(images, _baselines(protocol, group), labels, coalitions, names)
    else:
        return _sampled_row(game, group, images, labels)
    head = torch.stack([hits.double(), torch.full((len(group),), float(game.n_classes or 0))])
    return np.asarray(torch.cat([head.T.double(), values], dim=1).numpy())


def _sampled_row(game: Game, group: list[Pair], images: Tensor, labels: Tensor) -> Array:
    """Row of one image by some of its coalitions: hit, n_classes, empty, grand, Shapley values."""
    item = group[0][0]
    drawn = draw(game.protocol, item.digest)
    baselines = _baselines(game.protocol, group)
    values, hits = game.rows(images, baselines, labels, drawn.coalitions, [item.name])
    table = values[0].numpy()
    head = [float(hits[0]), float(game.n_classes or 0), table[0], table[-1]]
    return np.concatenate([head, drawn.shapley_values(table)])[None]


def _baselines(protocol: Protocol, group: list[Pair]) -> Tensor | None:
    """Absence baselines (G, C, H, W) of a group, or None for zero."""
    if protocol.absence == "zero":
        return None
    if protocol.absence == "replacement":
        return torch.stack([donor.image for _, donor in group if donor is not None])
    std, seed = protocol.absence_std, protocol.seed
    return torch.stack([gaussian_baseline(i.image, std, seed, i.digest) for i, _ in group])


def _split(protocol: Protocol, rows: Array) -> tuple[Array | None, Array, Array]:
    """Values (or None), ends (K, 2) and Shapley values (K, M) of rows without their heads."""
    if protocol.estimator == "exact":
        return rows, rows[:, [0, -1]], shapley_values(rows)
    return None, rows[:, :2], rows[:, 2:]


def _look(
    finished: list[tuple[Seen, Array]], before: int, protocol: Protocol, stopping: Stopping | None
) -> Look | None:
    """The first look since `before` images that was enough, or else the last one, if any."""
    look = None
    if stopping is None:
        return look
    for n in looks(before, len(finished)):
        rows = np.stack([row for _, row in finished[:n]])
        look = stopping.look(_split(protocol, rows[:, 2:])[2])
        if look.done:
            break
    return look


def _result(game: Game, finished: list[tuple[Seen, Array]]) -> SpectralImportance:
    rows = np.stack([row for _, row in finished])
    values, ends, per_image = _split(game.protocol, rows[:, 2:])
    return SpectralImportance(
        protocol=game.protocol,
        per_image=per_image,
        ends=ends,
        values=values,
        labels=np.array([seen.label for seen, _ in finished]),
        ids=tuple(seen.name for seen, _ in finished),
        correct=rows[:, 0] > 0,
        n_classes=int(rows[0, 1]),
        n_forward=game.n_forward,
        image_size=finished[0][0].size,
        precision=game.precision,
    )
