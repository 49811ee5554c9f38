"""The `iaside compare` command: I-ASIDE against Captum's attributions, band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli.options import (
    BatchSize,
    Classes,
    Crop,
    DataDir,
    Device,
    Interpolation,
    JsonFile,
    Labels,
    ModelSpec,
    Name,
    NBands,
    NImages,
    PlotFile,
    ProtocolText,
    Quiet,
    Resize,
    Resume,
    Seed,
    Weights,
    Workers,
    show,
)
from iaside_plugins.errors import InputError


def compare(
    model: ModelSpec,
    data: DataDir,
    methods: Annotated[
        str | None,
        typer.Option(
            help="ig, saliency, input_x_gradient, gradient_shap, deep_lift, feature_ablation, "
            "occlusion, shapley_sampling, kernel_shap; default all but deep_lift"
        ),
    ] = None,
    weights: Weights = None,
    name: Name = None,
    resize: Resize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    labels: Labels = "auto",
    classes: Classes = None,
    n_images: NImages = None,
    n_sensitivity: Annotated[
        int, typer.Option(help="Images on which the sensitivity is measured")
    ] = 16,
    n_bands: NBands = None,
    protocol: ProtocolText = None,
    device: Device = "auto",
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    workers: Workers = 0,
    resume: Resume = None,
    json_file: JsonFile = None,
    plot: PlotFile = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of an earlier comparison, plotted beside this one; repeatable"),
    ] = None,
    quiet: Quiet = False,
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
    from iaside_plugins.adapters.models.load import describe
    from iaside_plugins.attributions.agreement import by_model, load_reports
    from iaside_plugins.attributions.plots import plot_agreement
    from iaside_plugins.attributions.text import agreement_text
    from iaside_plugins.cli.values import check_outputs, pick_protocol
    from iaside_plugins.display.plots import save_figure
    from iaside_plugins.storage.resume_folder import resume_folder
    from iaside_plugins.workflows.source import DataSource, open_images, open_model

    check_outputs(None, plot, json_file)
    chosen = pick_protocol(protocol, n_bands, seed)
    check_protocol(chosen)
    names = check_methods(DEFAULT_METHODS if methods is None else methods.split(","))
    metrics = Metrics(n_sensitivity=n_sensitivity)
    if beside and plot is None:
        raise InputError("--beside is for the plot: give --plot FILE as well")
    earlier = load_reports(beside or (), chosen)
    source = DataSource(data, labels, classes, n_images, seed, workers, batch_size)
    net = open_model(
        model,
        weights=weights,
        device=device,
        name=name,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
    )
    # In random order, so that the first images, which all metrics see, are of many classes.
    images = open_images(source, net, shuffled=True)
    silent = quiet or json_file == "-"
    if not silent:
        typer.echo(describe(net.info))
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
            show_progress=not silent,
        )
        if plot is not None:
            save_figure(plot_agreement(by_model([*earlier, report])), plot)
        show(json_file, report.to_dict(), agreement_text(report), quiet)
