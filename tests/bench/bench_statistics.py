"""How often the board's statistics find something where there is nothing, and where there is.

    python tests/bench/bench_statistics.py [--published FILE] [--draws N] [--quick] [--json FILE]

Models are drawn at random, of which the truth is known; a figure is the share of draws in which a
test or an interval at 95 % finds that a score says something that clean accuracy does not.

- independent: the score is noise, and errors follow clean accuracy on a straight line.
- clean: the score is standardised clean accuracy and noise: it knows nothing else.
- families: as clean, and models of a family share 60 % of all variances.
- published: as clean, with clean accuracies and mCE of models from FILE, where the line is bent.
- knowing: half of what clean accuracy leaves of the errors is in the score: here finding is right.

FILE has the columns clean_accuracy (a proportion) and mce (1.0 = the reference model); with it the
correlation of the two over all its models is printed too, by the same code.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iaside_plugins.leaderboard.statistics import estimates
from iaside_plugins.leaderboard.statistics.comparison import SHOWN, verdict
from iaside_plugins.stats.correlation import partial_correlation, spearman
from iaside_plugins.stats.intervals import percentile_interval
from iaside_plugins.storage.files import write_json

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # score, outcome, clean accuracy
NOISE = 0.45  # standard deviation beside standardised clean accuracy
FAMILY_SHARE = 0.6
A_FAMILY = 3  # models
SIZES = (8, 12, 30, 60)


def draw(
    kind: str, n: int, rng: np.random.Generator, published: pd.DataFrame | None = None
) -> tuple[Columns, Columns, estimates.Sample]:
    """Raw and scaled columns of n models of a kind (see above), and the models."""
    if kind == "published":
        assert published is not None
        some = published.iloc[rng.choice(len(published), n, replace=False)]
        clean, mce = some["clean_accuracy"].to_numpy(), some["mce"].to_numpy()
        score = (clean - clean.mean()) / clean.std() + NOISE * rng.normal(size=n)
        scaled = (score, np.log(mce), np.log(clean / (1 - clean)))
        return (score, mce, clean), scaled, sample(n, 1)
    size = A_FAMILY if kind == "families" else 1
    family = np.arange(n) // size

    def normal() -> np.ndarray:
        if kind != "families":
            return rng.normal(size=n)
        shared = rng.normal(size=n)[family]
        return np.sqrt(FAMILY_SHARE) * shared + np.sqrt(1 - FAMILY_SHARE) * rng.normal(size=n)

    logit_clean, left = normal(), normal()
    score = NOISE * normal() + (0 if kind == "independent" else logit_clean)
    if kind == "knowing":
        score = logit_clean + NOISE * (np.sqrt(0.5) * left + np.sqrt(0.5) * normal())
    logit_error = -logit_clean + 0.5 * left
    raw = (score, *(1 / (1 + np.exp(-v)) for v in (logit_error, logit_clean)))
    return raw, (score, logit_error, logit_clean), sample(n, size)


_SAMPLES: dict[tuple[int, int], estimates.Sample] = {}  # their resamples are the costly part


def sample(n: int, size: int) -> estimates.Sample:
    """n models in families of `size`."""
    families = tuple(f"family {k // size:03}" for k in range(n))
    return _SAMPLES.setdefault((n, size), estimates.Sample(families))


def findings(raw: Columns, scaled: Columns, models: estimates.Sample) -> dict[str, bool]:
    """What each test and interval finds in one draw."""
    ranks = estimates.partial_spearman(*raw, models)
    line = estimates.partial_pearson(*scaled, models)
    both = [part["p"] for part in (ranks, line) if part["p"] is not None]
    clean = float(spearman(raw[2], raw[1], models.all)[0])
    numbers = {
        "n_models": models.n,
        "n_families": models.n_families,
        "clean": {"spearman": {"value": clean}},
        "partial_spearman": ranks,
        "partial_pearson": line,
        "partial_p_holm": max(both) if len(both) == 2 else None,
    }
    return {
        "p of ranks": _below(ranks["p"]),
        "p of the line": _below(line["p"]),
        "interval of ranks": _excludes_zero(ranks["interval"]),
        "interval of the line": _excludes_zero(line["interval"]),
        "interval over families, line": _excludes_zero(line["family_interval"]),
        "verdict": verdict(numbers) == SHOWN,
    }


def reranked(raw: Columns, models: estimates.Sample) -> bool:
    """What a plain percentile bootstrap of the partial rank correlation finds: not used."""
    drawn = partial_correlation(spearman, *raw, models.by_model)
    return _excludes_zero(percentile_interval(drawn))


def _below(p: float | None) -> bool:
    return p is not None and p < 0.05


def _excludes_zero(interval: Any) -> bool:
    return interval is not None and bool(interval[0] * interval[1] > 0)


def rates(kind: str, n: int, n_draws: int, seed: int, published: Any = None) -> dict[str, float]:
    """Share of draws in which each test or interval finds something."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, bool]] = []
    for _ in range(n_draws):
        raw, scaled, models = draw(kind, n, rng, published)
        plain = {"plain bootstrap of ranks (not used)": reranked(raw, models)}
        found.append(findings(raw, scaled, models) | plain)
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def rival(published: pd.DataFrame) -> dict[str, Any]:
    """Clean accuracy against mCE over all models of a published table."""
    clean, mce = (published[name].to_numpy() for name in ("clean_accuracy", "mce"))
    models = sample(len(published), 1)
    return {
        name: estimates.correlation(name, clean, mce, models) for name in ("spearman", "pearson")
    }


def main() -> None:
    """Print one line a kind and number of models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--published", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="few draws, few models")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    n_draws, sizes = (20, (8, 30)) if options.quick else (options.draws, SIZES)
    report: dict[str, Any] = {"draws": n_draws, "rates": []}
    published = None
    kinds = ["independent", "clean", "families", "knowing"]
    if options.published is not None:
        published = pd.read_csv(options.published)
        kinds.append("published")
        report["published"] = {"n_models": len(published), **rival(published)}
        for name in ("spearman", "pearson"):
            found = report["published"][name]
            low, high = found["interval"]
            print(
                f"clean accuracy against mCE, n = {len(published)}: {name} {found['value']:.3f} "
                f"[{low:.3f}, {high:.3f}], p = {found['p']:.2g}"
            )
    for kind in kinds:
        for n in sizes:
            row = rates(kind, n, n_draws, seed=n, published=published)
            report["rates"].append({"kind": kind, "n_models": n, **row})
            print(
                f"{kind}, n = {n}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True
            )
    if options.json is not None:
        write_json(options.json, json.loads(json.dumps(report, default=list)))


if __name__ == "__main__":
    main()
