"""Markdown and CSV: same rows, same order, same values, for any number of entries."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from board_entries import HOSTILE, Make, parsed

from iaside_plugins.corruptions.apply import CORRUPTIONS
from iaside_plugins.entry.parse import Entry
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.render import page
from iaside_plugins.leaderboard.render.text import to_csv as csv_of
from iaside_plugins.leaderboard.render.text import to_markdown as markdown_of
from iaside_plugins.leaderboard.table import formatting as fmt
from iaside_plugins.leaderboard.table.frame import concatenated, tables
from iaside_plugins.leaderboard.table.presentation import heading
from iaside_plugins.protocol import Protocol


def to_markdown(entries: list[Entry]) -> str:
    return markdown_of(Board.of(entries))


def to_csv(entries: list[Entry]) -> str:
    return csv_of(Board.of(entries))


def read_csv(entries: list[Entry]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(entries))))


def cells(markdown: str) -> list[list[str]]:
    """Cells of the rows of all tables, headers and rules left out."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    heads = {k for k, row in enumerate(rows) if row[0].strip() == "---"}
    return [
        [cell.strip() for cell in row]
        for k, row in enumerate(rows)
        if k not in heads and k + 1 not in heads
    ]


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_any_number_of_entries(make_entry: Make, n: int) -> None:
    few = [parsed(make_entry(f"model{k}", k)) for k in range(min(n, 5))]
    entries = [
        few[k % 5][0].model_copy(update={"entry_id": f"entry{k}"}) for k in range(n)
    ]  # parsing 100 would only take time
    markdown = to_markdown(entries)
    assert len(cells(markdown)) == len(read_csv(entries)) == n
    assert ("There are no entries yet" in markdown) == (n == 0)
    assert ("needs 3" in markdown) == (0 < n < 3)
    assert not re.search(r"\bnan\b|None|<NA>", markdown + to_csv(entries))


def test_rows_do_not_depend_on_the_order_of_entries(make_entry: Make) -> None:
    entries = parsed(*(make_entry(f"model{k}", k, missing=("frost",) * (k % 2)) for k in range(6)))
    assert to_markdown(entries) == to_markdown(entries[::-1])
    assert to_csv(entries) == to_csv(entries[::-1])


def test_markdown_and_csv_agree(make_entry: Make) -> None:
    entries = parsed(
        *(make_entry(f"model{k}", k) for k in range(4)),
        make_entry("c", 9, missing=("frost",)),
        make_entry("d", 10, perturbed=False, protocol=Protocol(n_bands=6)),
    )
    shown, raw = cells(to_markdown(entries)), read_csv(entries)
    assert [row[0] for row in shown] == [row["model"] for row in raw]
    for cell, row in zip(shown, raw, strict=True):
        for name, show in [
            ("clean_accuracy", fmt.percent_interval),
            ("signed_score", fmt.signed_interval),
            ("score", fmt.number_interval),
        ]:
            ends = (float(row[name + end]) for end in ("", "_low", "_high"))
            assert show(*ends) in cell


def test_csv_holds_full_precision(make_entry: Make) -> None:
    entry = parsed(make_entry())[0]
    row = read_csv([entry])[0]
    assert float(row["signed_score"]) == entry.spectral.signed_score
    psi = [float(row[f"shapley_value_{k}"]) for k in range(4)]
    assert psi == list(entry.spectral.shapley_values)
    assert entry.corruption is not None
    mean = entry.corruption.unnormalised_mean_error
    assert float(row["mean_corruption_error_unnormalised"]) == mean.value
    assert row["n_corruptions"] == "15"
    groups = [float(row[f"error_{name}"]) for name in ("noise", "blur", "weather", "digital")]
    # The mean over corruptions weighs the groups by their size; 1e-12 covers the rounding.
    assert np.dot(groups, [3, 4, 4, 4]) / 15 == pytest.approx(mean.value, abs=1e-12)
    changes = [cell.probability_change.value for cell in entry.corruption.conditions]
    assert float(row["mean_probability_change"]) == pytest.approx(np.mean(changes), abs=1e-12)


def test_rows_stand_by_clean_accuracy_then_name(make_entry: Make) -> None:
    raws = [make_entry(name, seed) for name, seed in [("b", 0), ("a", 1), ("c", 2), ("d", 9)]]
    entries = parsed(*raws)
    expected = sorted(entries, key=lambda e: (-e.clean_accuracy.value, e.model.name))
    assert len({e.clean_accuracy.value for e in entries}) in (2, 3)  # ties and differences
    assert [row[0] for row in cells(to_markdown(entries))] == [e.model.name for e in expected]


@pytest.mark.parametrize(
    "path",
    [
        ("data", "name"),
        ("data", "image_ids_sha256"),
        ("spectral", "image_ids_sha256"),
        ("corruption", "source"),
        ("corruption", "jpeg"),
        ("corruption", "constants"),
        ("protocol", "protocol_id"),
    ],
)
def test_what_is_not_comparable_stands_apart(make_entry: Make, path: tuple[str, str]) -> None:
    one, two = make_entry("one"), make_entry("two")
    assert len(tables(parsed(one, two))) == 1
    two[path[0]][path[1]] = {
        "image_ids_sha256": "0" * 64,
        "source": "distributed",
        "jpeg": False,
        "constants": "32",
    }.get(path[1], "other")
    assert len(tables(parsed(one, two))) == 2


