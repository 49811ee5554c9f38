"""The figure of a sensitivity study shows what its numbers are, and draws without associations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sensitivity_studies import make_report

from iaside_plugins.display.plots import save_figure
from iaside_plugins.sensitivity.plots import plot_sensitivity
from iaside_plugins.sensitivity.report import to_dict
from iaside_plugins.sensitivity.text import one_at_a_time


@pytest.fixture(scope="module")
def data():
    return to_dict(make_report())


def test_panels_hold_the_numbers(data):
    scores, rankings, associations = plot_sensitivity(data).axes[:3]
    shown = [container.lines[0].get_xdata() for container in scores.containers]
    for k, values in enumerate(shown):
        expected = [
            data["variants"][v]["models"][k]["signed_score"] for v, _ in one_at_a_time(data)
        ]
        assert values.tolist() == expected
    matrix = rankings.images[0].get_array()
    assert matrix.shape == (4, 4)
    assert np.allclose(np.diag(matrix), 1)
    means = {
        line.get_ydata()[0]: line.get_xdata()[0]
        for line in associations.lines
        if line.get_marker() == "D"
    }
    clip = [v["association"] for v in data["variants"] if v["range_handling"] == "clip"]
    assert means[1] == pytest.approx(np.mean(clip))
    assert "exploratory" in associations.get_xlabel()


def test_one_at_a_time_is_the_base_and_what_differs_once(data):
    assert one_at_a_time(data) == [(0, "base"), (1, "beta 0.5"), (2, "range handling clip")]


def test_without_associations_the_panel_says_so(tmp_path):
    figure = plot_sensitivity(to_dict(make_report(2, entries=False)))
    assert "needs entries" in figure.axes[2].texts[0].get_text()
    save_figure(figure, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_condensed_study_draws_the_rankings_it_kept(data):
    kept = copy.deepcopy(data)
    kept["ranked"] = [data["variants"][k]["name"] for k in (0, 2)]
    kept["spearman"] = [[data["spearman"][i][j] for j in (0, 2)] for i in (0, 2)]
    matrix = plot_sensitivity(kept).axes[1].images[0].get_array()
    assert matrix.shape == (2, 2)
    assert matrix[0, 1] == data["spearman"][0][2]


def test_a_name_is_no_formula(data):
    named = copy.deepcopy(data)
    named["models"][0]["name"] = "cost $x_1 in $y"
    figure = plot_sensitivity(named)
    figure.draw_without_rendering()
    assert r"cost \$x_1 in \$y" in [text.get_text() for text in figure.legends[0].get_texts()]
