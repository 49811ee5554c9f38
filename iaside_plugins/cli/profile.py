"""The `iaside profile` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.adapters.ray_adapter import importance_on_ray
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, check_needs, pick_batch_size, pick_protocol
from iaside_plugins.devices import pick_devices
from iaside_plugins.display.plots import plot_profiles
from iaside_plugins.display.report import spectral_report
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.source import DataSource, open_images, open_model


def profile(
    model: opt.ModelSpec,
    data: opt.DataDir,
    weights: opt.Weights = None,
    name: opt.Name = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    interpolation: opt.Interpolation = None,
    labels: opt.Labels = "auto",
    classes: opt.Classes = None,
    n_images: opt.NImages = None,
    n_bands: opt.NBands = None,
    protocol: opt.ProtocolText = None,
    device: opt.Devices = "auto",
    batch_size: opt.AutoBatchSize = "64",
    precision: opt.Precision = "float32",
    forwards: opt.Forwards = None,
    target_error: Annotated[
        float | None, typer.Option(help="Stop once the target's half-width is at most this")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="signed_score (default), score, or sign of every band")
    ] = None,
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    ray: opt.RayAddress = None,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    save: Annotated[Path | None, typer.Option(help="Save the full result to FILE.npz")] = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Spectral importance of one model: printed, saved, plotted."""
    outputs = Outputs(json_file, plot, quiet, (save,))
    check_needs("--target-error", target_error is not None, target=target)
    several = None if ray is not None else pick_devices(device)[1]
    place = "cpu" if ray is not None or several else device  # the workers have copies
    rows, together = pick_batch_size(batch_size)
    chosen = pick_protocol(protocol, n_bands, seed, forwards)
    source = DataSource(data, labels, classes, n_images, seed, workers, together)
    shape: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    net = open_model(model, weights=weights, device=place, name=name, precision=precision, **shape)
    images = open_images(source, net, shuffled=target_error is not None)
    outputs.say(describe(net.info))
    with resume_folder(resume, "profile", source.which(), chosen.used(), precision, net) as folder:
        given: dict[str, Any] = {
            "batch_size": rows,
            "precision": precision,
            "resume": folder,
            "target_error": target_error,
            "target": target or "signed_score",
            "show_progress": outputs.bars,
        }
        if ray is None:
            result = spectral_importance(net, images, chosen, device=several, **given)
        else:
            result = importance_on_ray(net, images, chosen, address=ray, device=device, **given)
        if save is not None:
            result.save(save)
        outputs.write(
            {"model": net.info.to_dict(), **result.to_dict()},
            spectral_report(result),
            lambda: plot_profiles({net.info.name: result}),
        )
