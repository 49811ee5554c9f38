"""error_decomposition: a model and pairs of images to the contribution of each band to its errors.

It is the importance game with the clean image as the absence baseline of the perturbed one, so the
engine, the estimators, the store and the workers are those of `importance.run`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from iaside_plugins.decomposition.contributions import Condition, Contributions
from iaside_plugins.decomposition.pairs import PairStream
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.errors import InputError
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.importance.run import ROWS
from iaside_plugins.importance.stopping import StopCheck, check_points
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import first_batch_size
from iaside_plugins.integers import index_or_none
from iaside_plugins.parallel.processes import Devices, one_or_several
from iaside_plugins.parallel.shards import FileRange, RowRequest, Wanted, finished_groups
from iaside_plugins.protocol import Protocol, method_identity, protocol_or
from iaside_plugins.spectral.range_handling import RANGE_HANDLINGS
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout, UnpackedRows
from iaside_plugins.value_table.progress import Progress, Work, added, times
from iaside_plugins.value_table.rows import Group, ImageNote, images_a_pass, restore
from iaside_plugins.value_table.stream import (
    are_files,
    check_max_images,
    count,
    say_copies,
    say_if_by_class,
)

Array = npt.NDArray[np.float64]
K = TypeVar("K")
DEFAULT = Protocol(estimator="permutation")
FLUSH_EVERY = 512  # rows of one file of the store
_log = logging.getLogger(__name__)


@overload
def error_decomposition(
    model: Model,
    pairs: Mapping[K, Any],
    protocol: Protocol | None = ...,
    *,
    repair: bool | int = ...,
    device: Devices = ...,
    batch_size: int | str = ...,
    precision: str = ...,
    resume: Path | str | None = ...,
    max_images: int | None = ...,
    target_error: float | None = ...,
    show_progress: bool = ...,
) -> dict[K, ErrorDecomposition]: ...


@overload
def error_decomposition(
    model: Model,
    pairs: Any,
    protocol: Protocol | None = ...,
    *,
    repair: bool | int = ...,
    device: Devices = ...,
    batch_size: int | str = ...,
    precision: str = ...,
    resume: Path | str | None = ...,
    max_images: int | None = ...,
    target_error: float | None = ...,
    show_progress: bool = ...,
) -> ErrorDecomposition: ...


def error_decomposition(  # noqa: PLR0913  the public signature
    model: Model,
    pairs: Any,
    protocol: Protocol | None = None,
    *,
    repair: bool | int = False,
    device: Devices = None,
    batch_size: int | str = 64,
    precision: str = "float32",
    resume: Path | str | None = None,
    max_images: int | None = None,
    target_error: float | None = None,
    show_progress: bool = False,
) -> ErrorDecomposition | dict[Any, ErrorDecomposition]:
    """Split the errors that perturbations cause exactly over the bands that were perturbed.

    Over any set of images, ``error under the perturbation = error on clean images + sum of the
    bands' contributions``, and the same for the loss in nats; image by image.

    Args:
        model: As for `spectral_importance`.
        pairs: (clean, perturbed, labels), or an iterable of batches (clean, perturbed, labels) or
            (clean, perturbed, labels, ids). `perturbed` are the same images perturbed, or, for
            several conditions, a mapping from condition to them: the condition is a name, or a
            pair of a name and a severity (an integer) or a budget (a float), and every batch has
            the same ones; means are over all but budgets where there are both. All images
            are floating point in [0, 1], "clean" ones through the same geometry as the perturbed
            ones. Where a run may stop early they must come in random order. A mapping from
            names of conditions to such pairs gives one of results, each in a folder of its own in
            `resume`; a single condition is called by its key.
        protocol: Bands, estimator, seed, temperature, range handling and forwards; by default one
            antithetic pair of chains drawn for each image and condition (2 n_bands - 1 passes).
            The absence is the clean image, and beta is not used.
        repair: Whether to measure also what taking the perturbation out of the k highest or
            lowest bands would repair, for 2 n_bands - 2 passes more; a number: on so many of the
            first images. The exact estimator does it for nothing.
        device: As for `spectral_importance`; several are used together.
        batch_size: As for `spectral_importance`.
        precision: As for `spectral_importance`.
        resume: Folder in which finished work is stored; a run that stopped resumes from there.
        max_images: Stop after so many images.
        target_error: Stop once the contribution of every band to the mean error (of
            `Contributions.mean_conditions`) is known to this half-width, a share (0.005 is half a
            point); checked every 25 images from 100 on.
        show_progress: Whether to show a progress bar on stderr.

    Raises:
        InputError: For input that cannot be used, before or as soon as it is met; finished rows
            are stored in `resume`.
        InputTypeError: For images that are not floating-point numbers.
    """
    if isinstance(pairs, Mapping):
        return _by_key(
            model,
            pairs,
            resume,
            protocol=protocol,
            repair=repair,
            device=device,
            batch_size=batch_size,
            precision=precision,
            max_images=max_images,
            target_error=target_error,
            show_progress=show_progress,
        )
    protocol = protocol_or(protocol, DEFAULT)
    check_protocol(protocol)
    check_max_images(max_images)
    if target_error is not None and not target_error > 0:
        raise InputError(f"target_error must be above 0, got {target_error!r}")
    engine = engine_of(protocol)
    single, devices = one_or_several(device)
    game = Game.of(model, engine, model_device(model, single), batch_size, precision)
    game.runner.known_classes = KnownClasses.of(pairs)
    identity = run_identity(model, protocol, precision, resume)
    stream = PairStream(pairs, protocol.n_bands, max_images)
    n_rows = first_batch_size(batch_size, devices[0]) if devices else game.runner.n_rows
    requests, wanted = [], Wanted(max_images)
    for nested, places in _parts(protocol, repair):
        layout = RowLayout(engine, nested, paired=True)
        store = row_store(resume, identity, layout)
        size = images_a_pass(engine, n_rows, layout)
        request = RowRequest(
            engine,
            batch_size,
            precision,
            stream.groups(size, engine, places),
            store,
            layout,
            game.runner.known_classes,
        )
        if devices and are_files(pairs):
            stream.conditions = tuple(pairs.conditions)
            request.files = _file_range(pairs, request, size, places, wanted)
        requests.append(request)
        restore(game.runner, store)
    rows = [Rows(request.layout or RowLayout(engine)) for request in requests]
    keys: list[str] = []
    finished = closing(finished_groups(model, game, requests, device))
    known = count(pairs, max_images)
    try:
        work = partial(decomposition_work, pairs, protocol, repair=repair)
        with Progress(work(known), show_progress) as bar, finished as each:
            bar.set_description("error by band")
            for request, group in each:
                c, before = len(stream.conditions), _n_images(rows, stream)
                part = rows[requests.index(request)]
                part.rows += [request.store.rows[key] for key in group.keys]
                part.notes += group.donors
                keys += group.keys
                passes = part.layout.n_passes
                bar.update({"coalition": len(group.keys) * (passes + 1 / c)})
                if target_error is None:
                    continue
                check = _stop_check(rows, stream.conditions, before, target_error)
                if check is not None:
                    if (expected := work(check.expected(known))) is not None:
                        bar.set_work(expected)
                    if check.done:
                        _keep(rows, check.n_images * c)
                        break
    finally:
        for request in requests:
            request.store.flush()
    for request in requests:
        request.store.compact()
    if not any(part.rows for part in rows):
        raise InputError("no images: the data are empty")
    say_copies(keys[: sum(len(part.rows) for part in rows)])
    own = [request.forwards for request in requests] if devices else [game.runner.forward.choices()]
    result = result_of(
        protocol,
        rows,
        stream.conditions,
        n_forward=sum(r.n_forward for r in requests) if devices else game.n_forward,
        precision=precision,
        forwards=tuple(dict.fromkeys(name for used in own for name in used)),  # by either part
        label_space=getattr(game.runner.known_classes, "name", ""),
    )
    warn_at_chance(int((result.error.clean == 0).sum()), result.n_images, result.n_classes)
    for condition, energy in zip(result.conditions, result.energy, strict=True):
        if not energy.any() and condition.level != 0:
            _log.warning("all images under %s are the clean ones: nothing is perturbed", condition)
    limited = target_error is not None or result.n_images == max_images
    say_if_by_class(model, pairs, result.labels.tolist(), result.n_classes, limited=limited)
    return result


def _by_key(
    model: Model, pairs: Mapping[Any, Any], resume: Path | str | None, **options: Any
) -> dict[Any, ErrorDecomposition]:
    """Return the decompositions of a mapping, each with a folder of its own.

    Args:
        model: As for `error_decomposition`.
        pairs: Condition -> pairs, which may be of several conditions themselves.
        resume: Folder of all of them.
        options: Others of `error_decomposition`.

    Raises:
        InputError: As `error_decomposition`.
    """
    conditions = {key: Condition.of(key) for key in pairs}
    if not pairs or any(isinstance(one, Mapping) for one in pairs.values()):
        raise InputError("expected a mapping from conditions to pairs (clean, perturbed, labels)")
    results = {}
    for key, condition in conditions.items():
        folder = None if resume is None else Path(resume) / _folder(condition)
        found: ErrorDecomposition = error_decomposition(model, pairs[key], resume=folder, **options)
        results[key] = found.called(condition) if len(found.conditions) == 1 else found
    return results


def _folder(condition: Condition) -> str:
    """Return a name for the folder of a condition."""
    return re.sub(r"[^\w.]+", "-", str(condition))


def engine_of(protocol: Protocol) -> Protocol:
    """Return the protocol by which the engine makes the rows of a decomposition."""
    # The engine's name for "the given image stands in for the missing bands", for all of them too.
    return replace(protocol, absence="replacement", black_empty=False)


def run_identity(
    model: Model, protocol: Protocol, precision: str, resume: Path | str | None
) -> dict[str, Any]:
    """Return what the rows of a decomposition depend on beside the images."""
    return {
        **{f"protocol {k}": v for k, v in protocol.run_choices().items() if k != "beta"},
        "decomposition": True,
        "precision": precision,
        **model_identity(model, resume),
        **method_identity(),
        **ROWS,
    }


def row_store(resume: Path | str | None, identity: dict[str, Any], layout: RowLayout) -> RowStore:
    """Return where the rows of one layout are kept, see `run_identity`."""
    folder = None if resume is None else Path(resume) / ("nested" if layout.nested else "chains")
    return RowStore(folder, identity, FLUSH_EVERY, width=layout.width, finite=True)


@dataclass
class Rows:
    """Rows of one layout, those of an image under all conditions one after the other."""

    layout: RowLayout
    rows: list[Array] = field(default_factory=list)
    notes: list[ImageNote | None] = field(default_factory=list)  # of the clean image, row by row


def decomposition_work(
    pairs: Any, protocol: Protocol, n_images: int | None, *, repair: bool | int = False
) -> Work | None:
    """Return the work of a decomposition, or None where the number of images is unknown.

    Args:
        pairs: As for `error_decomposition`; its `conditions` and `work`, where it has them, are
            the conditions of an image, and the work of making it under all of them.
        protocol: As for `error_decomposition`.
        n_images: Images.
        repair: As for `error_decomposition`.
    """
    if n_images is None or not (conditions := getattr(pairs, "conditions", None)):
        return None
    whole: dict[str, float] = times(getattr(pairs, "work", {}), n_images)
    left = n_images
    for nested, places in _parts(protocol, repair):
        n = min(left, len(places))
        passes = n * (len(conditions) * RowLayout(protocol, nested, paired=True).n_passes + 1)
        whole, left = added(whole, {"coalition": passes}), left - n
    return whole


def _parts(protocol: Protocol, repair: bool | int) -> list[tuple[bool, range]]:
    """Return whether nested sets are evaluated, and the places of the images on which."""
    every = range(sys.maxsize)
    if protocol.estimator == "exact" or repair is True:
        return [(True, every)]
    n = int(repair) if isinstance(repair, bool) else index_or_none(repair)
    if n is None or n < 0:
        raise InputError(f"repair must be true, false or a number of images, got {repair!r}")
    return [(True, every[:n]), (False, every[n:])] if n else [(False, every)]


def _file_range(
    pairs: Any, request: RowRequest, size: int, places: range, wanted: Wanted
) -> FileRange:
    """Return the files that workers read for a request."""
    n, layout = len(pairs.conditions), request.layout or RowLayout(request.protocol)
    return FileRange(
        pairs,
        partial(_groups_of_files, request.protocol, size, places.start),
        size if n == 1 else 1,
        n * layout.n_passes + 1,
        wanted,
        n,
        places.start,
        places.stop,
    )


def _groups_of_files(
    engine: Protocol, size: int, origin: int, pairs: Any, first: int, places: range
) -> Iterator[Group]:
    """Return the groups of images that a worker reads."""
    return PairStream(pairs, engine.n_bands, None, first).groups(size, engine, places, origin)


def _n_images(parts: list[Rows], stream: PairStream) -> int:
    """Return the number of images whose rows are all there."""
    return sum(len(part.rows) for part in parts) // max(1, len(stream.conditions))


def _keep(parts: list[Rows], n_rows: int) -> None:
    """Drop all but the first rows."""
    for part in parts:
        del part.rows[n_rows:]
        del part.notes[n_rows:]
        n_rows -= len(part.rows)


def chains_like(protocol: Protocol) -> Protocol:
    """Return the protocol of a decomposition beside an importance: its bands, seed and forwards."""
    return replace(
        DEFAULT,
        n_bands=protocol.n_bands,
        band_norm="chebyshev" if protocol.band_norm == "boxes" else protocol.band_norm,
        temperature=protocol.temperature,
        seed=protocol.seed,
        forwards=protocol.forwards,
    )


def check_protocol(protocol: Protocol) -> None:
    """Raise InputError for choices under which the end of a game is not the benchmark's image."""
    if protocol.is_script or RANGE_HANDLINGS[protocol.range_handling].changes_images:
        raise InputError(
            f"range_handling={protocol.range_handling!r} changes the perturbed images, so that "
            "their error would not be the benchmark's; use 'none' or 'clip'"
        )
    if protocol.absence != "zero":
        raise InputError(
            f"absence={protocol.absence!r} does not go with error_decomposition, where the clean "
            "image stands in for a band that is not perturbed; leave absence out"
        )


