"""How often intervals of contributions cover, and what a decomposition costs beside bare passes.

    python tests/bench/bench_decomposition.py FOLDER [--quick] [--json FILE]

Coverage: the decomposition of classifiers of the kit (IASIDE_KIT) on all its CIFAR-10 images, exact
and by chains, is the population (rows are kept in FOLDER); samples of its images are drawn with
replacement, so the truth is known. Shares of intervals that hold it: of bands, of what is added
and of what removing bands repairs, by condition, by corruption and for the mean; and of the paired
difference of two models. Cost: seconds of `error_decomposition` on images in memory over those of
as many passes of the same model on batches of the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iaside_plugins import ErrorDecomposition, Protocol, error_decomposition
from iaside_plugins.decomposition.contributions import Contributions
from iaside_plugins.workflows.explain import explain_plan
from iaside_plugins.workflows.source import DataSource, open_model

FULL: dict[str, Any] = {
    "exact": ["c10_resnet2b_adv", "c10_cnn_a_adv"],
    "chains": ["c10_resnet2b_adv", "c10_cnn_a_adv"],
    "corruptions": "gaussian_noise,fog,contrast,motion_blur,jpeg_compression",
    "severities": (1, 3, 5),
    "n_images": [50, 200],
    "samples": 300,
    "population": 222,
    "timed": "c10_resnet20",
    "n_timed": 20,
}
QUICK: dict[str, Any] = {
    **FULL,
    "exact": ["c10_resnet2b_adv"],
    "corruptions": "gaussian_noise,fog",
    "severities": (3,),
    "n_images": [20],
    "samples": 5,
    "population": 30,
    "timed": "c10_resnet2b_adv",
    "n_timed": 2,
}
PROTOCOLS = {"exact": Protocol(), "chains": Protocol(estimator="permutation")}


def pairs_of(name: str, size: dict[str, Any], n_images: int) -> tuple[Any, Any]:
    """A classifier of the kit, and its images with their corrupted versions."""
    net = open_model(f"kit:{name}", device="cpu")
    source = DataSource(Path(os.environ["IASIDE_KIT"]) / "cifar10", n_images=n_images)
    plan = explain_plan(source, net, corruptions=size["corruptions"], severities=size["severities"])
    return net, plan


def population(name: str, kind: str, size: dict[str, Any], folder: Path) -> ErrorDecomposition:
    """The decomposition of a classifier of the kit; its rows are kept in the folder."""
    net, plan = pairs_of(name, size, size["population"])
    return error_decomposition(
        net, plan, PROTOCOLS[kind], repair=True, resume=folder / f"{name}-{kind}"
    )


def covered(game: Contributions, n: int, samples: int, seed: int = 0) -> dict[str, float]:
    """Share of intervals that hold the value of the population, by what they are of."""
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(one.name for one in game.conditions))
    kinds: dict[str, list[Any]] = {
        "condition": [[one] for one in game.conditions],
        "corruption": [[name] for name in names],
        "mean": [None],
    }
    hits: dict[str, list[float]] = {}
    for _ in range(samples):
        drawn = game.at(rng.integers(game.n_images, size=n))  # type: ignore[arg-type]
        for kind, chosen in kinds.items():
            for conditions in chosen:
                found, truth = drawn.over(conditions), game.over(conditions)
                estimates = {
                    f"bands, {kind}": (found.bands, truth.bands),
                    f"added, {kind}": (found.added, truth.added),
                    f"repaired, {kind}": (
                        drawn.repaired(conditions)[0],
                        game.repaired(conditions)[0],
                    ),
                }
                for what, (one, true) in estimates.items():
                    inside = (one.interval[..., 0] <= true.value + 1e-12) & (
                        true.value <= one.interval[..., 1] + 1e-12
                    )
                    hits.setdefault(what, []).append(float(inside.mean()))
    return {what: float(np.mean(each)) for what, each in hits.items()}


def coverage(size: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Coverage for every classifier and estimator, and for the difference of the first two."""
    out: dict[str, Any] = {}
    for kind in PROTOCOLS:
        found = {name: population(name, kind, size, folder).error for name in size[kind]}
        games = dict(found)
        if len(found) > 1:
            first, second = list(found)[:2]
            games[f"{first} less {second}"] = found[first] - found[second]
        for name, game in games.items():
            for n in size["n_images"]:
                out[f"{name}, {kind}, n = {n}"] = covered(game, n, size["samples"])
    return out


def cost(size: dict[str, Any]) -> dict[str, float]:
    """Seconds of a decomposition of images in memory, and of as many bare passes."""
    net, plan = pairs_of(size["timed"], size, size["n_timed"])
    batches = list(plan)
    start = time.perf_counter()
    found = error_decomposition(net, batches, repair=True)
    whole = time.perf_counter() - start
    rows = 58  # of a batch of two images' chains with nested sets, as they go through the model
    batch = torch.rand(rows, *batches[0][0].shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net(batch)
        start = time.perf_counter()
        for _ in range(found.n_forward // rows):
            net(batch)
        bare = (time.perf_counter() - start) * found.n_forward / (found.n_forward // rows * rows)
    return {"n_forward": found.n_forward, "seconds": whole, "bare": bare, "ratio": whole / bare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    size = QUICK if given.quick else FULL
    found = {"coverage": coverage(size, given.folder), "cost": cost(size)}
    for name, shares in found["coverage"].items():
        print(name, "  ".join(f"{what} {share:.3f}" for what, share in shares.items()))
    print("cost", "  ".join(f"{what} {value:.3g}" for what, value in found["cost"].items()))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
