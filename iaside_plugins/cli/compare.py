"""The `iaside compare` command: I-ASIDE against Captum's attributions, band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.attributions.agreement import by_model, load_reports
from iaside_plugins.attributions.plots import plot_agreement
from iaside_plugins.attributions.text import agreement_text
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.groups import (
    BatchOptions,
    ImageOptions,
    ModelOptions,
    OutputOptions,
    ProtocolOptions,
    with_groups,
)
from iaside_plugins.display.cost import Cost
from iaside_plugins.errors import InputError
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.cost import planned, probed
from iaside_plugins.workflows.source import open_images


@with_groups
def compare(
    spec: opt.ModelSpec,
    images: ImageOptions,
    model: ModelOptions,
    bands: ProtocolOptions,
    run: BatchOptions,
    output: OutputOptions,
    methods: Annotated[
        str | None,
        typer.Option(
            help="ig, saliency, input_x_gradient, gradient_shap, deep_lift, feature_ablation, "
            "occlusion, shapley_sampling, kernel_shap",
            show_default="all but deep_lift",
        ),
    ] = None,
    n_sensitivity: Annotated[
        int,
        typer.Option(
            help="Images on which the sensitivity is measured, each explained 5 more times",
            show_default="0: none",
        ),
    ] = 0,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of an earlier comparison, plotted beside this one; repeatable"),
    ] = None,
) -> None:
    """I-ASIDE against Captum's attributions on the same images, band by band."""
    from iaside_plugins.adapters.captum_adapter.comparison import (
        DEFAULT_METHODS,
        check_methods,
        check_protocol,
        compare_attributions,
        comparison_work,
        run_identity,
    )
    from iaside_plugins.adapters.captum_adapter.metrics import Metrics

    outputs = output.open()
    chosen = bands.pick(images.seed)
    check_protocol(chosen)
    names = check_methods(DEFAULT_METHODS if methods is None else methods.split(","))
    metrics = Metrics(n_sensitivity=n_sensitivity)
    if beside and output.plot is None:
        raise InputError("--beside is for the plot: give --plot FILE as well")
    earlier = load_reports(beside or (), chosen)
    source = images.source(run.batch_size)
    net = model.open(spec, run.device)
    # In random order, so that the first images, which all metrics see, are of many classes.
    taken = open_images(source, net, shuffled=True)
    outputs.say(describe(net.info) + images.said(len(taken.records)))
    ids = {record.image_id for record in taken.records}
    for file, one in zip(beside or (), earlier, strict=True):
        if ids != {*one.ids}:
            outputs.say(
                f"{file} is of other images: {len(ids & {*one.ids})} of its {one.n_images} are "
                f"among these {len(ids)}"
            )
    tried = comparison_work(net, taken, names, chosen, metrics, run.batch_size)
    speed = probed(net, taken, batch_size=run.batch_size)
    shorter = "fewer images, --n-images, or fewer --methods"
    cost = Cost(tried, speed, dict.fromkeys(tried, shorter))
    if outputs.plan(run.dry_run, cost, **planned(net, taken, chosen)):
        return
    identity = run_identity(chosen, metrics, net.mean.device, run.batch_size)
    with resume_folder(run.resume, "compare", source.which(), identity, net) as folder:
        with outputs.progress("compare", cost):
            report = compare_attributions(
                net,
                taken,
                names,
                protocol=chosen,
                metrics=metrics,
                batch_size=run.batch_size,
                resume=folder,
                info=net.info.to_dict(),
                show_progress=outputs.bars,
            )
        outputs.write(
            *images.with_words(report.to_dict(), agreement_text(report)),
            lambda: plot_agreement(by_model([*earlier, report])),
        )
