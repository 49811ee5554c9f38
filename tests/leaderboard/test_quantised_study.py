"""The study of quantised networks: sentences, table and figure follow from its JSON file alone."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path

import pytest

from iaside_plugins.leaderboard.studies import quantised
from iaside_plugins.leaderboard.studies.page import short_name

DOCS = Path(__file__).resolve().parents[2] / "docs"
TO_THE_RIGHT, ACROSS = [0.05, 0.01, 0.09], [0.02, -0.01, 0.05]


@pytest.fixture(scope="module")
def nets() -> dict:
    return json.loads((quantised.FOLDER / "quantised.json").read_text(encoding="utf-8"))


def split(added: list[float], upper: list[float]) -> dict:
    parts = dict.fromkeys(("clean", "perturbed", "lower"), ACROSS)
    return {"mean": {**parts, "added": added, "upper": upper, "bands": [ACROSS] * 8}}


def population(n_moved: int, upper: list[float]) -> dict:
    """Four networks, of which so many are moved."""
    nets = {}
    for k in range(4):
        added = TO_THE_RIGHT if k < n_moved else ACROSS
        read = {"difference": {"8": {"added": added}}}
        difference = {"8": split(added, upper), "4": split(ACROSS, ACROSS)}
        nets[f"net{k}"] = {"difference": difference, "systematic": read}
    return nets


def verdicts(nets: dict) -> list[str]:
    return [row["verdict"] for row in quantised.outcomes(nets)]


def test_half_of_the_networks_decide():
    no, yes = quantised.NOT_SHOWN, quantised.SHOWN
    assert verdicts(population(1, TO_THE_RIGHT)) == [no] * 5
    assert verdicts(population(2, TO_THE_RIGHT)) == [yes, yes, no, no, no]
    assert verdicts(population(4, ACROSS)) == [yes, no, no, yes, no]
    assert verdicts({}) == [no] * 5


def test_a_half_on_the_other_side_is_not_where_it_moved():
    away = [-0.05, -0.09, -0.01]
    assert verdicts(population(4, away))[1] == quantised.NOT_SHOWN


def test_the_answer_names_what_moved():
    assert "for 0 of 4 networks" in quantised.answer(population(0, ACROSS))
    text = quantised.answer(population(1, TO_THE_RIGHT))
    assert "is *not shown*" in text
    assert "+2.0 to +5.0 points, each known to within 4.0" in text
    assert "Nor do weights of 4 bits show in it" in text
    assert "net0 (+2.0 in the lower half of the bands, +5.0 in the upper)" in text
    assert "net1 (" not in text


def test_splits_of_the_measured_networks_add_up(nets):
    assert len(nets) >= 5
    for one in nets.values():
        for source in (one["float"], one["8"], *one["difference"].values()):
            for part in source.values():
                bands = sum(ends[0] for ends in part["bands"])
                halves = part["lower"][0] + part["upper"][0]
                added = part["perturbed"][0] - part["clean"][0]
                assert bands == pytest.approx(part["added"][0], abs=1e-4)
                assert halves == pytest.approx(part["added"][0], abs=1e-4)
                assert added == pytest.approx(part["added"][0], abs=1e-4)
        less = one["8"]["mean"]["added"][0] - one["float"]["mean"]["added"][0]
        assert one["difference"]["8"]["mean"]["added"][0] == pytest.approx(less, abs=1e-4)


def test_the_page_asks_for_what_there_is(nets):
    text = (DOCS / "studies" / "quantised.md").read_text(encoding="utf-8")
    for name in quantised.facts(nets):
        assert f"{{{{ {name} }}}}" in text


def test_the_tables_hold_every_network_and_band(nets, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    tables = importlib.import_module("study_tables")
    assert len(tables.quantised_short()) == len(nets)
    name, one = next(iter(nets.items()))
    rows = [
        row
        for row in tables.quantised_rows()
        if (row["network"], row["bits"], row["condition"]) == (name, "8", "mean of 15")
    ]
    found = {row["part"]: row["difference"] for row in rows}
    bands = [found[f"band {k}"] for k in range(8)]
    assert bands == [ends[0] for ends in one["difference"]["8"]["mean"]["bands"]]
    assert found["added"] == one["difference"]["8"]["mean"]["added"][0]


def test_the_figure_shows_every_network(nets):
    figure = quantised.quantised_figure(nets)
    figure.draw_without_rendering()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [short_name(name) for name in nets]
    other = copy.deepcopy(nets)
    first = next(iter(other.values()))
    first["difference"]["8"]["mean"]["clean"] = [0.5, 0.4, 0.6]
    moved = quantised.quantised_figure(other)
    assert moved.axes[0].lines[0].get_xdata()[0] == pytest.approx(50)


def test_files_of_a_folder_become_one(tmp_path, nets):
    folder = tmp_path / "quantised"
    folder.mkdir()
    for name, one in nets.items():
        (folder / f"{name}.json").write_text(json.dumps(one), encoding="utf-8")
    assert list(quantised.condense(tmp_path)) == list(nets)
    assert quantised.condense(tmp_path) == nets
    first = next(iter(nets))
    (folder / f"{first}.json").unlink()
    assert first not in quantised.condense(tmp_path)
    assert quantised.condense(tmp_path, nets) == nets


def test_a_folder_that_is_not_there_is_one_line():
    with pytest.raises(SystemExit, match="nothing: expected the folder that leaderboard/entries"):
        quantised.main(["nothing"])
