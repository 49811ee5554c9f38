"""The committed JSON Schema is the models', takes what they take and refuses what they refuse."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
from board_entries import Make

from iaside_plugins.entry.parse import DIALECT, entry_schema
from iaside_plugins.leaderboard.build import BOARD

COMMITTED = BOARD / "entry.schema.json"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(COMMITTED.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_committed_schema_has_not_drifted() -> None:
    assert COMMITTED.read_text() == entry_schema(), "run iaside leaderboard build"
    schema = json.loads(entry_schema())
    assert schema["$schema"] == DIALECT
    assert schema["additionalProperties"] is False


def test_every_committed_entry_fits(validator: Any) -> None:
    files = sorted((BOARD / "entries").rglob("*.json"))
    assert len(files) >= 22
    for file in files:
        validator.validate(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/schema_version", 2),
        ("/clean_accuracy/value", 93.0),
        ("/clean_accuracy/value", "0.9"),
        ("/clean_accuracy/n", 0),
        ("/model/name", ""),
        ("/model/colour", "red"),
        ("/data/name", "../x"),
        ("/entry_id", "a/b"),
        ("/spectral/value_table/0", 0.5),
        ("/spectral/precision", "int8"),
        ("/corruption/conditions/0/severity", 6),
        ("/adversarial/attacks/0/norm", "L1"),
        ("/submission/status", "verified"),
        ("/provenance/git_commit", "main"),
        ("/provenance/date", "yesterday"),
        ("/spectral/shapley_values", [0.0] * 33),
        ("/data/n_images", 2**53 + 1),
        ("/submission/supersedes", {"entry_id": "x", "reason": "y"}),
        ("/benchmark", {}),
    ],
)
def test_what_the_models_refuse_does_not_fit(
    make_entry: Make, validator: Any, path: str, value: Any
) -> None:
    raw = copy.deepcopy(make_entry())
    assert validator.is_valid(raw)
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")[1:]]
    place: Any = raw
    for part in parents:
        place = place[part]
    place[last] = value
    assert not validator.is_valid(raw)
