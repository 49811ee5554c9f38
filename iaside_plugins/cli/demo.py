"""The `iaside demo` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, pick_protocol
from iaside_plugins.workflows.demo import Demo, summary


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes")] = Path(
        "iaside-demo"
    ),
    n_seeds: Annotated[int, typer.Option(help="Networks of each training")] = 3,
    n_images: Annotated[int, typer.Option(help="Test images, at most 400")] = 200,
    n_train: Annotated[int, typer.Option(help="Training images, at most 1397")] = 1397,
    n_bands: opt.NBands = None,
    protocol: opt.ProtocolText = None,
    device: opt.Device = "cpu",
    batch_size: opt.BatchSize = 512,
    seed: opt.Seed = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Run the main job on an embedded default: no network, no GPU, minutes."""
    outputs = Outputs(json_file, quiet=quiet)
    outputs.say(
        "Four trainings of one small network on real digits; then each network's accuracy "
        "(clean, corrupted,\nattacked by 0.1) and spectral importance. The same code "
        "evaluates ImageNet models: see README."
    )
    trained = Demo(
        out,
        n_seeds=n_seeds,
        n_images=n_images,
        n_train=n_train,
        seed=seed,
        device=device,
        batch_size=batch_size,
        protocol=pick_protocol(protocol, n_bands, seed),
        resume=resume,
        show_progress=outputs.bars,
    ).run(outputs.say)
    files = f"entries, table (README.md) and plot (profiles.png) are in {out}/"
    entries = {"entries": [one.entry for one in trained]}
    outputs.write(entries, f"\n{summary(trained)}\n\n{files}")
