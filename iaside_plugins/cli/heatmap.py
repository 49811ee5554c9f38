"""The `iaside heatmap` command: errors under noise of one spatial frequency at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from iaside_plugins.adapters.models.load import describe
from iaside_plugins.cli import options as opt
from iaside_plugins.cli.groups import (
    ImageOptions,
    ModelOptions,
    PassOptions,
    ProtocolOptions,
    SavedOutputOptions,
    with_groups,
)
from iaside_plugins.cli.values import check_clash
from iaside_plugins.decomposition.protocols import check_protocol
from iaside_plugins.devices import pick_device
from iaside_plugins.errors import InputError
from iaside_plugins.heatmap.plots import plot_heatmap
from iaside_plugins.heatmap.run import fourier_heatmap
from iaside_plugins.heatmap.text import heatmap_text, views_text
from iaside_plugins.protocol import Protocol
from iaside_plugins.spectral.partition import SpectralPartition
from iaside_plugins.storage.resume_folder import resume_folder
from iaside_plugins.workflows.cost import planned
from iaside_plugins.workflows.heatmap import band_views, heatmap_cost, views_pairs
from iaside_plugins.workflows.source import open_images

N_IMAGES = 200
EXACT_BANDS = 8  # up to here the other views run every coalition
# An estimator is taken without the views too: that of the default stops at 12 bands.
OF_MAP = {"n_bands", "band_norm", "seed", "estimator"}
OF_VIEWS = [field.name for field in fields(Protocol) if field.name not in OF_MAP]


@dataclass(frozen=True)
class _Images(ImageOptions):
    n_images: Annotated[int, typer.Option(help="Take so many images at most, seeded")] = N_IMAGES


@dataclass(frozen=True)
class _Bands(ProtocolOptions):
    protocol: Annotated[
        str | None, opt.protocol_option("default; above 8 bands estimator=permutation")
    ] = None

    def chosen(self, seed: int, views: bool) -> Protocol:
        """Return the protocol of map and views, exact up to eight bands unless it says otherwise.

        Raises:
            InputError: For a choice that the views cannot take, or that only they would.
        """
        few = self.n_bands is None or self.n_bands <= EXACT_BANDS
        chosen = self.pick(seed, None if few else "permutation")
        check_protocol(chosen)
        for name in [] if views else OF_VIEWS:
            if getattr(chosen, name) != getattr(Protocol, name):
                raise InputError(
                    f"{name} of the protocol needs --views: the map takes its bands and its seed"
                )
        return chosen


@with_groups
def heatmap(
    spec: opt.ModelSpec,
    images: _Images,
    model: ModelOptions,
    bands: _Bands,
    run: PassOptions,
    output: SavedOutputOptions,
    norm: Annotated[
        float | None,
        typer.Option(
            help="L2 norm of the noise in each channel", show_default="4; at 224 x 224 15.7"
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            help="Only frequencies that are multiples of it",
            show_default="1; above 64 pixels about 33 an axis",
        ),
    ] = None,
    grid: Annotated[
        int | None,
        typer.Option(
            help="In place of --step: so many frequencies an axis at most",
            show_default="as --step says",
        ),
    ] = None,
    views: Annotated[
        bool,
        typer.Option(
            "--views", help="Beside it importance, attacks inside a band, contribution per energy"
        ),
    ] = False,
) -> None:
    """Fourier heat map: errors under noise of every spatial frequency, and their band means."""
    outputs = output.open()
    check_clash("--step", step is not None, grid=grid)
    pick_device(run.device)
    rows, together = run.rows()
    chosen = bands.chosen(images.seed, views)
    partition = SpectralPartition(chosen.n_bands, chosen.band_norm)
    source = images.source(together)
    given: dict[str, Any] = {"batch_size": rows, "precision": run.precision}
    net = model.open(spec, run.device, precision=run.precision)
    taken = open_images(source, net)
    outputs.say(describe(net.info))
    pairs = views_pairs(source, net) if views else None
    cost = heatmap_cost(net, taken, step, grid, other=chosen if views else None, **given)
    if outputs.plan(run.dry_run, cost, **planned(net, taken, None)):
        return
    which = (*source.which(), *model.shape.values(), norm, step, grid)
    with resume_folder(run.resume, "heatmap", which, run.precision, net) as folder:
        shared = {**given, "show_progress": outputs.bars}
        with outputs.progress("heatmap", cost):
            result = fourier_heatmap(
                net,
                taken,
                norm=norm,
                step=step,
                grid=grid,
                partition=partition,
                seed=chosen.seed,
                resume=folder,
                **shared,
            )
            if output.save is not None:
                result.save(output.save)
            beside = (
                None
                if pairs is None
                else band_views(net, pairs, taken, result, chosen, folder=folder, **shared)
            )
        found, text = {"model": net.info.to_dict(), **result.to_dict()}, heatmap_text(result)
        if beside is not None:
            found |= {"protocol": chosen.to_dict(), "views": beside.to_dict()}
            text = f"{text}\n{views_text(beside)}"
        outputs.write(
            *images.with_words(found, text),
            lambda: (
                plot_heatmap(result, net.info.name)
                if beside is None
                else beside.plot(net.info.name)
            ),
        )
