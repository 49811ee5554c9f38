"""Tables of a study: what a plain run of each protocol gives, shared passes, entries, resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import WATCH

from iaside_plugins import Protocol, spectral_importance
from iaside_plugins.adapters.models.load import load_model
from iaside_plugins.entry.outcomes import outcomes, parse_files
from iaside_plugins.errors import InputError
from iaside_plugins.sensitivity.design import LEVELS, make_design
from iaside_plugins.sensitivity.logits import fitted_temperature
from iaside_plugins.workflows.sensitivity import model_specs, pick_design, study_model

ENTRIES = Path(__file__).resolve().parents[2] / "leaderboard" / "entries"
BASE = Protocol(n_bands=3)


@pytest.fixture(scope="module")
def images():
    rng = torch.Generator().manual_seed(4)
    pixels = torch.rand(5, 3, 16, 16, generator=rng)
    labels = torch.tensor([0, 3, 9, 3, 1])
    return [(pixels[:3], labels[:3]), (pixels[3:], labels[3:])]


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(WATCH, "rows", 0)
    monkeypatch.setattr(WATCH, "_interrupt_after", None)
    return load_model("python:tiny_model:network")


def test_every_variant_is_what_its_protocol_alone_gives(model, images):
    design = make_design(BASE, {**LEVELS, "n_bands": (3,)})
    found = study_model(model, images, design)
    assert len(found.results) == len(design.variants()) == 108
    for variant, result in zip(design.variants(), found.results, strict=True):
        alone = spectral_importance(model, images, variant.for_temperature(found.temperature))
        assert result.protocol == alone.protocol
        assert np.array_equal(result.values, alone.values)
        assert result.signed_score == alone.signed_score


def test_the_temperature_is_fitted_to_the_clean_images(model, images):
    found = study_model(model, images, make_design(BASE, {"temperature": ["fitted"]}))
    pixels, labels = (torch.cat(part) for part in zip(*images, strict=True))
    with torch.no_grad():
        expected = fitted_temperature(model(pixels).double().numpy(), labels.numpy())
    assert found.temperature == expected != 1
    assert study_model(model, images, make_design(BASE, {})).temperature is None


def test_beta_and_the_temperature_cost_no_passes(model, images):
    plain = make_design(BASE, {"range_handling": ["clip"]})
    study_model(model, images, plain)
    alone, WATCH.rows = WATCH.rows, 0
    free = {"temperature": [2.0, "fitted"], "beta": [0.5, 0.9]}
    study_model(model, images, make_design(BASE, {"range_handling": ["clip"], **free}))
    assert WATCH.rows == alone + 5  # the clean images, for the fit


def test_finished_images_are_kept(model, images, tmp_path):
    design = make_design(BASE, {"range_handling": ["clip"], "temperature": ["fitted"]})
    first = study_model(model, images, design, resume=tmp_path)
    WATCH.rows = 0
    again = study_model(model, images, design, resume=tmp_path)
    assert WATCH.rows == 5  # for the fit
    for a, b in zip(first.results, again.results, strict=True):
        assert np.array_equal(a.values, b.values)
    more = make_design(BASE, {"range_handling": ["clip", "rescale"], "beta": [0.9]})
    WATCH.rows = 0
    study_model(model, images, more, resume=tmp_path)
    assert 0 < WATCH.rows <= 5 * 2**3  # the new table alone


def test_variants_are_told_apart_by_more_than_their_short_id(model, images, tmp_path, monkeypatch):
    design = make_design(BASE, {"range_handling": ["clip", "rescale"]})
    expected = study_model(model, images, design)
    monkeypatch.setattr(Protocol, "protocol_id", "m3-forged-00000000")
    for resume in (None, tmp_path):
        found = study_model(model, images, design, resume=resume)
        for a, b in zip(expected.results, found.results, strict=True):
            assert np.array_equal(a.values, b.values)


def test_entries_say_what_their_files_say():
    entries = parse_files([ENTRIES / "cifar10"])
    by_name = {(e.model.name, e.benchmark_id): e for e in entries}
    plain = by_name["c10_small_pgd", None]
    attacked = by_name["c10_small_pgd", "robustbench-Linf"]
    found = outcomes(entries, plain.model.weights_sha256, "c10_small_pgd")
    assert found["clean accuracy"] == plain.clean_accuracy.value
    assert found["corruption error"] == plain.corruption.unnormalised_mean_error.value
    for case in attacked.adversarial.worst_case:  # AutoAttack, rather than the same budget's PGD
        name = f"Linf {round(case.epsilon * 255)}/255"
        assert found[f"accuracy {name}"] == case.accuracy.value
        assert found[f"retained {name}"] == case.accuracy.value / attacked.clean_accuracy.value
    weaker = next(c for c in plain.adversarial.worst_case if round(c.epsilon * 255, 1) == 0.5)
    assert found["accuracy Linf 0.5/255"] == weaker.accuracy.value
    names = [name for name in found if name.startswith("retained")]
    budgets = {c.epsilon for e in (plain, attacked) for c in e.adversarial.worst_case}
    assert names == [f"retained Linf {round(b * 255, 1):g}/255" for b in sorted(budgets)]


def test_the_order_of_entries_does_not_matter():
    entries = parse_files([ENTRIES / "cifar10"])
    weights = entries[0].model.weights_sha256
    assert outcomes(entries, weights, "") == outcomes(entries[::-1], weights, "")


def test_entries_of_one_model_on_two_data_sets_are_refused():
    entries = parse_files([ENTRIES / "cifar10"])
    data = entries[0].data.model_copy(update={"name": "cifar10-2"})
    elsewhere = entries[0].model_copy(update={"data": data})
    with pytest.raises(InputError, match="of several data sets, cifar10, cifar10-2: give those"):
        outcomes([*entries, elsewhere], entries[0].model.weights_sha256, "")


def test_a_model_without_an_entry_is_refused():
    with pytest.raises(InputError, match="no entry is of the weights of stranger"):
        outcomes(parse_files([ENTRIES / "cifar10"]), "0" * 64, "stranger")


def test_weights_and_names_go_with_models():
    assert model_specs(["a", "b"], None, None) == [("a", None, None), ("b", None, None)]
    files = [Path("x.pth"), Path("deep/y.pth")]
    assert model_specs(["a"], files, None) == [("a", files[0], "x"), ("a", files[1], "y")]
    assert model_specs(["a", "b"], files, ["p", "q"]) == [
        ("a", files[0], "p"),
        ("b", files[1], "q"),
    ]
    with pytest.raises(InputError, match=r"expected one weights=\.\.\. a model, 2, got 1"):
        model_specs(["a", "b"], files[:1], None)
    with pytest.raises(InputError, match=r"expected one name=\.\.\. a model, 1, got 2"):
        model_specs(["a"], None, ["p", "q"])


def test_a_design_from_words():
    design = pick_design(
        Protocol(), range_handling="none, clip", n_bands="6,8", temperature="1,fitted", crossed="6"
    )
    assert design.levels["range_handling"] == ("none", "clip")
    assert design.levels["n_bands"] == (8, 6)
    assert design.crossed == (6,)
    assert design.base == dataclasses.replace(Protocol())
