"""The figure of a sensitivity study shows what its numbers are, for models in any number."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy import stats
from sensitivity_studies import make_report

from iaside_plugins.display.plots import save_figure
from iaside_plugins.sensitivity.plots import plot_sensitivity
from iaside_plugins.sensitivity.report import to_dict
from iaside_plugins.sensitivity.statistics import over_resampled_models
from iaside_plugins.sensitivity.text import one_at_a_time


@pytest.fixture(scope="module")
def data():
    return to_dict(make_report())


def test_dots_are_the_mean_agreements_with_intervals_over_models(data):
    (ax,) = plot_sensitivity(data).axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    (dots,) = (line for line in ax.lines if line.get_marker() == "o")
    shown = dict(zip(names, dots.get_xdata(), strict=True))
    expected = {"beta: 0.5": "beta", "range handling: clip": "range_handling"}
    effects = {one["axis"]: one for one in data["effects"]}
    assert shown == {name: effects[axis]["ranking"] for name, axis in expected.items()}
    assert list(shown.values()) == sorted(shown.values()), "the least agreement at the top"
    segments = ax.collections[0].get_segments()
    scores = np.array([[m["signed_score"] for m in v["models"]] for v in data["variants"]])
    levels = [(v["range_handling"], v["beta"]) for v in data["variants"]]
    pairs = [(levels.index(("none", beta)), levels.index(("clip", beta))) for beta in (0.75, 0.5)]

    def slow(places):
        means = []
        for draw in places:
            found = [stats.spearmanr(scores[i, draw], scores[j, draw]) for i, j in pairs]
            means.append(np.mean([one.statistic for one in found]))
        return np.array(means)

    drawn = over_resampled_models(slow, 6, 0)
    ends = segments[names.index("range handling: clip")][:, 0]
    np.testing.assert_allclose(ends, np.percentile(drawn, [2.5, 97.5]), atol=1e-9)
    assert any(text.get_text().startswith(f"{shown['beta: 0.5']:+.2f} [") for text in ax.texts)
    assert "exploratory" in ax.get_xlabel()
    reliability = data["variants"][0]["reliability"]
    assert f"{reliability:+.2f}" in ax.get_legend().get_texts()[0].get_text()
    assert "6 models, 10 images" in ax.figure.get_suptitle()


def test_one_at_a_time_is_the_base_and_what_differs_once(data):
    assert one_at_a_time(data) == [(0, "base"), (1, "beta 0.5"), (2, "range handling clip")]


@pytest.mark.parametrize("n", [1, 2])
def test_few_models_have_no_intervals(n, tmp_path):
    figure = plot_sensitivity(to_dict(make_report(n, entries=False)))
    save_figure(figure, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    assert not any("[" in text.get_text() for text in figure.axes[0].texts)


def test_a_condensed_study_draws_the_same(data):
    kept = copy.deepcopy(data)
    for key in ("spearman", "kendall", "movements"):
        del kept[key]
    first, second = (plot_sensitivity(one).axes[0] for one in (data, kept))
    assert [t.get_text() for t in first.texts] == [t.get_text() for t in second.texts]
