"""No table mixes protocols, images, corruptions, or an entry made inside another benchmark."""

from __future__ import annotations

from board_entries import Make, parsed

from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Benchmark
from iaside_plugins.leaderboard.board import Board, largest_first
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.render.text import to_csv
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.leaderboard.table.rows import KEYS
from iaside_plugins.protocol import Protocol


def test_an_entry_made_inside_another_benchmark_stands_apart(make_entry: Make) -> None:
    own = parsed(make_entry("a"))[0]
    other = parsed(make_entry("b", 1))[0]
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
        parsed(make_entry(f"model{k}", k, protocol=p))[0] for p in protocols for k in range(2)
    ]
    assert [len(table.entries) for table in tables(entries)] == [2, 2, 2]


def test_committed_tables_share_every_key() -> None:
    parts = tables(load_entries(BOARD / "entries"))
    assert sum(len(table.entries) for table in parts) >= 22
    for table in parts:
        assert (table.frame[list(KEYS)].nunique(dropna=False) == 1).all()


def test_of_tables_with_as_many_models_that_of_most_images_comes_first(make_entry: Make) -> None:
    entries = parsed(*(make_entry(name, k) for k, name in enumerate("abcde")))
    for k, n in enumerate((48, 48, 200, 200, 450)):
        other = {"n_images": n, "image_ids_sha256": f"{n:064x}"}
        data = entries[k].data.model_copy(update=other)
        entries[k] = entries[k].model_copy(update={"data": data})
    board = Board.of(entries)
    shown = [one.table.entries[0].data.n_images for one in largest_first(board.sections)]
    assert shown == [200, 48, 450]
