"""The `iaside explain` command: every error of the benchmark, split over frequency bands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.foolbox_adapter import ATTACKS, parse_attacks
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.adapters.models.load import Classifier, describe
from iaside_plugins.budgets import parse_budgets
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.values import Outputs, check_needs, pick_batch_size, pick_protocol
from iaside_plugins.decomposition.plots import plot_decomposition, plot_difference
from iaside_plugins.decomposition.result import ErrorDecomposition, difference
from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.decomposition.sentences import conclusion
from iaside_plugins.decomposition.text import decomposition_text, versus_text
from iaside_plugins.devices import pick_devices
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.explain import cost_of, explain_plan
from iaside_plugins.workflows.source import DataSource, open_model
from iaside_plugins.workflows.spectrum import check_severities

TARGET = 0.005  # half a point of error
N_IMAGES = 200
N_REPAIR = 50


def explain(
    model: opt.ModelSpec,
    data: opt.DataDir,
    corruptions: Annotated[
        str,
        typer.Option(help="generate, names such as fog,snow, none, or a distributed ImageNet-C"),
    ] = "generate",
    severities: Annotated[str, typer.Option(help="Severities of the corruptions")] = "1,3,5",
    attacks: Annotated[str, typer.Option(help=f"{','.join(ATTACKS)}; none")] = "none",
    epsilons: opt.Epsilons = None,
    epsilons_l2: opt.EpsilonsL2 = None,
    attack_steps: opt.AttackSteps = None,
    versus: Annotated[
        str | None, typer.Option(help="Another MODEL: also the difference, on the same images")
    ] = None,
    versus_weights: Annotated[Path | None, typer.Option(help="Weights of the other model")] = None,
    repair: Annotated[
        int, typer.Option(help="Images on which to measure what removing bands would repair")
    ] = N_REPAIR,
    target_error: Annotated[
        float, typer.Option(help="Stop once the mean's bands are known so closely; 0: never")
    ] = TARGET,
    weights: opt.Weights = None,
    name: opt.Name = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    interpolation: opt.Interpolation = None,
    labels: opt.Labels = "auto",
    classes: opt.Classes = None,
    jpeg: opt.Jpeg = None,
    frost: opt.Frost = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keep generated images for other models")
    ] = None,
    n_images: Annotated[int, typer.Option(help="Take so many images at most, seeded")] = N_IMAGES,
    n_bands: opt.NBands = None,
    protocol: opt.ProtocolText = None,
    device: opt.Devices = "auto",
    batch_size: opt.AutoBatchSize = "64",
    precision: opt.Precision = "float32",
    forwards: opt.Forwards = "fast",
    seed: opt.Seed = 0,
    workers: opt.Workers = 0,
    resume: opt.Resume = None,
    json_file: opt.JsonFile = None,
    save: Annotated[Path | None, typer.Option(help="Save the full result to FILE.npz")] = None,
    plot: opt.PlotFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Why a model fails: every error under corruption or attack, split exactly over bands."""
    outputs = Outputs(json_file, plot, quiet, (save,))
    check_needs(
        "--attacks",
        attacks != "none",
        epsilons=epsilons,
        epsilons_l2=epsilons_l2,
        attack_steps=attack_steps,
    )
    check_needs("--versus", versus is not None, versus_weights=versus_weights)
    _, several = pick_devices(device)
    rows, _ = pick_batch_size(batch_size)
    chosen = pick_protocol(protocol or "estimator=permutation", n_bands, seed, forwards)
    strengths = check_severities(severities)
    specs = parse_attacks(
        "" if attacks == "none" else attacks,
        parse_budgets(epsilons),
        parse_budgets(epsilons_l2),
        attack_steps,
    )
    generation = GenerationOptions(jpeg, frost, cache)
    source = DataSource(data, labels, classes, n_images, seed, workers)
    shape: dict[str, Any] = {"resize": resize, "crop": crop, "interpolation": interpolation}
    given: dict[str, Any] = {"device": device, "precision": precision, **shape}
    net = open_model(model, weights=weights, name=name, **given)
    nets = [net]
    if versus is not None:
        nets.append(open_model(versus, weights=versus_weights, **given))
    plans = [
        explain_plan(
            source,
            one,
            corruptions=corruptions,
            severities=strengths,
            attacks=specs,
            generation=generation,
        )
        for one in nets
    ]
    results: list[ErrorDecomposition] = []
    for one, images in zip(nets, plans, strict=True):
        outputs.say(describe(one.info))
        options: dict[str, Any] = {"batch_size": rows, "precision": precision, "repair": repair}
        outputs.say(str(cost_of(one, images, chosen, **options)))
        which = (*source.which(), corruptions, strengths, [s.to_dict() for s in specs])
        with resume_folder(
            _of(resume, one, nets), "explain", which, chosen.used(), precision, one
        ) as folder:
            result = error_decomposition(
                one,
                images,
                chosen,
                **options,
                device=several or None,
                resume=folder,
                target_error=target_error or None if not results else None,
                max_images=results[0].n_images if results else None,
                show_progress=outputs.bars,
            )
        results.append(result)
    first = results[0]
    if save is not None:
        first.save(save)
    found: dict[str, Any] = {
        "model": net.info.to_dict(),
        "conclusion": conclusion(first),
        **first.to_dict(),
    }
    text = decomposition_text(first)
    if len(results) == 1:
        outputs.write(found, text, lambda: plot_decomposition(first, net.info.name))
        return
    names = _names(nets)
    between = difference(*results)
    found["versus"] = {
        "model": nets[1].info.to_dict(),
        "decomposition": results[1].to_dict(),
        "difference": between.to_dict(),
    }
    parts = [f"{names[0]}", text, f"\n{names[1]}", decomposition_text(results[1])]
    outputs.write(
        found,
        "\n".join([*parts, versus_text(between, *names)]),
        lambda: plot_difference(between, *names),
    )


def _of(resume: Path | None, model: Classifier, models: list[Classifier]) -> Path | None:
    """Return the folder of a model's finished work, of several models a folder each."""
    if resume is None or len(models) == 1:
        return resume
    return resume / ("first" if model is models[0] else "second")


def _names(models: list[Classifier]) -> tuple[str, str]:
    """Return the names of two models, told apart where they are the same."""
    first, second = (one.info.name for one in models)
    return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")
