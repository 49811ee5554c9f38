"""error_decomposition: a model and pairs of images to the contribution of each band to its errors.

It is the importance game with the clean image as the absence baseline of the perturbed one, so the
engine, the estimators, the store and the workers are those of `importance.run`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

from iaside_plugins.decomposition.contributions import Condition
from iaside_plugins.decomposition.pairs import PairStream
from iaside_plugins.decomposition.protocols import DEFAULT, check_protocol, engine_of
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.rows import (
    Rows,
    first_images,
    n_images,
    result_of,
    stop_check,
)
from iaside_plugins.decomposition.work import decomposition_work, nested_places
from iaside_plugins.errors import InputError
from iaside_plugins.importance.chance import warn_at_chance
from iaside_plugins.importance.run import ROWS
from iaside_plugins.inference.checks import KnownClasses, model_device
from iaside_plugins.inference.forward import Model
from iaside_plugins.inference.runner import first_batch_size
from iaside_plugins.parallel.processes import Devices, one_or_several
from iaside_plugins.parallel.shards import FileRange, RowRequest, Wanted, finished_groups
from iaside_plugins.protocol import Protocol, method_identity, protocol_or
from iaside_plugins.storage.provenance import model_identity
from iaside_plugins.storage.row_store import RowStore
from iaside_plugins.value_table.game import Game
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import Progress
from iaside_plugins.value_table.rows import Group, images_a_pass, restore
from iaside_plugins.value_table.stream import (
    are_files,
    check_max_images,
    count,
    say_copies,
    say_if_by_class,
)

K = TypeVar("K")
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
    for nested, places in nested_places(protocol, repair):
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
    finished = closing(finished_groups(model, game, requests, device))
    known = count(pairs, max_images)
    try:
        work = partial(decomposition_work, pairs, protocol, repair=repair)
        with Progress(work(known), show_progress) as bar, finished as each:
            bar.set_description("error by band")
            for request, group in each:
                conditions = stream.conditions
                before = n_images(rows, conditions)
                part = rows[requests.index(request)]
                part.add(group, request.store)
                passes = part.layout.n_passes + 1 / len(conditions)
                bar.update({"coalition": len(group.keys) * passes})
                if target_error is None:
                    continue
                check = stop_check(rows, conditions, before, target_error)
                if check is not None:
                    if (expected := work(check.expected(known))) is not None:
                        bar.set_work(expected)
                    if check.done:
                        rows = first_images(rows, conditions, check.n_images)
                        break
    finally:
        for request in requests:
            request.store.flush()
    for request in requests:
        request.store.compact()
    if not any(part.rows for part in rows):
        raise InputError("no images: the data are empty")
    # by one condition: an attack may leave an image as it is at several budgets
    say_copies([key for part in rows for key in part.keys[:: len(stream.conditions)]])
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
    _say_unperturbed(result)
    limited = target_error is not None or result.n_images == max_images
    say_if_by_class(model, pairs, result.labels.tolist(), result.n_classes, limited=limited)
    return result


def _say_unperturbed(result: ErrorDecomposition) -> None:
    """Log conditions under which every image is the clean one, unless that is what they are."""
    for condition, energy in zip(result.conditions, result.energy, strict=True):
        if not energy.any() and condition.level != 0:
            _log.warning("all images under %s are the clean ones: nothing is perturbed", condition)


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
