"""The JSON Schema of stats.json fits every board, and names all that there is."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
from board_entries import Make, parsed

from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.render.stats_schema import SCHEMA, stats_schema
from iaside_plugins.leaderboard.statistics.report import statistics

Validator = jsonschema.Draft202012Validator


def strict(schema: Any) -> Any:
    """The schema with no field allowed that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {key: strict(item) for key, item in schema.items()} | closed


def test_it_is_a_schema_and_committed() -> None:
    Validator.check_schema(SCHEMA)
    text = (BOARD / "stats.schema.json").read_text()
    assert text == stats_schema(), "run iaside leaderboard build"


def test_committed_statistics_fit_and_have_no_other_field() -> None:
    found = json.loads((BOARD / "stats.json").read_text())
    Validator(strict(SCHEMA)).validate(found)
    Validator(SCHEMA).validate({**found, "new_field": 1})


@pytest.mark.parametrize("n", [0, 1, 4])
def test_statistics_of_few_models_fit(make_entry: Make, n: int) -> None:
    entries = parsed(*(make_entry(f"m{k}", k, perturbed=k != 1) for k in range(n)))
    Validator(strict(SCHEMA)).validate(json.loads(json.dumps(statistics(entries))))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 2),
        ("method/confidence", 95),
        ("tables/0/status", "fine"),
        ("tables/0/comparisons/0/verdict", "proven"),
        ("tables/0/comparisons/0/spearman/p", 1.5),
        ("tables/0/comparisons/0/spearman/interval", [0.1]),
        ("tables/0/outcomes/0/points/0/clean_accuracy", "0.9"),
        ("tables/0/ranks/0/models/0/rank", None),
    ],
)
def test_what_is_wrong_is_refused(path: str, value: Any) -> None:
    found = copy.deepcopy(json.loads((BOARD / "stats.json").read_text()))
    *parts, last = path.split("/")
    place = found
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    assert not Validator(SCHEMA).is_valid(found)
    del place[last]
    assert not Validator(SCHEMA).is_valid(found)
