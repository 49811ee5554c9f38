"""The `iaside demo` command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.groups import ProtocolOptions, RunOptions, with_groups
from iaside_plugins.cli.outputs import Outputs
from iaside_plugins.cli.values import check_clash, check_needs
from iaside_plugins.workflows import demo as real_demo
from iaside_plugins.workflows import digits_demo


@dataclass(frozen=True)
class _Bands(ProtocolOptions):
    protocol: Annotated[
        str | None, opt.protocol_option("estimator=permutation; of digits default")
    ] = None


@dataclass(frozen=True)
class _Run(RunOptions):
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep finished images here and go on from there",
            show_default="unfinished in --out, which success removes",
        ),
    ] = None


@with_groups
def demo(
    bands: _Bands,
    run: _Run,
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes")] = Path(
        "iaside-demo"
    ),
    digits: Annotated[
        bool, typer.Option("--digits", help="Train small networks on digits instead")
    ] = False,
    n_images: Annotated[
        int | None, typer.Option(help="Images of each data set; default 20, of digits 200")
    ] = None,
    n_seeds: Annotated[
        int | None, typer.Option(help="Of digits: networks of each training; default 3")
    ] = None,
    n_train: Annotated[
        int | None, typer.Option(help="Of digits: training images; default 1397, the most")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images in one forward pass; default 8, of digits 512")
    ] = None,
    seed: opt.Seed = 0,
    json_file: opt.JsonFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """The main job on real classifiers and images that come with it: no network, no GPU."""
    outputs = Outputs(json_file, quiet=quiet)
    check_needs("--digits", digits, n_seeds=n_seeds, n_train=n_train)
    check_clash("--digits", digits, dry_run=run.dry_run or None)
    numbers = {
        "n_images": n_images,
        "n_seeds": n_seeds,
        "n_train": n_train,
        "batch_size": batch_size,
    }
    given: dict[str, Any] = {
        **{name: value for name, value in numbers.items() if value is not None},
        "seed": seed,
        "device": run.device,
        "resume": run.resume,
        "show_progress": outputs.bars,
    }
    if digits:
        given["protocol"] = bands.pick(seed)
        _digits(digits_demo.DigitsDemo(out, **given), outputs)
        return
    chosen = bands.pick(seed, "estimator=permutation", "fast")
    outputs.say(
        "Two classifiers trained by others and the images that come with this installation: why "
        "they err under 15 corruptions, how they fare under attack, and what they look at. The "
        "same commands evaluate your model on your images: see README.\n"
    )
    job = real_demo.Demo(out, protocol=chosen, **given)
    prepared = job.prepare()
    for one in prepared:
        outputs.say(describe(one.model.info))
    facts = {"models": [one.model.info.name for one in prepared]}
    if outputs.plan(run.dry_run, *(one.cost for one in prepared), **facts):
        return
    found = job.run(prepared, outputs.say)
    files = (
        f"The same as a picture: {out}/why-{found[0].name}.png. Entries, results and the board "
        f"(index.html) are in {out}/."
    )
    entries = {"entries": [one.entry for one in found]}
    outputs.write(entries, f"{real_demo.summary(found)}\n\n{files}")


def _digits(options: digits_demo.DigitsDemo, outputs: Outputs) -> None:
    """Run the demo on digits."""
    outputs.say(
        "Four trainings of one small network on real digits; then each network's accuracy "
        "(clean, corrupted, attacked by 0.1) and spectral importance. The same code "
        "evaluates ImageNet models: see README."
    )
    trained = options.run(outputs.say)
    out = options.folder
    files = f"entries, table (README.md) and plot (profiles.png) are in {out}/"
    entries = {"entries": [one.entry for one in trained]}
    outputs.write(entries, f"\n{digits_demo.summary(trained)}\n\n{files}")
