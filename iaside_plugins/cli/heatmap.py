"""The `iaside heatmap` command: errors under noise of one spatial frequency at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, pick_batch_size
from iaside_plugins.devices import pick_device
from iaside_plugins.heatmap.plots import plot_heatmap
from iaside_plugins.heatmap.run import fourier_heatmap
from iaside_plugins.heatmap.text import heatmap_text, views_text
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.heatmap import band_views, heatmap_cost, views_protocol
from iaside_plugins.workflows.source import DataSource, open_images, open_model

N_IMAGES = 200


def heatmap(
    model: opt.ModelSpec,
    data: opt.DataDir,
    norm: Annotated[
        float | None,
        typer.Option(help="L2 norm of the noise in each channel; default 4; at 224 x 224 15.7"),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(help="Only multiples of it; default 1, above 64 pixels about 33 an axis"),
    ] = None,
    weights: opt.Weights = None,
    name: opt.Name = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    interpolation: opt.Interpolation = None,
    labels: opt.Labels = "auto",
    classes: opt.Classes = None,
    n_images: Annotated[int, typer.Option(help="Take so many images at most, seeded")] = N_IMAGES,
    n_bands: opt.NBands = None,
    band_norm: Annotated[
        str, typer.Option(help="chebyshev (square rings) or euclidean (round rings)")
    ] = "chebyshev",
    views: Annotated[
        bool,
        typer.Option(
            "--views", help="Beside it importance, attacks inside a band, contribution per energy"
        ),
    ] = False,
    device: opt.Device = "auto",
    batch_size: opt.AutoBatchSize = "64",
    precision: opt.Precision = "float32",
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    save: Annotated[Path | None, typer.Option(help="Save the full result to FILE.npz")] = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Fourier heat map: errors under noise of every spatial frequency, and their band means."""
    outputs = Outputs(json_file, plot, quiet, (save,))
    pick_device(device)
    rows, together = pick_batch_size(batch_size)
    partition = SpectralPartition(8 if n_bands is None else n_bands, band_norm)
    source = DataSource(data, labels, classes, n_images, seed, workers, together)
    shape: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    run: dict[str, Any] = {"batch_size": rows, "precision": precision}
    net = open_model(model, weights=weights, device=device, name=name, precision=precision, **shape)
    images = open_images(source, net)
    outputs.say(describe(net.info))
    other = views_protocol(partition, seed) if views else None
    outputs.say(str(heatmap_cost(net, images, step, other=other, **run)))
    which = (*source.which(), *shape.values(), norm, step)
    with resume_folder(resume, "heatmap", which, precision, net) as folder:
        result = fourier_heatmap(
            net,
            images,
            norm=norm,
            step=step,
            partition=partition,
            seed=seed,
            **run,
            resume=folder,
            show_progress=not outputs.silent,
        )
        if save is not None:
            result.save(save)
        found = {"model": net.info.to_dict(), **result.to_dict()}
        text = heatmap_text(result)
        if not views:
            outputs.write(found, text, lambda: plot_heatmap(result, net.info.name))
            return
        run["show_progress"] = not outputs.silent
        beside = band_views(net, source, images, result, folder=folder, **run)
        outputs.write(
            {**found, "views": beside.to_dict()},
            f"{text}\n{views_text(beside)}",
            lambda: beside.plot(net.info.name),
        )
