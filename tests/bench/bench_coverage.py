"""How often 95 % intervals cover, in samples of images drawn from real value tables.

    python tests/bench/bench_coverage.py FOLDER [--quick] [--json FILE]

A table of a classifier of the kit (IASIDE_KIT), computed once and kept in FOLDER, is the
population; samples of its images are drawn with replacement, so the truth is known. Ties at the
minimum are made by a population of the same images once for each rotation of their least bands.
Also: coverage after a run that stopped by itself. The intervals are those that results and
comparisons give.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from value_tables import value_table

from iaside_plugins import Protocol, SpectralImportance, compare
from iaside_plugins.importance.stopping import Stopping, check_points, sequence_width
from iaside_plugins.shapley.exact import shapley_values
from iaside_plugins.shapley.score import importance_distribution, score, signed_score
from iaside_plugins.stats.intervals import jackknife

FULL = {
    "models": ["c10_resnet20", "c10_resnet2b_adv", "mobilenet_v1_025_128", "mcunet_5fps"],
    "pairs": [["c10_resnet20", "c10_resnet2b_adv"], ["mobilenet_v1_025_128", "mcunet_5fps"]],
    "n_table": None,  # all images
    "tied": [1, 2, 3],
    "n_images": [50, 200],
    "samples": 2000,
    "stopped_samples": 400,
    "errors": [0.03, 0.02],
    "sign_error": 0.1,
    "most": 3000,
}
QUICK = {
    "models": ["c10_resnet2b_adv", "c10_cnn_a_adv"],
    "pairs": [["c10_resnet2b_adv", "c10_cnn_a_adv"]],
    "n_table": 40,
    "tied": [1, 2],
    "n_images": [50],
    "samples": 40,
    "stopped_samples": 10,
    "errors": [0.04],
    "sign_error": 0.2,
    "most": 500,
}
Array = np.ndarray


# ---- populations ---------------------------------------------------------------------------
def with_ties(psi: Array, n_tied: int) -> Array:
    """Population (n_tied * K, M) in which the n_tied least bands have exactly the same mean.

    Every image comes once for each rotation of these bands, so images keep what bands share.
    """
    least = np.argsort(psi.mean(axis=0))[:n_tied]
    copies = []
    for turn in range(n_tied):
        copy = psi.copy()
        copy[:, least] = psi[:, np.roll(least, turn)]
        copies.append(copy)
    return np.concatenate(copies)


def result_of(psi: Array) -> SpectralImportance:
    """A result with given Shapley values of each image."""
    k, m = psi.shape
    ends = np.stack([0 * psi[:, 0], psi.sum(axis=1)], axis=1)
    return SpectralImportance(
        protocol=Protocol(m),
        per_image=psi,
        ends=ends,
        values=None,
        labels=np.zeros(k, np.int64),
        ids=tuple(map(str, range(k))),
        correct=np.ones(k, bool),
        n_classes=2,
        n_forward=0,
        image_size=(32, 32),
        precision="float32",
    )


def scores(psi: Array) -> dict[str, Array]:
    """What is estimated, from mean Shapley values."""
    shares = importance_distribution(psi)
    return {"score": score(shares), "signed_score": signed_score(shares), "shapley_values": psi}


# ---- intervals of one sample ---------------------------------------------------------------
def intervals(psi: Array) -> dict[str, Array]:
    """Intervals (..., 2) of one sample of images, and those of the jackknife alone."""
    found = result_of(psi)
    psi_ends = found.shapley_values[:, None] + np.outer(found.shapley_se, [-1.96, 1.96])
    plain = jackknife(psi, lambda x: signed_score(importance_distribution(x)))
    return {
        "score": found.score_interval,
        "signed_score": found.signed_score_interval,
        "shapley_values": psi_ends,
        "signed_score, jackknife alone": plain.interval,
    }


def pair_intervals(first: Array, second: Array) -> dict[str, Array]:
    """Intervals (..., 2) of the differences of two models on one sample of images."""
    found = compare(result_of(first), result_of(second))
    m = first.shape[1]
    rows = np.concatenate([first, second], axis=1)
    plain = jackknife(
        rows,
        lambda x: (
            signed_score(importance_distribution(x[..., :m]))
            - signed_score(importance_distribution(x[..., m:]))
        ),
    )
    return {
        "score": found.score_difference_interval,
        "signed_score": found.signed_score_difference_interval,
        "shapley_values": found.shapley_difference_interval,
        "signed_score, jackknife alone": plain.interval,
    }


class Tally:
    """Counts of covered truths and sums of half-widths, by what is estimated."""

    def __init__(self, truth: dict[str, Array]):
        self.truth = truth
        self.covered: dict[str, Any] = {}
        self.half: dict[str, Any] = {}
        self.n = 0

    def add(self, found: dict[str, Array]) -> None:
        self.n += 1
        for name, ends in found.items():
            truth = self.truth[name.split(",")[0]]
            inside = (ends[..., 0] <= truth) & (truth <= ends[..., 1])
            self.covered[name] = self.covered.get(name, 0) + inside
            self.half[name] = self.half.get(name, 0) + (ends[..., 1] - ends[..., 0]) / 2

    def report(self) -> dict[str, Any]:
        """Coverage of each, of Shapley values by band; mean half-widths."""
        return {
            name: {
                "coverage": (self.covered[name] / self.n).tolist(),
                "half_width": np.mean(self.half[name] / self.n).tolist(),
            }
            for name in self.covered
        }


# ---- the simulations -----------------------------------------------------------------------
def fixed(populations: list[Array], n: int, samples: int, seed: int) -> dict[str, Any]:
    """Coverage of samples of n images, of one model or of the difference of two."""
    rng = np.random.default_rng(seed)
    single = len(populations) == 1
    tally = Tally(truth_of(populations))
    estimates = []
    for _ in range(samples):
        taken = rng.integers(len(populations[0]), size=n)
        drawn = [psi[taken] for psi in populations]
        tally.add(intervals(*drawn) if single else pair_intervals(*drawn))
        estimates.append(truth_of(drawn)["signed_score"])
    bias = float(np.mean(estimates) - tally.truth["signed_score"])
    return {"n_images": n, "bias": bias, "sd": float(np.std(estimates)), **tally.report()}


def stopped(
    populations: list[Array], stopping: Stopping, most: int, samples: int, seed: int
) -> dict[str, Any]:
    """Coverage after runs that stop by themselves, and how many images they took."""
    rng = np.random.default_rng(seed)
    single = len(populations) == 1
    tally = Tally(truth := truth_of(populations))
    taken, wrong_signs = [], 0
    for _ in range(samples):
        order = rng.integers(len(populations[0]), size=most)
        drawn = [psi[order] for psi in populations]
        n = next(
            (n for n in check_points(0, most) if stopping.check(*(psi[:n] for psi in drawn)).done),
            most,
        )
        drawn = [psi[:n] for psi in drawn]
        tally.add(intervals(*drawn) if single else pair_intervals(*drawn))
        wrong_signs += has_wrong_sign(drawn, truth["shapley_values"])
        taken.append(n)
    few, many = np.quantile(taken, [0.05, 0.95])
    return {
        "target": stopping.target,
        "error": stopping.error,
        "n_mean": float(np.mean(taken)),
        "n_5": few,
        "n_95": many,
        "never": float(np.mean(np.array(taken) >= most)),
        "wrong_signs": wrong_signs / samples,
        **tally.report(),
    }


def has_wrong_sign(drawn: list[Array], truth: Array) -> bool:
    """Whether a band is told to be above or below 0 on the wrong side of it."""
    rows = drawn[0] if len(drawn) == 1 else drawn[0] - drawn[1]
    n, m = rows.shape
    half = rows.std(axis=0, ddof=1) * sequence_width(n, 0.05 / m)
    told = np.where(abs(rows.mean(axis=0)) > half, np.sign(rows.mean(axis=0)), 0)
    return bool((told * np.sign(truth) < 0).any())


def truth_of(populations: list[Array]) -> dict[str, Array]:
    """The truth of a population, or the difference of two."""
    found = [scores(psi.mean(axis=0)) for psi in populations]
    if len(found) == 1:
        return found[0]
    return {name: found[0][name] - found[1][name] for name in found[0]}


def measure(folder: Path, choices: dict[str, Any], seed: int) -> dict[str, Any]:
    """Everything, as JSON values."""
    tables = {
        name: shapley_values(value_table(folder, name, n_images=choices["n_table"]))
        for name in choices["models"]
    }
    report: dict[str, Any] = {"seed": seed, **choices, "fixed": [], "stopped": []}
    subjects = [[name] for name in choices["models"]] + choices["pairs"]
    stops = [Stopping(error) for error in choices["errors"]]
    stops += [Stopping(choices["errors"][0], "score"), Stopping(choices["sign_error"], "sign")]
    for names in subjects:
        for n_tied in choices["tied"]:
            which = {"of": " - ".join(names), "tied": n_tied}
            populations = [with_ties(tables[name], n_tied) for name in names]
            for n in choices["n_images"]:
                found = fixed(populations, n, choices["samples"], seed)
                report["fixed"].append({**which, **found})
            for stopping in stops:
                found = stopped(
                    populations, stopping, choices["most"], choices["stopped_samples"], seed
                )
                report["stopped"].append({**which, **found})
    return report


# ---- the report ----------------------------------------------------------------------------
NAMES = ("score", "signed_score", "shapley_values", "signed_score, jackknife alone")


def cells(row: dict[str, Any]) -> str:
    """Coverages in percent, of Shapley values the range over bands."""
    shown = []
    for name in NAMES:
        found = np.atleast_1d(row[name]["coverage"])
        ends = [f"{100 * end:.1f}" for end in (found.min(), found.max())]
        shown.append(ends[0] if len(found) == 1 else "-".join(ends))
    return " | ".join(shown)


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    heads = "score | signed score | Shapley values, by band | signed score by the jackknife alone"
    lines = [
        f"Coverage in % of 95 % intervals, {report['samples']} samples (standard error "
        f"{100 * np.sqrt(0.95 * 0.05 / report['samples']):.1f}), {report['stopped_samples']} after "
        f"stopping ({100 * np.sqrt(0.95 * 0.05 / report['stopped_samples']):.1f}).",
        "",
        f"| of | tied bands | images | {heads} | half-width, jackknife alone | bias |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["fixed"]:
        wide, plain = (row[name]["half_width"] for name in (NAMES[1], NAMES[3]))
        lines.append(
            f"| {row['of']} | {row['tied']} | {row['n_images']} | {cells(row)} "
            f"| {wide:.4f}, {plain:.4f} | {row['bias']:+.4f} |"
        )
    lines += ["", f"| of | tied bands | stopped at | images (5-95 %) | {heads} | wrong signs |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['of']} | {row['tied']} | {row['target']} {row['error']:g} | {row['n_mean']:.0f} "
        f"({row['n_5']:.0f}-{row['n_95']:.0f}) | {cells(row)} | {100 * row['wrong_signs']:.1f} % |"
        for row in report["stopped"]
    ]
    found = np.concatenate(
        [
            np.atleast_1d(row[name]["coverage"])
            for row in (*report["fixed"], *report["stopped"])
            for name in NAMES[:3]
        ]
    )
    outside = np.mean((found < 0.92) | (found > 0.97))
    lines += [
        "",
        f"{len(found)} coverages: {100 * found.min():.1f} to {100 * found.max():.1f} %, "
        f"{100 * outside:.0f} % of them outside 92 to 97 %.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where value tables are kept")
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args(arguments)
    report = measure(options.folder, QUICK if options.quick else FULL, options.seed)
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
