"""Error of sampled Shapley values against passes, on real games; shapiq as oracle and rival.

    python tests/bench/bench_estimators.py FOLDER [--quick] [--json FILE]

Tables of the kit's classifiers (IASIDE_KIT) are computed once and kept in FOLDER; games of more
bands than a table holds are played as they are asked for. shapiq is not a dependency (pip install
shapiq lightgbm xgboost); without it only the estimators of this package are measured. Passes are
distinct coalitions of an image, the empty and the grand one among them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from value_tables import Played, played_games, value_table

from iaside_plugins.shapley.coalitions import chain_coalitions, cyclic_chains, members
from iaside_plugins.shapley.exact import chain_shapley_values, shapley_values
from iaside_plugins.shapley.gaussian_process import gaussian_process_shapley_values
from iaside_plugins.shapley.regression import (
    draw_pairs,
    regression_shapley_values,
    with_complements,
)
from iaside_plugins.stats.intervals import jackknife

HAS_SHAPIQ = importlib.util.find_spec("shapiq") is not None
FULL = {
    "tables": [  # model, bands, images
        ("c10_resnet20", 8, 10),
        ("c10_mlperf_resnet8", 12, 6),
        ("mobilenet_v1_025_128", 12, 6),
        ("c10_mlperf_resnet8", 16, 3),
    ],
    "played": [("mobilenet_v1_025_128", 24, 2), ("mobilenet_v1_025_128", 32, 2)],
    "budgets": {8: [64, 128], 12: [128, 256, 512, 1024], 16: [128, 256, 512, 1024]},
    "played_budgets": [512],
    "hits": [128, 512],  # budgets at which 0/1 answers are measured too
    "repeats": 2,
    "reference": 6,
    "reference_passes": 2048,
    "coverage": ("mobilenet_v1_025_128", 12, 6),
    "draws": 150,
    "samples": 1000,
}
QUICK = {
    "tables": [("c10_resnet2b_adv", 6, 4)],
    "played": [("c10_resnet2b_adv", 7, 1)],
    "budgets": {6: [48, 64]},
    "played_budgets": [64],
    "hits": [48],
    "repeats": 4,
    "reference": 2,
    "reference_passes": 100,
    "coverage": ("c10_resnet2b_adv", 6, 4),
    "draws": 2,
    "samples": 20,
}
FOLDED = {"adjustment": True, "k_folds": 5}
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "PermutationSamplingSV": ("PermutationSamplingSV", {}),
    "SVARM": ("SVARM", {}),
    "KernelSHAP, paired": ("KernelSHAP", {"pairing_trick": True}),
    "LeverageSHAP": ("LeverageSHAP", {}),
    "OddSHAP": ("OddSHAP", {}),
    "ProxySHAP": ("ProxySHAP", {"index": "SV", "max_order": 1}),
    "ProxySHAP, adjusted": ("ProxySHAP", {"index": "SV", "max_order": 1, "adjustment": True}),
    "ProxySHAP, 5 folds": ("ProxySHAP", {"index": "SV", "max_order": 1, **FOLDED}),
    "ProxySHAP, linear, 5 folds": (
        "ProxySHAP",
        {"index": "SV", "max_order": 1, "proxy_model": "linear", **FOLDED},
    ),
    "RegressionMSR": ("RegressionMSR", {"index": "SV"}),
}
"""What it is called here -> shapiq's class and its options; the trees are XGBoost's."""
UNBIASED = ("PermutationSamplingSV", "SVARM", "ProxySHAP, 5 folds", "ProxySHAP, linear, 5 folds")
"""Those that are unbiased by construction: the others fit all they have seen, and correct by it."""
Array = np.ndarray
Estimator = Callable[[Any, int, int, int], tuple[Array, int]]  # game, bands, budget, seed


# ---- this package's estimators, and what the regression could have been ---------------------
def chains(table: Any, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """The permutation estimator: as many pairs of chains as the budget holds."""
    n_pairs, passes = max(1, (budget - 2) // (2 * (m - 1))), 0
    while True:  # chains share coalitions, so more may fit; more begin with the same ones
        more = cyclic_chains(m, n_pairs, np.random.default_rng(seed))
        n_distinct = len(np.unique(chain_coalitions(more)))
        if n_distinct > budget or n_distinct == passes == 2**m:
            break
        found, passes, n_pairs = more, n_distinct, n_pairs + 1
    return chain_shapley_values(table[chain_coalitions(found)], found), passes


def leverage(table: Any, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """The regression estimator."""
    pairs = draw_pairs(m, budget // 2 - 1, np.random.default_rng(seed))
    return regression_shapley_values(table[with_complements(pairs, m)], pairs, m), budget


def gaussian(table: Any, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """The estimator with a Gaussian process, on the same pairs."""
    pairs = draw_pairs(m, budget // 2 - 1, np.random.default_rng(seed))
    return gaussian_process_shapley_values(table[with_complements(pairs, m)], pairs, m), budget


def one_fit(table: Any, m: int, budget: int, seed: int) -> tuple[Array, int]:
    """Least squares on the same pairs, and no more: what the regression estimator starts from."""
    pairs = draw_pairs(m, budget // 2 - 1, np.random.default_rng(seed))
    inside = members(pairs, m).astype(float)
    size = inside.sum(axis=1, keepdims=True).astype(int)
    small = np.minimum(size, m - size)[:, 0]
    weight = 1 / (small * (m - small) * np.bincount(small)[small])
    weight[2 * small == m] /= 2
    gain = table[np.array([2**m - 1])] - table[np.array([0])]
    target = (gain + table[pairs] - table[2**m - 1 - pairs]) / 2 - gain * size[:, 0] / m
    root = np.sqrt(weight)
    solve = np.linalg.pinv((inside - size / m) * root[:, None], rcond=1e-9)
    return gain / m + solve @ (target * root), budget


OURS: dict[str, Estimator] = {
    "permutation": chains,
    "regression": leverage,
    "gaussian process": gaussian,
    "one fit": one_fit,
}


# ---- shapiq ---------------------------------------------------------------------------------
class Lookup:
    """A game that is 0 for the empty coalition and remembers which coalitions were asked for."""

    def __init__(self, table: Any):
        self.table = table
        self.empty = table[np.array([0])]
        self.seen: set[int] = set()

    def __call__(self, coalitions: Array) -> Array:
        index = np.atleast_2d(coalitions) @ (1 << np.arange(coalitions.shape[-1]))
        self.seen.update(index.tolist())
        return np.asarray(self.table[index] - self.empty)


def rivals() -> dict[str, Estimator]:
    """The approximators that the installed shapiq has."""
    if not HAS_SHAPIQ:
        return {}
    import shapiq.approximator

    def of(kind: Any, options: dict[str, Any]) -> Estimator:
        def run(table: Any, m: int, budget: int, seed: int) -> tuple[Array, int]:
            game = Lookup(table)
            found = kind(n=m, random_state=seed, **options).approximate(budget, game)
            return np.array([found[(i,)] for i in range(m)]), len(game.seen | {0})

        return run

    kinds = {name: getattr(shapiq.approximator, kind, None) for name, (kind, _) in RIVALS.items()}
    return {f"shapiq {name}": of(kind, RIVALS[name][1]) for name, kind in kinds.items() if kind}


def exact_difference(table: Array, m: int) -> float:
    """Greatest difference, in nats, of this package's exact values and shapiq's."""
    from shapiq import ExactComputer

    found = ExactComputer(Lookup(table), n_players=m)("SV")
    theirs = np.array([found[(i,)] for i in range(m)])
    return float(abs(theirs - shapley_values(table)).max())


# ---- what is measured -----------------------------------------------------------------------
def errors(
    run: Estimator, games: list[Any], exact: Array, budget: int, repeats: int
) -> dict[str, float]:
    """Relative error of an image's values; bias of the mean over images; passes; CPU seconds.

    The error is the root mean square over images, repeats and bands, over that of the values. The
    bias is the root mean square over bands of the mean error; an unbiased estimator's is about its
    noise, which is its standard error.
    """
    m, found, passes, spent = exact.shape[1], [], [], 0.0
    for seed in range(repeats):
        for k, game in enumerate(games):
            if isinstance(game, Played):  # so that its passes are not in the time
                run(game, m, budget, seed * len(games) + k)
            start = time.process_time()
            psi, n = run(game, m, budget, seed * len(games) + k)
            spent += time.process_time() - start
            found.append(psi - exact[k])
            passes.append(n)
    error = np.array(found).reshape(repeats, len(games), m)
    noise = error.var(axis=0, ddof=1).mean(axis=0) / error[..., 0].size
    size = np.sqrt((exact**2).mean())
    return {
        "budget": budget,
        "passes": float(np.mean(passes)),
        "error": float(np.sqrt((error**2).mean()) / size),
        "bias": float(np.sqrt((error.mean(axis=(0, 1)) ** 2).mean()) / size),
        "bias_noise": float(np.sqrt(noise.mean()) / size),
        "seconds": spent / len(passes),
    }


def reference(game: Any, m: int, choices: dict[str, Any]) -> tuple[Array, Array]:
    """Shapley values too many to compute, from independent unbiased estimates; standard errors."""
    n, passes = choices["reference"], choices["reference_passes"]
    found = np.array([leverage(game, m, passes, 10**6 + k)[0] for k in range(n)])
    return found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(n)


def coverage(folder: Path, choices: dict[str, Any]) -> list[dict[str, Any]]:
    """How often 95 % intervals of mean Shapley values hold those of the images' population.

    Samples of 100 images, drawn with replacement, each with a draw of its own out of some; the
    intervals are the jackknife's over images, as results give them.
    """
    rng, rows = np.random.default_rng(0), []
    name, m, n_images = choices["coverage"]
    budget = choices["budgets"][m][0]
    for what in ("values", "hits"):
        tables = value_table(folder, name, m, n_images, what)
        truth = shapley_values(tables).mean(axis=0)
        for method in ("regression", "gaussian process"):
            drawn = np.array(
                [
                    [
                        OURS[method](table, m, budget, 1000 * k + d)[0]
                        for d in range(choices["draws"])
                    ]
                    for k, table in enumerate(tables)
                ]
            )
            inside = np.zeros(m)
            for _ in range(choices["samples"]):
                taken = rng.integers(n_images, size=100), rng.integers(choices["draws"], size=100)
                ends = jackknife(drawn[taken], lambda psi: psi).interval
                inside += (ends[..., 0] <= truth) & (truth <= ends[..., 1])
            covered = (inside / choices["samples"]).tolist()
            which = {"table": name, "n_bands": m, "what": what, "method": method}
            rows.append({**which, "passes": budget, "coverage": covered})
    return rows


def measure(folder: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """Everything, as JSON values."""
    methods = {**OURS, **rivals()}
    version = importlib.metadata.version("shapiq") if HAS_SHAPIQ else None
    report: dict[str, Any] = {"shapiq": version, "oracle": [], "reference": [], "records": []}
    report["missing"] = [name for name in RIVALS if f"shapiq {name}" not in methods]

    def add(which: dict[str, Any], games: list[Any], exact: Array, budgets: list[int]) -> None:
        for budget in budgets:
            for method, run in methods.items():
                found = errors(run, games, exact, budget, choices["repeats"])
                report["records"].append({**which, "method": method, **found})

    for name, m, n_images in choices["tables"]:
        for what in ("values", "hits"):
            which = {"table": name, "n_bands": m, "n_images": n_images, "what": what}
            tables = value_table(folder, name, m, n_images, what)
            if HAS_SHAPIQ and m <= 12 and what == "values":
                difference = exact_difference(tables[0], m)
                report["oracle"].append({**which, "difference": difference})
            budgets = [n for n in choices["budgets"][m] if what == "values" or n in choices["hits"]]
            add(which, list(tables), shapley_values(tables), budgets)
    for name, m, n_images in choices["played"]:
        for what, games in played_games(name, m, n_images).items():
            which = {"table": name, "n_bands": m, "n_images": n_images, "what": what}
            found, error = zip(*(reference(game, m, choices) for game in games), strict=True)
            size = np.sqrt(np.mean(np.square(found)))
            relative = float(np.sqrt(np.mean(np.square(error))) / size)
            report["reference"].append({**which, "relative_error": relative})
            add(which, games, np.array(found), choices["played_budgets"])
    report["coverage"] = coverage(folder, choices)
    return report


# ---- the report -----------------------------------------------------------------------------
WHAT = {"values": "log-likelihood", "hits": "0/1 answers"}


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = [f"shapiq {report['shapiq']}." if report["shapiq"] else "Without shapiq."]
    if report["missing"]:
        lines.append(f"Not in it: {', '.join(report['missing'])}.")
    games = {(row["table"], row["n_bands"], row["what"]): row for row in report["records"]}
    lines += ["", *summary(report["records"])]
    for (name, m, what), game in games.items():
        rows = [
            r for r in report["records"] if (r["table"], r["n_bands"], r["what"]) == (name, m, what)
        ]
        lines += ["", f"{name}, {m} bands, {game['n_images']} images, {WHAT[what]}", ""]
        lines += table_of(rows)
    lines += [""]
    lines += [
        f"- {row['table']}, {row['n_bands']} bands, {WHAT[row['what']]}: relative standard error "
        f"of the reference {row['relative_error']:.4f}"
        for row in report["reference"]
    ]
    lines += [
        f"- {row['table']}, {row['n_bands']} bands: shapiq's exact values of an image differ by "
        f"{row['difference']:.0e} nats"
        for row in report["oracle"]
    ]
    lines += ["", "| intervals of | passes | method | coverage of 95 % intervals, by band |"]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| {row['table']}, {row['n_bands']} bands, {WHAT[row['what']]} | {row['passes']} "
        f"| {row['method']} | {100 * min(row['coverage']):.1f}-{100 * max(row['coverage']):.1f} % |"
        for row in report["coverage"]
    ]
    return "\n".join(lines)


def summary(records: list[dict[str, Any]]) -> list[str]:
    """Errors with the Gaussian process over those of others, at 512 passes or at most so many."""
    of = {
        "regression": ["regression"],
        "OddSHAP": ["shapiq OddSHAP"],
        "the best unbiased of theirs": [f"shapiq {name}" for name in UNBIASED],
        "the best of theirs": [f"shapiq {name}" for name in RIVALS],
    }
    lines = [f"| error with a Gaussian process over | passes | {' | '.join(of)} |"]
    lines += ["|" + "---|" * (len(of) + 2)]
    for name, m, what in dict.fromkeys((r["table"], r["n_bands"], r["what"]) for r in records):
        rows = [r for r in records if (r["table"], r["n_bands"], r["what"]) == (name, m, what)]
        budget = max(row["budget"] for row in rows if row["budget"] <= 512)
        error = {row["method"]: row["error"] for row in rows if row["budget"] == budget}
        cells = []
        for methods in of.values():
            best = min([error[method] for method in methods if method in error], default=0.0)
            cells.append(f"{error['gaussian process'] / best:.2f}" if best > 1e-6 else "-")
        what = WHAT[what]
        lines.append(f"| {name}, {m} bands, {what} | {budget} | {' | '.join(cells)} |")
    return lines


def table_of(rows: list[dict[str, Any]]) -> list[str]:
    """One game's errors by method and budget, and those of ours over the least of theirs."""
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    cell = {(row["method"], row["budget"]): row for row in rows}
    heads = [f"error, {n} passes" for n in budgets]
    lines = [
        f"| method | {' | '.join(heads)} | bias, {budgets[-1]} passes | CPU ms beside passes |"
    ]
    lines += ["|" + "---|" * (len(budgets) + 3)]
    for method in dict.fromkeys(row["method"] for row in rows):
        last = cell[method, budgets[-1]]
        found = " | ".join(f"{cell[method, n]['error']:.4f}" for n in budgets)
        bias = f"{last['bias']:.4f} (noise {last['bias_noise']:.4f})"
        lines.append(f"| {method} | {found} | {bias} | {1000 * last['seconds']:.0f} |")
    theirs = {row["method"] for row in rows if row["method"].startswith("shapiq")}
    if theirs:
        best = [min(cell[method, n]["error"] for method in theirs) for n in budgets]
        ours = [cell["gaussian process", n]["error"] for n in budgets]
        ratios = " | ".join(
            f"{mine / other:.2f}" if other > 1e-6 else "-"  # - where theirs is exact
            for mine, other in zip(ours, best, strict=True)
        )
        lines.append(f"| **gaussian process / best of theirs** | {ratios} | | |")
    return lines


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
