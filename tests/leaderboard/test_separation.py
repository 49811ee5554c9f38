"""No table mixes protocols, images, corruptions, or an entry made inside another benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Benchmark
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.render.text import to_csv
from iaside_plugins.leaderboard.table.frame import KEYS, tables
from iaside_plugins.protocol import Protocol

Make = Callable[..., dict[str, Any]]


def test_an_entry_made_inside_another_benchmark_stands_apart(make_entry: Make) -> None:
    own = parse_entry(json.dumps(make_entry("a")), "x.json")
    other = parse_entry(json.dumps(make_entry("b", 1)), "x.json")
    assert len(tables([own, other])) == 1
    made = Benchmark(
        host="robustbench",
        host_version=None,
        threat_model="corruptions",
        selection="all",
        clean_preprocessing="none",
        corrupted_preprocessing="none",
        note=None,
        after_attack=(),
        profiles=(),
    )
    through = other.model_copy(update={"benchmark": made})
    apart = tables([own, through])
    assert [list(table.frame["benchmark"]) for table in apart] == [
        [None],
        ["robustbench-corruptions"],
    ]
    assert to_csv(Board.of([own, through])).splitlines()[0].split(",")[2] == "benchmark"


def test_protocols_stand_apart(make_entry: Make) -> None:
    protocols = [Protocol(n_bands=4), Protocol(n_bands=4, beta=0.5), Protocol.reference(4)]
    entries = [
        parse_entry(json.dumps(make_entry(f"model{k}", k, protocol=p)), "x.json")
        for p in protocols
        for k in range(2)
    ]
    assert [len(table.entries) for table in tables(entries)] == [2, 2, 2]


def test_committed_tables_share_every_key() -> None:
    parts = tables(load_entries(BOARD / "entries"))
    assert sum(len(table.entries) for table in parts) >= 22
    for table in parts:
        assert (table.frame[list(KEYS)].nunique(dropna=False) == 1).all()
