"""spectral_importance: model and images to the importance of each spectral band."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iaside_plugins.crew_rows import Run, computed_by
from iaside_plugins.device_pool import Devices, device_crew, one_or_several
from iaside_plugins.errors import InputError
from iaside_plugins.game import Game, Model
from iaside_plugins.input_checks import model_device
from iaside_plugins.memory import first_batch_size
from iaside_plugins.protocol import Protocol
from iaside_plugins.provenance import model_digest
from iaside_plugins.resampling import jackknife
from iaside_plugins.result import SpectralImportance
from iaside_plugins.rows import Pair, Seen, computed, image_groups, split_rows
from iaside_plugins.score import importance_distribution, signed_score
from iaside_plugins.store import RowStore, read_header
from iaside_plugins.stream import check_max_images, count, items, progress_bar

Array = npt.NDArray[np.float64]
MIN_IMAGES = 100  # before target_error may stop: with fewer, the estimated width undercovers
CHECK_EVERY = 25


def spectral_importance(
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
        device: Where the model is; by default where its parameters are. Several, as a list or
            as "cuda:0,cuda:1": a process each, with a copy of the model, for the same numbers.
            The model here stays where it is; scripts then need ``if __name__ == "__main__":``.
        batch_size: Rows in one forward pass; "auto" begins with 512 on a GPU (64 elsewhere) and
            halves them where memory runs out. On the device there are at most (n_bands + 1 +
            batch_size) images beside the model, two more batches of them in a FFT, and what the
            model itself needs for a batch; on the host 8 * 2**n_bands bytes an image.
        precision: "float32", "float64", or "bfloat16" / "float16" (autocast, less exact).
        resume: Folder in which finished images are kept; a run that stopped goes on from there.
        max_images: Stop after so many images.
        target_error: Stop once the half-width of the signed score's interval is at most this
            (looked at every 25 images from 100 on).
        show_progress: Whether to show a progress bar on stderr.

    Returns:
        The result, with per-image values, intervals, and the number of forward passes.

    Raises:
        InputError: For input that cannot be used (see the message), before or as soon as it is
            met; rows finished until then are kept in `resume`.
        InputTypeError: For images that are not floating-point numbers.
    """
    protocol = protocol or Protocol()
    single, devices = one_or_several(device)
    game = Game(model, protocol, model_device(model, single), batch_size, precision)
    profile = Profile(
        model, data, protocol, precision=precision, resume=resume, max_images=max_images,
        target_error=target_error,
    )  # fmt: skip
    n_rows = first_batch_size(batch_size, devices[0]) if devices else game.n_rows
    groups = profile.groups(n_rows)
    try:
        with progress_bar(count(data, max_images), show_progress) as bar:
            bar.set_description("bands", refresh=False)
            if not devices:
                game.choices = profile.store.settled.get("forwards")
                for group, keys in computed(game, groups, profile.store):
                    bar.update(len(group))
                    if profile.take(group, keys):
                        break
                return profile.result(game.n_forward, tuple(game.forward.choices()))
            run = Run("", protocol, batch_size, precision, groups, profile.store)
            with device_crew(model, devices) as crew:
                for _, group, keys in computed_by(crew, [run]):
                    bar.update(len(group))
                    if profile.take(group, keys):
                        break
            return profile.result(run.n_forward, tuple(run.choices or ()))
    finally:
        profile.store.flush()


class Profile:
    """One model's rows over one stream of images, from the first group to the result.

    The arguments are those of `spectral_importance`.

    Attributes:
        store: Where finished rows are.

    Raises:
        InputError: For arguments out of range, or a folder of another run.
    """

    def __init__(
        self, model: Model, data: Any, protocol: Protocol, *, precision: str,
        resume: Path | str | None, max_images: int | None, target_error: float | None,
    ) -> None:  # fmt: skip
        check_max_images(max_images)
        if target_error is not None and not target_error > 0:
            raise InputError(f"target_error must be above 0, got {target_error!r}")
        self.protocol, self.precision, self._target = protocol, precision, target_error
        self._stream = items(data, protocol.n_bands, max_images)
        identity = {
            **{f"protocol {k}": value for k, value in protocol.used().items() if k != "beta"},
            "precision": precision,
            "model": model_digest(model) if resume is not None else None,
        }
        self.store = RowStore(resume, identity)
        self._finished: list[tuple[Seen, Array]] = []

    def groups(self, n_rows: int) -> Iterator[list[Pair]]:
        """The images in groups that share forward passes of so many rows."""
        return image_groups(self._stream, self.protocol, n_rows)

    def take(self, group: list[Pair], keys: list[str]) -> bool:
        """Take the next group, whose rows are in the store; whether that is enough."""
        first = len(self._finished)
        for key, (item, _) in zip(keys, group, strict=True):
            self._finished.append((Seen.of(item), self.store.rows[key]))
        enough = _enough(self._finished, first, self.protocol, self._target)
        self._finished = self._finished[:enough]
        return enough is not None

    def result(self, n_forward: int, forwards: tuple[str, ...]) -> SpectralImportance:
        """What the groups say.

        Raises:
            InputError: There were none.
        """
        if not self._finished:
            raise InputError("no images: the data are empty")
        return _result(
            self.protocol, self._finished, self.precision, n_forward=n_forward, forwards=forwards
        )


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


def _enough(
    finished: list[tuple[Seen, Array]], before: int, protocol: Protocol, target: float | None
) -> int | None:
    """The number of images after which the signed score's interval is narrow enough, if it is.

    Looks at the multiples of `CHECK_EVERY` passed since `before` images, so that the answer does
    not depend on how many images share a forward pass.
    """
    if target is None:
        return None
    for n in range(MIN_IMAGES, len(finished) + 1, CHECK_EVERY):
        if n > before:
            psi = split_rows(protocol, np.stack([row for _, row in finished[:n]])[:, 2:])[2]
            signed = jackknife(
                psi, lambda x: signed_score(importance_distribution(x), protocol.beta)
            )
            if float(np.diff(signed.interval)[0]) / 2 <= target:
                return n
    return None


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
