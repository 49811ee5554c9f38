"""Accuracies of one entry that cannot be of the same images and model are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.importance.chance import chance
from iaside_plugins.stats.intervals import wilson

EARLIER = Path(__file__).parents[1] / "earlier"  # entries that the board held once
CIFAR = "cifar10--c10_resnet20--m8-chebyshev-zero-exact-1254609b"  # 145 of 152 right, three times
PART = "imagenet--mbv2_w035--m8-chebyshev-zero-exact-1254609b--n48"  # spectral of 24 of 48, JPEG


def earlier(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EARLIER / f"{name}.json").read_text())
    return found


def proportion(k: int, n: int) -> dict[str, Any]:
    return {"value": k / n, "interval": list(wilson(k, n)), "n": n}


def problems(raw: dict[str, Any]) -> list[str]:
    return check_entry(parse_entry(json.dumps(raw), "x"), raw["entry_id"])


def changed(raw: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    *parents, last = [int(p) if p.isdigit() else p for p in place.split("/")[1:]]
    part: Any = raw
    for name in parents:
        part = part[name]
    part[last] = value
    return raw


@pytest.mark.parametrize(
    ("name", "place", "k", "n", "said"),
    [
        (CIFAR, "/clean_accuracy", 0, 152, "/spectral/clean_accuracy/value: expected 0 of 152"),
        (CIFAR, "/clean_accuracy", 146, 152, "/spectral/clean_accuracy/value: expected 146 of"),
        (CIFAR, "/spectral/clean_accuracy", 144, 152, "/spectral/clean_accuracy/value: expected"),
        (CIFAR, "/corruption/uncorrupted_accuracy", 0, 152, "/corruption/uncorrupted_accuracy/v"),
        (CIFAR, "/corruption/uncorrupted_accuracy", 146, 152, "/corruption/uncorrupted_accuracy/"),
        (CIFAR, "/adversarial/attacks/4/accuracy", 146, 152, "/adversarial/attacks/4/accuracy/va"),
        (PART, "/spectral/clean_accuracy", 0, 24, "/spectral/clean_accuracy/value: expected from"),
        (PART, "/clean_accuracy", 40, 48, "/spectral/clean_accuracy/value: expected from 16 to 24"),
        (PART, "/clean_accuracy", 13, 48, "/spectral/clean_accuracy/value: expected from 0 to 13"),
        (PART, "/corruption/uncorrupted_accuracy", 0, 48, "/corruption/uncorrupted_accuracy/value"),
    ],
)
def test_what_the_same_images_contradict(name: str, place: str, k: int, n: int, said: str) -> None:
    raw = earlier(name)
    assert problems(raw) == []
    assert any(p.startswith(said) for p in problems(changed(raw, place, proportion(k, n))))


def test_robust_above_clean_with_attacks_that_agree() -> None:
    raw = earlier(CIFAR)
    for name in ("attacks", "worst_case"):
        for part in raw["adversarial"][name]:
            part["accuracy"] = proportion(152, 152)
    found = problems(raw)
    assert len(found) == 8 + 4
    assert "expected at most 145 of 152 images, as an image counts as robust if" in found[-1]


def test_wrong_images_have_at_most_one_half() -> None:
    raw = earlier(CIFAR)  # a mean of -0.2244 nats, so at most 49 images are wrong
    raw["clean_accuracy"] = raw["spectral"]["clean_accuracy"] = proportion(102, 152)
    raw["corruption"]["uncorrupted_accuracy"] = proportion(102, 152)
    found = problems(raw)
    assert found[0].startswith("/spectral/clean_accuracy/value: expected at least 103 of 152")
    for part in raw, raw["spectral"]:
        part["clean_accuracy"] = proportion(103, 152)
    assert not any("log(1/2)" in problem for problem in problems(raw))


def test_right_images_have_at_least_their_share_of_the_classes() -> None:
    raw = earlier("cifar10--c10_base_kw--m8-chebyshev-zero-exact-1254609b")  # -1.16 nats
    raw["clean_accuracy"] = raw["spectral"]["clean_accuracy"] = proportion(152, 152)
    raw["corruption"]["uncorrupted_accuracy"] = proportion(152, 152)
    assert problems(raw) == []
    raw["model"]["n_classes"] = 3
    assert problems(raw) == [
        "/spectral/ends/1: expected at least log(1/3) with all images right, got -1.15959"
    ]


def test_rounding_may_class_an_image_otherwise() -> None:
    raw = changed(earlier(CIFAR), "/spectral/clean_accuracy", proportion(144, 152))
    assert len(problems(raw)) == 1
    raw["provenance"]["device"] = "cuda"
    assert problems(raw) == []
    raw["spectral"]["clean_accuracy"] = proportion(140, 152)
    assert len(problems(raw)) == 1
    raw["spectral"]["precision"] = "bfloat16"
    assert problems(raw) == []


def test_a_range_handling_that_changes_the_images_is_not_compared() -> None:
    raw = changed(earlier(CIFAR), "/spectral/clean_accuracy", proportion(120, 152))
    raw["protocol"]["range_handling"] = "rescale"
    assert not any(p.startswith("/spectral/clean_accuracy") for p in problems(raw))


def test_what_an_entry_says_of_guessing_is_computed_again() -> None:
    raw = earlier(CIFAR)
    assert problems(raw) == []  # entries may be older
    raw["chance"] = chance(145, 152, raw["model"]["n_classes"])
    assert problems(raw) == []
    found = problems(changed(raw, "/chance/above", False))
    assert found == [
        "/chance/above: expected True for 145 of 152 images classified correctly, got False"
    ]
    assert problems(changed(raw, "/chance/level", 0.2))[0].startswith("/chance/level: expected 0.1")
