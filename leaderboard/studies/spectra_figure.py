"""The figure of `spectra/`: where perturbations live, where models look, where they break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from iaside_plugins.display.plots import new_figure
from iaside_plugins.spectra.plots import bands_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("C3", "C0", "C2")  # of the models, in order
BUDGET = 0.5  # L2, of the attacks inside one band
CURVES = (  # corruptions of the first panel: name, text, style
    ("gaussian_noise", "Gaussian noise", "-"),
    ("pixelate", "pixelate", "--"),
    ("motion_blur", "motion blur", "-."),
    ("contrast", "contrast", ":"),
)


def spectra_figure(data: Mapping[str, Any]) -> Figure:
    """Three panels: SNR against frequency, importance by band, success inside one band.

    Args:
        data: Of spectra.json.
    """
    models = {
        name: one for name, one in data.items() if one["model"] is not None and one["attacks"]
    }
    figure, axes = new_figure(12.5, 3.9, columns=3)
    _perturbations(axes[0], models)
    _importance(axes[1], models)
    _success(axes[2], models)
    return figure


def _perturbations(ax: Axes, models: Mapping[str, Any]) -> None:
    first = next(iter(models.values()))
    bands = pd.DataFrame(first["bands"])
    for name, text, style in CURVES:
        part = bands_of(bands, {"kind": "corruption", "name": name, "strength": None})
        ax.plot(part["frequency"], part["snr_without_dc_db"], style, color="0.4", label=text)
    for (name, one), colour in zip(models.items(), COLOURS, strict=False):
        row = {"kind": "attack", "name": "pgd_l2", "strength": 0.5}
        part = bands_of(pd.DataFrame(one["bands"]), row)
        ax.plot(
            part["frequency"], part["snr_without_dc_db"], marker="o", markersize=3, color=colour,
            label=f"PGD (L2) on {name}",
        )  # fmt: skip
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_ylim(-10, 70)  # room for the legend
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    ax.minorticks_off()
    ax.set_xlabel("spatial frequency (cycles/image)")
    ax.set_ylabel("signal over perturbation (dB)")
    ax.set_title("1  Signal over perturbation, by frequency", fontsize=10)
    ax.legend(fontsize=6.5, loc="upper right", ncol=2)


def _importance(ax: Axes, models: Mapping[str, Any]) -> None:
    width = 0.8 / len(models)
    for k, ((name, one), colour) in enumerate(zip(models.items(), COLOURS, strict=False)):
        own = pd.DataFrame(one["importance"]["bands"])
        share = own["share"].to_numpy(float)
        ends = own[["share_low", "share_high"]].to_numpy(float).T
        ax.bar(
            own["band"] + (k - (len(models) - 1) / 2) * width, share, width, color=colour,
            yerr=np.abs(ends - share), error_kw={"linewidth": 0.8}, label=_named(name, one),
        )  # fmt: skip
    ax.set_title("2  Where each net looks", fontsize=10)
    ax.set_ylabel("share of the evidence (Shapley)")
    ax.set_xlabel("band, low to high frequency")
    ax.legend(fontsize=6.5)


def _success(ax: Axes, models: Mapping[str, Any]) -> None:
    for (name, one), colour in zip(models.items(), COLOURS, strict=False):
        rows = pd.DataFrame([
            row for row in one["conditions"]
            if row["kind"] == "band attack" and row["strength"] == BUDGET
        ])  # fmt: skip
        value = rows["success"].to_numpy(float)
        ends = rows[["success_low", "success_high"]].to_numpy(float).T
        ax.errorbar(
            range(len(value)), value, yerr=np.abs(ends - value), marker="o", markersize=4,
            capsize=2, color=colour, label=_named(name, one),
        )  # fmt: skip
    ax.set_ylim(0, 1)
    ax.set_title(f"3  Broken inside one band alone (L2, eps {BUDGET})", fontsize=10)
    ax.set_ylabel("share of correct images broken")
    ax.set_xlabel("band, low to high frequency")


def _named(name: str, one: Mapping[str, Any]) -> str:
    return f"{name} ({one['model']['training']})"
