"""The `iaside sensitivity` command: how far the choices of a protocol move what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, pick_protocol
from iaside_plugins.sensitivity.design import LEVELS
from iaside_plugins.sensitivity.plots import plot_sensitivity
from iaside_plugins.sensitivity.report import to_dict
from iaside_plugins.sensitivity.text import sensitivity_text
from iaside_plugins.workflows.sensitivity import (
    model_specs,
    open_models,
    pick_design,
    run_study,
)
from iaside_plugins.workflows.source import DataSource

BETAS = ",".join(f"{beta:g}" for beta in sorted(LEVELS["beta"]))


def sensitivity(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Specifications as of `profile`, of one data set"),
    ],
    data: opt.DataDir,
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
    range_handling: Annotated[str, typer.Option(help="Range handlings to compare")] = ",".join(
        LEVELS["range_handling"]
    ),
    absence: Annotated[str, typer.Option(help="Absences to compare")] = ",".join(LEVELS["absence"]),
    band_norm: Annotated[str, typer.Option(help="Partitions to compare")] = ",".join(
        LEVELS["band_norm"]
    ),
    bands: Annotated[
        str | None, typer.Option(help="Numbers of bands to compare, e.g. 6,8; default --n-bands")
    ] = None,
    temperature: Annotated[
        str, typer.Option(help="Temperatures to compare; cost no passes")
    ] = "1,fitted",
    beta: Annotated[str, typer.Option(help="Weight ratios to compare; cost no passes")] = BETAS,
    crossed: Annotated[
        str | None,
        typer.Option(
            help="Numbers of bands at which all choices are combined (default all); at others "
            "one choice at a time is changed"
        ),
    ] = None,
    labels: opt.Labels = "auto",
    classes: opt.Classes = None,
    n_images: opt.NImages = None,
    n_bands: opt.NBands = None,
    protocol: opt.ProtocolText = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 64,
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """How profile, scores and ranking move with the protocol, and how each goes with robustness."""
    outputs = Outputs(json_file, plot, quiet)
    design = pick_design(
        pick_protocol(protocol, n_bands, seed),
        range_handling=range_handling,
        absence=absence,
        band_norm=band_norm,
        n_bands=bands,
        temperature=temperature,
        beta=beta,
        crossed=crossed,
    )
    source = DataSource(data, labels, classes, n_images, seed, workers, batch_size)
    opened = open_models(
        model_specs(models, weights, name), source, design, entries=entries or (), device=device
    )
    report = run_study(
        opened,
        design,
        source,
        batch_size=batch_size,
        resume=resume,
        say=None if outputs.silent else outputs.say,
        show_progress=outputs.bars,
    )
    found = to_dict(report)
    outputs.write(found, sensitivity_text(found), lambda: plot_sensitivity(found))
