"""Whatever a file holds, it ends in problems named one by one, quickly, and never in a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_entries import Make

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.errors import InputError
from iaside_plugins.leaderboard.build import BOARD, validate

SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    "HUGE",
    10**30,
    -1,
    0,
    1e308,
    -1e308,
    5e-324,
    0.5,
    "",
    SCRIPT,
    "x" * 100_000,
    None,
    True,
    [],
    {},
    [[]],
    {"a": {"a": {}}},
    [1e308] * 3,
]
SECONDS = 1.0  # of the processor, as other work may share it
EVERY = 6


def leaves(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values; of a list only the first and the last item."""
    yield path
    if isinstance(part, dict):
        for key, value in part.items():
            yield from leaves(value, (*path, key))
    elif isinstance(part, list):
        for k in sorted({0, len(part) - 1} if part else ()):
            yield from leaves(part[k], (*path, k))


def changed(raw: dict[str, Any], path: tuple[Any, ...], value: Any) -> str:
    """The entry as JSON with another value in one place."""
    *parents, last = path
    place: Any = raw
    for part in parents:
        place = place[part]
    kept, place[last] = place[last], value
    text = json.dumps(raw).replace('"HUGE"', "1" + "0" * 400)
    place[last] = kept
    return text


def problems(text: str) -> list[str]:
    try:
        entry = parse_entry(text, "x.json")
    except InputError as error:
        return str(error).split("; ")
    return check_entry(entry, entry.entry_id)


@pytest.mark.slow
def test_any_value_in_any_place_is_survived(make_entry: Make) -> None:
    raw = make_entry()
    paths = [path for path in leaves(raw) if path]
    assert len(paths) > 250
    accepted = set()
    for k, path in enumerate(paths):
        for value in HOSTILE[k % EVERY :: EVERY]:  # every value comes, if not in every place
            if not problems(changed(raw, path, value)):
                accepted.add((path[-1], str(value)[:20]))
    # what no other number of the entry contradicts: facts of the model, and free text
    assert {str(name) for name, value in accepted if value == SCRIPT} <= {
        "spec",
        "source",
        "architecture",
        "dataset",
        "training",
        "licence",
        "weights",
        "note",
        "interpolation",
        "iaside_plugins",
        "python",
        "torch",
        "device",
        "submitter",
        "statement",
        "reference",
    }
    large = ("HUGE", "1000", "1e+308", "-1e+308", "x", "[[", "[1e")
    assert not {name for name, value in accepted if value.startswith(large)}


def test_a_script_in_every_string_is_refused_in_time(make_entry: Make) -> None:
    raw = make_entry()

    def poisoned(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: poisoned(value) for key, value in part.items()}
        if isinstance(part, list):
            return [poisoned(item) for item in part]
        return SCRIPT if isinstance(part, str) else part

    start = time.process_time()
    found = problems(json.dumps(poisoned(raw)))
    assert time.process_time() - start < SECONDS
    assert any("/entry_id: String should match" in problem for problem in found)


MILLION = "[" + ",".join(["1"] * 2_000_000) + "]"
LARGE = {
    "attacks": ("/adversarial/attacks", MILLION),
    "conditions": ("/corruption/conditions", MILLION),
    "values": ("/spectral/value_table", MILLION.replace("1", "0")),
    "names": ("/corruption/missing", MILLION),
    "versions": ("/provenance/versions", "{" + ",".join(f'"{k}":1' for k in range(300_000)) + "}"),
    "unknown": ("/model/extra", MILLION),
    "text": ("/submission/statement", '"' + "a/ " * 1_500_000 + '"'),
    "name": ("/data/name", '"' + "a" * 4_000_000 + '"'),
    "deep": ("/model/name", "[" * 50_000 + "]" * 50_000),
    "rather deep": ("/model/name", "[" * 900 + "]" * 900),
    "digits": ("/data/seed", "9" * 4_200),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_and_deep_values_are_refused_in_time(make_entry: Make, name: str) -> None:
    path, value = LARGE[name]
    raw = make_entry()
    *parents, last = path.split("/")[1:]
    place: Any = raw
    for part in parents:
        place = place[part]
    place[last] = "HERE"
    text = json.dumps(raw).replace('"HERE"', value)
    start = time.process_time()
    found = problems(text)
    assert time.process_time() - start < SECONDS
    assert found
    assert sum(map(len, found)) < 3000


def test_size_is_looked_at_before_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as out:
        out.truncate(100_000_000)  # as long, without the bytes
    read: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", read.append)
    start = time.process_time()
    assert validate([file]) == ["large.json: expected an entry of at most 5,000,000 bytes"]
    assert time.process_time() - start < SECONDS
    assert read == []


def test_things_that_are_no_file_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.json"
    folder.mkdir()
    assert validate([folder]) == ["folder.json: expected a file"]
    assert validate([Path("/dev/zero")]) == ["zero: expected a file"]


def test_committed_entries_are_read_in_time() -> None:
    for file in sorted((BOARD / "entries").rglob("*.json")):
        start = time.process_time()
        assert validate([file]) == []
        assert time.process_time() - start < SECONDS
