"""Systematic noise from a folder to a checked entry, its report and its exports."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
import torch
from entry_fuzz import judged, mutated
from image_files import gathered, picture, random_pixels, save

from iaside_plugins.decomposition.run import error_decomposition
from iaside_plugins.display.report import entry_report
from iaside_plugins.entry.checks import check_entry
from iaside_plugins.entry.exports import export
from iaside_plugins.entry.parse import parse_entry
from iaside_plugins.entry.write import typed_entry
from iaside_plugins.errors import InputError
from iaside_plugins.evaluation.evaluate import evaluate
from iaside_plugins.protocol import Protocol
from iaside_plugins.storage.files import jsonable
from iaside_plugins.workflows.evaluate import evaluation_plan
from iaside_plugins.workflows.explain import systematic_pairs
from iaside_plugins.workflows.source import DataSource, open_images, open_model

pytest.importorskip("cv2")
MODEL = "python:tiny_model:small_input"
N = 12


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve images, two of them JPEG; the model's answer is right for seven."""
    root = tmp_path_factory.mktemp("photographs")
    for k in range(12):
        pixels = random_pixels(k, 60, 75) // (1 + k % 3) + 20 * (k % 4)
        save(root / "all" / f"{k:02}.{'png' if k > 1 else 'jpg'}", pixels.astype(np.uint8))
    model = open_model(MODEL, device="cpu")
    clean = open_images(DataSource(root, labels="rank"), model)
    images, _, ids = gathered(clean)
    answers = model(images).argmax(dim=1).tolist()
    rows = [
        f"all/{name.split('/')[1]},{(y + (k > 6)) % 10}"
        for k, (name, y) in enumerate(zip(ids, answers, strict=True))
    ]
    (root / "list.csv").write_text("\n".join(["path,label", *rows]))
    return root / "list.csv"


@pytest.fixture(scope="module")
def evaluated(photographs):
    model = open_model(MODEL, device="cpu")
    plan = evaluation_plan(
        DataSource(photographs, batch_size=4), model, corruptions="none", systematic=True
    )
    return evaluate(model, plan, Protocol(n_bands=3))


def test_entry_holds_it_and_is_valid(evaluated):
    entry, result = evaluated
    typed = typed_entry(entry)
    assert check_entry(typed, entry["entry_id"]) == []
    group = entry["systematic"]
    assert group["own"] == "pillow bilinear"
    assert group["n_images"] == N
    clean = {k: v for k, v in entry["clean_accuracy"].items() if k != "images"}
    assert group["own_accuracy"] == clean
    assert len(group["conditions"]) == 11
    flips = [cell["n_lost"] + cell["n_gained"] for cell in group["conditions"]]
    assert max(flips) > 0  # or the checks below would have nothing to check
    assert max(cell["probability_change"]["value"] for cell in group["conditions"]) > 0
    text = entry_report(entry, result)
    assert "systematic noise: the same files read otherwise (12 images" in text
    assert "  mean of 11" in text
    card = export(typed, "model-card")
    assert "mean_systematic_error" in card
    assert f'reading: "{group["worst"]}"' in card


def test_entries_without_it_are_what_they_were(evaluated):
    entry, result = evaluated
    older = {name: part for name, part in entry.items() if name != "systematic"}
    typed = typed_entry(older)
    assert typed.systematic is None
    assert check_entry(typed, entry["entry_id"]) == []
    assert "systematic" not in entry_report(older, result)
    assert "systematic" not in export(typed, "model-card")


def up(by):
    return lambda old: old + by


CHANGES = [
    ("own", "pillow box", "/systematic/own: expected 'pillow bilinear'"),
    ("worst", "pillow cubic", "/systematic/worst: expected"),
    ("n_images", 13, "/systematic/n_images: expected at most 12, got 13"),
    ("mean_error/value", up(0.01), "/systematic/mean_error/value: expected"),
    ("mean_added/value", up(0.01), "/systematic/mean_added/value: expected"),
    ("mean_added/interval/1", up(0.01), "/systematic/mean_added/interval: expected it as far"),
    ("mean_added/interval", lambda old: [sum(old) / 2 - 1e-6, sum(old) / 2 + 1e-6], "/systematic"),
    ("mean_added/interval", [None, None], "/systematic/mean_added/interval: expected two"),
    ("mean_added/n", 7, "/systematic/mean_added/n: expected 12 images, got 7"),
    ("conditions/0/changed/n", 7, "/systematic/conditions/0/changed/n: expected 12"),
    ("conditions/0/condition", "pillow box", "/systematic/conditions: expected each of"),
    ("conditions/0/condition", "opencv cubic", "/systematic/conditions: expected each of"),
    ("conditions", lambda old: old[1:], "/systematic/conditions: expected each of"),
    ("conditions/0/n_lost", up(1), "/systematic/conditions/0"),
    ("conditions/0/n_lost", 2**50, "/systematic/conditions/0: expected at most 7 lost"),
    ("conditions/0/n_gained", up(1), "/systematic/conditions/0/error/value: expected"),
    ("conditions/1/added/value", up(0.05), "/systematic/conditions/1/added/value: expected"),
    ("conditions/1/added/interval/0", up(0.05), "/systematic/conditions/1/added/interval/0"),
]


