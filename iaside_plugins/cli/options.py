"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ModelSpec = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="timm:NAME, torchvision:NAME, pip:NAME, hf:REPO[@REVISION][/FILE], onnx:FILE, "
        "torchscript:FILE, export:FILE, kit:NAME, "
        "robustbench:DATASET/THREAT/NAME or python:MODULE:FACTORY",
    ),
]
DataDir = Annotated[
    Path,
    typer.Option("--data", help="Class folders, CSV manifest, Parquet, tar, ...; foolbox:imagenet"),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Weights: .safetensors, .pth, .pt, or hf:REPO/FILE",
        show_default="those of the source",
    ),
]
Name = Annotated[
    str | None, typer.Option(help="Name of the model in the output", show_default="the model's own")
]
Training = Annotated[
    str | None,
    typer.Option(
        help="How the model was trained, for the entry", show_default="what the source says"
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(help="Resize the short side; 0: do not", show_default="the model's own"),
]
Crop = Annotated[
    int | None, typer.Option(help="Centre crop; 0: none", show_default="the model's own")
]
Interpolation = Annotated[
    str | None,
    typer.Option(
        help="Of the resize: nearest, bilinear, bicubic, lanczos", show_default="the model's own"
    ),
]
Labels = Annotated[
    str,
    typer.Option(help="auto; rank: number folders by rank; predicted: the model's own predictions"),
]
RestrictClasses = Annotated[
    bool,
    typer.Option(
        "--restrict-classes",
        help="Only outputs of classes that have images count, as for ImageNet-R and -A",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Of pixels in [0, 1]: 0.485,0.456,0.406, one number, or imagenet",
        show_default="the model's own",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(help="As --mean; divides after the subtraction", show_default="the model's own"),
]
Classes = Annotated[
    Path | None,
    typer.Option(help="Class names, one a line or a JSON list", show_default="what --labels finds"),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Name of the data set in the entry", show_default="what the labels are of"),
]
Note = Annotated[str | None, typer.Option(help="What readers must know of the images")]
NImages = Annotated[
    int | None, typer.Option(help="Take so many images, seeded", show_default="all")
]
NBands = Annotated[int | None, typer.Option(help="Number of spectral bands", show_default="8")]


def protocol_option(default: str) -> Any:
    """Return the option of a protocol, whose default is said to be this."""
    words = "default, exact, permutation, reference, FILE.json, or field=value,..."
    return typer.Option("--protocol", help=words, show_default=default)


ProtocolText = Annotated[str | None, protocol_option("default")]
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
    str,
    typer.Option(
        "--batch-size",
        help="Images in one forward pass; auto: as memory allows, with fast passes the quickest",
    ),
]
Forwards = Annotated[
    str,
    typer.Option(
        help="plain; fast: quicker where it gives the same numbers; compiled; auto: the "
        "protocol's, else fast for 5,000 passes or more"
    ),
]
Seed = Annotated[int, typer.Option(help="Seeds selection, corruptions, attacks")]
Workers = Annotated[int, typer.Option(help="Processes that decode and corrupt images")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check all input, say plan and cost, and end there")
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Keep finished images here and go on from there",
        show_default="a cache that success empties",
    ),
]
JsonFile = Annotated[str | None, typer.Option("--json", help="Write JSON to FILE, - for stdout")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no summary")]
Precision = Annotated[str, typer.Option(help="float32, float64, bfloat16, float16")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Plot to FILE.png, .svg or .pdf")]
Jpeg = Annotated[
    bool | None,
    typer.Option(
        "--jpeg/--no-jpeg",
        help="Final JPEG save of corrupted images",
        show_default="as distributed",
    ),
]
Cache = Annotated[Path | None, typer.Option(help="Keep generated images for other models")]
SaveFile = Annotated[Path | None, typer.Option("--save", help="Save the full result to FILE.npz")]
Frost = Annotated[
    Path | None,
    typer.Option(
        help="Folder with frost1.png .. frost5.jpg", show_default="of an installed package"
    ),
]
Systematic = Annotated[
    bool,
    typer.Option(
        "--systematic",
        help="Also read the same files with OpenCV and with Pillow's other filters",
    ),
]
Epsilons = Annotated[
    str | None,
    typer.Option(
        help="Linf budgets, e.g. 2/255,8/255", show_default="0.5/255, 2/255, 4/255, 8/255"
    ),
]
EpsilonsL2 = Annotated[
    str | None, typer.Option(help="L2 budgets, e.g. 0.1,0.5", show_default="0.1,0.5")
]
AttackSteps = Annotated[
    int | None,
    typer.Option(
        help="Steps of iterated attacks", show_default="20 of pgd, 25 of pgd_l2, 40 of apgd_advlib"
    ),
]
NAttack = Annotated[int | None, typer.Option(help="Images to attack", show_default="all")]
