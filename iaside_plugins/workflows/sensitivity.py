"""The value tables of a sensitivity study: several models, every variant of a design, resumable."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iaside_plugins.adapters.imagenet.folders import ImageFolderData
from iaside_plugins.adapters.models.load import Classifier
from iaside_plugins.display.cost import Cost
from iaside_plugins.entry.outcomes import outcomes, parse_files
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.importance.run import importance_work, spectral_importance
from iaside_plugins.inference.checks import check_images
from iaside_plugins.protocol import Protocol
from iaside_plugins.sensitivity.design import Design, known_level, make_design
from iaside_plugins.sensitivity.logits import CachedLogits, fitted_temperature
from iaside_plugins.sensitivity.off_range import off_range_share
from iaside_plugins.sensitivity.report import SensitivityReport, StudiedModel
from iaside_plugins.storage.files import check_writable
from iaside_plugins.storage.provenance import provenance
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.value_table.progress import added, part, times
from iaside_plugins.value_table.stream import items
from iaside_plugins.workflows.cost import probed
from iaside_plugins.workflows.labels import check_labels_are_given
from iaside_plugins.workflows.source import DataSource, open_images, open_model

RANGE_IMAGES = 32  # on which the share of pixels outside [0, 1] is measured


@dataclass(frozen=True)
class ModelWithImages:
    """A model with the images to study it on and the outcomes in its entries."""

    model: Classifier
    images: ImageFolderData
    outcomes: Mapping[str, float]


def model_specs(
    models: Sequence[str], weights: Sequence[Path] | None, names: Sequence[str] | None
) -> list[tuple[str, Path | None, str | None]]:
    """Return each model with its weights and its name.

    One model with several weights is that many models, named after the files.

    Raises:
        InputError: For another number of weights or names than of models.
    """
    files: list[Path | None] = list(weights or [])
    if len(models) == 1 and len(files) > 1:
        models = list(models) * len(files)
        names = names or [file.stem for file in weights or []]
    titles: list[str | None] = list(names or [])
    for argument, given in (("weights", files), ("name", titles)):
        if given and len(given) != len(models):
            raise InputError(
                f"expected one {argument}=... a model, {len(models)}, got {len(given)}"
            )
    nothing = [None] * len(models)
    return list(zip(models, files or nothing, titles or nothing, strict=True))


def pick_design(base: Protocol, *, crossed: str | None = None, **levels: str | None) -> Design:
    """Return a design from lists such as "none,clip" by axis.

    Raises:
        InputError: For a word that is no level of its axis, and as `make_design`.
    """
    found = {
        axis: [known_level(axis, word.strip()) for word in text.split(",") if word.strip()]
        for axis, text in levels.items()
        if text is not None
    }
    bands = None
    if crossed is not None:
        bands = [known_level("n_bands", word) for word in crossed.split(",") if word.strip()]
    return make_design(base, found, bands)


def open_models(
    models: Iterable[tuple[str, Path | None, str | None]],
    source: DataSource,
    design: Design,
    *,
    entries: Sequence[Path] = (),
    device: str = "auto",
) -> list[ModelWithImages]:
    """Open every model with its images and check both, before any of the work.

    Args:
        models: Specification, weights and name of each, see `model_specs`.
        source: The images.
        design: Its number of bands must fit the images.
        entries: Files, or folders of them.
        device: "auto", "cpu" or "cuda[:i]".

    Raises:
        InputError: For models, images or entries that cannot be used, or do not belong together.
    """
    check_labels_are_given(source.labels, "this study")
    known = parse_files(entries)
    out = []
    for spec, weights, name in models:
        model = open_model(spec, weights=weights, name=name, device=device)
        info = model.info
        said = outcomes(known, info.weights_sha256, info.name) if known else {}
        out.append(ModelWithImages(model, open_images(source, model), said))
    names = [one.model.info.name for one in out]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two models are called {twice[0]}: give each its own with name=...")
    for one in out:  # now, and not when the largest number of bands has its turn
        first = torch.as_tensor(next(iter(one.images))[0])
        check_images(first, max(design.levels["n_bands"]))
    return out


def run_study(
    models: Sequence[ModelWithImages],
    design: Design,
    source: DataSource,
    *,
    batch_size: int = 64,
    resume: Path | None = None,
    say: Callable[[str], None] | None = None,
    show_progress: bool = True,
) -> SensitivityReport:
    """Compute the value tables of all models and report on them.

    Args:
        models: The models with their images.
        design: Variants of the protocol.
        source: The images, to identify unfinished work.
        batch_size: Rows in one forward pass.
        resume: Folder of finished images, instead of one that is removed at the end.
        say: Called with a line for every finished model; None also hides progress bars.
        show_progress: Whether to show progress bars, if there is `say`.

    Raises:
        InputError: As `spectral_importance` and `fitted_temperature`, or for a folder that
            cannot be written.
    """
    if resume is not None:
        check_writable(resume, folder=True)
    found = []
    with ExitStack() as unfinished:  # of all models until the last one is finished
        for one in models:
            info = one.model.info
            folder = None if resume is None else resume / re.sub(r"[^\w.-]+", "-", info.name)
            rows = unfinished.enter_context(
                resume_folder(folder, "sensitivity", source.which(), one.model)
            )
            done = study_model(
                one.model,
                one.images,
                design,
                outcomes=one.outcomes,
                batch_size=batch_size,
                resume=rows,
                show_progress=show_progress and say is not None,
            )
            found.append(done)
            if say is not None:
                base = done.results[design.variants().index(design.base_variant)]
                say(f"{info.name}: {base}")
    first = models[0]
    return SensitivityReport(
        design,
        tuple(found),
        seed=source.seed,
        off_range=_off_range(first.images, design),
        info={"seed": source.seed, "provenance": provenance(first.model.mean.device)},
    )


def study_model(
    model: Classifier,
    images: Iterable[Any],
    design: Design,
    *,
    outcomes: Mapping[str, float] | None = None,
    batch_size: int = 64,
    resume: Path | None = None,
    show_progress: bool = False,
) -> StudiedModel:
    """Return the results of one model under every variant of a design.

    A value table is computed for every choice of range handling, absence, partition and bands; a
    fitted temperature uses the same passes, and beta needs none.

    Args:
        model: On its device, in evaluation mode.
        images: Batches (images, labels) or (images, labels, ids); all are held in memory.
        design: Variants of the protocol.
        outcomes: Accuracies and errors of the model's entries, see `entry.outcomes.outcomes`.
        batch_size: Rows in one forward pass.
        resume: Folder of finished images, with one folder a table.
        show_progress: Whether to show a progress bar for every table.

    Raises:
        InputError: As `spectral_importance` and `fitted_temperature`.
    """
    batches = list(images)
    net = CachedLogits(model)
    variants, n = design.variants(), sum(len(batch[0]) for batch in batches)
    temperature = None
    if any(variant.fitted for variant in variants):
        temperature = _temperature(net, batches, model.mean.device)
    done: dict[str, SpectralImportance] = {}
    results = []
    for place, variant in enumerate(variants):
        protocol = variant.for_temperature(temperature or 1.0)
        cached = place > 0 and _passes(protocol) == _passes(variants[place - 1].protocol)
        if place and not cached:
            net.forget()
        table = dataclasses.replace(protocol, beta=design.base.beta)
        key = table.digest
        if key not in done:
            with part({} if cached else times(importance_work(protocol), n)):
                done[key] = spectral_importance(
                    net,
                    batches,
                    protocol,
                    batch_size=batch_size,
                    resume=None if resume is None else resume / f"{table.protocol_id}{key[8:]}",
                    show_progress=show_progress,
                )
        results.append(dataclasses.replace(done[key], protocol=protocol))
    return StudiedModel(
        model.info.name, tuple(results), temperature, dict(outcomes or {}), model.info.to_dict()
    )


def study_cost(models: Sequence[ModelWithImages], design: Design, batch_size: int = 64) -> Cost:
    """Return what the value tables of all models will cost; choices that share passes count once.

    Args:
        models: The models with their images.
        design: Variants of the protocol.
        batch_size: Rows in one forward pass.
    """
    variants = design.variants()
    fresh = [
        one.protocol
        for before, one in zip([None, *variants], variants, strict=False)
        if before is None or _passes(before.protocol) != _passes(one.protocol)
    ]
    each = added(
        *map(importance_work, fresh), {"forward": int(any(one.fitted for one in variants))}
    )
    parts = {one.model.info.name: times(each, len(one.images.records)) for one in models}
    options: dict[str, Any] = {"protocol": design.base, "batch_size": batch_size}
    speeds = {one.model.info.name: probed(one.model, one.images, **options) for one in models}
    slowest = max(speeds.values(), key=lambda one: one.seconds["forward"])
    advice = f"fewer images, --n-images, or fewer choices: {len(fresh)} tables a model now"
    held = 4 * slowest.pixels * max(len(one.images.records) for one in models)
    return Cost(parts, slowest, dict.fromkeys(parts, advice), held=held, speeds=speeds)


def _off_range(images: ImageFolderData, design: Design) -> tuple[float, ...]:
    """Return `off_range_share` of every variant, on the first images."""
    first = items(images, max(design.levels["n_bands"]), RANGE_IMAGES)
    sample, known = torch.stack([item.image for item in first]), {}
    for variant in design.variants():
        chosen = variant.protocol
        key = (chosen.n_bands, chosen.band_norm, chosen.absence)
        if key not in known:
            known[key] = off_range_share(sample, chosen)
    return tuple(
        known[v.protocol.n_bands, v.protocol.band_norm, v.protocol.absence]
        for v in design.variants()
    )


def _passes(protocol: Protocol) -> dict[str, Any]:
    """Return the fields of a protocol that determine the coalition images."""
    return {k: v for k, v in protocol.used().items() if k not in ("beta", "temperature")}


def _temperature(net: CachedLogits, batches: Sequence[Any], device: torch.device) -> float:
    with torch.no_grad():
        logits = [net(torch.as_tensor(batch[0]).to(device)).double().cpu() for batch in batches]
    labels = np.concatenate([np.asarray(batch[1]) for batch in batches])
    return fitted_temperature(torch.cat(logits).numpy(), labels)
