"""The `iaside explain` command: every error of the benchmark, split over frequency bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from iaside_plugins.cli.outputs import Outputs
from iaside_plugins.cli.values import check_needs
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

    def kinds(
        self, source: DataSource, specs: Sequence[AttackSpec]
    ) -> dict[str, Callable[[Classifier], PerturbedImages]]:
        """Return what gives the images of a model, systematic noise apart."""
        kinds: dict[str, Callable[[Classifier], PerturbedImages]] = {}
        if specs or self.corruptions != "none" or not self.systematic:
            kinds[PERTURBED] = partial(
                explain_plan,
                source,
                corruptions=self.corruptions,
                severities=self.strengths,
                attacks=specs,
                generation=self.options,
            )
        if self.systematic:
            kinds[SYSTEMATIC] = partial(systematic_pairs, source)
        return kinds

    def identity(self, kind: str, specs: Sequence[AttackSpec]) -> tuple[Any, ...]:
        """Return what tells a kind of images from others, for the folder of a run."""
        if kind == SYSTEMATIC:
            return (SYSTEMATIC,)
        return self.corruptions, self.strengths, [spec.to_dict() for spec in specs]


@dataclass(frozen=True)
class _Job:
    """The errors of one model on one kind of images, which are to be decomposed."""

    kind: str
    net: Classifier
    images: PerturbedImages
    cost: Cost


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
    options: dict[str, Any] = {"batch_size": rows, "precision": run.precision, "repair": repair}
    limits: dict[str, Any] = {"n_devices": n_devices(run.several), "at_most": target_error > 0}
    cost = partial(explain_cost, protocol=chosen, **options, **limits)
    jobs = _jobs(corrupted.kinds(source, specs), nets, outputs, cost)
    chosen, everything = run.settled(chosen, *(job.cost for job in jobs))
    firsts = [job.images for job in jobs if job.net is nets[0]]
    conditions = [condition_name(one) for images_of in firsts for one in images_of.conditions]
    facts = {**planned(nets[0], firsts[0].clean, chosen), "conditions": conditions}
    if outputs.plan(run.dry_run, *everything, **facts):
        return

    def unfinished(job: _Job) -> AbstractContextManager[Path]:
        own = _of(run.resume, job.net, nets, job.kind if len(firsts) > 1 else PERTURBED)
        what = (*source.which(), *corrupted.identity(job.kind, specs))
        return resume_folder(own, "explain", what, chosen.run_choices(), run.precision, job.net)

    with run.workers() as device:
        options |= {"protocol": chosen, "device": device}
        found = _decomposed(jobs, outputs, unfinished, target_error or None, **options)
    _write(outputs, output, images, nets, found)


def _jobs(
    kinds: Mapping[str, Callable[[Classifier], PerturbedImages]],
    nets: Sequence[Classifier],
    outputs: Outputs,
    cost: Callable[[Classifier, PerturbedImages], Cost],
) -> list[_Job]:
    """Return every kind with every model; say what the models are and what is left out."""
    each = [(kind, net, images_of(net)) for kind, images_of in kinds.items() for net in nets]
    for net in nets:
        outputs.say(describe(net.info))
    for what in (what for _, net, images in each if net is nets[0] for what in images.left_out):
        outputs.say(f"left out: {what}")
    names = dict(zip(nets, _names(nets) if len(nets) > 1 else [""], strict=True))
    return [
        _Job(kind, net, images, replace(cost(net, images), of=names[net]))
        for kind, net, images in each
    ]


def _decomposed(
    jobs: Sequence[_Job],
    outputs: Outputs,
    unfinished: Callable[[_Job], AbstractContextManager[Path]],
    target_error: float | None,
    **options: Any,
) -> dict[str, list[ErrorDecomposition]]:
    """Return the decompositions by kind; the first model says how many images are enough."""
    found: dict[str, list[ErrorDecomposition]] = {}
    for job in jobs:
        results = found.setdefault(job.kind, [])
        enough: dict[str, Any] = {"target_error": target_error}
        if results:
            enough = {"max_images": results[0].n_images}
        with unfinished(job) as folder, outputs.progress("explain", job.cost):
            given = {**options, **enough, "resume": folder, "show_progress": outputs.bars}
            results.append(error_decomposition(job.net, job.images, **given))
    return found


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