def _stop_check(
    parts: list[Rows], conditions: tuple[Condition, ...], before: int, target_error: float
) -> StopCheck | None:
    """Return the first check that was enough, or else the last one; None if none was due."""
    check = None
    n_rows = sum(len(part.rows) for part in parts)
    for n in check_points(before, n_rows // len(conditions)):
        some = [Rows(part.layout, list(part.rows)) for part in parts]
        _keep(some, n * len(conditions))
        error, _ = _games(_unpacked(some), conditions)
        widths = np.diff(error.over(error.mean_conditions).bands.interval, axis=1) / 2
        check = StopCheck(n, float(widths.max()) / target_error)
        if check.done:
            break
    return check


def _unpacked(parts: list[Rows]) -> UnpackedRows:
    """Return what the rows hold, in one piece; NaN for nested sets that were not evaluated."""
    found = [part.layout.unpack(np.stack(part.rows)) for part in parts if part.rows]
    if len(found) == 1:
        return found[0]
    first, other = found
    lacking = np.full((len(other.ends), 2 * other.shapley_values.shape[1] - 2), np.nan)
    return UnpackedRows(
        None,
        None,
        np.concatenate([first.ends, other.ends]),
        np.concatenate([first.shapley_values, other.shapley_values]),
        np.concatenate([first.hit_ends, other.hit_ends]),
        np.concatenate([first.hit_shapley_values, other.hit_shapley_values]),
        energy=np.concatenate([first.energy, other.energy]),
        nested=None if first.nested is None else np.concatenate([first.nested, lacking]),
        nested_hits=None
        if first.nested_hits is None
        else np.concatenate([first.nested_hits, lacking]),
    )


def _games(
    found: UnpackedRows, conditions: tuple[Condition, ...]
) -> tuple[Contributions, Contributions]:
    """Return the games of errors and of the loss in nats, of rows of K images x C conditions."""

    def game(ends: Array, bands: Array, nested: Array | None, *, rates: bool) -> Contributions:
        c = len(conditions)
        return Contributions(
            conditions,
            _by_condition(ends, c)[0, :, 0],
            _by_condition(ends, c)[:, :, 1],
            _by_condition(bands, c),
            None if nested is None else _by_condition(nested, c),
            rates,
        )

    wrong = None if found.nested_hits is None else 1.0 - found.nested_hits
    lost = None if found.nested is None else -found.nested
    return (
        game(1.0 - found.hit_ends.astype(np.float64), -found.hit_shapley_values, wrong, rates=True),
        game(-found.ends, -found.shapley_values, lost, rates=False),
    )


def _by_condition(values: npt.NDArray[Any], n_conditions: int) -> npt.NDArray[Any]:
    """Return (C, K, ...) of (K * C, ...), where the conditions of the first image come first."""
    return np.moveaxis(values.reshape(-1, n_conditions, *values.shape[1:]), 0, 1)


def result_of(
    protocol: Protocol,
    parts: list[Rows],
    conditions: tuple[Condition, ...],
    *,
    n_forward: int,
    precision: str,
    forwards: tuple[str, ...],
    label_space: str,
) -> ErrorDecomposition:
    """Return the result from rows, the conditions of the first image first."""
    found, c = _unpacked(parts), len(conditions)
    notes = [note for part in parts for note in part.notes[::c] if note is not None]
    error, loss = _games(found, conditions)
    return ErrorDecomposition(
        protocol=protocol,
        error=error,
        loss=loss,
        energy=_by_condition(found.energy, c),
        wrong=None if found.hits is None else _by_condition(~found.hits, c),
        loss_table=None if found.values is None else -_by_condition(found.values, c).mean(axis=1),
        labels=np.array([note.label for note in notes]),
        ids=tuple(note.name for note in notes),
        image_size=notes[0].size,
        n_classes=int(next(part.rows[0][0] for part in parts if part.rows)),
        n_forward=n_forward,
        precision=precision,
        forwards=forwards,
        label_space=label_space,
    )
