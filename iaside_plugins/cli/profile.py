"""The `iaside profile` command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.groups import (
    FastOptions,
    ImageOptions,
    ModelOptions,
    ProtocolOptions,
    SavedOutputOptions,
    with_groups,
)
from iaside_plugins.cli.values import check_needs
from iaside_plugins.devices import n_devices
from iaside_plugins.display.cost import Cost
from iaside_plugins.display.plots import plot_profiles
from iaside_plugins.display.report import spectral_report
from iaside_plugins.importance.run import importance_work, spectral_importance
from iaside_plugins.importance.stopping import MIN_IMAGES
from iaside_plugins.protocol import MANY_IMAGES, MAX_EXACT_BANDS
from iaside_plugins.spectra.forecast_text import forecast_text
from iaside_plugins.spectra.forecasts import forecast_table
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.value_table.layout import RowLayout
from iaside_plugins.value_table.progress import times
from iaside_plugins.workflows.cost import planned, probed, shorter_importance
from iaside_plugins.workflows.forecast import forecast_spectra
from iaside_plugins.workflows.source import find_images, open_images

TARGET_ERROR = 0.02  # of the signed score


@dataclass(frozen=True)
class _Bands(ProtocolOptions):
    protocol: Annotated[
        str | None,
        opt.protocol_option(
            f"default; from {MANY_IMAGES} images on, or above {MAX_EXACT_BANDS} bands, "
            "estimator=permutation"
        ),
    ] = None


@with_groups
def profile(
    spec: opt.ModelSpec,
    images: ImageOptions,
    model: ModelOptions,
    bands: _Bands,
    run: FastOptions,
    output: SavedOutputOptions,
    target_error: Annotated[
        float | None,
        typer.Option(
            help="Stop once the half-width of the target's interval is at most this; 0: never",
            show_default=f"{TARGET_ERROR} with more than {MIN_IMAGES} images",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="signed_score, score, or sign of every band", show_default="signed_score"
        ),
    ] = None,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Errors under the 15 corruptions, from clean images")
    ] = False,
    spectrum: Annotated[
        Path | None, typer.Option(help="Forecast for these spectra, of spectrum --save")
    ] = None,
) -> None:
    """Spectral importance of one model: printed, saved, plotted."""
    outputs = output.open()
    rows, together = run.rows()
    chosen = bands.pick(images.seed, _chains(bands.n_bands), forwards=run.forwards)
    source = images.source(together)
    net = model.open(spec, run.own_device, precision=run.precision)
    found_images = find_images(source, net)
    if target_error is None:
        n = min(len(found_images[0]), images.n_images or MANY_IMAGES)
        target_error = 0.0 if chosen.is_script or n <= MIN_IMAGES else TARGET_ERROR
    check_needs("--target-error", target_error != 0, target=target)
    taken = open_images(source, net, shuffled=target_error != 0, listing=found_images)
    spectra = None
    if forecast or spectrum is not None:
        spectra = forecast_spectra(spectrum, taken, chosen)
    elif bands.protocol is None:
        chosen = chosen.for_images(len(taken.records))
    outputs.say(describe(net.info) + images.said(len(found_images[0])))
    if chosen.estimator != "exact" and bands.protocol is None:
        reason = f"there are {MANY_IMAGES} images or more; --protocol exact for all coalitions"
        if chosen.n_bands > MAX_EXACT_BANDS:
            reason = f"all coalitions of {chosen.n_bands} bands would be {2**chosen.n_bands:,}"
        outputs.say(
            f"estimator: {chosen.n_bands} pairs of chains, {RowLayout(chosen).n_passes} passes an "
            f"image, as {reason}"
        )
    if target_error:
        of = (target or "signed_score").replace("_", " ")
        outputs.say(
            f"stops at {MIN_IMAGES} images or later, once the {of} is known "
            f"to {target_error:g}; --target-error 0 for all {len(taken.records)}"
        )
    options: dict[str, Any] = {"batch_size": rows, "precision": run.precision}
    speed = probed(net, taken, protocol=chosen, n_devices=n_devices(run.several), **options)
    work = times(importance_work(chosen), len(taken.records))
    shorter = {"importance": shorter_importance(chosen, "--n-images or --target-error")}
    cost = Cost({"importance": work}, speed, shorter, at_most=target_error != 0)
    chosen, (cost,) = run.settled(chosen, cost)
    if outputs.plan(run.dry_run, cost, **planned(net, taken, chosen)):
        return
    identity = ("profile", source.which(), chosen.run_choices(), run.precision, net)
    with resume_folder(run.resume, *identity) as folder:
        with outputs.progress("profile", cost):
            given: dict[str, Any] = {
                **options,
                "resume": folder,
                "target_error": target_error or None,
                "target": target or "signed_score",
                "show_progress": outputs.bars,
            }
            with run.workers() as device:
                result = spectral_importance(net, taken, chosen, device=device, **given)
        if output.save is not None:
            result.save(output.save)
        found, text = {"model": net.info.to_dict(), **result.to_dict()}, spectral_report(result)
        if spectra is not None:
            found["forecast"] = forecast_table(result, spectra)
            text += f"\n\n{forecast_text(found['forecast'])}"
        outputs.write(
            *images.with_words(found, text),
            lambda: plot_profiles({net.info.name: result}),
            [result.evidence.sentence],
        )


def _chains(n_bands: int | None) -> str | None:
    """Return the protocol of more bands than all coalitions can be made of; None for fewer."""
    if n_bands is None or n_bands <= MAX_EXACT_BANDS:
        return None
    return f"permutation,n_permutations={n_bands}"
