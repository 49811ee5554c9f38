"""spectral_importance: model and images to the importance of each spectral band."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from iaside_plugins.errors import InputError
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.stopping import StopCheck, check_points, stopping_rule
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import first_batch_size
from iaside_plugins.parallel.processes import Devices, one_or_several
from iaside_plugins.parallel.shards import FileRange, RowRequest, Wanted, finished_groups
from iaside_plugins.protocol import Protocol, method_identity, protocol_or
from iaside_plugins.shapley.score import BETA
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import RowStore, check_identity, read_header
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import Progress, Work, times
from iaside_plugins.value_table.rows import (
    FinishedGroup,
    Group,
    ImageNote,
    image_groups,
    images_a_group,
    prepare_store,
    restore,
    stored_groups,
)
from iaside_plugins.value_table.stream import (
    Item,
    are_files,
    check_max_images,
    count,
    items,
    say_copies,
    say_if_by_class,
)

Array = npt.NDArray[np.float64]
LABELS = "label_space"  # what the labels of the last run in a folder are
ROWS = {"rows": 2}  # what a stored row holds; 1, without hits of the coalitions, was not recorded


def spectral_importance(  # noqa: PLR0913  the public signature
    model: Model,
    data: Any,
    protocol: Protocol | None = None,
    *,
    device: Devices = None,
    batch_size: int | str = 64,
    precision: str = "float32",
    resume: Path | str | None = None,
    max_images: int | None = None,
    target_error: float | None = None,
    target: str = "signed_score",
    show_progress: bool = False,
) -> SpectralImportance:
    """Measure how much each spectral band contributes to a model's log-likelihood of the class.

    The result holds the Shapley values of the bands, averaged over a set of images. All coalitions
    of bands see the same images; an image gives a complete row of the value table before the next
    is touched. The model is called without gradients and never moved.

    Args:
        model: (N, C, H, W) float images in [0, 1] -> (N, n_classes) logits, in evaluation mode;
            normalisation belongs inside.
        data: (images, labels), or an iterable of (images, labels) or (images, labels, ids)
            batches. Streamed, except for the "replacement" absence and a shuffled protocol,
            which hold all images in memory. Where a run may stop early (`max_images`,
            `target_error`), they must come in random order, not class by class.
        protocol: Every choice that changes a number; ``Protocol()`` by default.
        device: Where the model is; by default where its parameters are. Several, as a list or
            as "cuda:0,cuda:1": a process each, with a copy of the model, which reads its own
            images if they are files, for the same numbers; or the workers of a cluster, of
            `ray_adapter.workers_on_ray`. The model here stays where it is; scripts that start
            processes need ``if __name__ == "__main__":``.
        batch_size: Rows in one forward pass; "auto" begins with 512 on a GPU (64 elsewhere) and
            halves them where memory runs out; on a CPU, where passes may be made faster
            (`forwards`), it takes the quickest of 4, 16 and 64 on the first image. Beside the
            model, and what it needs for a batch, the device holds at most batch_size coalition
            images and 3 * n_bands + 2 images for each image in work (one, or
            batch_size / 2**n_bands where that is more); the host 8 * (2**n_bands + 2) bytes for
            every finished one.
        precision: "float32", "float64", or "bfloat16" / "float16" (autocast, less exact).
        resume: Folder in which finished images are stored; a run that stopped resumes from there.
        max_images: Stop after so many images.
        target_error: Stop once the target's half-width is at most this (checked every 25
            images from 100 on).
        target: What `target_error` is for: the interval of the "signed_score" or the "score", or
            the "sign" of every band's Shapley value (see `stopping.Stopping`).
        show_progress: Whether to show a progress bar on stderr.

    Returns:
        The result, with per-image values, intervals, and the number of forward passes.

    Raises:
        InputError: For input that cannot be used (see the message), before or as soon as it is
            met; rows finished until then are stored in `resume`.
        InputTypeError: For images that are not floating-point numbers.
    """
    protocol = protocol_or(protocol, Protocol())
    single, devices = one_or_several(device)
    game = Game.of(model, protocol, model_device(model, single), batch_size, precision)
    game.runner.known_classes = KnownClasses.of(data)
    run = ImportanceRun(
        model,
        data,
        protocol,
        precision=precision,
        resume=resume,
        max_images=max_images,
        target_error=target_error,
        target=target,
    )
    request = run.request(batch_size, devices[0] if devices else game.runner.device)
    restore(game.runner, run.store)
    finished = closing(finished_groups(model, game, [request], device))
    try:
        known, each_image = count(data, max_images), importance_work(protocol)
        all_work = None if known is None else times(each_image, known)
        with Progress(all_work, show_progress) as bar, finished as each:
            bar.set_description("bands")
            for _, group in each:
                bar.update(times(each_image, len(group.keys)))
                check = run.add(group)
                if check is not None:
                    bar.set_work(times(each_image, check.expected(known)))
                    if check.done:
                        break
    finally:
        run.store.flush()
    n_forward, choices = game.n_forward, game.runner.forward.choices()
    if devices:
        n_forward, choices = request.n_forward, request.forwards
    result = run.result(n_forward, tuple(choices))
    warn_at_chance(int(result.correct.sum()), result.n_images, result.n_classes)
    limited = target_error is not None or result.n_images == max_images
    say_if_by_class(model, data, result.labels.tolist(), result.n_classes, limited=limited)
    return result


def importance_work(protocol: Protocol) -> Work:
    """Return the work of one image."""
    return {"coalition": RowLayout(protocol).n_passes}


class ImportanceRun:
    """One model's rows over one stream of images, from the first group to the result.

    The arguments are those of `spectral_importance`.

    Attributes:
        store: Where finished rows are.

    Raises:
        InputError: For arguments out of range, or a folder of another run.
    """

    def __init__(
        self,
        model: Model,
        data: Any,
        protocol: Protocol,
        *,
        precision: str,
        resume: Path | str | None,
        max_images: int | None,
        target_error: float | None,
        target: str = "signed_score",
    ) -> None:
        check_max_images(max_images)
        self._stopping = stopping_rule(target_error, target, protocol.beta)
        self.protocol, self.precision = protocol, precision
        self._data, self._max_images = data, max_images
        identity = {
            **{f"protocol {k}": v for k, v in protocol.run_choices().items() if k != "beta"},
            "precision": precision,
            **model_identity(model, resume),
            **method_identity(),
            **ROWS,
        }
        self._layout = RowLayout(protocol)
        self.store = RowStore(resume, identity, width=self._layout.width, finite=True)
        self._known_classes = KnownClasses.of(data)
        self._label_space = getattr(self._known_classes, "name", "")
        if self.store.choices.get(LABELS, "") != self._label_space:
            self.store.record_choice(LABELS, self._label_space)
        self._finished: list[tuple[ImageNote, Array]] = []
        self._order: list[tuple[str, str]] = []

    def request(self, batch_size: int | str, device: torch.device, model: Any = None) -> RowRequest:
        """Return what rows are needed; the store is prepared for them.

        Args:
            batch_size: As for `spectral_importance`.
            device: Of the model, or of the workers.
            model: By what workers know it, see `Pool.put_model`.
        """
        protocol, data, n_rows = self.protocol, self._data, first_batch_size(batch_size, device)
        prepare_store(self.store, protocol)
        files = None
        if are_files(data) and not protocol.needs_all_images:
            size, passes = images_a_group(protocol, n_rows), self._layout.n_passes
            groups = partial(_groups_of_files, protocol, n_rows)
            files = FileRange(data, groups, size, passes, Wanted(self._max_images))
        stream = items(data, protocol.n_bands, self._max_images)
        return RowRequest(
            protocol,
            batch_size,
            self.precision,
            image_groups(stream, protocol, n_rows),
            self.store,
            known_classes=self._known_classes,
            files=files,
            model=model,
        )

    def add(self, group: FinishedGroup) -> StopCheck | None:
        """Add the next group, whose rows are stored; return what is known of the target.

        Images after the one that was enough are dropped again.

        Returns:
            The first check that was enough, or else the last one; None if none was due.
        """
        first = len(self._finished)
        for key, note in zip(group.keys, group.notes, strict=True):
            self._finished.append((note, self.store.rows[key]))
            self._order.append((key, note.to_json()))
        if self._known_classes is not None:  # rows of a worker or an earlier run
            self._known_classes.check(int(self.store.rows[group.keys[0]][0]))
        check = None
        if self._stopping is None:
            return check
        for n in check_points(first, len(self._finished)):
            rows = np.stack([row for _, row in self._finished[:n]])
            check = self._stopping.check(self._layout.unpack(rows).shapley_values)
            if check.done:
                self._finished = self._finished[:n]
                break
        return check

    def take(self, game: Game, images: Iterable[Item]) -> None:
        """Add the next images, whose rows are stored or made here.

        Args:
            game: Of this run's model and protocol.
            images: Whose rows depend on one image alone.
        """
        n_rows = first_batch_size(game.runner.batch_size, game.runner.device)
        groups = image_groups(iter(images), self.protocol, n_rows)
        for group in stored_groups(game, groups, self.store, self._layout):
            self.add(group)

    @property
    def per_image(self) -> Array:
        """Shapley values (K, M) of the images so far, of which there is at least one."""
        rows = np.stack([row for _, row in self._finished])
        return self._layout.unpack(rows).shapley_values

    def result(self, n_forward: int, forwards: tuple[str, ...]) -> SpectralImportance:
        """Return the result of all groups, and store the order of their images.

        Raises:
            InputError: There were none.
        """
        self.store.flush()
        order = self._order[: len(self._finished)]
        self.store.write_order(order)
        say_copies([key for key, _ in order])
        if not self._finished:
            raise InputError("no images: the data are empty")
        return _result(
            self.protocol,
            self._finished,
            self.precision,
            n_forward=n_forward,
            forwards=forwards,
            label_space=self._label_space,
        )


def _groups_of_files(
    protocol: Protocol, n_rows: int, images: Any, first: int, _places: range
) -> Iterator[Group]:
    """Return the groups of images that a worker reads; all of them count."""
    return image_groups(items(images, protocol.n_bands, first=first), protocol, n_rows)


def read_run(folder: Path | str, beta: float | None = None) -> SpectralImportance:
    """Read what the folder of a resumable run holds by now, without the model or the images.

    The images of the last run in it; where that was killed or is still running, every image that
    is finished there.

    Args:
        folder: The `resume` of `spectral_importance`, of a run that is finished or not.
        beta: Of the scores, the one choice that the rows do not depend on; the run's by default.

    Raises:
        InputError: If it holds no such run, or none of its images is finished.
    """
    folder = Path(folder)
    if not (folder / "run.json").exists() and (folder / "spectral" / "run.json").exists():
        folder = folder / "spectral"  # of `evaluate`
    identity, choices = read_header(folder)
    start = "protocol "
    fields = {k.removeprefix(start): v for k, v in identity.items() if k.startswith(start)}
    if not fields or "precision" not in identity or "decomposition" in identity:
        raise InputError(f"{folder} holds no run of spectral_importance")
    check_identity(folder, {"method_version": identity.get("method_version", 1)}, method_identity())
    chosen = choices.get("beta", BETA) if beta is None else beta
    protocol = Protocol.from_dict({**fields, "beta": chosen})
    store = RowStore(folder, identity, read_only=True, finite=True)
    finished = [
        (ImageNote.from_json(note), store.rows[key])
        for key, note in store.read_order() or store.notes.items()
        if key in store.rows  # a chunk may have been damaged since
    ]
    if not finished:
        raise InputError(f"{folder} holds no finished image yet")
    return _result(
        protocol,
        finished,
        identity["precision"],
        n_forward=0,
        forwards=tuple(choices.get("forwards", {})),
        label_space=str(choices.get(LABELS, "")),
    )


def _result(
    protocol: Protocol,
    finished: list[tuple[ImageNote, Array]],
    precision: str,
    *,
    n_forward: int,
    forwards: tuple[str, ...],
    label_space: str,
) -> SpectralImportance:
    rows = np.stack([row for _, row in finished])
    found = RowLayout(protocol).unpack(rows)
    return SpectralImportance(
        protocol=protocol,
        per_image=found.shapley_values,
        ends=found.ends,
        values=found.values,
        hits=found.hits,
        per_image_accuracy=found.hit_shapley_values,
        labels=np.array([note.label for note, _ in finished]),
        ids=tuple(note.name for note, _ in finished),
        correct=found.hit_ends[:, 1],
        n_classes=int(rows[0, 0]),
        n_forward=n_forward,
        image_size=finished[0][0].size,
        precision=precision,
        forwards=forwards,
        label_space=label_space,
    )
