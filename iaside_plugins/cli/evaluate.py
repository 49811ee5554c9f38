"""The `iaside evaluate` command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.foolbox_adapter import ATTACKS
from iaside_plugins.adapters.models.load import describe
from iaside_plugins.budgets import format_budget
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.explain import N_IMAGES
from iaside_plugins.cli.groups import (
    AttackOptions,
    FastOptions,
    GenerationChoices,
    ImageOptions,
    ModelOptions,
    ProtocolOptions,
    SavedOutputOptions,
    with_groups,
)
from iaside_plugins.cli.values import check_needs
from iaside_plugins.devices import n_devices
from iaside_plugins.display.plots import plot_profiles
from iaside_plugins.display.report import entry_report
from iaside_plugins.entry.write import typed_entry, write_entry
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import evaluate as run_evaluation
from iaside_plugins.evaluation.plan import EvaluationPlan
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.corruption_options import check_corruptions
from iaside_plugins.workflows.cost import planned
from iaside_plugins.workflows.evaluate import evaluation_cost, evaluation_plan, with_explained


@dataclass(frozen=True)
class _Images(ImageOptions):
    dataset: opt.Dataset = None
    note: opt.Note = None


@dataclass(frozen=True)
class _Corruptions(GenerationChoices):
    corruptions: Annotated[
        str,
        typer.Option(help="generate, names such as fog,snow, none, or a distributed ImageNet-C"),
    ] = "generate"
    reference: Annotated[
        str | None, typer.Option(help="Entry of the reference model, or a published table")
    ] = None
    systematic: opt.Systematic = False


@dataclass(frozen=True)
class _Attacks(AttackOptions):
    attacks: Annotated[str, typer.Option(help=f"{', '.join(ATTACKS)}; none")] = "fgsm,pgd"
    check_temperatures: Annotated[
        bool,
        typer.Option(
            "--check-temperatures",
            help="PGD again at 4 temperatures of the logits, on 64 images (always if gradients "
            "are zero)",
        ),
    ] = False
    n_attack: opt.NAttack = None


@with_groups
def evaluate(
    spec: opt.ModelSpec,
    images: _Images,
    out: Annotated[Path, typer.Option(help="Where the entry goes: a .json file")],
    model: ModelOptions,
    corrupted: _Corruptions,
    attacked: _Attacks,
    bands: ProtocolOptions,
    run: FastOptions,
    output: SavedOutputOptions,
    training: opt.Training = None,
    n_spectral: Annotated[
        int | None, typer.Option(help="Images for the importance", show_default="all")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Split the errors over bands too, see iaside explain")
    ] = False,
    n_explain: Annotated[
        int | None, typer.Option(help="Images whose errors are split", show_default="200 of them")
    ] = None,
) -> None:
    """One leaderboard entry: clean, corrupted, attacked, spectral; checked before it is written."""
    outputs = output.open(None if out.is_dir() else out)
    check_needs("--explain", explain, n_explain=n_explain)
    attacked.check(n_attack=attacked.n_attack)
    corrupted.check(bool(check_corruptions(corrupted.corruptions)))
    rows, together = run.rows()
    chosen = bands.pick(images.seed, forwards=run.forwards)
    specs = attacked.specs()
    source = images.source(together, name=images.dataset, note=images.note)
    net = model.open(spec, run.own_device, training=training, precision=run.precision)
    plan = evaluation_plan(
        source,
        net,
        corruptions=corrupted.corruptions,
        attacks=specs,
        n_spectral=n_spectral,
        n_attack=attacked.n_attack,
        generation=corrupted.options,
        reference=corrupted.reference,
        systematic=corrupted.systematic,
    )
    if explain:
        wanted = N_IMAGES if n_explain is None else n_explain
        few = replace(source, n_images=min(wanted, images.n_images or wanted))
        plan = with_explained(
            plan,
            few,
            net,
            corruptions=corrupted.corruptions,
            attacks=specs,
            generation=corrupted.options,
        )
    if attacked.check_temperatures:
        if not any(spec.steps for spec in specs):
            raise InputError("check_temperatures needs an attack of several steps: attacks=pgd")
        if plan.attacks is not None:
            plan = replace(plan, attacks=replace(plan.attacks, temperatures=True))
    outputs.say(describe(net.info) + images.said(plan.data["n_available"]))
    given: dict[str, Any] = {"batch_size": rows, "precision": run.precision}
    shared = n_devices(run.several)
    cost = evaluation_cost(net, plan, chosen, n_devices=shared, **given)
    chosen, (cost,) = run.settled(chosen, cost)
    facts = {**planned(net, plan.clean, chosen), **_parts(plan), "entry": str(out)}
    if outputs.plan(run.dry_run, cost, **facts):
        return
    identity = ("evaluate", source.which(), chosen.run_choices(), run.precision, net)
    with resume_folder(run.resume, *identity) as folder:
        workers = run.workers()
        with outputs.progress("evaluate", cost), workers as devices:
            entry, result = run_evaluation(
                net,
                plan,
                chosen,
                **given,
                devices=devices,
                resume=folder,
                show_progress=outputs.bars,
            )
        written = write_entry(out, typed_entry(entry))
        if output.save is not None:
            result.save(output.save)
        outputs.write(
            entry,
            f"{entry_report(entry, result)}\nentry written to {written}",
            lambda: plot_profiles({net.info.name: result}),
            [result.evidence.sentence],
        )


def _parts(plan: EvaluationPlan) -> dict[str, Any]:
    """Return which corruptions, attacks and readings are planned."""
    specs = () if plan.attacks is None else plan.attacks.specs
    return {
        "corruptions": [] if plan.corruptions is None else list(plan.corruptions.names),
        "attacks": [f"{s.name} {format_budget(e)}" for s in specs for e in s.epsilons],
        "systematic": [] if plan.systematic is None else list(plan.systematic.names),
    }
