"""A score that knows clean accuracy alone must not look as if it knew more.

The draws are those of `tests/bench/bench_statistics.py`, which prints the rates of many draws.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from bench.bench_statistics import rates, rival

DRAWS = 200


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    """Clean accuracy and mCE of 200 published models; skipped, with the reason, where absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "facts"
    kit = os.environ.get("IASIDE_KIT")
    folder = default if kit is None else Path(kit).parent / "facts"
    file = folder / "imagenet_testbed_published.csv"
    if not file.is_file():
        pytest.skip(f"{file} is absent: published facts lie in a folder beside the kit")
    return pd.read_csv(file)


def test_clean_accuracy_alone_predicts_published_mce(published: pd.DataFrame) -> None:
    assert len(published) == 200
    found = rival(published)
    assert found["spearman"]["value"] == pytest.approx(-0.917, abs=5e-4)
    assert found["pearson"]["value"] == pytest.approx(-0.839, abs=5e-4)
    low, high = found["spearman"]["interval"]
    assert -0.96 < low < -0.917 < high < -0.85
    assert found["spearman"]["p"] == pytest.approx(1 / 5000)  # no permutation comes near


def test_published_models_with_a_score_of_clean_accuracy(published: pd.DataFrame) -> None:
    found = rates("published", 30, DRAWS, seed=0, published=published)
    assert found["verdict"] <= 0.1


@pytest.mark.parametrize("kind", ["independent", "clean", "families"])
def test_a_score_that_adds_nothing_is_flagged(kind: str) -> None:
    found = rates(kind, 30, DRAWS, seed=1)
    assert found["verdict"] <= 0.1
    if kind == "independent":  # the level is 0.05; 0.11 lies four standard errors above
        for test in ("p of ranks", "p of the line", "interval of ranks"):
            assert 0.005 <= found[test] <= 0.11, test


def test_level_holds_with_few_models() -> None:
    found = rates("clean", 8, DRAWS, seed=2)
    assert found["p of ranks"] <= 0.11
    assert found["p of the line"] <= 0.11
    assert found["interval of ranks"] <= 0.11
    # why that interval is not the plain bootstrap's
    assert found["plain bootstrap of ranks (not used)"] > 0.25


def test_a_score_that_knows_more_is_found() -> None:
    found = rates("knowing", 30, 60, seed=3)
    assert found["verdict"] >= 0.5
