"""The `iaside` command: options and messages; everything else is in the library."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins._version import __version__
from iaside_plugins.cli.compare import compare
from iaside_plugins.cli.doctor import doctor
from iaside_plugins.cli.evaluate import evaluate
from iaside_plugins.cli.leaderboard import board
from iaside_plugins.cli.options import (
    AutoBatchSize,
    BatchSize,
    Classes,
    Crop,
    DataDir,
    Device,
    Devices,
    Forwards,
    Interpolation,
    JsonFile,
    Labels,
    ModelSpec,
    Name,
    NBands,
    NImages,
    PlotFile,
    Precision,
    ProtocolText,
    Quiet,
    RayAddress,
    Resize,
    Resume,
    Seed,
    Weights,
    Workers,
    show,
)
from iaside_plugins.cli.sensitivity import sensitivity
from iaside_plugins.cli.show import show as show_result
from iaside_plugins.cli.spectrum import spectrum
from iaside_plugins.errors import InputError

app = typer.Typer(
    help="How much of a classifier's predictive power each spatial-frequency band carries.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(board, name="leaderboard")

# The base of typer's usage errors, wherever this version of typer takes them from.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

INTERRUPTED = "interrupted; finished images are kept: run the same command again to go on"


def main() -> None:
    """Run the command; input that cannot be used ends it with one line on stderr and exit 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # no character is worth losing the figures for
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except USAGE_ERROR as error:
        _end(error.format_message())
    except (InputError, OSError) as error:
        _end(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _end(INTERRUPTED)
    else:
        if code == 130:  # what typer makes of Ctrl-C
            _end(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _end(message: str) -> None:
    sys.stderr.write("iaside: " + " ".join(message.split()) + "\n")
    sys.exit(2)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="iaside: %(message)s", stream=sys.stderr)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes")] = Path(
        "iaside-demo"
    ),
    n_seeds: Annotated[int, typer.Option(help="Networks of each training")] = 3,
    n_images: Annotated[int, typer.Option(help="Test images, at most 400")] = 200,
    n_train: Annotated[int, typer.Option(help="Training images, at most 1397")] = 1397,
    n_bands: NBands = None,
    protocol: ProtocolText = None,
    device: Device = "cpu",
    batch_size: BatchSize = 512,
    seed: Seed = 0,
    resume: Resume = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Run the main job on an embedded default: no network, no GPU, minutes."""
    from iaside_plugins.cli.values import pick_protocol
    from iaside_plugins.workflows.demo import Demo, summary

    silent = quiet or json_file == "-"
    if not silent:
        typer.echo(
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
        show_progress=not silent,
    ).run(_silence if silent else typer.echo)
    files = f"entries, table (README.md) and plot (profiles.png) are in {out}/"
    entries = {"entries": [one.entry for one in trained]}
    show(json_file, entries, f"\n{summary(trained)}\n\n{files}", quiet)


def _silence(_line: str) -> None:
    """Say nothing."""


@app.command()
def profile(
    model: ModelSpec,
    data: DataDir,
    weights: Weights = None,
    name: Name = None,
    resize: Resize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    labels: Labels = "auto",
    classes: Classes = None,
    n_images: NImages = None,
    n_bands: NBands = None,
    protocol: ProtocolText = None,
    device: Devices = "auto",
    batch_size: AutoBatchSize = "64",
    precision: Precision = "float32",
    forwards: Forwards = None,
    target_error: Annotated[
        float | None, typer.Option(help="Stop once the target's half-width is at most this")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="signed_score (default), score, or sign of every band")
    ] = None,
    seed: Seed = 0,
    workers: Workers = 0,
    ray: RayAddress = None,
    resume: Resume = None,
    json_file: JsonFile = None,
    save: Annotated[Path | None, typer.Option(help="Save the full result to FILE.npz")] = None,
    plot: PlotFile = None,
    quiet: Quiet = False,
) -> None:
    """Spectral importance of one model: printed, saved, plotted."""
    from iaside_plugins.adapters.models.load import describe
    from iaside_plugins.adapters.ray_adapter import importance_on_ray
    from iaside_plugins.cli.values import check_needs, check_outputs, pick_batch_size, pick_protocol
    from iaside_plugins.devices import pick_devices
    from iaside_plugins.display.plots import plot_profiles, save_figure
    from iaside_plugins.display.report import spectral_report
    from iaside_plugins.importance.run import spectral_importance
    from iaside_plugins.storage.resume_folder import resume_folder
    from iaside_plugins.workflows.source import DataSource, open_images, open_model

    check_outputs(save, plot, json_file)
    check_needs("--target-error", target_error is not None, target=target)
    several = None if ray is not None else pick_devices(device)[1]
    place = "cpu" if ray is not None or several else device  # the workers have copies
    rows, together = pick_batch_size(batch_size)
    chosen = pick_protocol(protocol, n_bands, seed, forwards)
    source = DataSource(data, labels, classes, n_images, seed, workers, together)
    net = open_model(
        model,
        weights=weights,
        device=place,
        name=name,
        precision=precision,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
    )
    images = open_images(source, net, shuffled=target_error is not None)
    silent = quiet or json_file == "-"
    if not silent:
        typer.echo(describe(net.info))
    with resume_folder(resume, "profile", source.which(), chosen.used(), precision, net) as folder:
        given: dict[str, Any] = {
            "batch_size": rows,
            "precision": precision,
            "resume": folder,
            "target_error": target_error,
            "target": target or "signed_score",
            "show_progress": not silent,
        }
        if ray is None:
            result = spectral_importance(net, images, chosen, device=several, **given)
        else:
            result = importance_on_ray(net, images, chosen, address=ray, device=device, **given)
        if save is not None:
            result.save(save)
        if plot is not None:
            save_figure(plot_profiles({net.info.name: result}), plot)
        found = {"model": net.info.to_dict(), **result.to_dict()}
        show(json_file, found, spectral_report(result), quiet)


app.command()(compare)
app.command()(doctor)
app.command()(evaluate)
app.command()(sensitivity)
app.command(name="show")(show_result)
app.command()(spectrum)
