"""spectral_importance: model and images to the importance of each spectral band."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.errors import InputError
from iaside_plugins.game import Game, Model
from iaside_plugins.input_checks import model_device
from iaside_plugins.protocol import Protocol
from iaside_plugins.provenance import model_digest
from iaside_plugins.result import SpectralImportance
from iaside_plugins.rows import Seen, computed, image_groups, split_rows
from iaside_plugins.stopping import Look, Stopping, looks, stopping_rule
from iaside_plugins.store import RowStore, read_header
from iaside_plugins.stream import check_max_images, count, expect, items, progress_bar

Array = npt.NDArray[np.float64]


def spectral_importance(
    model: Model,
    data: Any,
    protocol: Protocol | None = None,
    *,
    device: torch.device | str | None = None,
    batch_size: int | str = 64,
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
        batch_size: Rows in one forward pass; "auto" begins with 512 on a GPU (64 elsewhere) and
            halves them where memory runs out. Beside the model, and what it needs for a batch,
            the device holds at most batch_size coalition images and 3 * n_bands + 2 images for
            each image in work (one, or batch_size / 2**n_bands where that is more); the host
            8 * (2**n_bands + 2) bytes for every finished one.
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
    game.choices = store.settled.get("forwards")
    finished: list[tuple[Seen, Array]] = []
    stream = items(data, protocol.n_bands, max_images)
    try:
        with progress_bar(known := count(data, max_images), show_progress) as bar:
            bar.set_description("bands", refresh=False)
            for group, keys in computed(game, image_groups(stream, protocol, game.n_rows), store):
                first = len(finished)
                for key, (item, _) in zip(keys, group, strict=True):
                    finished.append((Seen.of(item), store.rows[key]))
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
    return _result(
        protocol, finished, precision, n_forward=game.n_forward,
        forwards=tuple(game.forward.choices()),
    )  # fmt: skip


def read_run(folder: Path | str, beta: float = 0.75) -> SpectralImportance:
    """What the folder of a resumable run holds by now, without the model or the images.

    Args:
        folder: The `resume` of `spectral_importance`, of a run that is finished or not.
        beta: Of the scores: the one choice that the rows do not depend on.

    Raises:
        InputError: If it holds no such run, or none of its images is finished.
    """
    folder = Path(folder)
    identity, settled = read_header(folder)
    start = "protocol "
    fields = {k.removeprefix(start): v for k, v in identity.items() if k.startswith(start)}
    if not fields or "precision" not in identity:
        raise InputError(f"{folder} holds no run of spectral_importance")
    fields.pop("method_version", None)
    protocol = Protocol.from_dict({**fields, "beta": beta})
    store = RowStore(folder, identity)
    if not store.rows:
        raise InputError(f"{folder} holds no finished image yet")
    finished = [(Seen.from_json(store.notes[key]), row) for key, row in store.rows.items()]
    return _result(
        protocol, finished, identity["precision"], n_forward=0,
        forwards=tuple(settled.get("forwards", {})),
    )  # fmt: skip


def _look(
    finished: list[tuple[Seen, Array]], before: int, protocol: Protocol, stopping: Stopping | None
) -> Look | None:
    """The first look since `before` images that was enough, or else the last one, if any."""
    look = None
    if stopping is None:
        return look
    for n in looks(before, len(finished)):
        rows = np.stack([row for _, row in finished[:n]])
        look = stopping.look(split_rows(protocol, rows[:, 2:])[2])
        if look.done:
            break
    return look


def _result(
    protocol: Protocol, finished: list[tuple[Seen, Array]], precision: str, *, n_forward: int,
    forwards: tuple[str, ...],
) -> SpectralImportance:  # fmt: skip
    rows = np.stack([row for _, row in finished])
    values, ends, per_image = split_rows(protocol, rows[:, 2:])
    return SpectralImportance(
        protocol=protocol,
        per_image=per_image,
        ends=ends,
        values=values,
        labels=np.array([seen.label for seen, _ in finished]),
        ids=tuple(seen.name for seen, _ in finished),
        correct=rows[:, 0] > 0,
        n_classes=int(rows[0, 1]),
        n_forward=n_forward,
        image_size=finished[0][0].size,
        precision=precision,
        forwards=forwards,
    )
