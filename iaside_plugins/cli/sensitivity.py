"""The `iaside sensitivity` command: how far the choices of a protocol move what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.cli.groups import (
    BatchOptions,
    ImageOptions,
    OutputOptions,
    ProtocolOptions,
    with_groups,
)
from iaside_plugins.sensitivity.design import LEVELS
from iaside_plugins.sensitivity.plots import plot_sensitivity
from iaside_plugins.sensitivity.report import to_dict
from iaside_plugins.sensitivity.text import sensitivity_text
from iaside_plugins.workflows.cost import planned
from iaside_plugins.workflows.sensitivity import (
    model_specs,
    open_models,
    pick_design,
    run_study,
    study_cost,
)

BETAS = ",".join(f"{beta:g}" for beta in sorted(LEVELS["beta"]))


def _levels(what: str, axis: str) -> Any:
    """Return the option of an axis, all of whose levels are compared by default."""
    return typer.Option(help=f"{what} to compare", show_default=", ".join(LEVELS[axis]))


@with_groups
def sensitivity(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Specifications as of `profile`, of one data set"),
    ],
    images: ImageOptions,
    protocol: ProtocolOptions,
    run: BatchOptions,
    output: OutputOptions,
    entries: Annotated[
        list[Path] | None,
        typer.Option(
            help="Entries of the models, or folders of them: accuracies and errors; repeatable"
        ),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weights, one file a model in order, or many of one MODEL; repeatable"),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Names, one a model in their order; repeatable")
    ] = None,
    range_handling: Annotated[str, _levels("Range handlings", "range_handling")] = ",".join(
        LEVELS["range_handling"]
    ),
    absence: Annotated[str, _levels("Absences", "absence")] = ",".join(LEVELS["absence"]),
    band_norm: Annotated[str, _levels("Partitions", "band_norm")] = ",".join(LEVELS["band_norm"]),
    bands: Annotated[
        str | None,
        typer.Option(help="Numbers of bands to compare, e.g. 6,8", show_default="--n-bands"),
    ] = None,
    temperature: Annotated[
        str, typer.Option(help="Temperatures to compare; cost no passes")
    ] = "1,fitted",
    beta: Annotated[str, typer.Option(help="Weight ratios to compare; cost no passes")] = BETAS,
    crossed: Annotated[
        str | None,
        typer.Option(
            help="Numbers of bands at which all choices are combined; at others one choice at a "
            "time is changed",
            show_default="all",
        ),
    ] = None,
) -> None:
    """How profile, scores and ranking move with the protocol, and how each goes with robustness."""
    outputs = output.open()
    design = pick_design(
        protocol.pick(images.seed),
        range_handling=range_handling,
        absence=absence,
        band_norm=band_norm,
        n_bands=bands,
        temperature=temperature,
        beta=beta,
        crossed=crossed,
    )
    source = images.source(run.batch_size)
    opened = open_models(
        model_specs(models, weights, name), source, design, entries=entries or (), device=run.device
    )
    cost = study_cost(opened, design, run.batch_size)
    facts = {"models": [one.model.info.name for one in opened]}
    if outputs.plan(run.dry_run, cost, **planned(None, opened[0].images, design.base), **facts):
        return
    with outputs.progress("sensitivity", cost):
        report = run_study(
            opened,
            design,
            source,
            batch_size=run.batch_size,
            resume=run.resume,
            say=None if outputs.silent else outputs.say,
            show_progress=outputs.bars,
        )
    found = to_dict(report)
    outputs.write(found, sensitivity_text(found), lambda: plot_sensitivity(found))
