"""The page of `spectra/`: tables and figure from one JSON file of spectrum reports.

``python -m iaside_plugins.leaderboard.studies.spectra REPORT.json ...`` takes what
`iaside spectrum --json` wrote into spectra.json; without reports it builds page and figure from
spectra.json again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaside_plugins.budgets import format_budget
from iaside_plugins.display.plots import new_figure, save_figure, titled
from iaside_plugins.display.style import COLOURS, FAINT, LINE, SMALL
from iaside_plugins.display.text import markdown_table, number, row_number
from iaside_plugins.errors import InputError
from iaside_plugins.importance.evidence import Evidence, band_list
from iaside_plugins.leaderboard.studies.measured import run
from iaside_plugins.leaderboard.studies.page import fill_blocks
from iaside_plugins.spectra.plots import bands_of, draw_evidence
from iaside_plugins.spectra.text import is_headline, label
from iaside_plugins.spectra.verdict import follows
from iaside_plugins.storage.files import read_json, rounded, write_atomic, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / "spectra"
DIGITS = 5  # significant ones that spectra.json keeps
KEPT = (
    "model",
    "n_bands",
    "band_norm",
    "image_size",
    "seed",
    "corruptions",
    "attacks",
    "provenance",
)
BAND_COLUMNS = (
    "kind",
    "name",
    "strength",
    "band",
    "frequency",
    "share",
    "snr_without_dc_db",
    "snr_without_dc_db_low",
    "snr_without_dc_db_high",
)
BUDGET = 0.5  # L2, of the attacks inside one band
CURVES = (  # corruptions of the first panel: name, text, style
    ("gaussian_noise", "Gaussian noise", "-"),
    ("pixelate", "pixelate", "--"),
    ("motion_blur", "motion blur", "-."),
    ("contrast", "contrast", ":"),
)


def condense(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page needs of spectrum reports, rounded, by name of the model.

    Raises:
        InputError: For something other than reports of `iaside spectrum`.
    """
    out: dict[str, Any] = {}
    for report in reports:
        try:
            model = report["model"]
            name = f"images-{report['n_bands']}" if model is None else str(model["name"])
            out[name] = _condensed(report)
        except (KeyError, TypeError) as error:
            raise InputError(f"not a report of iaside spectrum: it lacks {error}") from error
    found: dict[str, Any] = rounded(out, DIGITS, exact=("strength",))
    return found


def _condensed(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page needs of one report.

    Of a model without attacks only the importance: the spectra of its corruptions are those of
    the others.
    """
    rows: dict[str, list[Any]] = {
        "conditions": [
            row
            for row in report["conditions"]
            if row["kind"] != "corruption" or row["strength"] is None
        ],
        "bands": [
            {key: row[key] for key in BAND_COLUMNS}
            for row in report["bands"]
            if row["kind"] != "band attack" and is_headline(row)
        ],
    }
    if report["model"] is None:
        rows["bands"] = []
    elif not report["attacks"]:
        rows = {"conditions": [], "bands": []}
    return {
        **{key: report[key] for key in KEPT},
        **rows,
        "matches": [row for row in report["matches"] if row["kind"] == "attack"],
        "importance": report["importance"],
    }


def tables(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the page's tables in Markdown, by name."""
    models = {name: one for name, one in data.items() if one["model"] is not None}
    attacked = {name: one for name, one in models.items() if one["attacks"]}
    first = next(iter(attacked.values()))
    return {
        "corruptions": _law_table(first, "corruption"),
        "photographs": _law_table(data["images-8"], "corruption"),
        "fine": _law_table(data["images-28"], "corruption"),
        "attacks": "\n\n".join(
            f"{name}:\n\n{_law_table(m, 'attack')}" for name, m in attacked.items()
        ),
        "models": _model_table(models),
        "evidence": _evidence_table(models),
        "bands": _band_table(attacked),
        "matches": _match_table(attacked),
    }


def page(text: str, data: Mapping[str, Any]) -> str:
    """Return the page with its tables filled in, see `fill_blocks`."""
    return fill_blocks(text, tables(data))


def build(folder: Path = FOLDER, reports: Sequence[Path] = ()) -> None:
    """Write spectra.json (if there are reports), README.md and spectra.png of a folder."""
    if reports:
        write_json(folder / "spectra.json", condense(read_json(p) for p in reports))
    data = read_json(folder / "spectra.json")
    readme = folder / "README.md"
    write_atomic(readme, page(readme.read_text(encoding="utf-8"), data).encode())
    save_figure(spectra_figure(data), folder / "spectra.png")


def _law_table(one: Mapping[str, Any], kind: str) -> str:
    rows = [
        [
            "perturbation",
            "slope of SNR",
            "bend",
            "R²",
            "misfit (dB)",
            "slope of the perturbation",
            "power law",
            "n (left out)",
        ]
    ]
    for row in one["conditions"]:
        if row["kind"] == kind:
            left_out = row["n_failed"] + row["n_unchanged"]
            rows.append(
                [
                    label(row),
                    row_number(row, "slope", "+.2f"),
                    row_number(row, "curvature", "+.2f"),
                    row_number(row, "r_squared", ".2f"),
                    row_number(row, "residual_db", ".1f"),
                    row_number(row, "density_slope", "+.2f"),
                    "yes" if follows(row) else "**no**",
                    f"{row['n_images']} ({left_out})",
                ]
            )
    return markdown_table(rows)


def _model_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            "model",
            "training",
            "clean accuracy",
            "signed score",
            "evidence in",
            "evidence against the true class in",
            "interval includes 0",
        ]
    ]
    for name, one in models.items():
        found = one["importance"]
        evidence = _evidence(one)
        rows.append(
            [
                name,
                str(one["model"]["training"]),
                f"{found['clean_accuracy']:.0%}",
                number(found["signed_score"], *found["signed_score_interval"]),
                band_list(evidence.above),
                band_list(evidence.below),
                band_list(evidence.includes_zero),
            ]
        )
    return markdown_table(rows)