def test_attacks_of_other_strength_get_their_own_column(make_entry: Make) -> None:
    one, two = make_entry("one"), make_entry("two")
    for attack in two["adversarial"]["attacks"]:
        attack |= {"steps": 40, "restarts": 2} if attack["steps"] else {}
    table = tables(parsed(one, two))[0]
    assert [attack.attacks[1] for attack in table.attack_columns] == [
        "pgd-10x0.25-random",
        "pgd-40x0.25-random-2",
    ] * 2
    rows = cells(to_markdown(parsed(one, two)))
    assert [row.count("–") for row in rows] == [2, 2]


def test_a_robust_accuracy_in_doubt_is_marked(make_entry: Make) -> None:
    one, two = make_entry("one"), make_entry("two")
    for raw in (one, two):  # as many steps as a single one does, or better
        raw["adversarial"]["attacks"][3]["accuracy"] = raw["adversarial"]["attacks"][2]["accuracy"]
    assert "†" not in to_markdown(parsed(one, two))
    seen = {"n_images": 15, "n_zero": 3, "n_non_finite": 0, "n_varying": 0, "weaker": []}
    two["adversarial"]["masking"] = seen
    text = to_markdown(parsed(one, two))
    assert [row.count("†") for row in text.splitlines() if row.startswith("| ")] == [0, 0, 0, 2]
    assert "† This robust accuracy may be too high. two: the gradient is zero on 3 of 15" in text


def test_missing_parts_leave_columns_out(make_entry: Make) -> None:
    plain = to_markdown(parsed(make_entry(perturbed=False)))
    assert "Corruptions: not evaluated." in plain
    assert "mean corruption error" not in plain
    assert "robust accuracy Linf" not in plain
    partial = to_markdown(parsed(make_entry(missing=("frost",))))
    assert "mean corruption error (unnormalised, 14 of 15) ↓" in partial
    assert "weather error (3 of 4) ↓" in partial
    assert "Missing: frost; a mean over the others is not an mCE." in partial
    assert "mCE ↓" not in partial
    assert "mCE ↓" in to_markdown(parsed(make_entry()))


def test_section_says_what_was_measured(make_entry: Make) -> None:
    raw = make_entry()
    text = to_markdown(parsed(raw))
    for fact in [
        f"protocol {raw['protocol']['protocol_id']}",
        "n = 20 (spectral: n = 20), seed 0",
        "Note: the first images",
        "beta 0.75, temperature 1, seed 0",
        "generated here at 224 pixels, constants of 224, JPEG on, seed 0, n = 20.",
        "Attacks within Linf 8/255: fgsm, pgd-10x0.25-random; n = 20.",
        "clean accuracy ↑",
    ]:
        assert fact in text


def test_other_input_sizes_are_pointed_out(make_entry: Make) -> None:
    one, two = make_entry("one"), make_entry("two")
    two["spectral"]["image_size"] = [64, 48]
    assert "input sizes differ (32x32, 64x48)" in to_markdown(parsed(one, two))


def test_hostile_name_survives(make_entry: Make) -> None:
    raw = make_entry(HOSTILE)
    raw["model"]["training"] = "=cmd()|x"
    raw["data"]["note"] = "a|b\n| c |\n# d"
    entries = parsed(raw, make_entry("plain", 1))
    row = next(row for row in read_csv(entries) if row["model"] == HOSTILE)
    assert row["training"] == "'=cmd()|x"
    markdown = to_markdown(entries)
    shown = {tuple(cell[:2]) for cell in cells(markdown)}
    assert (r'&lt;b&gt;\|\_&amp;"=1+1', r"=cmd\(\)\|x") in shown
    assert r"Note: a\|b \| c \| \# d" in markdown
    assert {len(cell) for cell in cells(markdown)} == {17}


def test_frame_has_no_empty_row_and_typed_columns(make_entry: Make) -> None:
    parts = tables(parsed(make_entry(), make_entry("b", 1, perturbed=False)))
    frame = concatenated(parts)
    assert len(frame) == 2
    assert frame["clean_accuracy"].dtype == "float64"
    assert frame["n_corruptions"].dtype == "Int64"
    assert list(concatenated([]).index) == []


def test_intervals_that_are_known_to_be_too_narrow_are_named(make_entry: Make) -> None:
    old, new = make_entry("old_one"), make_entry("new_one")
    for raw in (old, new):
        raw["spectral"]["tied_bands"] = [0, 1]
    old["spectral"]["score_intervals"] = "jackknife"
    new["spectral"]["score_intervals"] = "jackknife-and-ties"
    (fact,) = [
        line for line in to_markdown(parsed(old, new)).splitlines() if "jackknife alone" in line
    ]
    assert r"old\_one" in fact
    assert "new" not in fact
    old["spectral"]["tied_bands"] = [0]
    assert "jackknife alone" not in to_markdown(parsed(old, new))


def test_tables_of_other_corruptions_are_told_apart(make_entry: Make) -> None:
    names = tuple(CORRUPTIONS)
    raws = [
        make_entry("a"),
        make_entry("a", missing=names[1:]),
        make_entry("a", missing=(names[0], *names[2:])),
        make_entry("a", missing=names[:1]),
        make_entry("a", perturbed=False),
    ]
    board = Board.of(parsed(*raws))
    headings = {heading(section.table) for section in board.sections}
    labels = {one["label"] for tab in page._tabs(board.sections) for one in tab["tables"]}
    assert len(headings) == len(labels) == len(raws)
    assert labels >= {
        "20 images",
        "20 images, no corruptions",
        f"20 images, 1 of 15 corruptions ({names[0]})",
        "20 images, 14 of 15 corruptions",
    }
