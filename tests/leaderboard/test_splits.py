"""Splits over bands in the unit of the board's own number: mCE, or the named ratio."""

from __future__ import annotations

import board_entries
import pytest

from iaside_plugins.corruptions.error_rates import load_reference
from iaside_plugins.leaderboard.render.model_page import _heat_map
from iaside_plugins.leaderboard.table.splits import normalised_split


def test_the_split_of_an_mce_adds_up_to_it(make_entry):
    raw = make_entry(explained=True)  # decomposed on the very images of its errors
    raw["corruption"]["mce"]["reference"] = "<b>Net"
    (entry,) = board_entries.parsed(raw)
    name, split = normalised_split(entry)
    assert name == "mCE, in % of <b>Net's errors on the same images"
    assert split.clean + sum(split.bands) == pytest.approx(split.error)
    assert split.error == pytest.approx(entry.corruption.mce.value)
    assert _heat_map(entry)["normalised"].startswith(name)


def test_without_an_mce_the_ratio_over_published_errors_is_split(make_entry):
    raw = make_entry(explained=True)
    raw["corruption"]["mce"] = None
    (entry,) = board_entries.parsed(raw)
    name, split = normalised_split(entry)
    claim = entry.corruption.error_over_published
    assert claim.reference in name
    assert split.error == pytest.approx(claim.value)
    means = load_reference(claim.reference).mean_errors
    clean = entry.decomposition.conditions[0].clean
    assert split.clean == pytest.approx(sum(clean / mean for mean in means.values()) / 15)


@pytest.mark.parametrize("lacking", ["reference", "severity", "decomposition"])
def test_nothing_is_divided_where_something_lacks(make_entry, lacking):
    raw = make_entry(explained=lacking != "decomposition")
    if lacking == "reference":
        raw["corruption"] |= {"mce": None, "error_over_published": None}
    if lacking == "severity":
        raw["decomposition"]["conditions"].pop()
    (entry,) = board_entries.parsed(raw)
    assert normalised_split(entry) is None
