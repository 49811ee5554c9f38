"""One row a model: what a host measured on the same pixels joins the model's own entry."""

from __future__ import annotations

import json
from typing import Any

from board_entries import Make, parsed

from iaside_plugins.entry.schema import Benchmark, Entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.render.text import to_json
from iaside_plugins.leaderboard.table.frame import tables

HOST = Benchmark(
    host="robustbench",
    host_version="1.1.1",
    threat_model="Linf",
    selection="all",
    clean_preprocessing="none",
    corrupted_preprocessing=None,
    note=None,
    after_attack=(),
    profiles=(),
)


def through_host(raw: dict[str, Any], **update: Any) -> Entry:
    """The entry of the same weights made inside RobustBench with AutoAttack."""
    raw = json.loads(json.dumps(raw)) | {"corruption": None}
    for attack in raw["adversarial"]["attacks"]:
        attack |= {"name": "autoattack_standard", "steps": None, "rel_stepsize": None}
    for case in raw["adversarial"]["worst_case"]:
        case["attacks"] = ["autoattack_standard"]
    entry = parsed(raw | update)[0]
    name = f"{entry.entry_id}--robustbench-Linf"
    return entry.model_copy(update={"benchmark": HOST, "entry_id": name})


def test_both_entries_are_one_row(make_entry: Make) -> None:
    raw = make_entry("a", explained=True)
    own, host = parsed(raw)[0], through_host(raw)
    for entries in ([own, host], [host, own]):
        (table,) = tables(entries)
        assert [m.entries for m in table.models] == [(own, host)]
        words = {column.words for column in table.attack_columns}
        assert words == {"FGSM, PGD-10", "AutoAttack"}
        assert not table.frame[[c.column for c in table.attack_columns]].isna().any(axis=None)
        (row,) = table.rows
        assert row["other_entry_ids"] == host.entry_id
        assert row["benchmark"] is None
        assert table.entries[0].corruption == own.corruption
    (one,) = json.loads(to_json(Board.of([own, host])))["tables"][0]["rows"]
    assert {attack["name"] for attack in one["attacks"]} == {"fgsm", "pgd", "autoattack_standard"}
    assert one["error_by_band"]["n_images"] == 20


def test_another_preprocessing_or_model_stands_apart(make_entry: Make) -> None:
    raw = make_entry("a")
    own = parsed(raw)[0]
    clean = raw["clean_accuracy"]
    other = through_host(raw, clean_accuracy=clean | {"value": clean["value"] - 0.05})
    assert [len(table.models) for table in tables([own, other])] == [1, 1]
    stranger = through_host(make_entry("b", 1))
    assert [len(table.models) for table in tables([own, stranger])] == [1, 1]


def test_of_two_the_own_entry_counts(make_entry: Make) -> None:
    """The same attack in both: its accuracy is that of the first."""
    raw = make_entry("a")
    own = parsed(raw)[0]
    twin = json.loads(json.dumps(raw)) | {"corruption": None}
    for case in twin["adversarial"]["worst_case"]:
        case["accuracy"] |= {"value": 0.0, "interval": [0.0, 0.2]}
    host = parsed(twin)[0].model_copy(update={"benchmark": HOST, "entry_id": "cifar10--a--x"})
    (table,) = tables([host, own])
    assert own.adversarial is not None
    for column, case in zip(table.attack_columns, own.adversarial.worst_case, strict=True):
        assert table.rows[0][column.column] == case.accuracy.value
