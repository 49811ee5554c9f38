"""The `iaside show` command: a saved result or an unfinished run, without model or images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs
from iaside_plugins.display.plots import plot_profiles
from iaside_plugins.display.report import spectral_report
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.storage.files import write_atomic


def show(
    source: Annotated[
        Path, typer.Argument(help="FILE.npz of --save, or the DIR of --resume of iaside profile")
    ],
    beta: Annotated[float | None, typer.Option(help="Another beta for the scores")] = None,
    by_class: Annotated[Path | None, typer.Option(help="Write one row a class to FILE.csv")] = None,
    json_file: opt.JsonFile = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Scores, intervals and classes of a finished or unfinished run, from its stored rows."""
    outputs = Outputs(json_file, plot, quiet, (by_class,))
    if not source.exists():
        raise InputError(f"there is no {source}: expected a saved result or a --resume folder")
    result = SpectralImportance.load(source)
    if beta is not None:
        result = replace(result, protocol=replace(result.protocol, beta=beta))
    if by_class is not None:
        write_atomic(by_class, result.by_class().to_csv(index=False).encode())
    outputs.write(
        result.to_dict(),
        spectral_report(result),
        lambda: plot_profiles({source.stem: result}),
        [result.evidence.sentence],
    )
