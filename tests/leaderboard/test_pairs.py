"""Paired differences against a slow count, image by image; none where entries hold no images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from board_entries import Make, parsed

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.per_image import unpack_bits
from iaside_plugins.entry.schema import Entry
from iaside_plugins.leaderboard.statistics import pairs
from iaside_plugins.leaderboard.statistics.pairs import paired_columns
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.leaderboard.table.presentation import main_attacks

N = 20


def by_hand(entry: Entry) -> np.ndarray:
    """Every image's share of errors over the 75 conditions."""
    assert entry.corruption is not None
    shares = np.zeros(N)
    for cell in entry.corruption.conditions:
        shares += unpack_bits(cell.error.images or "", N)
    return shares / 75


def test_against_a_count(make_entry: Make) -> None:
    (table,) = tables(parsed(*(make_entry(f"m{k}", k) for k in range(3))))
    found = paired_columns(table, main_attacks(table))
    assert [column.label for column in found] == [
        "clean accuracy",
        "mean corruption error",
        *(f"robust accuracy ({attack.budget}, FGSM, PGD-10)" for attack in main_attacks(table)),
    ]
    clean, corrupted, *_ = found
    assert list(clean.differences) == [(0, 1), (0, 2), (1, 2)]
    for (i, j), one in clean.differences.items():
        first, second = (table.entries[k].clean_accuracy for k in (i, j))
        assert one.value == pytest.approx(second.value - first.value)
        bits = [unpack_bits(part.images or "", N) for part in (first, second)]
        changed = sum(a != b for a, b in zip(*bits, strict=True))
        half = 1.959963984540054 * np.sqrt((changed - N * one.value**2 + 0.5) / (N - 1) / N)
        assert (one.low, one.high) == pytest.approx((one.value - half, one.value + half))
    for (i, j), one in corrupted.differences.items():
        means = [table.entries[k].corruption.unnormalised_mean_error for k in (i, j)]  # type: ignore[union-attr]
        assert one.value == pytest.approx(means[1].value - means[0].value)
        a, b = (by_hand(table.entries[k]) for k in (i, j))
        se = np.std(b - a, ddof=1) / np.sqrt(N)
        assert one.high - one.value == pytest.approx(1.959963984540054 * se)


def test_none_without_images_or_of_many_models(
    make_entry: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    raws = [make_entry(f"m{k}", k) for k in range(2)]
    (table,) = tables(parsed(*raws))
    monkeypatch.setattr(pairs, "MOST_MODELS", 1)
    assert paired_columns(table, []) == []
    monkeypatch.undo()
    del raws[0]["clean_accuracy"]["images"]
    del raws[1]["corruption"]["conditions"][7]["error"]["images"]
    (table,) = tables(parsed(*raws))
    assert paired_columns(table, []) == []


@pytest.mark.parametrize(
    ("place", "text", "problem"),
    [
        (("clean_accuracy",), "AAAA", "/clean_accuracy/images: expected 1"),
        (("clean_accuracy",), "AAA=", "/clean_accuracy/images: expected 3 bytes, got 2"),
    ],
)
def test_images_that_do_not_belong_to_the_number(
    make_entry: Make, place: tuple[str, ...], text: str, problem: str
) -> None:
    raw: Any = make_entry()
    part = raw
    for name in place:
        part = part[name]
    part["images"] = text
    (entry,) = parsed(raw)
    problems = check_entry(entry, entry.entry_id)
    assert any(one.startswith(problem) for one in problems), problems


def test_entries_of_the_fixture_are_whole(make_entry: Make) -> None:
    (entry,) = parsed(make_entry())
    assert check_entry(entry, entry.entry_id) == []


def test_groups_of_corruptions_have_intervals(make_entry: Make) -> None:
    raw = make_entry()
    (table,) = tables(parsed(raw))
    (row,) = table.rows
    noise = [c for c in table.entries[0].corruption.conditions if c.corruption.endswith("noise")]  # type: ignore[union-attr]
    assert len(noise) == 15
    shares = np.mean([unpack_bits(cell.error.images or "", N) for cell in noise], axis=0)
    half = 1.959963984540054 * np.std(shares, ddof=1) / np.sqrt(N)
    assert row["error_noise"] == pytest.approx(shares.mean())
    assert row["error_noise_low"] == pytest.approx(max(0, shares.mean() - half))
    assert row["error_noise_high"] == pytest.approx(min(1, shares.mean() + half))
    del raw["corruption"]["conditions"][0]["error"]["images"]
    (row,) = tables(parsed(raw))[0].rows
    assert np.isnan(row["error_noise_low"])
    assert row["error_noise"] == pytest.approx(shares.mean())