@pytest.mark.parametrize(("path", "new", "said"), CHANGES)
def test_what_does_not_follow_is_named(evaluated, path, new, said):
    raw = copy.deepcopy(evaluated[0])
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    place = raw["systematic"]
    for part in parents:
        place = place[part]
    place[last] = new(place[last]) if callable(new) else new
    entry = parse_entry(json.dumps(raw), "x.json")
    assert any(problem.startswith(said) for problem in check_entry(entry, raw["entry_id"]))


def test_answers_that_change_are_at_least_those_that_turn_wrong(evaluated):
    raw = copy.deepcopy(evaluated[0])
    for cell in raw["systematic"]["conditions"]:
        n = N - round(N * cell["changed"]["value"])  # as if the others had changed
        cell["changed"] = {**cell["changed"], "value": n / N}
    found = check_entry(parse_entry(json.dumps(raw), "x.json"), raw["entry_id"])
    assert any("/changed/value: expected from" in problem for problem in found)


def test_mutated_groups_are_judged_without_a_traceback(evaluated):
    draw, text = random.Random(0), json.dumps(jsonable(evaluated[0]["systematic"]))
    whole, refused = json.dumps({**jsonable(evaluated[0]), "systematic": "HERE"}), 0
    for _ in range(100):
        group = mutated(text, draw)
        refused += bool(judged(whole.encode().replace(b'"HERE"', group))[0])
    assert refused > 80


def test_an_accuracy_other_than_the_clean_one_is_named(evaluated):
    raw = copy.deepcopy(evaluated[0])
    clean = raw["clean_accuracy"]
    clean["value"] = (round(N * clean["value"]) + 1) / N
    found = check_entry(parse_entry(json.dumps(raw), "x.json"), raw["entry_id"])
    assert any(p.startswith("/systematic/own_accuracy/value: expected") for p in found)


def test_nothing_to_vary_is_known_before_the_work(tmp_path):
    save(tmp_path / "data" / "cat" / "a.png", picture(32, seed=0))
    model = open_model("python:tiny_model:network", device="cpu")
    source = DataSource(tmp_path / "data")
    assert evaluation_plan(source, model, corruptions="none").systematic is None
    with pytest.raises(InputError, match="systematic noise has nothing to vary here") as refused:
        evaluation_plan(source, model, corruptions="none", systematic=True)
    assert "\n" not in str(refused.value)


def test_the_same_files_to_decompose(photographs):
    model = open_model(MODEL, device="cpu")
    source = DataSource(photographs)
    pairs = systematic_pairs(source, model)
    found = list(pairs)
    order = [name for *_, ids in found for name in ids]
    assert order == [record.image_id for record in pairs.records]
    assert sorted(order) != order  # shuffled
    plan = evaluation_plan(source, model, corruptions="none", systematic=True).systematic
    assert [str(one) for one in pairs.conditions] == list(plan.names)
    place = [sorted(order).index(name) for name in order]
    own = gathered(open_images(source, model))[0][place]
    assert torch.equal(torch.cat([clean for clean, *_ in found]), own)
    for one in pairs.conditions:
        expected = gathered(plan.images(one.name))[0][place]
        assert torch.equal(torch.cat([perturbed[one] for _, perturbed, *_ in found]), expected)


def test_errors_of_a_reading_are_split_over_bands(photographs, evaluated):
    model = open_model(MODEL, device="cpu")
    pairs = systematic_pairs(DataSource(photographs), model)
    result = error_decomposition(model, pairs, Protocol(n_bands=3, estimator="permutation"))
    assert result.efficiency_residual < 1e-9
    group = evaluated[0]["systematic"]
    for one, cell in zip(result.conditions, group["conditions"], strict=True):
        split = result.error.over([one])
        assert one.name == cell["condition"]
        assert split.perturbed.value == pytest.approx(cell["error"]["value"])
        assert split.added.value == pytest.approx(cell["added"]["value"])
        assert split.added.interval == pytest.approx(cell["added"]["interval"])
    mean = result.error.over(result.error.systematic).added
    assert mean.value == pytest.approx(group["mean_added"]["value"])
    assert mean.interval == pytest.approx(group["mean_added"]["interval"])


def test_answers_that_turn_change_a_probability(evaluated):
    raw = copy.deepcopy(evaluated[0])
    for cell in raw["systematic"]["conditions"]:
        cell["probability_change"] = {"value": 0.0, "interval": [0.0, 0.0], "n": N}
    found = check_entry(parse_entry(json.dumps(raw), "x.json"), raw["entry_id"])
    turned = [c for c in raw["systematic"]["conditions"] if c["n_lost"] + c["n_gained"]]
    assert sum("/probability_change/value: expected more" in p for p in found) == len(turned)


def test_the_accuracy_of_fewer_images_is_held_against_all(evaluated):
    raw = copy.deepcopy(evaluated[0])
    group = raw["systematic"]["own_accuracy"]
    for n, hits, fits in [(11, 7, True), (11, 6, True), (11, 8, False), (11, 5, False)]:
        group.update(value=hits / n, n=n)
        found = check_entry(parse_entry(json.dumps(raw), "x.json"), raw["entry_id"])
        assert fits != any(p.startswith("/systematic/own_accuracy/value: ") for p in found)