def _evidence_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Shapley values in nats with their intervals, a row a model."""
    n = next(iter(models.values()))["n_bands"]
    rows = [["model", *(f"band {band}" for band in range(n))]]
    for name, one in models.items():
        found = _evidence(one)
        cells = [number(found.nats[k], *found.intervals[k]) for k in range(n)]
        rows.append([name, *cells])
    return markdown_table(rows)


def _band_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    n = next(iter(models.values()))["n_bands"]
    rows = [["model", "eps (L2)", *(f"band {band}" for band in range(n))]]
    for name, one in models.items():
        attacks = [row for row in one["conditions"] if row["kind"] == "band attack"]
        for budget in sorted({row["strength"] for row in attacks}):
            some = [row for row in attacks if row["strength"] == budget]
            cells = [row_number(row, "success", ".0%") for row in some]
            rows.append([name, format_budget(budget), *cells])
    return markdown_table(rows)


def _match_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["model", "attack", "energy in total", "energy per frequency"]]
    for name, one in models.items():
        for row in one["matches"]:
            if row["kind"] == "attack":
                cells = [row_number(row, key, "+.2f") for key in ("energy", "density")]
                rows.append([name, label(row), *cells])
    return markdown_table(rows)


def spectra_figure(data: Mapping[str, Any]) -> Figure:
    """Plot SNR against frequency, importance by band, and success inside one band.

    Args:
        data: Of spectra.json.
    """
    models = {
        name: one for name, one in data.items() if one["model"] is not None and one["attacks"]
    }
    first = next(iter(models.values()))
    figure, axes = new_figure(9.2, 3.6, columns=3)
    title = "Where perturbations live, where nets look, where they break"
    n_images = max(row["n_images"] for row in first["conditions"])
    bands = f"{first['n_bands']} bands ({first['band_norm']})"
    figure.suptitle(titled(title, n_images, bands, "95 % intervals over images"))
    _perturbations(axes[0], models)
    _importance(axes[1], models)
    _success(axes[2], models)
    figure.legend(
        *axes[2].get_legend_handles_labels(),
        loc="outside lower center",
        ncol=len(models),
        frameon=False,
        fontsize=SMALL,
    )
    return figure


def _perturbations(ax: Axes, models: Mapping[str, Any]) -> None:
    import pandas as pd

    first = next(iter(models.values()))
    bands = pd.DataFrame(first["bands"])
    for name, text, style in CURVES:
        part = bands_of(bands, {"kind": "corruption", "name": name, "strength": None})
        ax.plot(part["frequency"], part["snr_without_dc_db"], style, color=LINE, label=text)
    for one, colour in zip(models.values(), COLOURS, strict=False):
        row = {"kind": "attack", "name": "pgd_l2", "strength": 0.5}
        part = bands_of(pd.DataFrame(one["bands"]), row)
        ax.plot(
            part["frequency"],
            part["snr_without_dc_db"],
            marker="o",
            markersize=3,
            color=colour,
        )
    ax.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    ax.minorticks_off()
    ax.set_xlabel("spatial frequency (cycles/image)")
    ax.set_ylabel("dB, without DC")
    ax.set_title("1  Signal over perturbation")
    ax.plot([], [], "o-", markersize=3, color=LINE, label="PGD (L2), each net")
    ax.set_ylim(-10, 70)  # room for the legend
    ax.legend(loc="upper right")


def _importance(ax: Axes, models: Mapping[str, Any]) -> None:
    width = 0.8 / len(models)
    for k, (one, colour) in enumerate(zip(models.values(), COLOURS, strict=False)):
        draw_evidence(
            ax,
            _evidence(one),
            shift=(k - (len(models) - 1) / 2) * width,
            width=width,
            color=colour,
        )
    ax.set_title("2  Where each net looks")
    ax.set_ylabel("Shapley value (nats)\nbar: interval excludes 0")
    ax.set_xlabel("band, low to high frequency")


def _success(ax: Axes, models: Mapping[str, Any]) -> None:
    import pandas as pd

    for (name, one), colour in zip(models.items(), COLOURS, strict=False):
        rows = pd.DataFrame(
            [
                row
                for row in one["conditions"]
                if row["kind"] == "band attack" and row["strength"] == BUDGET
            ]
        )
        value = rows["success"].to_numpy(float)
        ends = rows[["success_low", "success_high"]].to_numpy(float).T
        ax.errorbar(
            range(len(value)),
            value,
            yerr=np.abs(ends - value),
            marker="o",
            markersize=4,
            capsize=2,
            color=colour,
            label=_named(name, one),
        )
    ax.set_ylim(0, 1)
    ax.set_title(f"3  Broken in one band (L2, {BUDGET})")
    ax.set_ylabel("share of correct images broken")
    ax.set_xlabel("band, low to high frequency")


def _evidence(one: Mapping[str, Any]) -> Evidence:
    found = one["importance"]
    return Evidence.of(found["shapley_values"], found["shapley_se"])


def _named(name: str, one: Mapping[str, Any]) -> str:
    return f"{name} ({one['model']['training']})"


if __name__ == "__main__":
    run(lambda files: build(FOLDER, [Path(file) for file in files]))
