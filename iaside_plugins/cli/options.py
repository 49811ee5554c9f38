"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.storage.files import write_json

ModelSpec = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="timm:NAME, torchvision:NAME, kit:NAME, robustbench:DATASET/THREAT/NAME or "
        "python:MODULE:FACTORY",
    ),
]
DataDir = Annotated[Path, typer.Option("--data", help="Folder of class folders, or a CSV manifest")]
Weights = Annotated[Path | None, typer.Option(help="Weights: .safetensors, .pth, .pt")]
Name = Annotated[str | None, typer.Option(help="Name of the model in the output")]
Training = Annotated[str | None, typer.Option(help="How the model was trained, for the entry")]
Resize = Annotated[int | None, typer.Option(help="Resize the short side; 0: do not")]
Crop = Annotated[int | None, typer.Option(help="Centre crop; 0: none")]
Interpolation = Annotated[str | None, typer.Option(help="Of the resize: bilinear, bicubic, ...")]
Labels = Annotated[str, typer.Option(help="auto, or rank to number folders by rank")]
Classes = Annotated[Path | None, typer.Option(help="Class names, one a line or a JSON list")]
Dataset = Annotated[str | None, typer.Option(help="Name of the data set in the entry")]
Note = Annotated[str | None, typer.Option(help="What readers must know of the images")]
NImages = Annotated[int | None, typer.Option(help="Take so many images, seeded; default all")]
NBands = Annotated[int | None, typer.Option(help="Number of spectral bands; default 8")]
ProtocolText = Annotated[
    str | None, typer.Option("--protocol", help="default, reference, FILE.json, or field=value,...")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:i]")]
Devices = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda[:i]; several: cuda:0,cuda:1")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", help="Run on a Ray cluster: auto, HOST:PORT, or local for one of its own"
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images in one forward pass")]
AutoBatchSize = Annotated[
    str, typer.Option("--batch-size", help="Images in one forward pass; auto: as memory allows")
]
Forwards = Annotated[
    str | None,
    typer.Option(help="plain; fast: quicker where it gives the same numbers; compiled"),
]
Seed = Annotated[int, typer.Option(help="Seeds selection, corruptions, attacks")]
Workers = Annotated[int, typer.Option(help="Processes that decode and corrupt images")]
Resume = Annotated[Path | None, typer.Option(help="Keep finished images here and go on from there")]
JsonFile = Annotated[str | None, typer.Option("--json", help="Write JSON to FILE, - for stdout")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no summary")]
Precision = Annotated[str, typer.Option(help="float32, float64, bfloat16, float16")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Plot to FILE.png, .svg or .pdf")]


def show(json_file: str | None, data: dict[str, Any], text: str, quiet: bool) -> None:
    """JSON where asked for, and the summary unless quiet or stdout is taken by the JSON.

    Raises:
        InputError: If the file cannot be written.
    """
    if json_file == "-":
        typer.echo(json.dumps(data, indent=1, allow_nan=False))
        return
    if json_file is not None:
        write_json(Path(json_file), data)
    if not quiet:
        typer.echo(text)
