"""Error of sampled Shapley values against passes, on real value tables; shapiq as oracle and rival.

    python tests/bench/bench_estimators.py FOLDER [--quick] [--json FILE]

Tables of the kit's classifiers (IASIDE_KIT) are computed once and kept in FOLDER. shapiq is not a
dependency (pip install shapiq); without it only the estimators of this package are measured.
Passes are distinct coalitions of an image, the empty and the grand one among them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from value_tables import value_table

from iaside_plugins.shapley.coalitions import chain_coalitions, cyclic_chains, members
from iaside_plugins.shapley.exact import chain_shapley_values, shapley_values
from iaside_plugins.shapley.regression import (
    draw_pairs,
    regression_shapley_values,
    with_complements,
)

HAS_SHAPIQ = importlib.util.find_spec("shapiq") is not None
FULL = {
    "tables": [
        *((name, m, 20) for name in ("c10_resnet20", "mobilenet_v1_025_128") for m in (8, 10, 12)),
        ("c10_resnet2b_adv", 16, 12),
        ("c10_resnet20", 16, 2),
    ],
    "budgets": {8: [64, 128], 10: [128, 256], 12: [128, 512], 16: [128, 512, 2048]},
    "repeats": 10,
    "rival_repeats": 10,
    "rival_images": 5,
}
QUICK = {
    "tables": [("c10_resnet2b_adv", 6, 4)],
    "budgets": {6: [48, 64]},
    "repeats": 10,  # with 2 the draws of 4 images decide which is best
    "rival_repeats": 2,
    "rival_images": 2,
}
RIVALS: dict[str, dict[str, Any]] = {
    "PermutationSamplingSV": {},
    "KernelSHAP": {"pairing_trick": True},
    "UnbiasedKernelSHAP": {"pairing_trick": True},
    "SVARM": {},
    "StratifiedSamplingSV": {},
}
Array = np.ndarray
Estimator = Callable[[Array, int, int, int], tuple[Array, int]]  # table, bands, budget, seed


# ---- this package's estimators, and what the regression could have been ---------------------
def chains(table: Array, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """The permutation estimator: as many pairs of chains as the budget holds."""
    n_pairs, passes = max(1, (budget - 2) // (2 * (m - 1))), 0
    while True:  # chains share coalitions, so more may fit; more begin with the same ones
        more = cyclic_chains(m, n_pairs, np.random.default_rng(seed))
        n_distinct = len(np.unique(chain_coalitions(more)))
        if n_distinct > budget or n_distinct == passes == 2**m:
            break
        found, passes, n_pairs = more, n_distinct, n_pairs + 1
    return chain_shapley_values(table[chain_coalitions(found)], found), passes


def leverage(table: Array, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """The regression estimator."""
    pairs = draw_pairs(m, budget // 2 - 1, np.random.default_rng(seed))
    return regression_shapley_values(table[with_complements(pairs, m)], pairs, m), budget


def one_fit(table: Array, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """Least squares on the same pairs, and no more: what the regression estimator starts from."""
    pairs = draw_pairs(m, budget // 2 - 1, np.random.default_rng(seed))
    inside = members(pairs, m).astype(float)
    size = inside.sum(axis=1, keepdims=True).astype(int)
    small = np.minimum(size, m - size)[:, 0]
    weight = 1 / (small * (m - small) * np.bincount(small)[small])
    weight[2 * small == m] /= 2
    gain = table[-1] - table[0]
    target = (gain + table[pairs] - table[2**m - 1 - pairs]) / 2 - gain * size[:, 0] / m
    root = np.sqrt(weight)
    solve = np.linalg.pinv((inside - size / m) * root[:, None], rcond=1e-9)
    return gain / m + solve @ (target * root), budget


# ---- shapiq ---------------------------------------------------------------------------------
class Lookup:
    """A game that reads a table and remembers which coalitions were asked for."""

    def __init__(self, table: Array):
        self.table = table
        self.seen: set[int] = set()

    def __call__(self, coalitions: Array) -> Array:
        index = np.atleast_2d(coalitions) @ (1 << np.arange(coalitions.shape[-1]))
        self.seen.update(index.tolist())
        return self.table[index]


def rival(name: str, **options: Any) -> Estimator:
    """An approximator of shapiq. Its games are 0 for the empty coalition."""

    def run(table: Array, m: int, budget: int, seed: int) -> tuple[Array, int]:
        import shapiq.approximator

        game = Lookup(table - table[0])
        made = getattr(shapiq.approximator, name)(n=m, random_state=seed, **options)
        found = made.approximate(budget, game)
        return np.array([found[(i,)] for i in range(m)]), len(game.seen | {0})

    return run


def exact_difference(table: Array, m: int) -> float:
    """Greatest difference, in nats, of this package's exact values and shapiq's."""
    from shapiq import ExactComputer

    found = ExactComputer(Lookup(table - table[0]), n_players=m)("SV")
    theirs = np.array([found[(i,)] for i in range(m)])
    return float(abs(theirs - shapley_values(table)).max())


# ---- what is measured -----------------------------------------------------------------------
def errors(
    run: Estimator, tables: Array, exact: Array, budget: int, repeats: int
) -> dict[str, float]:
    """Relative error of an image's values; bias of the mean over images, as far as seen; passes.

    The error is the root mean square over images, repeats and bands, over that of the values. The
    bias is the root mean square over bands of the mean error, less what noise adds to its square.
    """
    m, found, passes = exact.shape[1], [], []
    for seed in range(repeats):
        for k, table in enumerate(tables):
            psi, n = run(table, m, budget, seed * len(tables) + k)
            found.append(psi - exact[k])
            passes.append(n)
    error = np.array(found)
    noise = error.var(axis=0, ddof=1) / len(error)
    size = np.sqrt((exact**2).mean())
    bias = np.sqrt(max(0.0, float((error.mean(axis=0) ** 2 - noise).mean())))
    return {
        "budget": budget,
        "passes": float(np.mean(passes)),
        "error": float(np.sqrt((error**2).mean()) / size),
        "bias": float(bias / size),
        "bias_noise": float(np.sqrt(noise.mean()) / size),
    }


def measure(folder: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """Everything, as JSON values."""
    ours: dict[str, Estimator] = {
        "permutation": chains,
        "regression": leverage,
        "one fit": one_fit,
    }
    rivals = {f"shapiq {name}": rival(name, **o) for name, o in RIVALS.items() if HAS_SHAPIQ}
    report: dict[str, Any] = {"shapiq": HAS_SHAPIQ, "oracle": [], "records": []}
    for name, m, n_images in choices["tables"]:
        tables = value_table(folder, name, m, n_images)
        exact = shapley_values(tables)
        if HAS_SHAPIQ and m <= 12:
            difference = exact_difference(tables[0], m)
            report["oracle"].append({"table": name, "n_bands": m, "difference": difference})
        for budget in choices["budgets"][m]:
            for method, run in {**ours, **rivals}.items():
                some = choices["rival_images"] if method in rivals else n_images
                repeats = choices["rival_repeats" if method in rivals else "repeats"]
                found = errors(run, tables[:some], exact[:some], budget, repeats)
                which = {"table": name, "n_bands": m, "n_images": some, "method": method}
                report["records"].append({**which, **found})
    return report


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = ["| table | bands | method | passes | relative error | bias of the mean |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {row['table']} | {row['n_bands']} | {row['method']} | {row['passes']:.0f} "
        f"| {row['error']:.3f} | {row['bias']:.4f} (noise {row['bias_noise']:.4f}) |"
        for row in report["records"]
    ]
    lines += [
        f"\nshapiq's exact values of one image of {row['table']}, {row['n_bands']} bands, "
        f"differ by {row['difference']:.1e} nats"
        for row in report["oracle"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where value tables are kept")
    parser.add_argument("--quick", action="store_true", help="seconds: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the records here")
    options = parser.parse_args(arguments)
    report = measure(options.folder, QUICK if options.quick else FULL)
    print(markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
