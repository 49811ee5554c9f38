"""The `iaside show` command: a saved result or an unfinished run, without model or images."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.cli import options as opt
from iaside_plugins.cli.outputs import Outputs
from iaside_plugins.cli.values import check_clash
from iaside_plugins.decomposition.plots import plot_decomposition
from iaside_plugins.decomposition.result import ErrorDecomposition
from iaside_plugins.decomposition.sentences import conclusion
from iaside_plugins.decomposition.text import decomposition_text
from iaside_plugins.display.plots import plot_profiles
from iaside_plugins.display.report import spectral_report
from iaside_plugins.errors import InputError
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.storage.files import parse_json, read_json, read_npz, write_atomic
from iaside_plugins.storage.row_store import HEADER
from iaside_plugins.workflows.labels import with_words


def show(
    source: Annotated[
        Path,
        typer.Argument(help="FILE.npz of --save, or the DIR of --resume of iaside profile"),
    ],
    beta: Annotated[float | None, typer.Option(help="Another beta for the scores")] = None,
    by_class: Annotated[Path | None, typer.Option(help="Write one row a class to FILE.csv")] = None,
    json_file: opt.JsonFile = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Scores, intervals and classes of a finished or unfinished run, from its stored rows.

    Also the FILE.npz of iaside explain: every error split over bands.
    """
    outputs = Outputs(json_file, plot, quiet, (by_class,))
    if not source.exists():
        raise InputError(f"there is no {source}: expected a saved result or a --resume folder")
    if source.suffix.lower() == ".json":
        raise InputError(f"{source} is no saved result: {_of_json(source)}")
    if any((source / name / HEADER).exists() for name in ("chains", "nested")):
        raise InputError(
            f"{source} is the --resume folder of iaside explain: the same command goes on from it, "
            "and its --save FILE.npz is what show takes"
        )
    head = _head(source)
    if "fourier_heat_map" in head:
        raise InputError(
            f"{source} is a Fourier heat map: iaside heatmap --plot draws it, and in Python "
            "FourierHeatMap.load reads it"
        )
    if "decomposition" in head:
        check_clash("a result of iaside explain", True, beta=beta, by_class=by_class)
        found = ErrorDecomposition.load(source)
        drawn = partial(plot_decomposition, found, source.stem)
        said = with_words(found.label_space, found.to_dict(), decomposition_text(found))
        outputs.write(*said, drawn, conclusion(found))
        return
    result = SpectralImportance.load(source)
    if beta is not None:
        result = replace(result, protocol=replace(result.protocol, beta=beta))
    if by_class is not None:
        write_atomic(by_class, result.by_class().to_csv(index=False).encode())
    outputs.write(
        *with_words(result.label_space, result.to_dict(), spectral_report(result)),
        lambda: plot_profiles({source.stem: result}),
        [result.evidence.sentence],
    )


def _head(source: Path) -> dict[str, Any]:
    """Return what a saved result says of itself; nothing for what is no such file."""
    with contextlib.suppress(InputError, ValueError, KeyError, TypeError):
        if source.is_file():
            return dict(parse_json(str(read_npz(source)["head"])))
    return {}


def _of_json(file: Path) -> str:
    """Return what a JSON file is, and the command that shows it."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        if "entry_id" in read_json(file):
            return (
                f"it is an entry, which iaside leaderboard validate {file} checks and iaside "
                f"leaderboard export {file} --to model-card writes for reading"
            )
    return "give the FILE.npz of --save; the JSON of a command holds its numbers for programs"
