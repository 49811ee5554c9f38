"""Mutated entries never end in a traceback or a long line; bench_entry_fuzz times them too."""

from __future__ import annotations

import random

import pytest
from entry_fuzz import judged, mutated

from iaside_plugins.leaderboard.build import BOARD

FILES = sorted((BOARD / "entries").rglob("*.json"))
LONGEST = 5000  # ten problems of one file in one message


@pytest.mark.parametrize("seed", range(10))
def test_mutated_entries_are_judged(seed: int) -> None:
    draw = random.Random(seed)
    text = FILES[seed % len(FILES)].read_text(encoding="utf-8")
    refused = 0
    for _ in range(50):
        problems, _ = judged(mutated(text, draw))
        assert all(len(line) < LONGEST and "\n" not in line for line in problems)
        refused += bool(problems)
    assert refused > 25  # other changes are of free text and of facts that no number contradicts
