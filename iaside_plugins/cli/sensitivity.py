"""The `iaside sensitivity` command: how far the choices of a protocol move what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli.options import (
    BatchSize,
    Classes,
    DataDir,
    Device,
    JsonFile,
    Labels,
    NBands,
    NImages,
    PlotFile,
    ProtocolText,
    Quiet,
    Resume,
    Seed,
    Workers,
    show,
)


def sensitivity(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Specifications as of `profile`, of one data set"),
    ],
    data: DataDir,
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
    range_handling: Annotated[
        str, typer.Option(help="Range handlings to compare")
    ] = "none,clip,rescale",
    absence: Annotated[str, typer.Option(help="Absences to compare")] = "zero,gaussian,replacement",
    band_norm: Annotated[str, typer.Option(help="Partitions to compare")] = "chebyshev,euclidean",
    bands: Annotated[
        str | None, typer.Option(help="Numbers of bands to compare, e.g. 6,8; default --n-bands")
    ] = None,
    temperature: Annotated[
        str, typer.Option(help="Temperatures to compare; cost no passes")
    ] = "1,fitted",
    beta: Annotated[
        str, typer.Option(help="Weight ratios to compare; cost no passes")
    ] = "0.6,0.75,0.9",
    crossed: Annotated[
        str | None,
        typer.Option(
            help="Numbers of bands at which all choices are combined (default all); at others "
            "one choice at a time is changed"
        ),
    ] = None,
    labels: Labels = "auto",
    classes: Classes = None,
    n_images: NImages = None,
    n_bands: NBands = None,
    protocol: ProtocolText = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    workers: Workers = 0,
    resume: Resume = None,
    json_file: JsonFile = None,
    plot: PlotFile = None,
    quiet: Quiet = False,
) -> None:
    """How profile, scores and ranking move with the protocol, and how each goes with robustness."""
    from iaside_plugins.cli.values import check_outputs, pick_protocol
    from iaside_plugins.display.plots import save_figure
    from iaside_plugins.sensitivity.plots import plot_sensitivity
    from iaside_plugins.sensitivity.records import to_dict
    from iaside_plugins.sensitivity.text import sensitivity_text
    from iaside_plugins.workflows.sensitivity import (
        one_each,
        open_studied,
        pick_design,
        run_study,
    )
    from iaside_plugins.workflows.source import DataSource

    check_outputs(None, plot, json_file)
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
    studied = open_studied(
        one_each(models, weights, name), source, design, entries=entries or (), device=device
    )
    silent = quiet or json_file == "-"
    report = run_study(
        studied,
        design,
        source,
        batch_size=batch_size,
        resume=resume,
        say=None if silent else typer.echo,
    )
    found = to_dict(report)
    if plot is not None:
        save_figure(plot_sensitivity(found), plot)
    show(json_file, found, sensitivity_text(found), quiet)
