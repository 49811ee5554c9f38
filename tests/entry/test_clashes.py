"""What two entries may not share: protocol ids of two protocols, results of two models, names."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import oracles
import pytest

from iaside_plugins.entry.build import entry_id
from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.clashes import clashes
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.schema import Entry
from iaside_plugins.importance.comparison import compare
from iaside_plugins.importance.run import spectral_importance
from iaside_plugins.leaderboard.build import BOARD
from iaside_plugins.leaderboard.table.frame import tables
from iaside_plugins.protocol import Protocol

FORGED = 0.31001704728131  # a temperature whose protocol has the 32 bits of the default's


def of_board(name: str) -> dict[str, Any]:
    file = BOARD / "entries/cifar10" / f"cifar10--{name}--m8-chebyshev-zero-exact-1254609b.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def renamed(raw: dict[str, Any], name: str, weights: str = "1" * 64) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    raw["model"]["name"], raw["model"]["weights_sha256"] = name, weights
    fields = {key: value for key, value in raw["protocol"].items() if key != "protocol_id"}
    raw["entry_id"] = entry_id("cifar10", name, Protocol.from_dict(fields))
    return raw


def parsed(*raws: dict[str, Any]) -> list[Entry]:
    return [parse_entry(json.dumps(raw), "x") for raw in raws]


def test_protocols_are_told_apart_by_all_their_fields() -> None:
    forged, default = Protocol(temperature=FORGED), Protocol()
    assert forged.protocol_id == default.protocol_id
    assert forged.digest != default.digest
    assert len(forged.digest) * 4 >= 128
    assert not forged.same(default)
    assert default.same(Protocol(seed=5))  # unused: nothing is drawn


def test_a_forged_protocol_id_is_refused_and_shares_no_table() -> None:
    other = of_board("c10_small_pgd")
    other["protocol"]["temperature"] = FORGED
    entries = parsed(of_board("c10_resnet20"), other)
    assert check_entry(entries[1], entries[1].entry_id) == []  # nothing is wrong with it alone
    ((k, problem),) = clashes(entries)
    assert k == 1
    assert problem.startswith("/protocol/protocol_id: expected the id of one protocol; 'cifar10--")
    assert problem.endswith("with another temperature")
    assert len(tables(entries)) == 2


def test_results_of_forged_protocols_are_not_compared() -> None:
    found = spectral_importance(oracles.TinyNet(), oracles.sample(2, (8, 8)), Protocol(2))
    forged = replace(found, protocol=Protocol(2, temperature=FORGED))
    with pytest.raises(ValueError, match="different protocols cannot be compared"):
        compare(found, forged)


@pytest.mark.parametrize("kept", ["spectral", "corruption", "adversarial"])
@pytest.mark.parametrize("by", [0.0, 1e-12])
def test_results_of_other_weights_are_no_results(kept: str, by: float) -> None:
    first, other = of_board("c10_resnet20"), renamed(of_board("c10_small_pgd"), "mine")
    assert clashes(parsed(first, other)) == []
    copied = copy.deepcopy(first[kept])
    copied.get("shapley_values", [0])[0] += by
    for part in copied.get("conditions", copied.get("attacks", [])):
        part["probability_change"]["value"] += by
    other[kept] = copied
    ((k, problem),) = clashes(parsed(first, other))
    assert k == 1
    assert f"got those of {first['entry_id']!r} to the last digit" in problem
    assert problem.startswith(f"/{kept}/")
    other["model"]["weights_sha256"] = first["model"]["weights_sha256"]
    assert not any("last digit" in problem for _, problem in clashes(parsed(first, other)))


def test_models_that_always_say_the_same_may_have_equal_results() -> None:
    raws = [of_board("c10_resnet20"), renamed(of_board("c10_resnet20"), "mine")]
    for raw in raws:
        raw["spectral"]["shapley_values"] = [0.0] * 8
        raw["corruption"] = raw["adversarial"] = None
    assert clashes(parsed(*raws)) == []


def test_names_that_one_disk_takes_for_one() -> None:
    lower = of_board("c10_resnet20")
    upper = renamed(of_board("c10_small_pgd"), "C10_resnet20")
    ((_, problem),) = clashes(parsed(lower, upper))
    assert problem.startswith("/entry_id: expected unique ids, got 'cifar10--C10_resnet20")
    other = of_board("c10_small_pgd")
    other["data"]["name"] = "CIFAR10"
    ((_, problem),) = clashes(parsed(lower, other))
    assert problem == "/data/name: expected 'cifar10' as others, got 'CIFAR10'"
