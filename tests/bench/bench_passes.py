"""Forward passes for an equal interval: exact on some images, or some coalitions of more images.

    python tests/bench/bench_passes.py FOLDER [--run] [--quick] [--json FILE]

Simulated from value tables of the kit's classifiers (IASIDE_KIT; kept in FOLDER): images are drawn
with replacement, each with its own coalitions, as many as one budget of passes pays for. Standard
deviations and half-widths of the signed score at that budget say how many passes give equal ones:
the squares fall with the number of images. With --run also truly, on the kit's photographs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from value_tables import images_of, value_table

from iaside_plugins import Protocol, SpectralImportance, spectral_importance
from iaside_plugins.importance.ties import estimate
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.shapley.score import importance_distribution, signed_score
from iaside_plugins.value_table.sampling import draw
from iaside_plugins.workflows.source import DataSource, open_images, open_model

EXACT = Protocol()
SAMPLED = [
    *(Protocol(estimator="permutation", n_permutations=n) for n in (1, 4, 8)),
    *(Protocol(estimator="regression", n_coalitions=n) for n in (64, 128)),
]
FULL = {
    "models": ["c10_resnet20", "c10_resnet2b_adv", "mobilenet_v1_025_128", "mcunet_5fps"],
    "n_table": None,  # all images
    "budget": 51_000,
    "draws": 20,
    "samples": 400,
    "run": ["mobilenet_v1_025_128", "mcunet_5fps"],
    "n_exact": 150,
    "n_sampled": 600,
}
QUICK = {
    "models": ["c10_resnet2b_adv"],
    "n_table": 40,
    "budget": 10_000,
    "draws": 2,
    "samples": 10,
    "run": ["c10_resnet2b_adv"],
    "n_exact": 10,
    "n_sampled": 30,
}
Array = np.ndarray


def name_of(protocol: Protocol) -> str:
    """The estimator and its size."""
    sizes = {"permutation": protocol.n_permutations, "regression": protocol.n_coalitions}
    return f"{protocol.estimator} {sizes.get(protocol.estimator, '')}".strip()


def signed(psi: Array) -> Array:
    """The signed score of mean Shapley values."""
    return signed_score(importance_distribution(psi))


# ---- simulated -------------------------------------------------------------------------------
def estimates(tables: Array, protocol: Protocol, draws: int) -> tuple[Array, float]:
    """Shapley values (draws * K, M) of every image by several draws each, and passes an image.

    The empty coalition is the black image: one pass for all images, so none of an image.
    """
    if protocol.estimator == "exact":
        return shapley_values(tables), tables.shape[1] - 1
    weights = 1 << np.arange(protocol.n_bands)
    found, passes = [], []
    for turn in range(draws):
        for k, table in enumerate(tables):
            drawn = draw(protocol, f"{turn}-{k}")
            found.append(drawn.shapley_values(table[drawn.coalitions @ weights]))
            passes.append(len(drawn.coalitions) - 1)
    return np.array(found), float(np.mean(passes))


def simulate(tables: Array, protocol: Protocol, choices: dict[str, Any]) -> dict[str, Any]:
    """Spread, mean half-width, bias and coverage of the signed score at the budget."""
    population, passes = estimates(tables, protocol, choices["draws"])
    truth = float(signed(shapley_values(tables).mean(axis=0)))
    n, rng = round(choices["budget"] / passes), np.random.default_rng(0)
    values, halves, covered = [], [], []
    for _ in range(choices["samples"]):
        rows = population[rng.integers(len(population), size=n)]
        found = estimate(rows, signed_score)
        low, high = found.interval.tolist()
        values.append(float(found.value))
        halves.append((high - low) / 2)
        covered.append(low <= truth <= high)
    return {
        "method": name_of(protocol),
        "passes_an_image": passes,
        "n_images": n,
        "sd": float(np.std(values)),
        "half_width": float(np.mean(halves)),
        "bias": float(np.mean(values) - truth),
        "coverage": float(np.mean(covered)),
    }


# ---- truly run -------------------------------------------------------------------------------
def runs(name: str, choices: dict[str, Any]) -> list[dict[str, Any]]:
    """Exact on n_exact images and sampled on n_sampled, with the passes that were counted."""
    net = open_model(f"kit:{name}", device="cpu")
    data = open_images(DataSource(images_of(name)), net, shuffled=True)
    counts = {"exact": choices["n_exact"]}
    rows = []
    for protocol in (EXACT, SAMPLED[2]):
        n = counts.get(protocol.estimator, choices["n_sampled"])
        found = spectral_importance(net, data, protocol, max_images=n, show_progress=True)
        rows.append({"method": name_of(protocol), **facts(found)})
    return rows


def facts(found: SpectralImportance) -> dict[str, Any]:
    """What is compared of a result."""
    low, high = found.signed_score_interval.tolist()
    return {
        "n_images": found.n_images,
        "n_forward": found.n_forward,
        "signed_score": found.signed_score,
        "interval": [low, high],
        "half_width": (high - low) / 2,
        "tied_bands": found.tied_bands,
    }


def measure(folder: Path, choices: dict[str, Any], run: bool) -> dict[str, Any]:
    """Everything, as JSON values."""
    report: dict[str, Any] = {**choices, "simulated": [], "runs": []}
    for name in choices["models"]:
        tables = value_table(folder, name, n_images=choices["n_table"])
        exact = simulate(tables, EXACT, choices)
        for row in (exact, *(simulate(tables, protocol, choices) for protocol in SAMPLED)):
            fewer = {f"fewer_by_{by}": (exact[by] / row[by]) ** 2 for by in ("sd", "half_width")}
            report["simulated"].append({"table": name, **row, **fewer})
    for name in choices["run"] if run else ():
        rows = runs(name, choices)
        for row in rows:
            cost = [one["n_forward"] * one["half_width"] ** 2 for one in (rows[0], row)]
            report["runs"].append({"model": name, **row, "fewer_by_half_width": cost[0] / cost[1]})
    return report


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = [
        f"Signed score at {report['budget']:,} passes, {report['samples']} samples of images.",
        "",
        "| table | estimator | passes an image | images | sd | half-width | bias | coverage "
        "| times fewer passes for equal sd, equal half-width |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['table']} | {row['method']} | {row['passes_an_image']:.1f} | {row['n_images']} "
        f"| {row['sd']:.4f} | {row['half_width']:.4f} | {row['bias']:+.4f} "
        f"| {row['coverage']:.1%} | {row['fewer_by_sd']:.2f}, {row['fewer_by_half_width']:.2f} |"
        for row in report["simulated"]
    ]
    if report["runs"]:
        lines += [
            "",
            "| model | estimator | images | passes | signed score, 95 % | half-width "
            "| times fewer passes for an equal half-width |",
            "|---|---|---|---|---|---|---|",
        ]
    lines += [
        f"| {row['model']} | {row['method']} | {row['n_images']} | {row['n_forward']:,} "
        f"| {row['signed_score']:+.3f} [{row['interval'][0]:+.3f}, {row['interval'][1]:+.3f}] "
        f"| {row['half_width']:.4f} | {row['fewer_by_half_width']:.2f} |"
        for row in report["runs"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where value tables are kept")
    parser.add_argument("--run", action="store_true", help="also run the models on photographs")
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args(arguments)
    report = measure(options.folder, QUICK if options.quick else FULL, options.run)
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
