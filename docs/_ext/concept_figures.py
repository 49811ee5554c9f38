"""The figures of the concepts: a photograph's bands, and networks of the board's studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from study_tables import ADVERSARIAL, STANDARD, study

from iaside_plugins import SpectralPartition
from iaside_plugins.display import style
from iaside_plugins.display.plots import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(zip((STANDARD, ADVERSARIAL), style.COLOURS, strict=False))
WORDS = {STANDARD: "standard training", ADVERSARIAL: "adversarial training"}
BUDGET = 0.5  # L2, of attacks inside one band


def write(folder: Path) -> None:
    """Write one PNG for each figure, by its name."""
    for draw in (bands, shapley, decomposition, lean, limits):
        save_figure(draw(), folder / f"{draw.__name__}.png")


def photograph() -> torch.Tensor:
    """Return scikit-learn's photograph of a flower, (1, 3, 192, 192) in [0, 1]."""
    from sklearn.datasets import load_sample_image

    pixels = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None] / 255
    square = pixels[..., 20:404, 100:484]
    return torch.nn.functional.interpolate(square, size=(192, 192), mode="area")


def bands() -> Figure:
    """Draw a photograph and its parts in 8 bands; all but band 0 around grey, at one contrast."""
    image = photograph()
    parts = SpectralPartition(n_bands=8).split(image)[0]
    figure, axes = new_figure(8, 3.5, columns=5, rows=2, shared=False)
    shown = [image[0], parts[0], *(0.5 + 0.15 * part / part.std() for part in parts[1:])]
    titles = ["photograph", *(f"band {k}" for k in range(8))]
    for ax, pixels, title in zip(axes, shown, titles, strict=False):
        ax.imshow(pixels.permute(1, 2, 0).clamp(0, 1).numpy())
        ax.set_title(title, fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    return figure


def shapley() -> Figure:
    """Draw what each band is worth to two networks, in nats, with intervals."""
    figure, axes = new_figure(8, 2.8, columns=2, shared=False)
    for ax, name in zip(axes, WORDS, strict=True):
        one = study("spectra/spectra")[name]["importance"]
        value, error = np.array(one["shapley_values"]), 1.96 * np.array(one["shapley_se"])
        ax.bar(range(8), value, yerr=error, capsize=3, color=COLOURS[name])
        _titled(ax, name, one["n_images"])
        ax.set_xlabel("band, low to high frequency")
    axes[0].set_ylabel("Shapley value (nats)")
    _same_range(axes)
    return figure


def decomposition() -> Figure:
    """Draw clean error and the bands' contributions that add up to the error under noise."""
    figure, axes = new_figure(8, 2.8, columns=2, shared=False)
    for ax, name in zip(axes, WORDS, strict=True):
        one = study("decomposition/decomposition")[name]
        split = one["groups"]["noise"]
        steps = 100 * np.array([split["clean"], *split["bands"]])
        ends = steps.cumsum()
        ax.bar(range(9), steps, bottom=ends - steps, color=["0.6", *[COLOURS[name]] * 8])
        ax.bar(9, ends[-1], color="0.3")
        _titled(ax, name, one["n_images"])
        ax.set_xticks(range(10), ["clean", *map(str, range(8)), "error"], fontsize=8)
        ax.set_xlabel("band that is added")
    axes[0].set_ylabel("points of error under noise")
    _same_range(axes)
    return figure


def lean() -> Figure:
    """Draw the signed scores of the CIFAR-10 networks, with intervals and trainings."""
    reports = study("spectra/spectra")
    nets = sorted(
        (one for one in reports.values() if one["importance"]),
        key=lambda one: one["importance"]["signed_score"],
    )
    figure, (ax,) = new_figure(7, 2.9)
    for place, one in enumerate(nets):
        score = one["importance"]
        low, high = score["signed_score_interval"]
        standard = one["model"]["training"] == "standard"
        colour = COLOURS[STANDARD if standard else ADVERSARIAL]
        ax.plot([low, high], [place, place], color=colour, linewidth=2)
        ax.plot(score["signed_score"], place, "o", color=colour)
    names = [f"{one['model']['name']} ({one['model']['training']})" for one in nets]
    ax.set_yticks(range(len(nets)), names, fontsize=8)
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_xlim(-0.3, 0.522)
    ax.set_xlabel("signed score: high frequencies < 0 < low frequencies")
    return figure


def limits() -> Figure:
    """Draw what each band is worth to a network beside how often an attack inside it succeeds."""
    one = study("spectra/spectra")[ADVERSARIAL]
    figure, (left, right) = new_figure(8, 2.8, columns=2, shared=False)
    value = one["importance"]
    error = 1.96 * np.array(value["shapley_se"])
    left.bar(range(8), value["shapley_values"], yerr=error, capsize=3, color=COLOURS[ADVERSARIAL])
    left.set_title("worth of the band's own content", fontsize=9)
    left.set_ylabel("Shapley value (nats)")
    attacks = [
        row
        for row in one["conditions"]
        if row["kind"] == "band attack" and row["strength"] == BUDGET
    ]
    success = np.array([row["success"] for row in attacks])
    ends = np.array([[row["success_low"], row["success_high"]] for row in attacks]).T
    right.bar(range(8), success, yerr=np.abs(ends - success), capsize=3, color="0.5")
    right.set_title(f"broken by an attack inside the band (L2 {BUDGET})", fontsize=9)
    right.set_ylabel("share of images")
    for ax in (left, right):
        ax.set_xlabel("band, low to high frequency")
        ax.set_xticks(range(8))
    counts = f"{value['n_images']} and {attacks[0]['n_correct']:.0f} images"
    figure.suptitle(f"{ADVERSARIAL}: {WORDS[ADVERSARIAL]}, {counts}", fontsize=10)
    return figure


def _titled(ax: Axes, name: str, n_images: int) -> None:
    ax.set_title(f"{name}: {WORDS[name]}, {n_images} images", fontsize=9)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xticks(range(8))


def _same_range(axes: list[Axes]) -> None:
    """Give axes one range, so that heights compare."""
    ranges = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(ranges.min(), ranges.max())
