"""The `iaside explain` command: every error of the benchmark, split over frequency bands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaside_plugins.adapters.foolbox_adapter import AttackSpec
from iaside_plugins.adapters.models.load import Classifier, describe
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.groups import (
    AttackOptions,
    FastOptions,
    GenerationChoices,
    ImageOptions,
    ModelOptions,
    ProtocolOptions,
    SavedOutputOptions,
    with_groups,
)
from iaside_plugins.cli.values import Outputs, check_needs
from iaside_plugins.decomposition.comparison import difference
from iaside_plugins.decomposition.plots import plot_decomposition, plot_difference
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.sentences import conclusion
from iaside_plugins.decomposition.text import condition_name, decomposition_text, versus_text
from iaside_plugins.devices import n_devices
from iaside_plugins.display.cost import Cost
from iaside_plugins.display.plots import save_figure
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.corruption_options import check_corruptions, check_severities
from iaside_plugins.workflows.cost import planned
from iaside_plugins.workflows.explain import (
    PerturbedImages,
    explain_cost,
    explain_plan,
    systematic_pairs,
)
from iaside_plugins.workflows.source import DataSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGET = 0.005  # half a point of error
N_IMAGES = 200
N_REPAIR = 50
SEVERITIES = "1,3,5"
PERTURBED, SYSTEMATIC = "perturbed", "systematic"


@dataclass(frozen=True)
class _Images(ImageOptions):
    n_images: Annotated[int, typer.Option(help="Take so many images at most, seeded")] = N_IMAGES


@dataclass(frozen=True)
class _Corruptions(GenerationChoices):
    corruptions: Annotated[
        str,
        typer.Option(help="generate, names such as fog,snow, none, or a distributed ImageNet-C"),
    ] = "generate"
    severities: Annotated[
        str | None, typer.Option(help="Severities of the corruptions", show_default=SEVERITIES)
    ] = None
    systematic: opt.Systematic = False

    @property
    def strengths(self) -> tuple[int, ...]:
        """The severities."""
        return check_severities(self.severities or SEVERITIES)

    def check_all(self) -> None:
        """Raise InputError for what is unknown, and for options of corruptions without any."""
        kinds = check_corruptions(self.corruptions)
        check_severities(self.severities or SEVERITIES)
        self.check(bool(kinds))
        check_needs("--corruptions", kinds != [], severities=self.severities)

    def sets(
        self, source: DataSource, nets: Sequence[Classifier], specs: Sequence[AttackSpec]
    ) -> dict[str, list[PerturbedImages]]:
        """Return the images of every model, systematic noise apart."""
        perturb = partial(
            explain_plan,
            source,
            corruptions=self.corruptions,
            severities=self.strengths,
            attacks=specs,
            generation=self.options,
        )
        sets = {}
        if specs or self.corruptions != "none" or not self.systematic:
            sets[PERTURBED] = list(map(perturb, nets))
        if self.systematic:
            sets[SYSTEMATIC] = [systematic_pairs(source, one) for one in nets]
        return sets


@dataclass(frozen=True)
class _Bands(ProtocolOptions):
    protocol: opt.ProtocolText = "permutation"


@with_groups
def explain(
    spec: opt.ModelSpec,
    images: _Images,
    model: ModelOptions,
    corrupted: _Corruptions,
    attacked: AttackOptions,
    bands: _Bands,
    run: FastOptions,
    output: SavedOutputOptions,
    versus: Annotated[
        str | None, typer.Option(help="Another MODEL: also the difference, on the same images")
    ] = None,
    versus_weights: Annotated[Path | None, typer.Option(help="Weights of the other model")] = None,
    versus_mean: Annotated[str | None, typer.Option(help="--mean of the other model")] = None,
    versus_std: Annotated[str | None, typer.Option(help="--std of the other model")] = None,
    repair: Annotated[
        int, typer.Option(help="Images on which to measure what removing bands would repair")
    ] = N_REPAIR,
    target_error: Annotated[
        float,
        typer.Option(help="Stop once each band of the mean is known to this share; 0: never"),
    ] = TARGET,
) -> None:
    """Why a model fails: every error under corruption or attack, split exactly over bands."""
    kinds = [SYSTEMATIC] * corrupted.systematic
    more = [_beside(file, kind) for file in (output.save, output.plot) for kind in kinds]
    if versus is not None:
        more += [_beside(output.save, kind) for kind in ("versus", *(f"{k}-versus" for k in kinds))]
    outputs = output.open(*more)
    attacked.check()
    corrupted.check_all()
    of_versus = {"versus_weights": versus_weights, "versus_mean": versus_mean}
    check_needs("--versus", versus is not None, **of_versus, versus_std=versus_std)
    rows, _ = run.rows()
    chosen = bands.pick(images.seed, forwards=run.forwards)
    specs = attacked.specs()
    source = images.source()
    nets = [model.open(spec, run.own_device, precision=run.precision)]
    if versus is not None:
        other = replace(model, name=None, weights=versus_weights, mean=versus_mean, std=versus_std)
        nets.append(other.open(versus, run.own_device, precision=run.precision))
    sets = corrupted.sets(source, nets, specs)
    options: dict[str, Any] = {"batch_size": rows, "precision": run.precision, "repair": repair}
    limits: dict[str, Any] = {"n_devices": n_devices(run.several), "at_most": target_error > 0}
    for one in nets:
        outputs.say(describe(one.info))
    costs: dict[str, list[Cost]] = {}
    for kind, plans in sets.items():
        for what in plans[0].left_out:
            outputs.say(f"left out: {what}")
        each = zip(nets, plans, strict=True)
        found_costs = [explain_cost(one, pairs, chosen, **options, **limits) for one, pairs in each]
        if len(nets) > 1:
            named = zip(found_costs, _names(nets), strict=True)
            found_costs = [replace(cost, of=name) for cost, name in named]
        costs[kind] = found_costs
    first = next(iter(sets.values()))[0]
    conditions = [condition_name(one) for plans in sets.values() for one in plans[0].conditions]
    chosen, everything = run.settled(chosen, *(one for each in costs.values() for one in each))
    facts = {**planned(nets[0], first.clean, chosen), "conditions": conditions}
    if outputs.plan(run.dry_run, *everything, **facts):
        return
    which = {
        PERTURBED: (corrupted.corruptions, corrupted.strengths, [s.to_dict() for s in specs]),
        SYSTEMATIC: (SYSTEMATIC,),
    }
    found: dict[str, list[ErrorDecomposition]] = {}
    with run.workers() as device:
        for kind, plans in sets.items():
            own = [_of(run.resume, k, nets, kind if len(sets) > 1 else PERTURBED) for k in nets]
            identity = (*source.which(), *which[kind]), chosen.run_choices(), run.precision
            folders = [
                resume_folder(one, "explain", *identity, net)
                for one, net in zip(own, nets, strict=True)
            ]
            work = zip(nets, plans, costs[kind], folders, strict=True)
            options |= {"protocol": chosen, "device": device, "target_error": target_error or None}
            found[kind] = _decomposed(work, outputs, **options)
    _write(outputs, output, images, nets, found)


def _decomposed(
    work: Iterable[tuple[Classifier, PerturbedImages, Cost, AbstractContextManager[Path]]],
    outputs: Outputs,
    **options: Any,
) -> list[ErrorDecomposition]:
    """Return the decomposition of every model; the first says how many images are enough."""
    results: list[ErrorDecomposition] = []
    for net, pairs, cost, unfinished in work:
        if results:
            options |= {"target_error": None, "max_images": results[0].n_images}
        options["show_progress"] = outputs.bars
        with unfinished as folder, outputs.progress("explain", cost):
            results.append(error_decomposition(net, pairs, **options, resume=folder))
    return results


def _write(
    outputs: Outputs,
    output: SavedOutputOptions,
    images: ImageOptions,
    nets: list[Classifier],
    found: dict[str, list[ErrorDecomposition]],
) -> None:
    """Write the decompositions of every kind: the first as such, others beside it."""
    (_, results), *more = found.items()
    _save(results, output.save)
    values, text = _values(results, nets), _text(results, nets)
    for kind, others in more:
        values[kind] = {k: v for k, v in _values(others, nets).items() if k != "model"}
        text += f"\n\n{kind} noise: the same files read otherwise\n{_text(others, nets)}"
        _save(others, _beside(output.save, kind))
        if (plot := _beside(output.plot, kind)) is not None:
            save_figure(_figure(others, nets), plot)
    verdicts = [sentence for one in results for sentence in conclusion(one)]
    outputs.write(*images.with_words(values, text), lambda: _figure(results, nets), verdicts)


def _save(results: list[ErrorDecomposition], file: Path | None) -> None:
    """Save the decomposition of a model, and that of another model beside it."""
    for result, own in zip(results, (file, _beside(file, "versus")), strict=False):
        if own is not None:
            result.save(own)


def _values(results: list[ErrorDecomposition], nets: list[Classifier]) -> dict[str, Any]:
    """Return a decomposition, and the one of another model with the difference, as JSON values."""
    first = results[0]
    values = {"model": nets[0].info.to_dict(), "conclusion": conclusion(first), **first.to_dict()}
    if len(results) > 1:
        values["versus"] = {
            "model": nets[1].info.to_dict(),
            "decomposition": results[1].to_dict(),
            "difference": difference(*results).to_dict(),
        }
    return values


def _text(results: list[ErrorDecomposition], nets: list[Classifier]) -> str:
    """Return what is printed of a decomposition, or of two models and their difference."""
    if len(results) == 1:
        return decomposition_text(results[0])
    names = _names(nets)
    parts = [names[0], decomposition_text(results[0]), f"\n{names[1]}"]
    between = versus_text(difference(*results), *names)
    return "\n".join([*parts, decomposition_text(results[1]), between])


def _figure(results: list[ErrorDecomposition], nets: list[Classifier]) -> Figure:
    """Return the picture of a decomposition, or of the difference of two models."""
    if len(results) == 1:
        return plot_decomposition(results[0], nets[0].info.name)
    return plot_difference(difference(*results), *_names(nets))


def _beside(file: Path | None, kind: str) -> Path | None:
    """Return the file of another kind of result: of systematic noise, or of the other model."""
    return None if file is None else file.with_name(f"{file.stem}-{kind}{file.suffix}")


def _of(resume: Path | None, model: Classifier, models: list[Classifier], kind: str) -> Path | None:
    """Return the folder of finished work, of several models or kinds a folder each."""
    if resume is None:
        return None
    folder = resume if kind == PERTURBED else resume / kind
    if len(models) == 1:
        return folder
    return folder / ("first" if model is models[0] else "second")


def _names(models: Sequence[Classifier]) -> tuple[str, str]:
    """Return the names of two models, told apart where they are the same."""
    first, second = (one.info.name for one in models)
    return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")
