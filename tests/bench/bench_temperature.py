"""One network's signed score and robustness at other temperatures of its logits.

    python tests/bench/bench_temperature.py kit:NAME --data DIR --out FILE.json [--epsilon 2/255]
        [--n-images N] [--n-attack N]

The score at temperature 1 and at the one fitted on the clean images, from the same passes. PGD of
20 steps from one random start at temperature 1; then, on the images that hold, at the temperatures
of the check of `iaside evaluate`. Where these leave fewer images, by a paired interval that
excludes 0, as many random starts at temperature 1 are tried beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iaside_plugins import Protocol, compare, spectral_importance
from iaside_plugins.adapters.foolbox_adapter import AttackSpec, adversarial, parse_attacks
from iaside_plugins.budgets import parse_budget
from iaside_plugins.evaluation.temperature import Tempered, checked_temperatures
from iaside_plugins.leaderboard.studies.measured import family_of
from iaside_plugins.sensitivity.logits import CachedLogits, fitted_temperature
from iaside_plugins.stats.intervals import paired_change
from iaside_plugins.storage.files import write_json
from iaside_plugins.workflows.source import DataSource, open_images, open_model

Try = tuple[float, int]  # temperature and seed of an attack


def scores(model: nn.Module, batches: list[Any], temperature: float) -> dict[str, list[float]]:
    """Return the signed score at temperature 1, at another, and the difference, with intervals."""
    cached, found = CachedLogits(model), []
    for each in (1.0, temperature):
        protocol = Protocol(estimator="permutation", temperature=each)
        result = spectral_importance(cached, batches, protocol, show_progress=True)
        found.append(result)
    first, second = found
    change = compare(replace(second, protocol=first.protocol), first)
    return {
        "1": [first.signed_score, *first.signed_score_interval],
        "fitted": [second.signed_score, *second.signed_score_interval],
        "change": [change.signed_score_difference, *change.signed_score_difference_interval],
    }


def holding(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    spec: AttackSpec,
    tries: Iterable[Try],
    left: Tensor,
) -> Tensor:
    """Return which of the images that are left, (N,) bool, withstand every try.

    An image that an earlier try fools is not attacked again.
    """
    left = left.clone()
    for temperature, seed in tries:
        some = left.nonzero()[:, 0]
        if len(some):
            net = Tempered(model, temperature)
            (attacked,) = adversarial(net, images[some], labels[some], spec, seed=seed)
            with torch.no_grad():
                left[some] = model(attacked).argmax(dim=1) == labels[some]
    return left


def change(first: Tensor, then: Tensor) -> list[float]:
    """Return the change of accuracy from first to then (N,), and its paired interval."""
    return list(paired_change(int((then & ~first).sum()), int((first & ~then).sum()), len(first)))


def attacked(
    model: nn.Module, images: Tensor, labels: Tensor, spec: AttackSpec, temperatures: list[float]
) -> dict[str, Any]:
    """Return how many images hold at temperature 1, at every temperature, and after more starts."""
    given = (model, images, labels, spec)
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    plain = holding(*given, [(1.0, 0)], right)
    worst = holding(*given, [(each, 0) for each in temperatures], plain)
    found: dict[str, Any] = {
        "epsilon": spec.epsilons[0],
        "n_images": len(images),
        "temperatures": temperatures,
        "n_right": int(right.sum()),
        "n_robust": int(plain.sum()),
        "n_left": int(worst.sum()),
        "change": change(plain, worst),
    }
    if found["change"][2] < 0:
        starts = [(1.0, 1 + k) for k in range(len(temperatures))]
        again = holding(*given, starts, plain)
        found |= {"n_left_starts": int(again.sum()), "change_starts": change(again, worst)}
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure one network and write its JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="kit:NAME")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n-images", type=int, help="of score and fit; by default all")
    parser.add_argument("--n-attack", type=int, default=64)
    parser.add_argument("--epsilon", default="2/255")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    model = open_model(options.model, device="cpu")
    family = family_of(model.info.name)
    source = DataSource(options.data, n_images=options.n_images)
    batches = list(open_images(source, model, shuffled=True))
    images, labels = (torch.cat([batch[k] for batch in batches]) for k in (0, 1))
    with torch.no_grad():
        logits = torch.cat([model(x) for x in images.split(64)]).double().numpy()
    fitted = fitted_temperature(logits, labels.numpy())
    (spec,) = parse_attacks("pgd", [parse_budget(options.epsilon)])
    some = slice(options.n_attack)
    temperatures = checked_temperatures(logits, labels.numpy())
    found = {
        "name": model.info.name,
        "family": family,
        "data": options.data.name,
        "n_images": len(images),
        "accuracy": float(np.mean(logits.argmax(axis=1) == labels.numpy())),
        "fitted": fitted,
        "score": scores(model, batches, fitted),
        "attack": attacked(
            model, images[some], labels[some], replace(spec, restarts=1), temperatures
        ),
    }
    write_json(options.out, found)


if __name__ == "__main__":
    main()
