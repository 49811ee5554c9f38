"""The `iaside spectrum` command: where corruptions and attacks put their energy, band by band."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.adapters.foolbox_adapter.attacks import CATALOGUE, attack_names, attack_runs
from iaside_plugins.adapters.models.load import describe
from iaside_plugins.budgets import parse_budgets
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.groups import (
    AttackOptions,
    BatchOptions,
    GenerationChoices,
    ImageOptions,
    ModelOptions,
    ProtocolOptions,
    SavedOutputOptions,
    with_groups,
)
from iaside_plugins.cli.values import check_clash, check_needs
from iaside_plugins.devices import pick_device
from iaside_plugins.errors import InputError
from iaside_plugins.spectra.plots import plot_spectrum
from iaside_plugins.spectra.stored import save_spectra
from iaside_plugins.spectra.text import spectrum_summary, spectrum_text
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.corruption_options import check_corruptions, check_severities
from iaside_plugins.workflows.cost import planned
from iaside_plugins.workflows.spectrum import perturbation_names, spectrum_cost, study_perturbations
from iaside_plugins.workflows.spectrum_plan import perturbed_plan, spectrum_plan


@dataclass(frozen=True)
class _Corruptions(GenerationChoices):
    corruptions: Annotated[
        str | None,
        typer.Option(
            help="generate, names such as fog,snow, none, or a distributed ImageNet-C",
            show_default="generate",
        ),
    ] = None
    severities: Annotated[
        str | None, typer.Option(help="Severities of the corruptions", show_default="1,2,3,4,5")
    ] = None
    perturbed: Annotated[
        Path | None,
        typer.Option(help="Folder of the same images perturbed, same file names"),
    ] = None


@dataclass(frozen=True)
class _Attacks(AttackOptions):
    attacks: Annotated[str, typer.Option(help=f"{', '.join(CATALOGUE)}; none; needs --model")] = (
        "none"
    )
    n_attack: opt.NAttack = None


@dataclass(frozen=True)
class _Bands(ProtocolOptions):
    protocol: Annotated[
        str | None, opt.protocol_option("default; without --model estimator=permutation")
    ] = None


@dataclass(frozen=True)
class _Output(SavedOutputOptions):
    save: Annotated[
        Path | None, typer.Option(help="Save the spectra to FILE, for profile --spectrum")
    ] = None


@with_groups
def spectrum(
    images: ImageOptions,
    built: ModelOptions,
    corrupted: _Corruptions,
    attacked: _Attacks,
    bands: _Bands,
    run: BatchOptions,
    output: _Output,
    long: Annotated[
        bool,
        typer.Option("--long", help="All tables: severities, fits, agreement, forecast"),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Its importance, errors and attacks: timm:NAME, kit:NAME, ..."),
    ] = None,
) -> None:
    """SNR of corruptions and attacks per band, power laws, and where the model looks."""
    outputs = output.open()
    check_clash(
        "--perturbed",
        corrupted.perturbed is not None,
        corruptions=corrupted.corruptions,
        severities=corrupted.severities,
        jpeg=corrupted.jpeg,
        frost=corrupted.frost,
        cache=corrupted.cache,
        attacks=None if attacked.attacks == "none" else attacked.attacks,
    )
    own = {name: getattr(built, name) for name in ("weights", "name", "mean", "std")}
    check_needs("--model", model is not None, **own)
    attacked.check(n_attack=attacked.n_attack)
    pick_device(run.device)
    # Without a model nothing passes forward, so that any number of bands is cheap.
    free = None if model is not None else "estimator=permutation"
    chosen = bands.pick(images.seed, free)
    kinds = corrupted.corruptions or "generate"
    made = check_corruptions(kinds)
    corrupted.check(bool(made))
    check_needs("--corruptions", made != [], severities=corrupted.severities)
    strengths = check_severities(corrupted.severities or "1,2,3,4,5")
    if output.save is not None and kinds == "none":
        raise InputError(
            "--save keeps the spectra of corruptions or of --perturbed: there are none"
        )
    names = attack_names(attacked.attacks)
    attacked.check_taken(names)
    runs = attack_runs(
        names,
        parse_budgets(attacked.epsilons),
        parse_budgets(attacked.epsilons_l2),
        attacked.attack_steps,
        SpectralPartition(chosen.n_bands, chosen.band_norm),
    )
    source, shape = images.source(run.batch_size), built.shape
    net = None if model is None else built.open(model, run.device)
    if corrupted.perturbed is not None:
        plan = perturbed_plan(source, corrupted.perturbed, net, shape)
    else:
        plan = spectrum_plan(
            source,
            net,
            corruptions=kinds,
            severities=strengths,
            runs=runs,
            n_attack=attacked.n_attack,
            shape=shape,
            generation=corrupted.options,
        )
    if net is not None:
        outputs.say(describe(net.info))
    cost = spectrum_cost(plan, net, chosen, run.batch_size)
    facts = {"perturbations": perturbation_names(plan)}
    if outputs.plan(run.dry_run, cost, **planned(net, plan.clean, chosen), **facts):
        return
    origin = (plan.corruptions and sorted(plan.corruptions.settings.items()), plan.origin)
    identity = (source.which(), chosen.run_choices(), *shape.values(), origin)
    with resume_folder(run.resume, "spectrum", *identity, net) as folder:
        with outputs.progress("spectrum", cost):
            report = study_perturbations(
                plan,
                net,
                protocol=chosen,
                seed=images.seed,
                batch_size=run.batch_size,
                resume=folder,
                info={"model": None if net is None else net.info.to_dict()},
                show_progress=outputs.bars,
            )
        found = report.to_dict()
        if output.save is not None:
            info = {key: found[key] for key in ("corruptions", "seed", "provenance")}
            info |= {"images": images.data.resolve().name}
            save_spectra(output.save, report.stored(), info)
        text = spectrum_text(found) if long else spectrum_summary(found)
        outputs.write(found, text, lambda: plot_spectrum(found))
