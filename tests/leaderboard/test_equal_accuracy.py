"""Models of equal clean accuracy: the window, the pairs, and what is said of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from iaside_plugins.leaderboard.statistics.equal_accuracy import WINDOW, equal_accuracy
from iaside_plugins.leaderboard.statistics.variables import Measured, Variable


def variable(name: str, values: dict[str, float]) -> Variable:
    return Variable(name, name, None, "raw", {k: Measured(v, v) for k, v in values.items()}, {})


def found(x: dict[str, float], y: dict[str, float], clean: dict[str, float]) -> dict[str, object]:
    columns = (variable("score", x), variable("robust accuracy", y), variable("clean", clean))
    return equal_accuracy(*columns, families={key: key for key in clean})


@pytest.mark.parametrize("seed", range(5))
def test_against_all_windows_and_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = [f"m{k}" for k in range(12)]
    x, y = ({k: float(v) for k, v in zip(keys, rng.integers(0, 6, 12), strict=True)} for _ in "xy")
    clean = {k: round(float(v), 2) for k, v in zip(keys, rng.uniform(0.8, 0.9, 12), strict=True)}
    got = found(x, y, clean)
    windows = [[k for k in keys if top - WINDOW <= clean[k] <= top] for top in clean.values()]
    assert len(got["models"]) == max(map(len, windows))  # type: ignore[arg-type]
    assert any(set(window) == set(got["models"]) for window in windows)  # type: ignore[call-overload]
    pairs = [(x[a] - x[b]) * (y[a] - y[b]) for a, b in combinations(got["models"], 2)]  # type: ignore[call-overload]
    assert got["n_pairs"] == sum(p != 0 for p in pairs)
    assert got["n_agree"] == sum(p > 0 for p in pairs)
    values = [y[key] for key in got["models"]]  # type: ignore[attr-defined]
    assert values == sorted(values, reverse=True)


def test_words() -> None:
    keys = [f"m{k}" for k in range(6)]
    ranks = {key: float(k) for k, key in enumerate(keys)}
    clean = dict.fromkeys(keys, 0.9)
    text = str(found(ranks, ranks, clean)["in_words"])
    assert text.startswith(
        "6 models within 3 points of clean accuracy: in 15 of 15 pairs the one of the greater "
        "score has the greater robust accuracy (Kendall's tau +1.00"
    )
    few = found(*({key: one[key] for key in keys[:4]} for one in (ranks, ranks, clean)))
    assert str(few["in_words"]).endswith("too few to tell (at least 5).")
