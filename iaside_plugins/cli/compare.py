"""The `iaside compare` command: I-ASIDE against Captum's attributions, band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.attributions.agreement import by_model, load_reports
from iaside_plugins.attributions.plots import plot_agreement
from iaside_plugins.attributions.text import agreement_text
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, pick_protocol
from iaside_plugins.errors import InputError
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.source import DataSource, open_images, open_model


def compare(
    model: opt.ModelSpec,
    data: opt.DataDir,
    methods: Annotated[
        str | None,
        typer.Option(
            help="ig, saliency, input_x_gradient, gradient_shap, deep_lift, feature_ablation, "
            "occlusion, shapley_sampling, kernel_shap; default all but deep_lift"
        ),
    ] = None,
    weights: opt.Weights = None,
    name: opt.Name = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    interpolation: opt.Interpolation = None,
    labels: opt.Labels = "auto",
    classes: opt.Classes = None,
    n_images: opt.NImages = None,
    n_sensitivity: Annotated[
        int, typer.Option(help="Images on which the sensitivity is measured")
    ] = 16,
    n_bands: opt.NBands = None,
    protocol: opt.ProtocolText = None,
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 64,
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    plot: opt.PlotFile = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of an earlier comparison, plotted beside this one; repeatable"),
    ] = None,
    quiet: opt.Quiet = False,
) -> None:
    """I-ASIDE against Captum's attributions on the same images, band by band."""
    from iaside_plugins.adapters.captum_adapter.comparison import (
        DEFAULT_METHODS,
        check_methods,
        check_protocol,
        compare_attributions,
        run_identity,
    )
    from iaside_plugins.adapters.captum_adapter.metrics import Metrics

    outputs = Outputs(json_file, plot, quiet)
    chosen = pick_protocol(protocol, n_bands, seed)
    check_protocol(chosen)
    names = check_methods(DEFAULT_METHODS if methods is None else methods.split(","))
    metrics = Metrics(n_sensitivity=n_sensitivity)
    if beside and plot is None:
        raise InputError("--beside is for the plot: give --plot FILE as well")
    earlier = load_reports(beside or (), chosen)
    source = DataSource(data, labels, classes, n_images, seed, workers, batch_size)
    shape: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    net = open_model(model, weights=weights, device=device, name=name, **shape)
    # In random order, so that the first images, which all metrics see, are of many classes.
    images = open_images(source, net, shuffled=True)
    outputs.say(describe(net.info))
    run = run_identity(chosen, metrics, net.mean.device, batch_size)
    with resume_folder(resume, "compare", source.which(), run, net) as folder:
        report = compare_attributions(
            net,
            images,
            names,
            protocol=chosen,
            metrics=metrics,
            batch_size=batch_size,
            resume=folder,
            info=net.info.to_dict(),
            show_progress=outputs.bars,
        )
        outputs.write(
            report.to_dict(),
            agreement_text(report),
            lambda: plot_agreement(by_model([*earlier, report])),
        )
