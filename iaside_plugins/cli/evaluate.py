"""The `iaside evaluate` command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.foolbox_adapter import ATTACKS, parse_attacks
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.load import describe
from iaside_plugins.budgets import parse_budgets
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.explain import N_IMAGES
from iaside_plugins.cli.values import Outputs, check_needs, pick_batch_size, pick_protocol
from iaside_plugins.corruptions.error_rates import SEVERITIES
from iaside_plugins.devices import pick_devices
from iaside_plugins.display.plots import plot_profiles
from iaside_plugins.display.report import entry_report
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import evaluate as run
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.evaluate import evaluation_plan
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.source import DataSource, open_model


def evaluate(
    model: opt.ModelSpec,
    data: opt.DataDir,
    out: Annotated[Path, typer.Option(help="Where the entry goes: a .json file")],
    weights: opt.Weights = None,
    name: opt.Name = None,
    training: opt.Training = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    interpolation: opt.Interpolation = None,
    labels: opt.Labels = "auto",
    classes: opt.Classes = None,
    dataset: opt.Dataset = None,
    note: opt.Note = None,
    corruptions: Annotated[
        str, typer.Option(help="generate, none, or the folder of a distributed ImageNet-C")
    ] = "generate",
    jpeg: opt.Jpeg = None,
    frost: opt.Frost = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keep generated images for other models")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Entry of the reference model, or a published table")
    ] = None,
    attacks: Annotated[str, typer.Option(help=f"{','.join(ATTACKS)}; none")] = "fgsm,pgd",
    epsilons: opt.Epsilons = None,
    epsilons_l2: opt.EpsilonsL2 = None,
    attack_steps: opt.AttackSteps = None,
    check_temperatures: Annotated[
        bool,
        typer.Option(
            "--check-temperatures",
            help="PGD again at 4 temperatures of the logits, on 64 images (always if gradients "
            "are zero)",
        ),
    ] = False,
    n_images: opt.NImages = None,
    n_spectral: Annotated[int | None, typer.Option(help="Images for the importance")] = None,
    n_attack: opt.NAttack = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Split the errors over bands too, see iaside explain")
    ] = False,
    n_explain: Annotated[
        int | None, typer.Option(help="Images for that; default 200 of them")
    ] = None,
    n_bands: opt.NBands = None,
    protocol: opt.ProtocolText = None,
    device: opt.Devices = "auto",
    batch_size: opt.AutoBatchSize = "64",
    precision: opt.Precision = "float32",
    forwards: opt.Forwards = None,
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    save: Annotated[Path | None, typer.Option(help="Save the importance to FILE.npz")] = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """One leaderboard entry: clean, corrupted, attacked, spectral; checked before it is written."""
    outputs = Outputs(json_file, plot, quiet, (save, None if out.is_dir() else out))
    check_needs("--explain", explain, n_explain=n_explain)
    _, several = pick_devices(device)
    rows, together = pick_batch_size(batch_size)
    chosen = pick_protocol(protocol, n_bands, seed, forwards)
    specs = parse_attacks(
        "" if attacks == "none" else attacks,
        parse_budgets(epsilons),
        parse_budgets(epsilons_l2),
        attack_steps,
    )
    generation = GenerationOptions(jpeg, frost, cache)
    source = DataSource(data, labels, classes, n_images, seed, workers, together, dataset, note)
    shape: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    net = open_model(
        model,
        weights=weights,
        device=device,
        name=name,
        training=training,
        precision=precision,
        **shape,
    )
    plan = evaluation_plan(
        source,
        net,
        corruptions=corruptions,
        attacks=specs,
        n_spectral=n_spectral,
        n_attack=n_attack,
        generation=generation,
        reference=reference,
    )
    if explain:
        wanted = N_IMAGES if n_explain is None else n_explain
        pairs = explain_plan(
            replace(source, n_images=min(wanted, n_images or wanted)),
            net,
            corruptions=corruptions,
            severities=SEVERITIES,
            attacks=specs,
            generation=generation,
        )
        plan = replace(plan, perturbed=[pairs])
    if check_temperatures:
        if not any(spec.steps for spec in specs):
            raise InputError("check_temperatures needs an attack of several steps: attacks=pgd")
        if plan.attacks is not None:
            plan = replace(plan, attacks=replace(plan.attacks, temperatures=True))
    outputs.say(describe(net.info))
    with resume_folder(resume, "evaluate", source.which(), chosen.used(), precision, net) as folder:
        entry, result = run(
            net,
            plan,
            chosen,
            batch_size=rows,
            precision=precision,
            devices=several,
            resume=folder,
            show_progress=outputs.bars,
        )
        written = write_entry(out, typed_entry(entry))
        if save is not None:
            result.save(save)
        outputs.write(
            entry,
            f"{entry_report(entry, result)}\nentry written to {written}",
            lambda: plot_profiles({net.info.name: result}),
        )
