"""parse_entry: what is refused before any number is computed again."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from board_entries import Make, parsed

from iaside_plugins.entry.parse import MAX_BYTES, Entry, parse_entry
from iaside_plugins.entry.schema import ProtocolGroup
from iaside_plugins.errors import InputError
from iaside_plugins.protocol import Protocol


def put(raw: dict[str, Any], path: str, value: Any) -> None:
    """Set (or with `...` delete) the value at a JSON pointer."""
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")[1:]]
    place: Any = raw
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value


def stated(part: Any) -> Any:
    """JSON values without the images of proportions that do not say theirs."""
    if isinstance(part, list):
        return [stated(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {k: stated(v) for k, v in part.items() if (k, v) != ("images", None)}


def test_valid_entry_keeps_every_value(make_entry: Make) -> None:
    raw = make_entry()
    entry = parsed(raw)[0]
    submission = {**raw["submission"], "supersedes": None}
    adversarial = {**raw["adversarial"], "masking": None}
    adversarial["attacks"] = [{**attack, "restarts": 1} for attack in adversarial["attacks"]]
    absent = {"benchmark": None, "systematic": None, "decomposition": None, "chance": None}
    whole = {**absent, **raw, "submission": submission, "adversarial": adversarial}
    assert stated(entry.model_dump(mode="json")) == whole
    assert parse_entry(json.dumps(raw).encode(), "x.json") == entry


def test_protocol_fields_are_the_protocols() -> None:
    expected = [*(field.name for field in fields(Protocol)), "protocol_id"]
    assert list(ProtocolGroup.model_fields) == expected


REFUSED = [
    ("/schema_version", 2, "/schema_version: Input should be 1, got 2"),
    ("/model/name", ..., "/model/name: Field required"),
    ("/model/colour", "red", "/model/colour: Extra inputs are not permitted"),
    ("/clean_accuracy/value", 93.0, "/clean_accuracy/value: .*percents must be divided by 100"),
    ("/clean_accuracy/value", "0.9", "/clean_accuracy/value: Input should be a valid number"),
    ("/clean_accuracy/n", 20.5, "/clean_accuracy/n: Input should be a valid integer"),
    ("/clean_accuracy/n", True, "/clean_accuracy/n: Input should be a valid integer, got true"),
    ("/clean_accuracy/interval", [0.5], "/clean_accuracy/interval/1: Field required"),
    ("/spectral/shapley_values/3", ..., "/spectral/shapley_values: expected 4 numbers, got 3"),
    ("/spectral/value_table/0", ..., "/spectral/value_table: expected 16 numbers, got 15"),
    ("/spectral/value_table/2", 0.5, "/spectral/value_table/2: .*less than or equal to 0, got 0.5"),
    ("/spectral/value_table/2", None, "/spectral/value_table/2: .*valid number, got null"),
    ("/spectral/tied_bands", [4], "/spectral/tied_bands/0: expected a band below 4, got 4"),
    ("/corruption/conditions/7/severity", 6, "/corruption/conditions/7/severity: .*equal to 5"),
    ("/corruption/source", "found", "/corruption/source: .*'generated' or 'distributed'"),
    ("/adversarial/attacks/0/norm", "L1", '/adversarial/attacks/0/norm: .*got "L1"'),
    ("/model/weights_sha256", "A" * 64, "/model/weights_sha256: String should match"),
    ("/data/image_ids_sha256", "a" * 63, "/data/image_ids_sha256: String should match"),
    ("/data/name", "../x", "/data/name: String should match"),
    ("/entry_id", "a/b", "/entry_id: String should match"),
    ("/provenance/date", "yesterday", "/provenance/date: String should match"),
    ("/provenance/git_commit", "main", "/provenance/git_commit: String should match"),
    ("/provenance/versions/torch", 2, "/provenance/versions/torch: .*valid string, got 2"),
    ("/model/preprocessing/std", [0.2], "/model/preprocessing/std: expected 3 numbers"),
    ("/submission/status", "verified", "/submission/status: Input should be"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused_with_file_and_pointer(
    make_entry: Make, path: str, value: Any, message: str
) -> None:
    raw = make_entry()
    put(raw, path, value)
    with pytest.raises(InputError, match=f"^x.json: {message}"):
        parsed(raw)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_not_json_are_refused(make_entry: Make, constant: str) -> None:
    text = json.dumps(make_entry()).replace('"efficiency_residual": ', f'"x": {constant}, "y": ')
    with pytest.raises(InputError, match=f"x.json: {constant} is not JSON"):
        parse_entry(text, "x.json")


def test_numbers_too_large_for_a_float_are_refused(make_entry: Make) -> None:
    raw = make_entry()
    raw["spectral"]["efficiency_residual"] = "HUGE"
    text = json.dumps(raw).replace('"HUGE"', "1e999")
    with pytest.raises(InputError, match=r"/spectral/efficiency_residual: .*finite"):
        parse_entry(text, "x.json")


def test_key_twice_is_refused(make_entry: Make) -> None:
    text = json.dumps(make_entry()).replace('"score_bias"', '"score": 0.5, "score_bias"', 1)
    with pytest.raises(InputError, match=r"x\.json: the key 'score' comes twice"):
        parse_entry(text, "x.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b" " * (MAX_BYTES + 1), "5,000,001 bytes, expected an entry of at most 5,000,000"),
        (b"\xff{}", "expected JSON in UTF-8"),
        (b"{", "expected JSON in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"n": ' + b"9" * 10_000 + b"}", "expected JSON in UTF-8"),
        (b"[]", r"\(whole file\): .*got \[\]"),
        ('"\ud800"', "expected JSON in UTF-8"),
    ],
    ids=["large", "encoding", "cut", "deep", "digits", "list", "surrogate"],
)
def test_unusable_text_is_refused(data: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_entry(data, "x.json")


def test_at_most_ten_problems_are_listed() -> None:
    with pytest.raises(InputError, match=r"and 1 more$") as caught:
        parse_entry("{}", "x.json")
    assert str(caught.value).count("Field required") == 10
    assert len([f for f in Entry.model_fields.values() if f.is_required()]) == 11
