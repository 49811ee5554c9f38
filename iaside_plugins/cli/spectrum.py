"""The `iaside spectrum` command: where corruptions and attacks put their energy, band by band."""

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


def spectrum(
    data: DataDir,
    corruptions: Annotated[
        str,
        typer.Option(help="generate, names such as fog,snow, none, or a distributed ImageNet-C"),
    ] = "generate",
    severities: Annotated[str, typer.Option(help="Severities of the corruptions")] = "1,2,3,4,5",
    jpeg: Annotated[
        bool | None,
        typer.Option("--jpeg/--no-jpeg", help="Final JPEG save; default as distributed"),
    ] = None,
    frost: Annotated[Path | None, typer.Option(help="Folder with frost1.png .. frost5.jpg")] = None,
    cache: Annotated[Path | None, typer.Option(help="Keep generated images")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Its importance, errors and attacks: timm:NAME, kit:NAME, ..."),
    ] = None,
    attacks: Annotated[
        str,
        typer.Option(
            help="fgsm,pgd,fgm,pgd_l2,deepfool,ddn,cw,l0_fmn,l1_fmn,band_pgd; needs --model"
        ),
    ] = "none",
    epsilons: Annotated[str | None, typer.Option(help="Linf budgets, e.g. 2/255,8/255")] = None,
    epsilons_l2: Annotated[str | None, typer.Option(help="L2 budgets, e.g. 0.1,0.5")] = None,
    attack_steps: Annotated[int | None, typer.Option(help="Steps of iterated attacks")] = None,
    n_attack: Annotated[int | None, typer.Option(help="Images to attack")] = None,
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
    device: Device = "auto",
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    workers: Workers = 0,
    resume: Resume = None,
    json_file: JsonFile = None,
    plot: PlotFile = None,
    quiet: Quiet = False,
) -> None:
    """SNR of corruptions and attacks per band, power laws, and where the model looks."""
    from iaside_plugins.adapters.foolbox_adapter.attacks import attack_names, attack_runs
    from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
    from iaside_plugins.adapters.models.load import describe
    from iaside_plugins.budgets import parse_budgets
    from iaside_plugins.cli.values import check_needs, check_outputs, pick_protocol
    from iaside_plugins.devices import pick_device
    from iaside_plugins.display.plots import save_figure
    from iaside_plugins.spectra.plots import plot_spectrum
    from iaside_plugins.spectra.text import spectrum_text
    from iaside_plugins.spectral.partition import SpectralPartition
    from iaside_plugins.storage.resume_folder import resume_folder
    from iaside_plugins.workflows.source import DataSource, open_model
    from iaside_plugins.workflows.spectrum import (
        check_corruptions,
        check_severities,
        spectrum_plan,
        study_perturbations,
    )

    check_outputs(None, plot, json_file)
    check_needs("--model", model is not None, weights=weights, name=name)
    check_needs(
        "--attacks",
        attacks != "none",
        epsilons=epsilons,
        epsilons_l2=epsilons_l2,
        attack_steps=attack_steps,
        n_attack=n_attack,
    )
    pick_device(device)
    # Without a model nothing passes forward, so that any number of bands is cheap.
    free = None if model is not None else "estimator=permutation"
    chosen = pick_protocol(protocol or free, n_bands, seed)
    check_corruptions(corruptions)
    strengths = check_severities(severities)
    names = attack_names(attacks)
    runs = attack_runs(
        names,
        parse_budgets(epsilons),
        parse_budgets(epsilons_l2),
        attack_steps,
        SpectralPartition(chosen.n_bands, chosen.band_norm),
    )
    source = DataSource(data, labels, classes, n_images, seed, workers, batch_size)
    net = None
    if model is not None:
        net = open_model(
            model,
            weights=weights,
            device=device,
            name=name,
            resize=resize,
            crop=crop,
            interpolation=interpolation,
        )
    plan = spectrum_plan(
        source,
        net,
        corruptions=corruptions,
        severities=strengths,
        runs=runs,
        n_attack=n_attack,
        shape={"resize": resize, "crop": crop, "interpolation": interpolation},
        generation=GenerationOptions(jpeg, frost, cache),
    )
    silent = quiet or json_file == "-"
    if net is not None and not silent:
        typer.echo(describe(net.info))
    made = (plan.corruptions and sorted(plan.corruptions.settings.items()), plan.origin)
    identity = (source.which(), chosen.used(), resize, crop, interpolation, made)
    with resume_folder(resume, "spectrum", *identity, net) as folder:
        report = study_perturbations(
            plan,
            net,
            protocol=chosen,
            seed=seed,
            batch_size=batch_size,
            resume=folder,
            info={"model": None if net is None else net.info.to_dict()},
            show_progress=not silent,
        )
        found = report.to_dict()
        if plot is not None:
            save_figure(plot_spectrum(found), plot)
        show(json_file, found, spectrum_text(found), quiet)
