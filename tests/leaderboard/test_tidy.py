"""The tidy CSV files: every number once, as the entry has it, by columns that are described."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from board_entries import HOSTILE, Make, parsed

from iaside_plugins.entry.read import load_entries
from iaside_plugins.entry.schema import Decomposition, Entry, Systematic
from iaside_plugins.leaderboard.board import Board
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.render import tidy
from iaside_plugins.leaderboard.render.tidy_columns import (
    IMAGENET_C,
    MODELS,
    QUANTITIES,
    RESULTS,
)
from iaside_plugins.leaderboard.settings import BoardSettings

RANGES = {"[0, 1]": (0, 1), "[-1, 1]": (-1, 1), "at least 0": (0, 1e6), "at most 0": (-1e6, 0)}
KEY = ("entry_id", "condition", "severity", "norm", "budget", "band", "quantity")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def board() -> Board:
    statistics = json.loads((BOARD / "stats.json").read_text())
    return Board.of(load_entries(BOARD / "entries"), statistics)


@pytest.fixture(scope="module")
def numbers(board: Board) -> list[dict[str, str]]:
    return rows(tidy.results(board))


def test_a_number_stands_once(numbers: list[dict[str, str]]) -> None:
    keys = [tuple(row[name] for name in KEY) for row in numbers]
    assert len(set(keys)) == len(keys)
    assert {row["quantity"] for row in numbers} <= set(QUANTITIES)


def test_values_lie_where_the_dictionary_says(numbers: list[dict[str, str]]) -> None:
    for row in numbers:
        low, high = RANGES.get(QUANTITIES[row["quantity"]][1], (-1e6, 1e6))
        assert low <= float(row["value"]) <= high, row
        assert int(row["n"]) >= 1
        if row["low"] and row["high"]:
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"]), row


def test_every_number_of_an_entry_is_there(numbers: list[dict[str, str]]) -> None:
    """By a slow walk: every value, except what is derived, repeated or no result."""
    entries = load_entries(BOARD / "entries")
    assert {row["entry_id"] for row in numbers} == {entry.entry_id for entry in entries}
    for entry in entries:
        found = {float(r["value"]) for r in numbers if r["entry_id"] == entry.entry_id}
        for place, value in leaves(entry.model_dump(mode="json")):
            is_result = place.split("/")[1] in (
                *("clean_accuracy", "spectral", "corruption", "adversarial", "systematic"),
                *("decomposition", "benchmark"),
            )
            if is_result and not re.search(LEFT_OUT, place):
                assert value in found, place


LEFT_OUT = (
    r"/(n|n_\w+|seed|size|batch_size|severity|interval|steps|rel_stepsize|restarts|epsilon|masking"
    r"|value_table|band_edges|shapley_se|image_size|tied_bands|score_bias|signed_score_bias"
    r"|efficiency_residual|score_interval|signed_score_interval|distribution_interval|protocol"
    r"|bands_interval|level|reference_errors)(/|$)"
)


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{place}/{key}")
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from leaves(item, f"{place}/{k}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield place, value


def with_other_groups(entry: Entry) -> Entry:
    """The entry with systematic noise and a decomposition, which the committed ones have not."""
    share = {"value": 0.25, "interval": (0.1, 0.4), "n": 20}
    reading = {
        "condition": "opencv",
        "error": share,
        "n_lost": 1,
        "n_gained": 0,
        "added": {"value": 0.05, "interval": (-0.05, 0.15), "n": 20},
        "probability_change": {**share, "value": 0.5},
        "changed": {**share, "value": 0.125},
    }
    systematic = Systematic.model_validate(
        {
            "own": "pillow",
            "n_images": 20,
            "own_accuracy": {**share, "value": 0.75},
            "conditions": (reading,),
            "mean_error": {**share, "value": 0.375},
            "mean_added": {"value": 0.0625, "interval": (-0.05, 0.15), "n": 20},
            "worst": "opencv",
            "left_out": (),
        }
    )
    split = {
        "clean": 0.2,
        "bands": (0.1, -0.05, 0.0, 0.3),
        "bands_interval": ((0.0, 0.2), (-0.1, 0.0), (-0.1, 0.1), (0.2, 0.4)),
        "perturbed": 0.55,
    }
    decomposition = Decomposition.model_validate(
        {
            "protocol": entry.protocol,
            "n_images": 12,
            "image_ids_sha256": entry.data.image_ids_sha256,
            "n_forward": 192,
            "efficiency_residual": 0.0,
            "mean": split,
            "conditions": (
                {"condition": "fog", "level": 3.0, **split},
                {"condition": "pgd", "level": 0.03125, **split},
            ),
        }
    )
    return entry.model_copy(update={"systematic": systematic, "decomposition": decomposition})


def test_errors_by_band_and_readings_are_rows(make_entry: Make) -> None:
    entry = with_other_groups(parsed(make_entry())[0])
    found = rows(tidy.results(Board.of([entry])))
    (third,) = [r for r in found if r["quantity"] == "error_by_band" and r["severity"] == "3"
                and r["band"] == "3"]  # fmt: skip
    assert (third["condition"], third["value"], third["n"]) == ("fog", "0.3", "12")
    assert (third["low"], third["high"]) == ("0.2", "0.4")
    pgd = [r for r in found if r["quantity"] == "error_by_band" and r["condition"] == "pgd"]
    assert [r["budget"] for r in pgd] == ["0.03125"] * 4
    split = {r["quantity"]: r["value"] for r in found if r["condition"] == "all conditions"}
    assert split["perturbed_error"] == "0.55"
    read = {r["quantity"]: r["value"] for r in found if r["condition"] == "opencv"}
    assert read == {
        "error": "0.25", "added_error": "0.05", "probability_change": "0.5", "changed": "0.125"
    }  # fmt: skip
    keys = [tuple(row[name] for name in KEY) for row in found]
    assert len(set(keys)) == len(keys)
    assert {r["quantity"] for r in found} | {"accuracy_after_attack"} == set(QUANTITIES)


def test_models_are_described(board: Board) -> None:
    found = rows(tidy.models(board))
    entries = load_entries(BOARD / "entries")
    assert [row["entry_id"] for row in found] == [entry.entry_id for entry in entries]
    for row, entry in zip(found, entries, strict=True):
        assert row["family"] == board.families[entry.entry_id]
        assert row["licence"] == (entry.model.licence or "")
        assert int(row["n_parameters"]) == entry.model.n_parameters
        assert row["weights_sha256"] == entry.model.weights_sha256
        corrupted = entry.corruption
        assert row["n_corrupted_images"] == ("" if corrupted is None else str(corrupted.n_images))


def test_imagenet_c_is_in_the_form_of_timm(make_entry: Make) -> None:
    raw = make_entry("net", dataset="imagenet")
    raw["model"]["preprocessing"] |= {"resize": 256, "crop": 224}
    other = make_entry("other", 1, dataset="imagenet", missing=("frost",))
    entries = parsed(
        raw, other, make_entry("cifar"), make_entry("x", 3, dataset="imagenet", perturbed=False)
    )
    first, second = rows(tidy.imagenet_c(Board.of(entries)))
    group = entries[0].corruption
    assert group is not None
    error = 100 * group.unnormalised_mean_error.value
    assert float(first["top1_err"]) == pytest.approx(error, abs=1e-6)
    assert float(first["top1"]) == pytest.approx(100 - error, abs=1e-6)
    assert float(first["top1_diff"]) == pytest.approx(100 - error - 85, abs=1e-6)
    assert (first["model"], first["param_count"], first["crop_pct"]) == ("net", "0.272474", "0.875")
    assert (first["mce"], first["mce_reference"]) == ("100.0", "AlexNet")
    assert (second["model"], second["mce"], second["n_corruptions"]) == ("other", "", "14")


def test_dictionary_has_every_column(board: Board) -> None:
    said = re.findall(r"^\| (\w+) \|", tidy.data_dictionary(), re.M)
    written = [name for text in (tidy.results(board), tidy.models(board), tidy.imagenet_c(board))
               for name in text.partition("\n")[0].split(",")]  # fmt: skip
    assert [name for name in said if name not in ("column", "quantity", *QUANTITIES)] == [
        name for name in written if name not in ("quantity", *QUANTITIES)
    ]
    assert set(QUANTITIES) <= set(said)
    for fields in (RESULTS, MODELS, IMAGENET_C):
        assert all(field.what and field.unit for field in fields)


@pytest.mark.parametrize("text", [HOSTILE, "=1+1", "@x", "a\nb,=2", "-1"])
def test_no_text_is_a_formula(make_entry: Make, text: str) -> None:
    raw = make_entry(text, dataset="imagenet")
    raw["data"]["note"] = raw["model"]["licence"] = raw["submission"]["submitter"] = text
    board = Board.of(parsed(raw), settings=BoardSettings(families={text: text}))
    for written in (tidy.results(board), tidy.models(board), tidy.imagenet_c(board)):
        for row in rows(written):
            for name, cell in row.items():
                assert not re.match(r"[=+@\t]", cell), (name, cell)
                if cell.startswith("-"):
                    float(cell)
            assert "\n" not in "".join(row.values())


def test_json_is_no_wider_than_the_csv(board: Board, numbers: list[dict[str, str]]) -> None:
    """The same numbers stand in leaderboard.json, to the last digit."""
    full = json.loads((BOARD / "leaderboard.json").read_text())
    errors = {
        (row["entry_id"], name, severity): value
        for table in full["tables"]
        for row in table["rows"]
        for name, by_severity in (row["corruption_errors"] or {}).items()
        for severity, value in by_severity.items()
    }
    assert errors == {
        (row["entry_id"], row["condition"], row["severity"]): float(row["value"])
        for row in numbers
        if row["quantity"] == "error" and row["severity"]
    }
