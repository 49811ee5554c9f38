"""The `iaside evaluate` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iaside_plugins.cli.options import (
    AutoBatchSize,
    Classes,
    Crop,
    DataDir,
    Dataset,
    Devices,
    Forwards,
    Interpolation,
    JsonFile,
    Labels,
    ModelSpec,
    Name,
    NBands,
    NImages,
    Note,
    PlotFile,
    Precision,
    ProtocolText,
    Quiet,
    Resize,
    Resume,
    Seed,
    Training,
    Weights,
    Workers,
    show,
)


def evaluate(
    model: ModelSpec,
    data: DataDir,
    out: Annotated[Path, typer.Option(help="Where the entry goes: a .json file")],
    weights: Weights = None,
    name: Name = None,
    training: Training = None,
    resize: Resize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    labels: Labels = "auto",
    classes: Classes = None,
    dataset: Dataset = None,
    note: Note = None,
    corruptions: Annotated[
        str, typer.Option(help="generate, none, or the folder of a distributed ImageNet-C")
    ] = "generate",
    jpeg: Annotated[
        bool | None,
        typer.Option("--jpeg/--no-jpeg", help="Final JPEG save; default as distributed"),
    ] = None,
    frost: Annotated[Path | None, typer.Option(help="Folder with frost1.png .. frost5.jpg")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Keep generated images for other models")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Entry of the reference model, or a published table")
    ] = None,
    attacks: Annotated[str, typer.Option(help="fgsm,pgd,fgm,pgd_l2; none")] = "fgsm,pgd",
    epsilons: Annotated[str | None, typer.Option(help="Linf budgets, e.g. 2/255,8/255")] = None,
    epsilons_l2: Annotated[str | None, typer.Option(help="L2 budgets, e.g. 0.1,0.5")] = None,
    attack_steps: Annotated[int | None, typer.Option(help="Steps of iterated attacks")] = None,
    n_images: NImages = None,
    n_spectral: Annotated[int | None, typer.Option(help="Images for the importance")] = None,
    n_attack: Annotated[int | None, typer.Option(help="Images to attack")] = None,
    n_bands: NBands = None,
    protocol: ProtocolText = None,
    device: Devices = "auto",
    batch_size: AutoBatchSize = "64",
    precision: Precision = "float32",
    forwards: Forwards = None,
    seed: Seed = 0,
    workers: Workers = 0,
    resume: Resume = None,
    json_file: JsonFile = None,
    save: Annotated[Path | None, typer.Option(help="Save the importance to FILE.npz")] = None,
    plot: PlotFile = None,
    quiet: Quiet = False,
) -> None:
    """One leaderboard entry: clean, corrupted, attacked, spectral; checked before it is written."""
    from iaside_plugins.adapters.foolbox_adapter import parse_attacks
    from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
    from iaside_plugins.adapters.models.load import describe
    from iaside_plugins.budgets import parse_budgets
    from iaside_plugins.cli.values import check_outputs, pick_batch_size, pick_protocol
    from iaside_plugins.devices import pick_devices
    from iaside_plugins.display.plots import plot_profiles, save_figure
    from iaside_plugins.display.report import entry_report
    from iaside_plugins.entry.write import write_entry
    from iaside_plugins.evaluation.evaluate import evaluate as run
    from iaside_plugins.storage.resume_folder import resume_folder
    from iaside_plugins.workflows.evaluate import evaluation_plan
    from iaside_plugins.workflows.source import DataSource, open_model

    check_outputs(save, plot, json_file, out)
    _, several = pick_devices(device)
    rows, together = pick_batch_size(batch_size)
    chosen = pick_protocol(protocol, n_bands, seed, forwards)
    specs = parse_attacks(
        "" if attacks == "none" else attacks,
        parse_budgets(epsilons),
        parse_budgets(epsilons_l2),
        attack_steps,
    )
    source = DataSource(data, labels, classes, n_images, seed, workers, together, dataset, note)
    net = open_model(
        model,
        weights=weights,
        device=device,
        name=name,
        training=training,
        precision=precision,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
    )
    plan = evaluation_plan(
        source,
        net,
        corruptions=corruptions,
        attacks=specs,
        n_spectral=n_spectral,
        n_attack=n_attack,
        generation=GenerationOptions(jpeg, frost, cache),
        reference=reference,
    )
    silent = quiet or json_file == "-"
    if not silent:
        typer.echo(describe(net.info))
    with resume_folder(resume, "evaluate", source.which(), chosen.used(), precision, net) as folder:
        entry, result = run(
            net,
            plan,
            chosen,
            batch_size=rows,
            precision=precision,
            devices=several,
            resume=folder,
            show_progress=not silent,
        )
        written = write_entry(out, entry)
        if save is not None:
            result.save(save)
        if plot is not None:
            save_figure(plot_profiles({net.info.name: result}), plot)
        text = f"{entry_report(entry, result)}\nentry written to {written}"
        show(json_file, entry, text, quiet)
