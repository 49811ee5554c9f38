"""The `iaside explain` command: every error of the benchmark, split over frequency bands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

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
from iaside_plugins.cli.values import check_needs
from iaside_plugins.decomposition.plots import plot_decomposition, plot_difference
from iaside_plugins.decomposition.result import ErrorDecomposition, difference
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.sentences import conclusion
from iaside_plugins.decomposition.text import decomposition_text, versus_text
from iaside_plugins.devices import pick_devices
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.explain import cost_of, explain_plan
from iaside_plugins.workflows.spectrum import check_severities

TARGET = 0.005  # half a point of error
N_IMAGES = 200
N_REPAIR = 50


@dataclass(frozen=True)
class _Images(ImageOptions):
    n_images: Annotated[int, typer.Option(help="Take so many images at most, seeded")] = N_IMAGES


@dataclass(frozen=True)
class _Corruptions(GenerationChoices):
    corruptions: Annotated[
        str,
        typer.Option(help="generate, names such as fog,snow, none, or a distributed ImageNet-C"),
    ] = "generate"
    severities: Annotated[str, typer.Option(help="Severities of the corruptions")] = "1,3,5"


@dataclass(frozen=True)
class _Run(FastOptions):
    forwards: opt.Forwards = "fast"


@with_groups
def explain(
    spec: opt.ModelSpec,
    images: _Images,
    model: ModelOptions,
    corrupted: _Corruptions,
    attacked: AttackOptions,
    bands: ProtocolOptions,
    run: _Run,
    output: SavedOutputOptions,
    versus: Annotated[
        str | None, typer.Option(help="Another MODEL: also the difference, on the same images")
    ] = None,
    versus_weights: Annotated[Path | None, typer.Option(help="Weights of the other model")] = None,
    repair: Annotated[
        int, typer.Option(help="Images on which to measure what removing bands would repair")
    ] = N_REPAIR,
    target_error: Annotated[
        float, typer.Option(help="Stop once the mean's bands are known so closely; 0: never")
    ] = TARGET,
) -> None:
    """Why a model fails: every error under corruption or attack, split exactly over bands."""
    outputs = output.open()
    attacked.check()
    check_needs("--versus", versus is not None, versus_weights=versus_weights)
    _, several = pick_devices(run.device)
    rows, _ = run.rows()
    chosen = bands.pick(images.seed, "estimator=permutation", run.forwards)
    strengths = check_severities(corrupted.severities)
    specs = attacked.specs()
    source = images.source()
    nets = [model.open(spec, run.device, precision=run.precision)]
    if versus is not None:
        other = replace(model, weights=versus_weights, name=None)
        nets.append(other.open(versus, run.device, precision=run.precision))
    net = nets[0]
    plans = [
        explain_plan(
            source,
            one,
            corruptions=corrupted.corruptions,
            severities=strengths,
            attacks=specs,
            generation=corrupted.options,
        )
        for one in nets
    ]
    results: list[ErrorDecomposition] = []
    for one, pairs in zip(nets, plans, strict=True):
        outputs.say(describe(one.info))
        options: dict[str, Any] = {
            "batch_size": rows,
            "precision": run.precision,
            "repair": repair,
        }
        outputs.say(str(cost_of(one, pairs, chosen, **options)))
        kinds = corrupted.corruptions
        which = (*source.which(), kinds, strengths, [s.to_dict() for s in specs])
        with resume_folder(
            _of(run.resume, one, nets), "explain", which, chosen.used(), run.precision, one
        ) as folder:
            result = error_decomposition(
                one,
                pairs,
                chosen,
                **options,
                device=several or None,
                resume=folder,
                target_error=target_error or None if not results else None,
                max_images=results[0].n_images if results else None,
                show_progress=outputs.bars,
            )
        results.append(result)
    first = results[0]
    if output.save is not None:
        first.save(output.save)
    found: dict[str, Any] = {
        "model": net.info.to_dict(),
        "conclusion": conclusion(first),
        **first.to_dict(),
    }
    text = decomposition_text(first)
    if len(results) == 1:
        outputs.write(found, text, lambda: plot_decomposition(first, net.info.name))
        return
    names = _names(nets)
    between = difference(*results)
    found["versus"] = {
        "model": nets[1].info.to_dict(),
        "decomposition": results[1].to_dict(),
        "difference": between.to_dict(),
    }
    parts = [f"{names[0]}", text, f"\n{names[1]}", decomposition_text(results[1])]
    outputs.write(
        found,
        "\n".join([*parts, versus_text(between, *names)]),
        lambda: plot_difference(between, *names),
    )


def _of(resume: Path | None, model: Classifier, models: list[Classifier]) -> Path | None:
    """Return the folder of a model's finished work, of several models a folder each."""
    if resume is None or len(models) == 1:
        return resume
    return resume / ("first" if model is models[0] else "second")


def _names(models: list[Classifier]) -> tuple[str, str]:
    """Return the names of two models, told apart where they are the same."""
    first, second = (one.info.name for one in models)
    return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")
