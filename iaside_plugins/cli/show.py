"""The `iaside show` command: a saved result or an unfinished run, without model or images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli.options import JsonFile, PlotFile, Quiet
from iaside_plugins.cli.options import show as show_found
from iaside_plugins.errors import InputError


def show(
    source: Annotated[
        Path, typer.Argument(help="FILE.npz of --save, or the DIR of --resume of iaside profile")
    ],
    beta: Annotated[float | None, typer.Option(help="Another beta for the scores")] = None,
    by_class: Annotated[Path | None, typer.Option(help="Write one row a class to FILE.csv")] = None,
    json_file: JsonFile = None,
    plot: PlotFile = None,
    quiet: Quiet = False,
) -> None:
    """Scores, intervals and classes of a finished or unfinished run, from its stored rows."""
    from dataclasses import replace

    from iaside_plugins.cli.values import check_outputs
    from iaside_plugins.display.plots import plot_profiles, save_figure
    from iaside_plugins.display.report import spectral_report
    from iaside_plugins.importance.result import SpectralImportance
    from iaside_plugins.storage.files import write_atomic

    check_outputs(by_class, plot, json_file)
    if not source.exists():
        raise InputError(f"there is no {source}: expected a saved result or a --resume folder")
    result = SpectralImportance.load(source)
    if beta is not None:
        result = replace(result, protocol=replace(result.protocol, beta=beta))
    if by_class is not None:
        write_atomic(by_class, result.by_class().to_csv(index=False).encode())
    if plot is not None:
        save_figure(plot_profiles({source.stem: result}), plot)
    show_found(json_file, result.to_dict(), spectral_report(result), quiet)
