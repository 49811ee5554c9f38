"""The `iaside spectrum` command: where corruptions and attacks put their energy, band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.foolbox_adapter.attacks import CATALOGUE, attack_names, attack_runs
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.load import describe
from iaside_plugins.budgets import parse_budgets
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, check_needs, pick_protocol
from iaside_plugins.devices import pick_device
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


def spectrum(
    data: opt.DataDir,
    corruptions: Annotated[
        str,
        typer.Option(help="generate, names such as fog,snow, none, or a distributed ImageNet-C"),
    ] = "generate",
    severities: Annotated[str, typer.Option(help="Severities of the corruptions")] = "1,2,3,4,5",
    jpeg: opt.Jpeg = None,
    frost: opt.Frost = None,
    cache: Annotated[Path | None, typer.Option(help="Keep generated images")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Its importance, errors and attacks: timm:NAME, kit:NAME, ..."),
    ] = None,
    attacks: Annotated[
        str,
        typer.Option(help=f"{','.join(CATALOGUE)}; needs --model"),
    ] = "none",
    epsilons: opt.Epsilons = None,
    epsilons_l2: opt.EpsilonsL2 = None,
    attack_steps: opt.AttackSteps = None,
    n_attack: opt.NAttack = None,
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
    device: opt.Device = "auto",
    batch_size: opt.BatchSize = 64,
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """SNR of corruptions and attacks per band, power laws, and where the model looks."""
    outputs = Outputs(json_file, plot, quiet)
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
    shape: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    net = None
    if model is not None:
        net = open_model(model, weights=weights, device=device, name=name, **shape)
    plan = spectrum_plan(
        source,
        net,
        corruptions=corruptions,
        severities=strengths,
        runs=runs,
        n_attack=n_attack,
        shape=shape,
        generation=GenerationOptions(jpeg, frost, cache),
    )
    if net is not None:
        outputs.say(describe(net.info))
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
            show_progress=outputs.bars,
        )
        found = report.to_dict()
        outputs.write(found, spectrum_text(found), lambda: plot_spectrum(found))
