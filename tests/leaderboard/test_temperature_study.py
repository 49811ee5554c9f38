"""The study of temperatures: sentences, table and figure follow from its JSON file alone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from iaside_plugins.leaderboard.studies import criteria, temperature
from iaside_plugins.leaderboard.studies.page import short_name

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def nets() -> dict:
    return json.loads((temperature.FOLDER / "temperature.json").read_text(encoding="utf-8"))


def attacked(n_robust: int, n_left: int, n_left_starts: int | None = None) -> dict:
    """A network of which so many of 64 images hold."""
    change = temperature.paired_change
    one = {
        "n_images": 64,
        "n_robust": n_robust,
        "n_left": n_left,
        "change": change(0, n_robust - n_left, 64),
    }
    if n_left_starts is not None:
        one["change_starts"] = change(0, n_left_starts - n_left, 64)
    return {"attack": one}


def scored(*values: tuple[float, float]) -> dict:
    """Networks, each of a family of its own, of scores at temperature 1 and the fitted one."""
    return {
        f"net{k}": {
            "data": "cifar10",
            "family": str(k),
            "score": {
                "1": [first, first - 0.1, first + 0.1],
                "fitted": [then, then - 0.1, then + 0.1],
            },
            **attacked(30, 30),
        }
        for k, (first, then) in enumerate(values)
    }


def test_five_of_64_images_must_be_lost():
    assert temperature.least_lost(64) == 5


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ((4, 4), temperature.TOO_FEW),
        ((30, 26), temperature.HOLDS),
        ((30, 20, 29), temperature.ILLUSION),
        ((30, 20, 22), temperature.MORE_TRIES),
    ],
)
def test_verdicts(held, found):
    assert temperature.verdict(attacked(*held)) == found


def test_the_score_moves_by_its_order_or_by_a_sign():
    same = scored(*[(x, x + 0.01) for x in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert temperature.outcomes(same)["score"] == temperature.NOT_SHOWN
    assert temperature.same_order(same)[0] == pytest.approx(1)
    turned = scored((-0.2, 0.2), (0.3, 0.3), (0.4, 0.4), (0.5, 0.5))  # one is enough
    assert temperature.turned(turned) == ["net0"]
    assert temperature.outcomes(turned)["score"] == temperature.SHOWN
    shuffled = scored((0.2, 0.5), (0.3, 0.4), (0.35, 0.35), (0.4, 0.3), (0.5, 0.2))
    assert temperature.turned(shuffled) == []
    assert temperature.outcomes(shuffled)["score"] == temperature.SHOWN


def test_too_few_families_or_nothing_left_is_no_verdict():
    few = scored(*[(x, x) for x in (0.1, 0.2, 0.3, 0.4)])
    assert temperature.outcomes(few)["score"] == criteria.TOO_FEW
    assert "too few families to tell whether their order moves; no sign" in temperature.answer(few)
    for one in few.values():
        one |= attacked(2, 2)
    assert temperature.outcomes(few)["robustness"] == criteria.TOO_FEW


def test_an_illusion_is_named_in_the_answer():
    found = scored((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))
    found["net1"] |= attacked(30, 10, 28)
    found["net2"] |= attacked(2, 2)
    text = temperature.answer(found)
    assert "Of the 2 networks (2 families)" in text
    assert "the robustness of net1 is" in text
    assert temperature.outcomes(found)["robustness"] == temperature.SHOWN


def test_measured_networks_lose_no_more_than_they_had(nets):
    assert len(nets) >= 20
    for one in nets.values():
        attack = one["attack"]
        assert attack["n_left"] <= attack["n_robust"] <= attack["n_right"] <= attack["n_images"]
        lost = attack["n_robust"] - attack["n_left"]
        assert attack["change"][0] == pytest.approx(-lost / attack["n_images"], abs=1e-4)
        assert ("change_starts" in attack) == (attack["change"][2] < 0)


def test_the_page_asks_for_what_there_is(nets):
    text = (DOCS / "studies" / "temperature.md").read_text(encoding="utf-8")
    for name in temperature.facts(nets):
        assert f"{{{{ {name} }}}}" in text


def test_the_table_holds_every_network(nets, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    table = importlib.import_module("study_tables").temperature_short()
    assert list(table["network"]) == list(nets)
    assert list(table["illusion"]) == [temperature.verdict(one) for one in nets.values()]


def test_the_figure_shows_every_network(nets):
    figure = temperature.temperature_figure(nets)
    figure.draw_without_rendering()
    scores, attacks = figure.axes
    names = [label.get_text() for label in scores.get_yticklabels()]
    assert names == [short_name(name) for name in nets]
    first = next(iter(nets.values()))
    assert scores.lines[0].get_xdata()[0] == pytest.approx(first["score"]["1"][0])
    held = first["attack"]["n_robust"] / first["attack"]["n_images"]
    assert attacks.lines[0].get_xdata()[0] == pytest.approx(held)


def test_files_of_a_folder_become_one(tmp_path, nets):
    folder = tmp_path / "temperature"
    folder.mkdir()
    for name, one in nets.items():
        (folder / f"{name}.json").write_text(json.dumps(one), encoding="utf-8")
    assert list(temperature.condense(tmp_path)) == list(nets)
    assert temperature.condense(tmp_path) == nets
